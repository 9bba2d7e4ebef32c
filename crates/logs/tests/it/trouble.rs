//! A folder that cannot be written: the program waits, the others do not, and nothing is lost without being said.

use std::time::Duration;

use mainstay_logs::{CapturePolicy, Notice};
use mainstay_types::SpawnId;
use tokio::io::AsyncWriteExt;

use crate::support::{Logs, POLICY, attach, replica, run, texts, wait_for, web};

/// Puts a file where the replica's folder should be.
fn block(logs: &Logs) {
    std::fs::create_dir_all(logs.dir()).unwrap();
    std::fs::write(logs.dir().join("web"), "in the way").unwrap();
}

#[test]
fn the_program_waits_until_the_file_can_be_written() {
    run(async {
        let logs = Logs::new();
        block(&logs);
        let capture = logs.start();
        let mut output = attach(&capture, &web(), 1, POLICY, 1000);
        let mut other = attach(&capture, &replica("other", 0), 2, POLICY, 1000);
        output.out("first\n").await;
        wait_for("the failure to be said", || match logs.notices().first() {
            Some(Notice::WriteFailed { replica, path, error, .. }) => {
                assert_eq!(*replica, web());
                assert!(path.ends_with("web/current.log") && !error.is_empty());
                Ok(())
            }
            other => Err(format!("{other:?}")),
        });
        // The last words are there although the disk is not.
        assert_eq!(texts(&capture.settle(SpawnId(1), 5).await), ["first"]);
        // Back-pressure: the pipe fills up.
        let fill = tokio::time::timeout(Duration::from_millis(200), output.stdout.write_all(&[b'\n'; 3000]));
        assert!(fill.await.is_err(), "the pipe was read although the file cannot be written");
        other.out("not disturbed\n").await;
        wait_for("the other replica", || match logs.texts() {
            texts if texts == ["not disturbed"] => Ok(()),
            other => Err(format!("{other:?}")),
        });
        std::fs::remove_file(logs.dir().join("web")).unwrap();
        wait_for("recovery", || match logs.notices().as_slice() {
            [Notice::WriteFailed { .. }, Notice::WriteRecovered { replica, .. }] if *replica == web() => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        });
        output.out("last\n").await;
        capture.detach(SpawnId(1)).await;
        capture.close().await;
        let texts = logs.texts();
        assert_eq!(texts.iter().filter(|text| *text == "first").count(), 1);
        assert!(texts.iter().any(|text| text == "last"));
        // How much of the interrupted write had gone into the pipe is up to the pipe: at least its size.
        assert!(texts.iter().filter(|text| text.is_empty()).count() >= 1000);
        assert_eq!(logs.notices().len(), 2);
    });
}

