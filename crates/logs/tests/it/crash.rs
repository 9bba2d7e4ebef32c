//! What a crash leaves at each step is put in order at the next start, and read correctly before that.

use std::io::Write;
use std::path::{Path, PathBuf};

use mainstay_logs::CapturePolicy;
use mainstay_logs::read::Query;
use mainstay_types::SpawnId;

use crate::support::{Logs, POLICY, attach, run, wait_for, web};

const STEM: &str = "2026-11-22T15-20-01.000000000Z";

fn folder(logs: &Logs) -> PathBuf {
    let dir = logs.dir().join("web");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn records(from: u32, to: u32) -> String {
    (from..to).map(|n| format!("2026-11-22T15:20:{n:02}.000000000Z stdout F line {n}\n")).collect()
}

fn pack(path: &Path, text: &str) {
    let mut packer = zstd::Encoder::new(std::fs::File::create(path).unwrap(), 3).unwrap();
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap();
}

fn expected(to: u32) -> Vec<String> {
    (1..to).map(|n| format!("line {n}")).collect()
}

/// Starts and closes a capture that compresses.
fn start_and_close(logs: &Logs) {
    run(async {
        let capture = logs.start();
        let output = attach(&capture, &web(), 1, POLICY, 64);
        drop(output);
        capture.detach(SpawnId(1)).await;
        capture.close().await;
    });
}

#[test]
fn every_step_of_compressing() {
    // What is in the folder, beside current.log with the lines from 5 on.
    type Leave = fn(&Path);
    let steps: [(&str, Leave); 5] = [
        ("closed", |dir| std::fs::write(dir.join(format!("{STEM}.log")), records(1, 5)).unwrap()),
        ("compressing", |dir| {
            std::fs::write(dir.join(format!("{STEM}.log")), records(1, 5)).unwrap();
            std::fs::write(dir.join(format!("{STEM}.log.zst.tmp")), b"\x28\xb5\x2f\xfd half").unwrap();
        }),
        ("renamed", |dir| {
            std::fs::write(dir.join(format!("{STEM}.log")), records(1, 5)).unwrap();
            pack(&dir.join(format!("{STEM}.log.zst")), &records(1, 5));
        }),
        ("renamed, but the disk kept half of it", |dir| {
            std::fs::write(dir.join(format!("{STEM}.log")), records(1, 5)).unwrap();
            pack(&dir.join(format!("{STEM}.log.zst")), &records(1, 3));
        }),
        ("removed", |dir| pack(&dir.join(format!("{STEM}.log.zst")), &records(1, 5))),
    ];
    for (step, leave) in steps {
        let logs = Logs::new();
        let dir = folder(&logs);
        std::fs::write(dir.join("current.log"), records(5, 8)).unwrap();
        leave(&dir);
        assert_eq!(logs.texts(), expected(8), "{step}: before");
        let last = logs.lines(&Query { last: Some(5), ..Query::default() });
        assert_eq!(last.len(), 5, "{step}");
        start_and_close(&logs);
        assert_eq!(logs.files("web"), [format!("{STEM}.log.zst"), "current.log".to_owned()], "{step}");
        assert_eq!(logs.texts(), expected(8), "{step}: after");
        assert_eq!(logs.notices(), [], "{step}");
    }
}

#[test]
fn leftovers_of_services_that_are_gone_are_removed_too() {
    let logs = Logs::new();
    let dir = logs.dir().join("gone");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(format!("{STEM}.log.zst.tmp")), "half").unwrap();
    std::fs::write(dir.join("notes.txt"), "mine").unwrap();
    start_and_close(&logs);
    wait_for("the leftover to go", || match logs.files("gone") {
        files if files == ["notes.txt"] => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn a_torn_line_is_closed_before_new_ones() {
    for (torn, read) in [
        ("2026-11-22T15:20:05.000000000Z stdout F half", "half"),
        ("2026-11-22T15:20:05.000000000Z stdout P half", "half"),
        ("2026-11-22T15:20", "2026-11-22T15:20"),
        ("2026-11-22T15:20:05.000000000Z stdout P half\n", "half"),
    ] {
        let logs = Logs::new();
        let dir = folder(&logs);
        std::fs::write(dir.join("current.log"), records(1, 5) + torn).unwrap();
        run(async {
            let capture = logs.start();
            let mut output = attach(&capture, &web(), 1, POLICY, 64);
            output.out("new\n").await;
            capture.detach(SpawnId(1)).await;
            capture.close().await;
        });
        let mut expected = expected(5);
        expected.extend([read.to_owned(), "new".to_owned()]);
        assert_eq!(logs.texts(), expected, "{torn:?}");
        let lines = logs.lines(&Query::default());
        assert!(lines.is_sorted_by_key(|line| line.at));
        assert!(lines.iter().all(|line| !line.partial));
    }
}

#[test]
fn a_file_of_an_earlier_host_is_rotated_under_its_own_first_time() {
    let logs = Logs::new();
    let dir = folder(&logs);
    std::fs::write(dir.join("current.log"), records(1, 5)).unwrap();
    // The name is taken, too: nothing may be replaced.
    std::fs::write(dir.join(format!("{STEM}.log")), "2026-11-22T15:20:00.000000000Z stdout F line 0\n")
        .unwrap();
    run(async {
        let capture = logs.start();
        let policy = CapturePolicy { rotate_bytes: 100, compress: false, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy, 64);
        output.out("new\n").await;
        capture.detach(SpawnId(1)).await;
        capture.close().await;
    });
    let moved = "2026-11-22T15-20-01.000000001Z.log";
    assert_eq!(logs.files("web"), [&format!("{STEM}.log"), moved, "current.log"]);
    assert_eq!(logs.texts(), ["line 0", "line 1", "line 2", "line 3", "line 4", "new"]);
}

#[test]
fn foreign_lines_are_shown_as_they_are() {
    let logs = Logs::new();
    let dir = folder(&logs);
    let text = format!("# a note\n{}\n\u{fffd}\n{}junk", records(1, 2), records(2, 3));
    std::fs::write(dir.join("current.log"), text).unwrap();
    std::fs::File::options()
        .append(true)
        .open(dir.join("current.log"))
        .unwrap()
        .set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(5))
        .unwrap();
    std::fs::write(dir.join(format!("{STEM}.log.zst")), "no zstd").unwrap();
    let (lines, errors): (Vec<_>, Vec<_>) =
        mainstay_logs::read::read(&logs.dir(), &Query::default()).partition(Result::is_ok);
    let texts: Vec<_> =
        lines.into_iter().map(|line| String::from_utf8(line.unwrap().text).unwrap()).collect();
    assert_eq!(texts, ["# a note", "line 1", "", "\u{fffd}", "line 2", "junk"]);
    assert_eq!(errors.len(), 1);
    let last: Vec<_> = mainstay_logs::read::read(&logs.dir(), &Query { last: Some(3), ..Query::default() })
        .map(|line| line.unwrap().text)
        .collect();
    assert_eq!(last, [&b"\xef\xbf\xbd"[..], b"line 2", b"junk"]);
}
