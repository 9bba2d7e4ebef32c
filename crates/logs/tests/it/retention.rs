//! How long closed files stay: by number, by age, by what they take together; while services write, and after they have gone.

use std::path::Path;
use std::time::{Duration, SystemTime};

use mainstay_logs::{Bound, Capture, CaptureOptions, CapturePolicy};
use mainstay_types::{ReplicaId, SpawnId};

use crate::support::{Logs, POLICY, attach, replica, run, wait_for, web};

/// Bytes of everything in a replica's folder.
fn bytes(logs: &Logs, replica: &str) -> u64 {
    let dir = logs.dir().join(replica);
    // A file may go between the two questions.
    logs.files(replica)
        .iter()
        .filter_map(|name| std::fs::metadata(dir.join(name)).ok())
        .map(|file| file.len())
        .sum()
}

/// A closed file of this many bytes, whose one line has this second as its time.
fn closed(logs: &Logs, replica: &str, second: u32, bytes: usize) {
    let dir = logs.dir().join(replica);
    std::fs::create_dir_all(&dir).unwrap();
    let record = format!("2026-11-22T15:20:{second:02}.000000000Z stdout F ");
    let text = format!("{record}{:x<width$}\n", "", width = bytes - record.len() - 1);
    std::fs::write(dir.join(format!("2026-11-22T15-20-{second:02}.000000000Z.log")), text).unwrap();
}

fn names(logs: &Logs, replica: &str) -> Vec<u32> {
    let seconds = |name: &String| name.get(17..19).and_then(|second| second.parse().ok());
    logs.files(replica).iter().filter_map(seconds).collect()
}

fn written_ago(path: &Path, ago: Duration) {
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - ago).unwrap();
}

#[test]
fn totals_hold_while_services_write() {
    run(async {
        const SERVICE: u64 = 100_000;
        const STACK: u64 = 150_000;
        const SIZE: u64 = 10_000;
        let logs = Logs::new();
        let capture = Capture::start(CaptureOptions { max_total_bytes: STACK, ..logs.options() }).unwrap();
        let policy =
            CapturePolicy { rotate_bytes: SIZE, keep_total_bytes: SERVICE, compress: false, ..POLICY };
        let replicas = [web(), replica("web", 1), replica("db", 0)];
        let mut outputs: Vec<_> = (0..)
            .zip(&replicas)
            .map(|(spawn, replica)| attach(&capture, replica, spawn, policy.clone(), 64 * 1024))
            .collect();
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let mut most = 0;
        for round in 0..40 {
            // The third one is loud only later: it takes its place from the others.
            let loud = if round < 20 { 2 } else { 3 };
            for output in &mut outputs[..loud] {
                output.out(line.repeat(150)).await;
            }
            for spawn in 0..loud as u64 {
                capture.settle(SpawnId(spawn), 0).await;
            }
            let total = |names: &[ReplicaId]| -> u64 {
                names.iter().map(|replica| bytes(&logs, &replica.to_string())).sum()
            };
            most = most.max(total(&replicas));
            wait_for("the totals to hold", || {
                // What was written since a file was closed comes on top: at most its size for each that writes.
                let (service, stack) = (total(&replicas[..2]), total(&replicas));
                if service <= SERVICE + 2 * SIZE && stack <= STACK + 3 * SIZE {
                    Ok(())
                } else {
                    Err(format!("{service}, {stack}"))
                }
            });
        }
        // However late the files are removed: 150 records of 140 bytes of each are written between two looks.
        assert!(most <= STACK + 3 * (SIZE + 150 * 140), "{most}");
        for replica in &replicas {
            assert_eq!(capture.tail(replica, 5).await.len(), 5, "a current file stays");
        }
        let counted: (u64, u64) = capture
            .counts()
            .iter()
            .fold((0, 0), |sum, (_, counts)| (sum.0 + counts.removed_files, sum.1 + counts.removed_bytes));
        capture.close().await;
        let (service, stack) = (logs.removed(Bound::ServiceTotal), logs.removed(Bound::StackTotal));
        assert!(service.0 > 0 && stack.0 > 0, "{service:?} {stack:?}");
        assert_eq!(counted, (service.0 + stack.0, service.1 + stack.1));
        assert_eq!(logs.removed(Bound::Count), (0, 0));
        assert_eq!(logs.notices(), []);
    });
}

