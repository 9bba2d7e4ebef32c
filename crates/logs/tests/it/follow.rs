//! Following across rotation, compression, pruning and new replicas.

use std::time::Duration;

use mainstay_logs::read::{Query, ReadError, follow};
use mainstay_logs::{CapturePolicy, Stream};
use mainstay_types::SpawnId;

use crate::support::{Logs, POLICY, attach, replica, run, texts, web};

#[test]
fn the_backlog_and_what_follows_meet_without_gap_or_overlap() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let policy = CapturePolicy { rotate_bytes: 2000, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy, 4096);
        for number in 0..100 {
            output.out(format!("{number}\n")).await;
        }
        capture.settle(SpawnId(1), 1).await;
        let (backlog, mut follower) = follow(&logs.dir(), &Query { last: Some(10), ..Query::default() });
        // Rotated several times between the snapshot and the reading.
        for number in 100..300 {
            output.out(format!("{number}\n")).await;
        }
        capture.settle(SpawnId(1), 1).await;
        let mut seen = texts(&backlog.collect::<Result<Vec<_>, _>>().unwrap());
        assert_eq!(seen.len(), 10);
        seen.extend(texts(&follower.poll().unwrap()));
        assert_eq!(follower.poll().unwrap(), []);

        let mut late = attach(&capture, &replica("late", 0), 2, policy, 4096);
        late.write(Stream::Stderr, "300\n301").await;
        capture.detach(SpawnId(2)).await;
        output.out("302\n").await;
        capture.detach(SpawnId(1)).await;
        capture.close().await;
        seen.extend(texts(&follower.poll().unwrap()));
        let expected: Vec<_> = (90..303).map(|number| number.to_string()).collect();
        assert_eq!(seen, expected);
    });
}

#[test]
fn an_unfinished_line_comes_when_it_is_whole() {
    let logs = Logs::new();
    let dir = logs.dir().join("web");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("current.log");
    let (_, mut follower) = follow(&logs.dir(), &Query { last: Some(0), ..Query::default() });
    let record = "2026-11-22T15:20:01.000000000Z stdout F whole\n";
    for end in 1..=record.len() {
        std::fs::write(&path, &record[..end]).unwrap();
        // Writing truncates; the time makes sure that the change is seen.
        let lines = texts(&follower.poll().unwrap_or_default());
        assert_eq!(lines, if end == record.len() { vec!["whole"] } else { Vec::new() }, "{end}");
    }
}

#[test]
fn a_follower_that_is_too_slow_is_told() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let policy = CapturePolicy { rotate_bytes: 200, keep: 1, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy, 4096);
        output.out("first\n").await;
        capture.settle(SpawnId(1), 1).await;
        let (_, mut follower) = follow(&logs.dir(), &Query { last: Some(0), ..Query::default() });
        for number in 0..100 {
            output.out(format!("{number}\n")).await;
        }
        capture.detach(SpawnId(1)).await;
        capture.close().await;
        let mut seen = Vec::new();
        let mut outrun = false;
        for _ in 0..4 {
            match follower.poll() {
                Ok(lines) => seen.extend(texts(&lines)),
                Err(ReadError::Outrun { replica }) => outrun = replica == web(),
                Err(other) => panic!("{other}"),
            }
        }
        assert!(outrun);
        assert_eq!(seen.last().unwrap(), "99");
    });
}

#[test]
fn a_long_backlog_comes_in_pieces() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let policy = CapturePolicy { rotate_bytes: 64 << 20, ..POLICY };
        let (_, mut follower) = follow(&logs.dir(), &Query { last: Some(0), ..Query::default() });
        let mut output = attach(&capture, &web(), 1, policy, 64 * 1024);
        let block: String = (0..100_000).map(|number| format!("{number:060}\n")).collect();
        output.out(&block).await;
        capture.detach(SpawnId(1)).await;
        let mut counts = Vec::new();
        while counts.iter().sum::<usize>() < 100_000 {
            counts.push(follower.poll().unwrap().len());
            assert!(counts.len() < 1000, "{counts:?}");
        }
        assert!(counts.len() > 2, "{counts:?}");
        capture.close().await;
        tokio::time::sleep(Duration::ZERO).await;
        assert_eq!(follower.poll().unwrap(), []);
    });
}
