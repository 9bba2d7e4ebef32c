//! Closing log files by age and on request, and what stays of them, with a host as a user runs it.

use std::time::{Duration, Instant};

use mainstay_api::Client;
use serde_json::Value;

use crate::fixture::{Fixture, Running, SOON, stderr, stdout};

/// `web` in two replicas and `db` print numbered lines at once, and then only on a signal; `quiet` prints nothing.
const TALK: &str = r#"
    stack = "shop"
    [service.web]
    command = '''sh -c 'trap "echo again" USR1; echo one; echo two; while :; do sleep 1000 & wait; done' '''
    replicas = 2
    reload = { signal = "SIGUSR1" }
    [service.db]
    command = "sh -c 'echo three; sleep 1000'"
    [service.quiet]
    command = "sleep 1000"
    "#;

fn names(fixture: &Fixture, replica: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(fixture.path("state/logs").join(replica)) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn texts(fixture: &Fixture, args: &[&str]) -> Vec<String> {
    let output = fixture.mainstay(&[&["logs", "--json"], args].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["line"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits until this many lines of a service are in its files.
fn wait_lines(host: &mut Running<'_>, fixture: &Fixture, service: &str, count: usize) {
    host.wait_for("its lines are there", SOON, |_| (texts(fixture, &[service]).len() >= count).then_some(()));
}

#[test]
fn files_are_closed_on_request() {
    let fixture = Fixture::new(TALK);
    let none = fixture.mainstay(&["logs", "--rotate"]);
    assert_eq!(none.status.code(), Some(3), "{}", stderr(&none));
    let words = stderr(&none);
    assert!(words.contains("no host is running for the stack shop") && words.contains("next: "), "{words}");
    assert!(words.contains(fixture.path("state/logs").to_str().unwrap()), "{words}");

    let mut host = fixture.run(&[]);
    host.wait_state("quiet", "ready");
    wait_lines(&mut host, &fixture, "web", 4);
    wait_lines(&mut host, &fixture, "db", 1);
    let wrong = fixture.mainstay(&["logs", "--rotate", "wbe"]);
    assert_eq!(wrong.status.code(), Some(3));
    assert!(stderr(&wrong).contains("did you mean \"web\""), "{}", stderr(&wrong));
    assert_eq!(fixture.mainstay(&["logs", "--rotate", "-f"]).status.code(), Some(2));

    let output = fixture.mainstay(&["logs", "--rotate", "--json", "web", "quiet"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told: Vec<_> = reply["replicas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|log| {
            format!(
                "{}.{} {}",
                log["service"].as_str().unwrap(),
                log["replica"],
                log["outcome"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(told, ["web.0 rotated", "web.1 rotated", "quiet.0 empty"]);
    assert_eq!(reply["replicas"][2]["file"], Value::Null);
    for (replica, log) in ["web", "web.1"].iter().zip(reply["replicas"].as_array().unwrap()) {
        let packed = format!("{}.zst", log["file"].as_str().unwrap());
        host.wait_for("it is compressed", SOON, |_| {
            (names(&fixture, replica) == [packed.as_str()]).then_some(())
        });
    }
    assert_eq!(names(&fixture, "db"), ["current.log"]);

    // What is written next goes into new files, and all is read as one.
    assert!(fixture.mainstay(&["reload", "web"]).status.success());
    wait_lines(&mut host, &fixture, "web", 6);
    let mut lines = texts(&fixture, &["web"]);
    lines.sort();
    assert_eq!(lines, ["again", "again", "one", "one", "two", "two"]);

    // Without names it is the whole stack, in words.
    let output = stdout(&fixture.mainstay(&["logs", "--rotate"]));
    let said: Vec<&str> = output.lines().map(|line| line.split(" as ").next().unwrap()).collect();
    assert_eq!(
        said,
        ["web: closed", "web.1: closed", "db: closed", "quiet: nothing to close: it has no line"]
    );
    let events = fixture.events();
    let closed = events.iter().filter(|event| {
        event["event"] == "log"
            && event["reason"]
                .as_str()
                .is_some_and(|reason| reason.starts_with("its log was closed on request, as "))
    });
    assert_eq!(closed.count(), 5);
    let (status, out) = host.stop();
    assert!(status.success(), "{out}");
}

#[test]
fn a_changed_file_closes_and_removes_what_is_too_old_and_too_much() {
    let mut fixture = Fixture::new(TALK);
    fixture.env = vec![("MAINSTAY_LOG".to_owned(), "debug".to_owned())];
    let fixture = fixture;
    // A service that is gone has left much behind.
    let gone = fixture.path("state/logs/gone");
    std::fs::create_dir_all(&gone).unwrap();
    let record = format!("2026-11-22T15:20:10.000000000Z stdout F {}\n", "x".repeat(2_000_000));
    std::fs::write(gone.join("2026-11-22T15-20-10.000000000Z.log"), record).unwrap();

    let mut host = fixture.run(&[]);
    host.wait_state("quiet", "ready");
    wait_lines(&mut host, &fixture, "web", 4);
    wait_lines(&mut host, &fixture, "db", 1);
    assert_eq!(names(&fixture, "gone").len(), 1);
    let pid = host.main_pid("db");
    let rotate = "log.rotate = { size = \"64KiB\", age = \"1s\", keep_age = \"2s\", keep_total = \"1MiB\" }";
    let changed = TALK.replace("[service.db]", &format!("[service.db]\n    {rotate}"));
    fixture.write("mainstay.toml", &format!("log.max_total = \"1MiB\"\n{changed}"));
    let dry = fixture.mainstay(&["reload", "--dry-run"]);
    assert!(dry.status.success(), "{}", stderr(&dry));
    let dry = stdout(&dry);
    for key in ["log.max_total", "log.rotate.age", "log.rotate.keep_age", "log.rotate.keep_total"] {
        assert!(dry.contains(key), "{key} in {dry}");
    }
    assert!(fixture.mainstay(&["reload"]).status.success());
    // db writes nothing: its file is closed because of its age, and goes because of its age.
    host.wait_for("its file is closed and goes", SOON, |_| names(&fixture, "db").is_empty().then_some(()));
    host.wait_for("what is too much goes", SOON, |_| names(&fixture, "gone").is_empty().then_some(()));
    assert_eq!(host.main_pid("db"), pid, "it runs on");
    assert_eq!(names(&fixture, "web"), ["current.log"]);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(fixture.path("run/shop.sock"));
    let metrics = runtime.block_on(client.metrics()).unwrap();
    let number = |name: &str, service: &str| {
        let sample = format!("{name}{{stack=\"shop\",service=\"{service}\",replica=\"0\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&sample));
        line.unwrap_or_else(|| panic!("{sample} is not in {metrics}")).parse::<u64>().unwrap()
    };
    assert_eq!(number("mainstay_log_removed_files_total", "db"), 1);
    assert!(number("mainstay_log_removed_bytes_total", "db") > 0);
    host.stop();
    let own = stdout(&fixture.mainstay(&["logs", "--host", "-n", "100000"]));
    for words in ["service.name=db files=1 ", "service.name=gone files=1 "] {
        let told = own.lines().find(|line| line.contains("old log files removed") && line.contains(words));
        let bound = if words.contains("gone") { "bound=max_total" } else { "bound=keep_age" };
        assert!(told.is_some_and(|line| line.contains(bound)), "{words}{bound} is not in {own}");
    }
    let events = fixture.events();
    assert!(!events.iter().any(|event| event["reason"].to_string().contains("removed")), "it is no event");
}

#[test]
fn a_host_that_is_killed_again_and_again_leaves_whole_logs() {
    let fixture = Fixture::new(
        r#"
        stack = "loud"
        [service.loud]
        command = '''python3 -u -c "
import sys, itertools, os
run = os.environ['RUN']
for number in itertools.count():
    sys.stdout.write(f'run {run} line {number:07} {(number * 37) % 300 * chr(120)} end\\n')
"'''
        inherit_env = true
        log.rotate = { size = "64KiB", keep = 10000 }
        "#,
    );
    let mut fixture = fixture;
    let rounds = 6;
    for round in 0..rounds {
        fixture.env = vec![("RUN".to_owned(), round.to_string())];
        let mut host = fixture.run(&["-q"]);
        let before = names(&fixture, "loud").len();
        host.wait_for("files are closed", SOON, |_| {
            (names(&fixture, "loud").len() > before + 3).then_some(())
        });
        host.signal("KILL");
        host.wait_end();
    }
    // The next one puts in order what they left.
    fixture.write(
        "mainstay.toml",
        "stack = \"loud\"\n[service.loud]\ncommand = \"sleep 1000\"\nlog.rotate = { keep = 10000 }\n",
    );
    let mut host = fixture.run(&["-q"]);
    host.wait_for("all is compressed", Duration::from_secs(60), |_| {
        let left = names(&fixture, "loud");
        left.iter().all(|name| name == "current.log" || name.ends_with(".log.zst")).then_some(())
    });
    host.stop();
    let begun = Instant::now();
    let lines = texts(&fixture, &["-n", "10000000"]);
    let mut expected = (0_u32, 0_u64);
    let mut torn = 0;
    for line in &lines {
        let fields: Vec<&str> = line.split(' ').collect();
        let whole = line.ends_with(" end") && fields.len() >= 6 && fields[0] == "run" && fields[2] == "line";
        if !whole {
            // The kill cut it: the last one of its run.
            torn += 1;
            continue;
        }
        let (run, number): (u32, u64) = (fields[1].parse().unwrap(), fields[3].parse().unwrap());
        if run != expected.0 {
            assert_eq!((run, number), (expected.0 + 1, 0), "{line}");
            expected = (run, 0);
        }
        assert_eq!((run, number), expected, "a line is missing or there twice: {line}");
        expected.1 += 1;
    }
    assert_eq!(expected.0 + 1, rounds);
    assert!(torn <= rounds, "{torn} lines were cut by {rounds} kills");
    eprintln!("{} lines after {rounds} kills, {torn} cut, read in {:?}", lines.len(), begun.elapsed());
}