#[test]
fn what_is_detached_meanwhile_is_written_later() {
    run(async {
        let logs = Logs::new();
        block(&logs);
        let capture = logs.start();
        for spawn in 0..3 {
            let mut output = attach(&capture, &web(), spawn, POLICY, 1000);
            output.out(format!("run {spawn}\n")).await;
            capture.detach(SpawnId(spawn)).await;
        }
        std::fs::remove_file(logs.dir().join("web")).unwrap();
        wait_for("recovery", || match logs.notices().last() {
            Some(Notice::WriteRecovered { .. }) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        capture.close().await;
        assert_eq!(logs.texts(), ["run 0", "run 1", "run 2"]);
    });
}

#[test]
fn what_is_lost_is_counted() {
    run(async {
        let logs = Logs::new();
        block(&logs);
        let capture = logs.start();
        let mut output = attach(&capture, &web(), 1, POLICY, 4000);
        output.out("12345\n1234\n123").await;
        capture.detach(SpawnId(1)).await;
        capture.close().await;
        let lost: Vec<_> = logs
            .notices()
            .into_iter()
            .filter_map(|notice| match notice {
                Notice::LinesLost { lines, bytes, .. } => Some((lines, bytes)),
                Notice::WriteFailed { .. }
                | Notice::WriteRecovered { .. }
                | Notice::LinesDropped { .. }
                | Notice::SyncFailed { .. }
                | Notice::RotationFailed { .. }
                | Notice::CompressionFailed { .. }
                | Notice::FilesRemoved { .. }
                | Notice::PipeFailed { .. } => None,
            })
            .collect();
        assert_eq!(lost, [(3, 12)]);
    });
}

#[test]
fn memory_is_bounded_while_programs_come_and_go() {
    run(async {
        let logs = Logs::new();
        block(&logs);
        let capture = logs.start();
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        for spawn in 0..30 {
            let mut output = attach(&capture, &web(), spawn, POLICY, 100_000);
            output.out(line.repeat(90)).await;
            capture.detach(SpawnId(spawn)).await;
        }
        std::fs::remove_file(logs.dir().join("web")).unwrap();
        wait_for("recovery", || match logs.notices().last() {
            Some(Notice::WriteRecovered { .. }) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        capture.close().await;
        let written = logs.texts().len() as u64;
        let mut lost = 0;
        for notice in logs.notices() {
            if let Notice::LinesLost { lines, .. } = notice {
                lost += lines;
            }
        }
        assert_eq!(written + lost, 30 * 90);
        assert!((400..=520).contains(&written), "{written}");
    });
}

#[test]
fn a_file_removed_by_someone_is_made_again() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let mut output = attach(&capture, &web(), 1, POLICY, 4096);
        output.out("gone\n").await;
        capture.settle(SpawnId(1), 1).await;
        std::fs::remove_file(logs.dir().join("web/current.log")).unwrap();
        // Looked up once a second at most, when there is something to write.
        let mut number = 0;
        while logs.texts().is_empty() {
            number += 1;
            output.out(format!("{number}\n")).await;
            capture.settle(SpawnId(1), 0).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(logs.texts(), [number.to_string()]);
        capture.close().await;
    });
}

#[test]
fn a_name_that_is_taken_is_not_replaced() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let policy = CapturePolicy { rotate_bytes: 300, compress: false, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy, 4096);
        output.out("first\n").await;
        capture.settle(SpawnId(1), 1).await;
        // A folder where the closed file should go makes its name taken: it is moved on, not replaced.
        let text = std::fs::read_to_string(logs.dir().join("web/current.log")).unwrap();
        let name = text[..30].replace(':', "-") + ".log";
        std::fs::create_dir(logs.dir().join("web").join(name)).unwrap();
        for number in 0..20 {
            output.out(format!("{number}\n")).await;
        }
        capture.detach(SpawnId(1)).await;
        capture.close().await;
        let mut expected = vec!["first".to_owned()];
        expected.extend((0..20).map(|number| number.to_string()));
        assert_eq!(logs.texts(), expected);
        assert_eq!(logs.notices(), []);
    });
}

#[test]
fn a_rotation_that_fails_is_said_and_loses_nothing_more() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let policy = CapturePolicy { rotate_bytes: 300, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy, 4096);
        for _ in 0..2 {
            output.out("removed\n").await;
            capture.settle(SpawnId(1), 1).await;
        }
        // The file cannot be renamed: someone removed the whole folder. That was looked up a moment ago.
        std::fs::remove_dir_all(logs.dir().join("web")).unwrap();
        for number in 0..20 {
            output.out(format!("{number}\n")).await;
            capture.settle(SpawnId(1), 0).await;
        }
        capture.detach(SpawnId(1)).await;
        capture.close().await;
        assert!(
            matches!(logs.notices().as_slice(), [Notice::RotationFailed { replica, .. }] if *replica == web()),
            "{:?}",
            logs.notices()
        );
        let texts = logs.texts();
        // What went into the removed file before that was noticed is what the remover removed.
        let first: usize = texts[0].parse().unwrap();
        assert!(first < 8, "{first}");
        let expected: Vec<_> = (first..20).map(|number| number.to_string()).collect();
        assert_eq!(texts, expected);
    });
}

#[test]
fn a_file_that_cannot_be_compressed_stays_readable() {
    run(async {
        let logs = Logs::new();
        let dir = logs.dir().join("web");
        std::fs::create_dir_all(dir.join("2026-11-22T15-20-01.000000000Z.log.zst.tmp/in the way")).unwrap();
        let record = "2026-11-22T15:20:01.000000000Z stdout F kept\n";
        std::fs::write(dir.join("2026-11-22T15-20-01.000000000Z.log"), record).unwrap();
        let capture = logs.start();
        let _output = attach(&capture, &web(), 1, POLICY, 64);
        wait_for("the failure to be said", || match logs.notices().as_slice() {
            [Notice::CompressionFailed { replica, .. }] if *replica == web() => Ok(()),
            other => Err(format!("{other:?}")),
        });
        capture.close().await;
        assert_eq!(logs.texts(), ["kept"]);
    });
}
