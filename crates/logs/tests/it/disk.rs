//! A disk that is full, read-only, or holds a file fast: on a small file system of the test's own.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mainstay_logs::{Bound, CapturePolicy, Notice, WhenBlocked};
use mainstay_types::SpawnId;

use crate::again::on_a_disk_of_its_own;
use crate::support::{Logs, POLICY, attach, run, wait_for, web};

fn mount(args: &[&str], on: &Path) {
    let output = Command::new("mount").args(args).arg(on).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Leaves no byte free.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for block in [64 * 1024, 4096, 1] {
        loop {
            match file.write_all(&vec![b'x'; block]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// The newest word on whether the file can be written; the disk's state may be told of compressing, too.
fn newest(logs: &Logs) -> Option<Notice> {
    let of_writing =
        |notice: &Notice| matches!(notice, Notice::WriteFailed { .. } | Notice::WriteRecovered { .. });
    logs.notices().into_iter().rev().find(of_writing)
}

fn failed_because(logs: &Logs, number: &str) {
    wait_for("the failure to be said", || match newest(logs) {
        Some(Notice::WriteFailed { error, .. }) if error.contains(number) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn recovered(logs: &Logs) {
    wait_for("recovery", || match newest(logs) {
        Some(Notice::WriteRecovered { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn line(number: u32) -> String {
    format!("line {number:05} {:x<80}", "")
}

#[test]
fn a_full_disk_makes_the_program_wait_and_nothing_is_lost() {
    on_a_disk_of_its_own("disk::a_full_disk_makes_the_program_wait_and_nothing_is_lost", "1m", |disk| {
        run(async {
            let logs = Logs::below(disk);
            let capture = logs.start();
            let policy = CapturePolicy { rotate_bytes: 40_000, ..POLICY };
            let mut output = attach(&capture, &web(), 1, policy, 1000);
            for number in 0..500 {
                output.out(line(number) + "\n").await;
            }
            capture.settle(SpawnId(1), 0).await;
            let filler = disk.join("filler");
            fill(&filler);
            // The program writes on until it has to wait, is held there, and goes on when there is room again.
            let program = async {
                for number in 500..3000 {
                    output.out(line(number) + "\n").await;
                }
                output
            };
            let disk_gets_room = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    let full = |notice: &Notice| matches!(notice, Notice::WriteFailed { error, .. } if error.contains("os error 28"));
                    if logs.notices().iter().any(full) {
                        break;
                    }
                }
                assert!(capture.counts()[0].1.blocked);
                std::fs::remove_file(&filler).unwrap();
            };
            let (output, ()) = tokio::join!(program, disk_gets_room);
            drop(output);
            capture.detach(SpawnId(1)).await;
            capture.close().await;
            let expected: Vec<String> = (0..3000).map(line).collect();
            assert!(logs.texts() == expected, "{:?}", logs.notices());
            let lost =
                |notice: &Notice| matches!(notice, Notice::LinesLost { .. } | Notice::LinesDropped { .. });
            assert!(!logs.notices().iter().any(lost), "{:?}", logs.notices());
        });
    });
}

#[test]
fn a_full_disk_lets_the_program_run_and_every_line_is_written_or_counted() {
    let name = "disk::a_full_disk_lets_the_program_run_and_every_line_is_written_or_counted";
    on_a_disk_of_its_own(name, "1m", |disk| {
        run(async {
            let logs = Logs::below(disk);
            let capture = logs.start();
            let policy = CapturePolicy { rotate_bytes: 40_000, when_blocked: WhenBlocked::Drop, ..POLICY };
            let mut output = attach(&capture, &web(), 1, policy, 1000);
            let mut number = 0;
            let mut write = async |count: u32| {
                for _ in 0..count {
                    output.out(line(number) + "\n").await;
                    number += 1;
                }
                number
            };
            write(500).await;
            capture.settle(SpawnId(1), 0).await;
            let filler = disk.join("filler");
            fill(&filler);
            // More than the pipe and every buffer hold: nobody waits.
            write(2000).await;
            failed_because(&logs, "os error 28");
            std::fs::remove_file(&filler).unwrap();
            recovered(&logs);
            let total = write(500).await;
            capture.detach(SpawnId(1)).await;
            let dropped = capture.counts()[0].1.dropped_lines;
            capture.close().await;
            let texts = logs.texts();
            let (told, lines): (Vec<_>, Vec<_>) =
                texts.into_iter().partition(|text| text.starts_with("[mainstay] missing here: "));
            assert!(dropped > 0);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with(&format!("[mainstay] missing here: {dropped} lines")), "{told:?}");
            assert_eq!(lines.len() as u64 + dropped, u64::from(total));
            assert!(lines.is_sorted() && lines.windows(2).all(|pair| pair[0] != pair[1]), "one twice");
            assert_eq!(lines.last(), Some(&line(total - 1)));
        });
    });
}

#[test]
fn a_disk_that_becomes_read_only_and_writable_again() {
    on_a_disk_of_its_own("disk::a_disk_that_becomes_read_only_and_writable_again", "1m", |disk| {
        for when_blocked in [WhenBlocked::Wait, WhenBlocked::Drop] {
            run(async {
                let logs = Logs::below(disk);
                let capture = logs.start();
                let policy = CapturePolicy { when_blocked, ..POLICY };
                let mut output = attach(&capture, &web(), 1, policy.clone(), 4096);
                output.out("before\n").await;
                // A file system with a file open for writing does not become read-only on request.
                capture.detach(SpawnId(1)).await;
                mount(&["-o", "remount,ro"], disk);
                let mut output = attach(&capture, &web(), 2, policy, 4096);
                output.out("meanwhile\n").await;
                failed_because(&logs, "os error 30");
                mount(&["-o", "remount,rw"], disk);
                recovered(&logs);
                output.out("after\n").await;
                capture.detach(SpawnId(2)).await;
                capture.close().await;
                assert_eq!(logs.texts(), ["before", "meanwhile", "after"]);
            });
        }
    });
}

#[test]
fn a_file_that_is_held_fast_stays_and_the_next_one_goes() {
    on_a_disk_of_its_own("disk::a_file_that_is_held_fast_stays_and_the_next_one_goes", "1m", |disk| {
        run(async {
            let logs = Logs::below(disk);
            let dir = logs.dir().join("web");
            std::fs::create_dir_all(&dir).unwrap();
            let name = |second: u32| format!("2026-11-22T15-20-{second}.000000000Z.log");
            for second in [10, 20, 30] {
                let record = format!("2026-11-22T15:20:{second}.000000000Z stdout F {:x<1000}\n", "");
                std::fs::write(dir.join(name(second)), record).unwrap();
            }
            // A file that something is mounted on cannot be removed (unlink(2): EBUSY).
            let held = dir.join(name(10));
            mount(&["--bind", held.to_str().unwrap()], &held);
            let capture = logs.start();
            let policy = CapturePolicy { keep_total_bytes: 2200, compress: false, ..POLICY };
            let mut output = attach(&capture, &web(), 1, policy.clone(), 4096);
            wait_for("the next one to go", || match logs.files("web") {
                files if files == [name(10), name(30)] => Ok(()),
                other => Err(format!("{other:?}")),
            });
            // Told once, also when it is tried again.
            for _ in 0..2 {
                output.out("x\n").await;
                capture.settle(SpawnId(1), 0).await;
                capture.rotate(vec![(web(), policy.clone())]).await;
            }
            assert!(Command::new("umount").arg(&held).status().unwrap().success());
            output.out("x\n").await;
            capture.settle(SpawnId(1), 0).await;
            capture.set_policy(web(), CapturePolicy { keep: 3, ..policy });
            capture.close().await;
            let told = logs.notices();
            let expected =
                |notice: &Notice| matches!(notice, Notice::CompressionFailed { path, .. } if *path == held);
            assert!(told.len() == 1 && expected(&told[0]), "{told:?}");
            assert!(!held.exists(), "it went when it could");
            assert_eq!(logs.removed(Bound::ServiceTotal).0, 1);
            assert_eq!(logs.removed(Bound::Count).0, 1);
        });
    });
}

#[test]
fn a_disk_too_full_to_compress_keeps_the_plain_file() {
    on_a_disk_of_its_own("disk::a_disk_too_full_to_compress_keeps_the_plain_file", "1m", |disk| {
        run(async {
            let logs = Logs::below(disk);
            let dir = logs.dir().join("web");
            std::fs::create_dir_all(&dir).unwrap();
            // Text without a pattern, so that the compressed form takes room.
            let mut state = 1_u64;
            let mut record = b"2026-11-22T15:20:10.000000000Z stdout F ".to_vec();
            record.extend((0..100_000).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                b'0' + (state >> 60) as u8
            }));
            record.push(b'\n');
            std::fs::write(dir.join("2026-11-22T15-20-10.000000000Z.log"), record).unwrap();
            let capture = logs.start();
            let filler = disk.join("filler");
            fill(&filler);
            let _output = attach(&capture, &web(), 1, POLICY, 4096);
            wait_for("the failure to be said", || match logs.notices().as_slice() {
                [Notice::CompressionFailed { error, .. }] if error.contains("os error 28") => Ok(()),
                other => Err(format!("{other:?}")),
            });
            assert_eq!(logs.files("web"), ["2026-11-22T15-20-10.000000000Z.log"], "nothing half-done");
            std::fs::remove_file(&filler).unwrap();
            capture.set_policy(web(), POLICY);
            capture.close().await;
            assert_eq!(logs.files("web"), ["2026-11-22T15-20-10.000000000Z.log.zst"]);
            assert_eq!(logs.texts().len(), 1);
        });
    });
}
