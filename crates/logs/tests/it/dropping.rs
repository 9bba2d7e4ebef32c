//! `when_blocked = "drop"`: the program never waits for a log that cannot be written, and what is missing is counted and
//! told in its place. On Linux also with the answers of real file systems.

use std::path::Path;
use std::time::Duration;

use mainstay_logs::read::Query;
use mainstay_logs::{CapturePolicy, Counts, Fsync, Notice, Stream, WhenBlocked};
use mainstay_types::SpawnId;

use crate::support::{Logs, POLICY, attach, run, wait_for, web};

const DROP: CapturePolicy = CapturePolicy { when_blocked: WhenBlocked::Drop, ..POLICY };

fn block(logs: &Logs) {
    std::fs::create_dir_all(logs.dir()).unwrap();
    std::fs::write(logs.dir().join("web"), "in the way").unwrap();
}

fn unblock(logs: &Logs) {
    std::fs::remove_file(logs.dir().join("web")).unwrap();
}

fn recovered(logs: &Logs) {
    wait_for("recovery", || match logs.notices().last() {
        Some(Notice::WriteRecovered { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn dropped(logs: &Logs) -> Vec<(u64, u64)> {
    let lines = |notice| match notice {
        Notice::LinesDropped { lines, bytes, .. } => Some((lines, bytes)),
        Notice::WriteFailed { .. }
        | Notice::WriteRecovered { .. }
        | Notice::LinesLost { .. }
        | Notice::SyncFailed { .. }
        | Notice::RotationFailed { .. }
        | Notice::CompressionFailed { .. }
        | Notice::FilesRemoved { .. }
        | Notice::PipeFailed { .. } => None,
    };
    logs.notices().into_iter().filter_map(lines).collect()
}

fn counts(capture: &mainstay_logs::Capture) -> Counts {
    capture.counts().into_iter().find(|(replica, _)| *replica == web()).unwrap().1
}

#[test]
fn the_program_does_not_wait_and_the_gap_is_told_in_its_place() {
    run(async {
        let logs = Logs::new();
        block(&logs);
        let capture = logs.start();
        let mut output = attach(&capture, &web(), 1, DROP, 100);
        // The first read is kept; what follows is more than the pipe holds, and nobody waits.
        output.out("kept\n").await;
        wait_for("the failure to be said", || match logs.notices().first() {
            Some(Notice::WriteFailed { when_blocked: WhenBlocked::Drop, .. }) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        for number in 0..500 {
            output.out(format!("dropped {number:03}\n")).await;
        }
        // A pipe of 100 bytes is empty again once this much more went through it.
        wait_for("the pipe to be read", || match counts(&capture).dropped_lines {
            500 => Ok(()),
            other => Err(other.to_string()),
        });
        assert!(counts(&capture).blocked);
        unblock(&logs);
        recovered(&logs);
        output.out("after\n").await;
        capture.detach(SpawnId(1)).await;
        assert_eq!(dropped(&logs), [(500, 500 * 11)]);
        let now = counts(&capture);
        assert_eq!((now.dropped_lines, now.dropped_bytes, now.blocked), (500, 5500, false));
        assert_eq!(now.write_failures, 1);
        capture.close().await;
        let texts = logs.texts();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert_eq!((&*texts[0], &*texts[2]), ("kept", "after"));
        assert!(
            texts[1].starts_with("[mainstay] missing here: 500 lines (5.3 KiB) written from "),
            "{texts:?}"
        );
    });
}

#[test]
fn whole_lines_are_dropped_however_they_were_cut() {
    run(async {
        let logs = Logs::new();
        let policy = CapturePolicy { max_line_bytes: 4, ..DROP };
        let capture = logs.start();
        let mut output = attach(&capture, &web(), 1, policy.clone(), 100);
        // A part of this line is in the file when the trouble begins.
        output.out("begun ").await;
        assert_eq!(capture.settle(SpawnId(1), 1).await.len(), 1);
        let dir = logs.dir().join("web");
        let aside = logs.dir().join("aside");
        std::fs::rename(&dir, &aside).unwrap();
        std::fs::write(&dir, "in the way").unwrap();
        // The open file goes on being written until its absence is noticed, which is looked up once a second.
        let mut tries = 0;
        while logs.notices().is_empty() {
            tries += 1;
            output.out("and ").await;
            capture.settle(SpawnId(1), 0).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(tries > 0);
        output.out("its end\nanother\nhalf of ").await;
        wait_for("the drop", || match counts(&capture).dropped_lines {
            0 | 1 => Err("not yet".to_owned()),
            _ => Ok(()),
        });
        std::fs::remove_file(&dir).unwrap();
        std::fs::rename(&aside, &dir).unwrap();
        recovered(&logs);
        output.out("a third\nwhole again\n").await;
        capture.detach(SpawnId(1)).await;
        capture.close().await;
        let texts = logs.texts();
        assert!(texts[0].starts_with("begun "), "{texts:?}");
        assert!(!texts[0].contains("end"), "{texts:?}");
        assert!(texts[1].starts_with("[mainstay] missing here: 3 lines"), "{texts:?}");
        assert_eq!(texts[2..], ["whole again"], "the rest of a dropped line is dropped");
        assert!(logs.lines(&Query::default()).iter().all(|line| !line.partial));
    });
}

#[test]
fn what_was_dropped_is_told_when_the_capture_ends_first() {
    run(async {
        let logs = Logs::new();
        block(&logs);
        let capture = logs.start();
        let mut output = attach(&capture, &web(), 1, DROP, 100);
        output.out("one\n").await;
        wait_for("the failure", || logs.notices().first().map(|_| ()).ok_or_else(String::new));
        output.out("two\nthree\n").await;
        capture.detach(SpawnId(1)).await;
        capture.close().await;
        let lost: Vec<_> = logs
            .notices()
            .iter()
            .filter_map(
                |notice| if let Notice::LinesLost { lines, .. } = notice { Some(*lines) } else { None },
            )
            .collect();
        assert_eq!(lost, [3]);
    });
}

#[test]
fn a_changed_policy_frees_who_waits() {
    run(async {
        let logs = Logs::new();
        block(&logs);
        let capture = logs.start();
        let mut output = attach(&capture, &web(), 1, POLICY, 100);
        output.out("kept\n").await;
        wait_for("the failure", || logs.notices().first().map(|_| ()).ok_or_else(String::new));
        capture.set_policy(web(), DROP);
        // More than the pipe holds: with the old policy this would wait for ever.
        output.out("x\n".repeat(500)).await;
        unblock(&logs);
        recovered(&logs);
        capture.detach(SpawnId(1)).await;
        capture.close().await;
        assert_eq!(dropped(&logs).len(), 1);
    });
}

#[test]
fn what_is_synced_reads_back_the_same() {
    for fsync in [Fsync::Rotate, Fsync::Line] {
        run(async {
            let logs = Logs::new();
            let capture = logs.start();
            let policy = CapturePolicy { fsync, rotate_bytes: 300, compress: false, ..POLICY };
            let mut output = attach(&capture, &web(), 1, policy, 100);
            for number in 0..30 {
                output.out(format!("line {number}\n")).await;
            }
            capture.detach(SpawnId(1)).await;
            let rotations = counts(&capture).rotations;
            capture.close().await;
            assert!(rotations > 1, "{rotations}");
            let expected: Vec<String> = (0..30).map(|number| format!("line {number}")).collect();
            assert_eq!(logs.texts(), expected);
            assert_eq!(logs.notices(), []);
        });
    }
}

/// Writing to the first page of one's own memory is EIO (proc(5)): the one file everybody has that answers so.
const MEMORY: &str = "/proc/self/mem";

#[test]
fn an_error_of_the_disk_holds_until_the_file_is_another() {
    if !Path::new(MEMORY).exists() {
        eprintln!("skipped: {MEMORY} is not there to answer with an error of input and output");
        return;
    }
    for policy in [POLICY, DROP] {
        run(async {
            let logs = Logs::new();
            std::fs::create_dir_all(logs.dir().join("web")).unwrap();
            let current = logs.dir().join("web/current.log");
            let linked = std::process::Command::new("ln").arg("-s").arg(MEMORY).arg(&current).status();
            assert!(linked.unwrap().success());
            let capture = logs.start();
            let mut output = attach(&capture, &web(), 1, policy.clone(), 4096);
            output.out("kept\n").await;
            wait_for("the failure", || match logs.notices().first() {
                Some(Notice::WriteFailed { error, .. }) if error.contains("os error 5") => Ok(()),
                other => Err(format!("{other:?}")),
            });
            std::fs::remove_file(&current).unwrap();
            recovered(&logs);
            output.write(Stream::Stderr, "after\n").await;
            capture.detach(SpawnId(1)).await;
            capture.close().await;
            assert_eq!(logs.texts(), ["kept", "after"]);
        });
    }
}
