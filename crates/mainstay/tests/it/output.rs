//! What the services write: kept byte for byte, read back across files, whatever it is.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{Fixture, SOON, signal, stderr, stdout};

#[test]
fn logs_are_in_the_cri_format_with_their_stream() {
    let fixture = Fixture::new(
        "[service.talk]\ncommand = \"sh -c 'echo to stdout; echo to stderr >&2; printf unfinished'\"\nkind = \"oneshot\"\n",
    );
    assert!(fixture.mainstay(&["run"]).status.success());
    let log = fixture.log("talk");
    for line in log.lines() {
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(time.len(), "2026-11-22T15:20:01.123456789Z".len(), "{line}");
        assert!(time.ends_with('Z'));
        assert!(rest.starts_with("stdout F ") || rest.starts_with("stderr F "), "{line}");
    }
    for line in ["stdout F to stdout\n", "stderr F to stderr\n", "stdout F unfinished\n"] {
        assert!(log.contains(line), "{log}");
    }
}

#[test]
fn the_logs_command_selects() {
    let fixture = Fixture::new(
        r#"
        [service.a]
        command = "sh -c 'echo one; echo two >&2; echo three'"
        kind = "oneshot"
        [service.b]
        command = "sh -c 'echo four'"
        kind = "oneshot"
        needs = [{ service = "a", is = "completed" }]
        "#,
    );
    assert!(fixture.mainstay(&["run"]).status.success());
    let texts = |args: &[&str]| {
        let output = fixture.mainstay(&[&["logs", "--json"], args].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["line"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let all = texts(&[]);
    assert_eq!(all.len(), 4);
    assert_eq!(all.last().unwrap(), "four");
    assert_eq!(texts(&["b"]), ["four"]);
    assert_eq!(texts(&["-n", "1"]), ["four"]);
    assert_eq!(texts(&["--stream", "stderr"]), ["two"]);
    assert_eq!(texts(&["--grep", "^t.*e$"]), ["three"]);
    assert_eq!(texts(&["--since", "1h"]).len(), 4);
    assert!(texts(&["--until", "1h"]).is_empty());
    let plain = stdout(&fixture.mainstay(&["logs"]));
    assert!(plain.contains("a ! two") && plain.contains("b | four"), "{plain}");
    for (args, words) in [
        (&["logs", "--since", "yesteryear"][..], "--since"),
        (&["logs", "--grep", "("], "--grep"),
        (&["logs", "--level", "loud"], "trace, debug, info, warn, error, fatal"),
        (&["logs", "-i"], "--grep"),
        (&["logs", "--since", "1h", "--until", "2h"], "exchange them"),
        (&["logs", "-f", "--until", "1h"], "leave --follow out"),
    ] {
        let output = fixture.mainstay(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    // Which of the two streams is read first is not certain.
    let mut ignoring_case = texts(&["--grep", "^T", "-i"]);
    ignoring_case.sort();
    assert_eq!(ignoring_case, ["three", "two"]);
    assert_eq!(fixture.mainstay(&["logs", "nobody"]).status.code(), Some(3));
    fixture.write("mainstay.toml", "[service.new]\ncommand = \"true\"\n");
    let output = fixture.mainstay(&["--stack", "nothing", "logs", "new"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

#[test]
fn lines_are_chosen_by_their_level_and_have_its_colour() {
    let fixture = Fixture::new(
        r#"
        [service.app]
        command = '''sh -c '
echo "{\"level\":\"warn\",\"time\":1795360801,\"msg\":\"json\"}"
echo "no errors found"
echo "2026-11-22T15:20:01Z ERROR text"
echo "  at its trace"
echo "2026-11-22T15:20:02Z INFO fine"
' '''
        kind = "oneshot"
        "#,
    );
    let run = fixture.mainstay(&["run", "--color", "always"]);
    assert!(run.status.success(), "{}", stderr(&run));
    assert!(stdout(&run).contains("\u{1b}[31m2026-11-22T15:20:01Z ERROR text\u{1b}[0m"), "{}", stdout(&run));
    let lines = |args: &[&str]| {
        let output = fixture.mainstay(&[&["logs", "--json"], args].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let texts = |level: &str| {
        lines(&["--level", level])
            .iter()
            .map(|line| line["line"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(texts("error"), ["2026-11-22T15:20:01Z ERROR text", "  at its trace"]);
    assert_eq!(texts("warn").len(), 3);
    assert_eq!(texts("INFO").len(), 4);
    assert_eq!(texts("fatal").len(), 0);
    let all = lines(&[]);
    let facts: Vec<_> = all.iter().map(|line| (line["level"].as_str(), line["time"].as_str())).collect();
    assert_eq!(
        facts,
        [
            (Some("warn"), Some("2026-11-22T15:20:01Z")),
            (None, None),
            (Some("error"), Some("2026-11-22T15:20:01Z")),
            (None, None),
            (Some("info"), Some("2026-11-22T15:20:02Z")),
        ]
    );
    let colored = stdout(&fixture.mainstay(&["logs", "--color", "always"]));
    assert!(colored.contains("\u{1b}[31m2026-11-22T15:20:01Z ERROR text\u{1b}[0m"), "{colored}");
    assert!(!stdout(&fixture.mainstay(&["logs"])).contains('\u{1b}'));
}

#[test]
fn a_broken_file_is_told_and_the_rest_is_shown() {
    let fixture = Fixture::new("[service.app]\ncommand = \"echo here\"\nkind = \"oneshot\"\n");
    assert!(fixture.mainstay(&["run", "-q"]).status.success());
    fixture.write("state/logs/app/2026-01-01T00-00-00.000000000Z.log.zst", "no zstd at all");
    let output = fixture.mainstay(&["logs"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stdout(&output).contains("here"), "{}", stdout(&output));
    let told = stderr(&output);
    assert!(
        told.contains("2026-01-01T00-00-00.000000000Z.log.zst") && told.contains("lines are missing"),
        "{told}"
    );
}

#[test]
fn following_begins_before_the_first_line_and_outlives_the_host() {
    let fixture = Fixture::new("[service.app]\ncommand = \"sh -c 'echo run now'\"\nkind = \"oneshot\"\n");
    // Nothing is there: no state, no host.
    let mut follower =
        fixture.command(&["logs", "app", "-f", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let out = std::io::BufReader::new(follower.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(out);
    for _ in 0..3 {
        assert!(fixture.mainstay(&["run", "-q"]).status.success());
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert!(line["line"].as_str().unwrap().starts_with("run "), "{line}");
    }
    // The folder goes and comes again under it.
    std::fs::remove_dir_all(fixture.path("state/logs")).unwrap();
    assert!(fixture.mainstay(&["run", "-q"]).status.success());
    assert!(lines.next().unwrap().unwrap().contains("run "));
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn following_ends_at_its_time_and_sleeps_until_then() {
    let fixture = Fixture::new("[service.app]\ncommand = \"sh -c 'echo once; sleep 1000'\"\n");
    let mut host = fixture.run(&[]);
    host.wait_for("it writes", SOON, |_| fixture.log("app").contains("once").then_some(()));
    let until = seconds_from_now(3);
    let begun = Instant::now();
    let mut child =
        fixture.command(&["logs", "-f", "--until", &until, "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    // The time it computed is asked of the system before the child is reaped.
    assert!(child.wait().unwrap().success());
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(begun.elapsed() >= Duration::from_millis(2500), "{:?}", begun.elapsed());
    host.stop();
}

/// A time as RFC 3339, so many seconds from now.
fn seconds_from_now(seconds: u64) -> String {
    (mainstay_types::Timestamp::now() + Duration::from_secs(seconds)).to_string()
}

#[test]
fn following_shows_what_is_written_later() {
    let fixture = Fixture::new(
        "[service.clock]\ncommand = \"sh -c 'i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.1; done'\"\n",
    );
    let mut host = fixture.run(&[]);
    host.wait_for("it ticks", SOON, |_| fixture.log("clock").contains("tick 1").then_some(()));
    let mut follower = fixture.command(&["logs", "-f", "-n", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = String::new();
    let mut buffer = [0_u8; 4096];
    let mut out = follower.stdout.take().unwrap();
    while seen.lines().count() < 6 {
        let read = out.read(&mut buffer).unwrap();
        assert!(read > 0, "the follower ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
    let ticks: Vec<u32> =
        seen.lines().filter_map(|line| line.rsplit_once("tick ")?.1.trim().parse().ok()).collect();
    assert!(ticks.len() >= 5, "{seen}");
    assert!(ticks.windows(2).all(|pair| pair[1] == pair[0] + 1), "no tick is lost or doubled: {ticks:?}");
    host.stop();
}

#[test]
fn odd_bytes_and_very_long_lines_are_kept() {
    let fixture = Fixture::new(
        r#"
        [service.odd]
        command = '''python3 -c "
import sys
w = sys.stdout.buffer.write
w(bytes(range(1, 10)) + bytes(range(11, 256)) + b'\n')
w(b'x' * 10_000_000 + b'\n')
w(b'\n')
w(b'end\n')
"'''
        kind = "oneshot"
        log = { rotate = { size = "1GiB" } }
        "#,
    );
    let output = fixture.mainstay(&["run", "-q"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let log = std::fs::read(fixture.path("state/logs/odd/current.log")).unwrap();
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    for record in log.split(|byte| *byte == b'\n').filter(|record| !record.is_empty()) {
        let mut fields = record.splitn(4, |byte| *byte == b' ');
        let (_, _, tag, text) =
            (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        lines.last_mut().unwrap().extend_from_slice(text);
        if tag == b"F" {
            lines.push(Vec::new());
        }
    }
    let odd: Vec<u8> = (1..10).chain(11..=255).collect();
    assert_eq!(lines[0], odd);
    assert_eq!(lines[1].len(), 10_000_000);
    assert!(lines[1].iter().all(|byte| *byte == b'x'));
    assert_eq!(lines[2], b"");
    assert_eq!(lines[3], b"end");
    assert_eq!(lines.len(), 5);
}

#[test]
fn two_hundred_megabytes_pass_through_whole_and_rotated() {
    const LINES: usize = 2_000_000;
    let fixture = Fixture::new(&format!(
        r#"
        [service.loud]
        command = '''python3 -c "
import sys
out = sys.stdout
for start in range(0, {LINES}, 10000):
    out.write(''.join('%099d\\n' % n for n in range(start, start + 10000)))
"'''
        kind = "oneshot"
        log = {{ rotate = {{ size = "32MiB", keep = 100 }} }}
        "#
    ));
    let output = fixture.mainstay(&["run", "-q"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let files = std::fs::read_dir(fixture.path("state/logs/loud")).unwrap().count();
    assert!(files > 5, "{files} files");
    let mut reader =
        fixture.command(&["logs", "loud", "--since", "1h", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut expected = 0;
    for line in std::io::BufRead::lines(std::io::BufReader::new(reader.stdout.take().unwrap())) {
        let line = line.unwrap();
        let text = line.rsplit_once("\"line\":\"").unwrap().1.trim_end_matches("\"}");
        assert_eq!(text.parse::<usize>().unwrap(), expected, "{line}");
        expected += 1;
    }
    assert!(reader.wait().unwrap().success());
    assert_eq!(expected, LINES);
}

#[test]
fn a_full_disk_hurts_nobody_and_is_told() {
    // A file system of two megabytes of its own; only root can mount one.
    if !mainstay_os::is_root() {
        eprintln!("skipped: only root can mount a small file system");
        return;
    }
    let fixture = Fixture::new(
        r#"
        [service.loud]
        command = "sh -c 'while :; do head -c 65536 /dev/zero | tr \"\\0\" x; echo; sleep 0.01; done'"
        log = { rotate = { size = "1GiB" } }
        [service.quiet]
        command = "sleep 1000"
        "#,
    );
    let logs = fixture.path("state/logs");
    std::fs::create_dir_all(&logs).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "mainstay-test"])
        .arg(&logs)
        .status()
        .unwrap();
    assert!(mounted.success(), "cannot mount a small file system for the test");
    let mut host = fixture.run(&[]);
    host.wait_for("the full disk is told", SOON, |host| {
        host.out().contains("No space left on device").then_some(())
    });
    assert_eq!(host.state("loud"), "ready");
    assert_eq!(host.state("quiet"), "ready");
    let (status, out) = host.stop();
    let unmounted = std::process::Command::new("umount").arg("-l").arg(&logs).status().unwrap();
    assert!(status.success(), "{out}");
    assert!(unmounted.success());
}

#[test]
fn a_failure_is_shown_whatever_the_others_write() {
    let fixture = Fixture::new(
        r#"
        stack = "shop"
        [service.loud]
        command = "yes a line that is written again and again"
        log = { rotate = { size = "1MiB", keep = 1, compress = false } }
        [service.weak]
        command = ["sh", "-c", "sleep 2; exit 3"]
        restart = { when = "never" }
        "#,
    );
    // Nobody reads what the host prints, as with a terminal that is held (Ctrl-S).
    let mut host = fixture.command(&["run"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let failed = || {
        let output = fixture.mainstay(&["status", "weak", "--json"]);
        stdout(&output).contains(r#""state":"failed""#)
    };
    while !failed() {
        assert!(begun.elapsed() < SOON, "weak does not fail");
        std::thread::sleep(Duration::from_millis(50));
    }
    signal(host.id(), "TERM");
    let mut shown = Vec::new();
    host.stdout.take().unwrap().read_to_end(&mut shown).unwrap();
    assert!(host.wait().unwrap().success());
    let shown = String::from_utf8_lossy(&shown);
    for words in ["weak * failed: ", "lines left out here", "everything has stopped"] {
        assert!(shown.contains(words), "{words:?} is not shown");
    }
}
