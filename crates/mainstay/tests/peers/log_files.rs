//! Log files as others read them: `zstd` unpacks, and a grammar that is not ours takes the lines apart.

use crate::fixture::{Fixture, SOON};
use crate::{need, text};

/// Reads every file of a log folder without a line of ours: `zstd -d` unpacks, and the grammar is the regular expression that
/// Fluent Bit publishes for CRI (its `conf/parsers.conf`, parser `cri`), with the tags of Kubernetes' CRI log format.
/// Prints the lines of standard output put together from their parts.
const READ_CRI: &str = r#"
import datetime, pathlib, re, subprocess, sys
record = re.compile(rb"^(?P<time>[^ ]+) (?P<stream>stdout|stderr) (?P<logtag>[^ ]*) (?P<log>.*)$", re.DOTALL)
parts, times, forms = [], [], set()
for path in sorted(pathlib.Path(sys.argv[1]).iterdir(), key=lambda path: (path.name == "current.log", path.name)):
    data = path.read_bytes()
    if path.name.endswith(".zst"):
        data = subprocess.run(["zstd", "-d", "-c", "-q", str(path)], check=True, capture_output=True).stdout
    forms.add("".join(path.suffixes[-2:]))
    assert data.endswith(b"\n"), path
    for line in data[:-1].split(b"\n"):
        found = record.match(line)
        assert found, (path, line)
        stamp = found["time"].decode()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", stamp), stamp
        datetime.datetime.strptime(stamp[:26], "%Y-%m-%dT%H:%M:%S.%f")
        times.append(stamp)
        assert found["logtag"] in (b"F", b"P"), line
        if found["stream"] == b"stdout":
            parts.append(found["log"])
            if found["logtag"] == b"F":
                sys.stdout.buffer.write(b"".join(parts) + b"\n")
                parts = []
assert not parts and times == sorted(times)
sys.stderr.write(" ".join(sorted(forms)))
"#;

#[test]
fn closed_files_are_read_by_zstd_and_by_a_grammar_that_is_not_ours() {
    let Some([python, _zstd]) = need(["python3", "zstd"]) else { return };
    let fixture = Fixture::new(&format!(
        r#"
        [service.loud]
        command = ["{}", "loud.py"]
        kind = "oneshot"
        log = {{ rotate = {{ size = "64KiB", keep = 10000 }}, max_line = "1KiB" }}
        [service.stay]
        command = "sleep 1000"
        "#,
        text(&python)
    ));
    fixture.write(
        "loud.py",
        r#"
import sys
out, err = sys.stdout.buffer, sys.stderr.buffer
for number in range(20000):
    out.write(b"line %06d " % number + b"x" * (number * 37 % 300) + b"\xff\x00\r\n")
    if number % 1000 == 0:
        out.write(b"long " + b"y" * 5000 + b"\n\n")
        out.flush()
        err.write(b"trouble stdout F no record\n")
"#,
    );
    let mut host = fixture.run(&["-q"]);
    host.wait_state("loud", "completed");
    let packed = |fixture: &Fixture| {
        let files = std::fs::read_dir(fixture.path("state/logs/loud")).unwrap();
        let names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.iter().all(|name| name == "current.log" || name.ends_with(".zst")).then_some(names.len())
    };
    let files = host.wait_for("every closed file is compressed", SOON, |_| packed(&fixture));
    assert!(files > 20, "{files}");
    // One more by request.
    let rotated = fixture.mainstay(&["logs", "--rotate", "loud"]);
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    host.wait_for("the last file is compressed", SOON, |_| packed(&fixture));
    assert!(!fixture.path("state/logs/loud/current.log").exists());

    let read = std::process::Command::new(&python)
        .args(["-c", READ_CRI])
        .arg(fixture.path("state/logs/loud"))
        .output()
        .unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert_eq!(String::from_utf8_lossy(&read.stderr), ".log.zst");
    let mut expected = Vec::new();
    for number in 0..20_000 {
        expected.extend_from_slice(
            format!("line {number:06} {:x<width$}", "", width = number * 37 % 300).as_bytes(),
        );
        expected.extend_from_slice(b"\xff\x00\r\n");
        if number % 1000 == 0 {
            expected.extend_from_slice(format!("long {:y<5000}\n\n", "").as_bytes());
        }
    }
    assert!(read.stdout == expected, "what was read is not what was written");
    host.stop();
}