#[test]
fn totals_count_what_is_on_the_disk() {
    run(async {
        let logs = Logs::new();
        // 50 files that compress to almost nothing: as they are they would not fit.
        for second in 0..50 {
            closed(&logs, "web", second, 10_000);
        }
        let capture = logs.start();
        let policy = CapturePolicy { keep_total_bytes: 1 << 20, ..POLICY };
        let _output = attach(&capture, &web(), 1, policy.clone(), 64);
        wait_for("the files to be compressed", || match bytes(&logs, "web") {
            bytes if bytes < 20_000 => Ok(()),
            bytes => Err(bytes.to_string()),
        });
        // Fifty compressed files fit now where two plain ones would.
        capture.set_policy(web(), CapturePolicy { keep_total_bytes: 20_000, ..policy });
        capture.close().await;
        assert_eq!(names(&logs, "web").len(), 50);
        assert_eq!(logs.removed(Bound::ServiceTotal), (0, 0));
    });
}

#[test]
fn the_oldest_go_first_whoevers_they_are() {
    run(async {
        let logs = Logs::new();
        for second in [10, 30, 50] {
            closed(&logs, "web", second, 1000);
        }
        for second in [20, 40] {
            closed(&logs, "web.1", second, 1000);
        }
        // Of a service that is no longer there; and a file of a stranger, which is not ours to remove.
        for second in [5, 45] {
            closed(&logs, "gone", second, 1000);
        }
        std::fs::write(logs.dir().join("gone/notes.txt"), "x".repeat(9000)).unwrap();
        std::fs::write(logs.dir().join("gone/current.log"), "x".repeat(500)).unwrap();
        let capture = Capture::start(CaptureOptions { max_total_bytes: 4600, ..logs.options() }).unwrap();
        wait_for("the oldest to go", || match names(&logs, "web") {
            left if left == [30, 50] => Ok(()),
            other => Err(format!("{other:?}")),
        });
        wait_for("the oldest to go", || match names(&logs, "web.1") {
            left if left == [40] => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(names(&logs, "gone"), [45]);
        // Less from here on.
        capture.set_max_total(1600);
        wait_for("more to go", || match (names(&logs, "web"), names(&logs, "web.1"), names(&logs, "gone")) {
            (web, second, gone) if web == [50] && second.is_empty() && gone.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        });
        capture.close().await;
        assert_eq!(logs.files("gone"), ["current.log", "notes.txt"]);
        assert_eq!(logs.removed(Bound::StackTotal), (6, 6000));
        assert_eq!(logs.notices(), []);
    });
}

#[test]
fn what_somebody_else_removed_is_not_counted() {
    run(async {
        let logs = Logs::new();
        for second in 10..20 {
            closed(&logs, "web", second, 1000);
            closed(&logs, "db", second, 1000);
        }
        let capture = Capture::start(CaptureOptions { max_total_bytes: 20_500, ..logs.options() }).unwrap();
        let policy = CapturePolicy { compress: false, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy.clone(), 4096);
        capture.settle(SpawnId(1), 0).await;
        std::fs::remove_dir_all(logs.dir().join("db")).unwrap();
        output.out("x".repeat(2000) + "\n").await;
        capture.settle(SpawnId(1), 0).await;
        capture.rotate(vec![(web(), policy)]).await;
        capture.close().await;
        // Had the ten of the other service been counted still, some of these would have gone.
        assert_eq!(logs.files("web").len(), 11);
        assert_eq!(logs.removed(Bound::StackTotal), (0, 0));
    });
}

#[test]
fn files_go_when_they_are_too_old_also_while_nothing_is_written() {
    run(async {
        let logs = Logs::new();
        for second in [10, 20, 30] {
            closed(&logs, "web", second, 1000);
        }
        let path = |second: u32| logs.dir().join(format!("web/2026-11-22T15-20-{second}.000000000Z.log"));
        written_ago(&path(10), Duration::from_secs(100));
        written_ago(&path(20), Duration::from_secs(59));
        written_ago(&path(30), Duration::from_secs(1));
        let capture = logs.start();
        let policy = CapturePolicy { keep_age: Some(Duration::from_secs(60)), ..POLICY };
        let _output = attach(&capture, &web(), 1, policy, 64);
        wait_for("the first to go", || match names(&logs, "web") {
            left if !left.contains(&10) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        // A second later the next is due, and nobody writes. Compressing it did not make it any younger.
        wait_for("the second to go", || match logs.files("web") {
            left if left == ["2026-11-22T15-20-30.000000000Z.log.zst"] => Ok(()),
            other => Err(format!("{other:?}")),
        });
        capture.close().await;
        assert_eq!(logs.removed(Bound::Age).0, 2);
        assert_eq!(logs.notices(), []);
    });
}
