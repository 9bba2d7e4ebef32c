//! Following across rotation, compression, pruning and new replicas.

use std::time::Duration;

use mainstay_logs::read::{Query, ReadError, Watch, follow};
use mainstay_logs::{CapturePolicy, Stream};
use mainstay_types::SpawnId;

use crate::support::{Logs, POLICY, attach, replica, run, texts, web};

#[test]
fn the_backlog_and_what_follows_meet_without_gap_or_overlap() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let policy = CapturePolicy { rotate_bytes: 2000, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy.clone(), 4096);
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
        let mut output = attach(&capture, &web(), 1, policy.clone(), 4096);
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

#[test]
fn the_system_wakes_a_follower_whatever_changes() {
    let logs = Logs::new();
    let query = Query { last: Some(0), ..Query::default() };
    let (wake, woken) = std::sync::mpsc::sync_channel(1);
    let mut watch = Watch::new(&logs.dir(), &query.replicas, move || {
        let _ = wake.try_send(());
    });
    let (_, mut follower) = follow(&logs.dir(), &query);
    let mut change = |text: &str, change: &dyn Fn()| {
        // Nothing is left to be told before the change.
        watch.renew();
        follower.poll().unwrap();
        change();
        loop {
            // Woken by the system alone: where it could not, this would wait in vain.
            woken
                .recv_timeout(Duration::from_secs(60))
                .unwrap_or_else(|_| panic!("not woken: {watch:?}, {text}"));
            watch.renew();
            let lines = loop {
                match follower.poll() {
                    Ok(lines) => break lines,
                    // The folder went with what was not read; what came after it follows.
                    Err(ReadError::Outrun { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            };
            if texts(&lines).iter().any(|line| line == text) {
                break;
            }
        }
    };
    let write = |folder: &str, second: u32, text: &str| {
        use std::io::Write;
        let dir = logs.dir().join(folder);
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("current.log");
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "2026-11-22T15:20:{second:02}.000000000Z stdout F {text}").unwrap();
    };
    // The folder of logs, and those above it, are not there yet.
    change("first", &|| write("web", 1, "first"));
    change("second", &|| write("web", 2, "second"));
    change("of another", &|| write("late", 3, "of another"));
    change("after rotation", &|| {
        let dir = logs.dir().join("web");
        std::fs::rename(dir.join("current.log"), dir.join("2026-11-22T15-20-01.000000000Z.log")).unwrap();
        write("web", 4, "after rotation");
    });
    change("in a new folder", &|| {
        std::fs::remove_dir_all(logs.dir()).unwrap();
        write("web", 5, "in a new folder");
    });
    assert_eq!(watch.trouble(), None);
}
