//! When a file is closed: by size, by age, on request, and by whatever mix of them; and that nothing is lost, cut or doubled
//! where it is.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_logs::read::Query;
use mainstay_logs::{Capture, CaptureOptions, CapturePolicy, LogLine, Rotated, Stream};
use mainstay_types::{ReplicaId, SpawnId, Timestamp};
use proptest::prelude::*;

use crate::support::{Logs, POLICY, attach, replica, run, wait_for, web};

/// A clock that shows what it is told to.
#[derive(Clone)]
struct Hands(Arc<Mutex<Timestamp>>);

impl Hands {
    fn new() -> Self {
        Self(Arc::new(Mutex::new("2026-11-22T15:20:01Z".parse().unwrap())))
    }

    fn advance(&self, time: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.checked_add(time).unwrap();
    }

    fn start(&self, logs: &Logs) -> Capture {
        let hands = self.clone();
        let clock = Arc::new(move || *hands.0.lock().unwrap());
        Capture::start(CaptureOptions { clock, ..logs.options() }).unwrap()
    }
}

/// The records of a file, whatever its form: time, whether it is a part, text.
fn records(path: &Path) -> Vec<(Timestamp, bool, Vec<u8>)> {
    let bytes = std::fs::read(path).unwrap();
    let bytes = if path.extension().is_some_and(|extension| extension == "zst") {
        zstd::decode_all(&bytes[..]).unwrap()
    } else {
        bytes
    };
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines
        .map(|line| {
            let at = std::str::from_utf8(&line[..30]).unwrap().parse().unwrap();
            assert_eq!(line.last(), Some(&b'\n'), "every file ends with a line");
            (at, line[38] == b'P', line[40..line.len() - 1].to_vec())
        })
        .collect()
}

fn bytes_of(lines: &[LogLine], stream: Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines.iter().filter(|line| line.stream == stream) {
        assert!(!line.partial, "no line is cut where files meet");
        bytes.extend_from_slice(&line.text);
        bytes.push(b'\n');
    }
    bytes
}

async fn request(capture: &Capture, replica: &ReplicaId, policy: &CapturePolicy) -> Rotated {
    let mut outcomes = capture.rotate(vec![(replica.clone(), policy.clone())]).await;
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].0, *replica);
    outcomes.remove(0).1
}

#[derive(Clone, Debug)]
enum Step {
    Write(Stream, Vec<u8>),
    Pass(Duration),
    Rotate,
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let byte = prop_oneof![3 => Just(b'\n'), 1 => Just(0), 1 => Just(b'\r'), 8 => any::<u8>()];
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    prop_oneof![
        6 => (stream, prop::collection::vec(byte, 1..120)).prop_map(|(stream, bytes)| Step::Write(stream, bytes)),
        2 => (0_u64..4000).prop_map(|ms| Step::Pass(Duration::from_millis(ms))),
        1 => Just(Step::Rotate),
        2 => Just(Step::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_closes_the_files_what_is_read_is_what_was_written(
        steps in prop::collection::vec(step(), 0..60),
        pipe_bytes in 1_usize..200,
        rotate_bytes in prop_oneof![1_u64..400, Just(1 << 20)],
        age_secs in prop::option::of(1_u64..8),
        max_line_bytes in prop_oneof![1_usize..60, Just(64 * 1024)],
        compress in any::<bool>(),
    ) {
        run(async {
            let (logs, hands) = (Logs::new(), Hands::new());
            let capture = hands.start(&logs);
            let rotate_age = age_secs.map(Duration::from_secs);
            let policy = CapturePolicy { rotate_bytes, rotate_age, max_line_bytes, compress, ..POLICY };
            let mut output = attach(&capture, &web(), 1, policy.clone(), pipe_bytes);
            let mut written = [Vec::new(), Vec::new()];
            let mut closed_on_request = 0;
            for step in &steps {
                match step {
                    Step::Write(stream, bytes) => {
                        output.write(*stream, bytes).await;
                        written[usize::from(*stream == Stream::Stderr)].extend_from_slice(bytes);
                    }
                    Step::Pass(time) => hands.advance(*time),
                    Step::Settle => drop(capture.settle(SpawnId(1), 2).await),
                    Step::Rotate => match request(&capture, &web(), &policy).await {
                        Rotated::Closed { .. } => closed_on_request += 1,
                        Rotated::Empty | Rotated::Waits => {}
                        Rotated::Failed { error } => prop_assert!(false, "{}", error),
                    },
                }
            }
            capture.detach(SpawnId(1)).await;
            let rotations = capture.counts().first().map_or(0, |(_, counts)| counts.rotations);
            capture.close().await;

            let lines = logs.lines(&Query::default());
            for (stream, mut written) in Stream::ALL.into_iter().zip(written) {
                if written.last().is_some_and(|byte| *byte != b'\n') {
                    written.push(b'\n');
                }
                prop_assert_eq!(bytes_of(&lines, stream), written);
            }
            prop_assert!(lines.is_sorted_by_key(|line| line.at));

            let files = logs.files("web");
            let closed = files.iter().filter(|name| name.starts_with("20")).count() as u64;
            prop_assert_eq!(closed, rotations);
            prop_assert!(closed >= closed_on_request);
            for name in &files {
                let records = records(&logs.dir().join("web").join(name));
                prop_assert!(!records.is_empty() || name == "current.log", "an empty file was closed");
                let Some((first_at, ..)) = records.first() else { continue };
                if name != "current.log" {
                    let stamp = format!("{first_at:.9}").replace(':', "-");
                    prop_assert_eq!(&name[..30], &stamp, "the name is the time of the first line");
                }
                if let Some(age) = rotate_age && records.iter().all(|(_, partial, _)| !partial) {
                    let end = first_at.checked_add(age).unwrap();
                    prop_assert!(records.iter().all(|(at, ..)| *at < end), "a line too late for its file");
                }
            }
            prop_assert_eq!(logs.notices(), []);
            Ok(())
        })?;
    }
}

#[test]
fn a_silent_file_is_closed_when_it_is_old_enough_and_an_empty_one_never() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let policy =
            CapturePolicy { rotate_age: Some(Duration::from_millis(300)), compress: false, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy.clone(), 4096);
        let _silent = attach(&capture, &replica("silent", 0), 2, policy.clone(), 4096);
        let mut other = attach(&capture, &replica("other", 0), 3, policy, 4096);
        output.out("first\n").await;
        capture.settle(SpawnId(1), 1).await;
        let name = wait_for("the file to be closed", || match logs.files("web") {
            files if files.len() == 1 && files[0] != "current.log" => Ok(files[0].clone()),
            other => Err(format!("{other:?}")),
        });
        // While three files of another are closed by their age: nothing was written here, so nothing is closed or made.
        for closed in 1..=3 {
            other.out("more\n").await;
            capture.settle(SpawnId(3), 1).await;
            wait_for("the other's file to be closed", || match logs.files("other") {
                files if files.len() == closed && !files.contains(&"current.log".to_owned()) => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
        assert_eq!(logs.files("web"), std::slice::from_ref(&name));
        assert_eq!(logs.files("silent"), [""; 0]);
        output.out("second\n").await;
        capture.settle(SpawnId(1), 1).await;
        assert_eq!(logs.files("web"), [name, "current.log".to_owned()]);
        capture.close().await;
        let texts = logs.texts();
        assert_eq!(texts, ["first", "more", "more", "more", "second"]);
        assert_eq!(logs.notices(), []);
    });
}

#[test]
fn a_file_of_an_earlier_host_is_closed_without_a_new_line() {
    run(async {
        let logs = Logs::new();
        let dir = logs.dir().join("web");
        std::fs::create_dir_all(&dir).unwrap();
        // Torn, and in the middle of a long line: it is healed before it gets its name.
        let torn = "2026-11-22T15:20:01.000000000Z stdout F one\n2026-11-22T15:20:02.000000000Z stdout P tw";
        std::fs::write(dir.join("current.log"), torn).unwrap();
        let capture = logs.start();
        let policy = CapturePolicy { rotate_age: Some(Duration::from_secs(3600)), compress: false, ..POLICY };
        let _output = attach(&capture, &web(), 1, policy, 4096);
        wait_for("the file to be closed", || match logs.files("web") {
            files if files == ["2026-11-22T15-20-01.000000000Z.log"] => Ok(()),
            other => Err(format!("{other:?}")),
        });
        capture.close().await;
        assert_eq!(logs.texts(), ["one", "tw"]);
        assert!(logs.lines(&Query::default()).iter().all(|line| !line.partial));
    });
}

#[test]
fn a_new_age_counts_for_what_runs() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let mut output = attach(&capture, &web(), 1, CapturePolicy { compress: false, ..POLICY }, 4096);
        output.out("one\n").await;
        capture.settle(SpawnId(1), 1).await;
        assert_eq!(logs.files("web"), ["current.log"]);
        let policy = CapturePolicy { rotate_age: Some(Duration::from_millis(1)), compress: false, ..POLICY };
        capture.set_policy(web(), policy);
        wait_for("the file to be closed", || match logs.files("web") {
            files if files.len() == 1 && files[0] != "current.log" => Ok(()),
            other => Err(format!("{other:?}")),
        });
        capture.close().await;
        assert_eq!(logs.texts(), ["one"]);
    });
}

#[test]
fn a_request_is_answered_for_each_replica_and_waits_for_the_end_of_a_line() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let policy = CapturePolicy { max_line_bytes: 4, compress: false, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy.clone(), 4096);
        assert_eq!(request(&capture, &web(), &policy).await, Rotated::Empty);
        output.out("one\n").await;
        capture.settle(SpawnId(1), 1).await;
        let Rotated::Closed { name } = request(&capture, &web(), &policy).await else { panic!() };
        assert_eq!(logs.files("web"), std::slice::from_ref(&name));
        assert_eq!(request(&capture, &web(), &policy).await, Rotated::Empty);

        // A part of a line is in the file: it is closed with the rest of it, and not before.
        output.out("a long line").await;
        capture.settle(SpawnId(1), 1).await;
        assert_eq!(request(&capture, &web(), &policy).await, Rotated::Waits);
        output.write(Stream::Stderr, "other\n").await;
        capture.settle(SpawnId(1), 1).await;
        assert_eq!(logs.files("web"), [name.clone(), "current.log".to_owned()]);
        output.out(" that ends\n").await;
        capture.settle(SpawnId(1), 1).await;
        let files = logs.files("web");
        assert!(files.len() == 2 && files[1] != "current.log", "{files:?}");
        output.out("last\n").await;
        capture.detach(SpawnId(1)).await;

        // Of a service that has ended, and of one that never was.
        let (ended, never) = (web(), replica("never", 0));
        let outcomes = capture.rotate(vec![(ended, policy.clone()), (never.clone(), policy)]).await;
        assert!(matches!(outcomes[0].1, Rotated::Closed { .. }), "{outcomes:?}");
        assert_eq!(outcomes[1], (never, Rotated::Empty));
        capture.close().await;
        assert_eq!(logs.files("web").len(), 3);
        assert_eq!(logs.texts(), ["one", "other", "a long line that ends", "last"]);
        assert_eq!(logs.notices(), []);
    });
}

#[test]
fn a_file_that_cannot_be_written_is_not_closed_and_says_so() {
    run(async {
        let logs = Logs::new();
        std::fs::create_dir_all(logs.dir()).unwrap();
        std::fs::write(logs.dir().join("web"), "in the way").unwrap();
        let capture = logs.start();
        let mut output = attach(&capture, &web(), 1, POLICY, 4096);
        output.out("one\n").await;
        capture.settle(SpawnId(1), 1).await;
        let outcome = request(&capture, &web(), &POLICY).await;
        assert!(matches!(outcome, Rotated::Failed { .. }), "{outcome:?}");
        std::fs::remove_file(logs.dir().join("web")).unwrap();
        // The request itself tries again.
        let outcome = request(&capture, &web(), &POLICY).await;
        assert!(matches!(outcome, Rotated::Closed { .. }), "{outcome:?}");
        capture.close().await;
        assert_eq!(logs.texts(), ["one"]);
    });
}

#[test]
fn a_rotation_that_waits_for_a_line_survives_a_disk_that_is_away() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let policy = CapturePolicy { max_line_bytes: 4, compress: false, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy.clone(), 4096);
        output.out("a long line").await;
        capture.settle(SpawnId(1), 1).await;
        assert_eq!(request(&capture, &web(), &policy).await, Rotated::Waits);
        let (dir, aside) = (logs.dir().join("web"), logs.dir().join("aside"));
        std::fs::rename(&dir, &aside).unwrap();
        std::fs::write(&dir, "in the way").unwrap();
        // The open file goes on being written until its absence is noticed, which is looked up once a second.
        let mut more = 0;
        while !capture.counts()[0].1.blocked {
            more += 1;
            output.out(" and").await;
            capture.settle(SpawnId(1), 0).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The end of the line is kept in memory, and no other output follows.
        output.out(" end\n").await;
        capture.settle(SpawnId(1), 0).await;
        std::fs::remove_file(&dir).unwrap();
        std::fs::rename(&aside, &dir).unwrap();
        wait_for("the file to be closed", || match logs.files("web") {
            files if files.len() == 1 && files[0] != "current.log" => Ok(()),
            other => Err(format!("{other:?}")),
        });
        capture.close().await;
        assert_eq!(logs.texts(), [format!("a long line{} end", " and".repeat(more))]);
    });
}

#[test]
fn a_file_that_somebody_empties_goes_on_and_is_named_by_what_is_in_it() {
    run(async {
        let (logs, hands) = (Logs::new(), Hands::new());
        let capture = hands.start(&logs);
        let policy = CapturePolicy { compress: false, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy.clone(), 4096);
        output.out("gone\n").await;
        capture.settle(SpawnId(1), 1).await;
        // As logrotate's copytruncate does.
        std::fs::File::create(logs.dir().join("web/current.log")).unwrap();
        hands.advance(Duration::from_secs(9));
        output.out("one\ntwo\n").await;
        capture.settle(SpawnId(1), 1).await;
        let outcome = request(&capture, &web(), &policy).await;
        assert_eq!(outcome, Rotated::Closed { name: "2026-11-22T15-20-10.000000000Z.log".to_owned() });
        output.out("three\n").await;
        capture.detach(SpawnId(1)).await;
        capture.close().await;
        assert_eq!(logs.texts(), ["one", "two", "three"]);
        assert_eq!(logs.notices(), []);
    });
}

#[test]
fn a_folder_that_somebody_removes_comes_back() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let mut output = attach(&capture, &web(), 1, POLICY, 4096);
        output.out("gone\n").await;
        capture.settle(SpawnId(1), 1).await;
        std::fs::remove_dir_all(logs.dir()).unwrap();
        // Looked up once a second at most, when there is something to write.
        let mut number = 0;
        while logs.files("web").is_empty() {
            number += 1;
            output.out(format!("{number}\n")).await;
            capture.settle(SpawnId(1), 0).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(logs.texts(), [number.to_string()]);
        assert!(matches!(request(&capture, &web(), &POLICY).await, Rotated::Closed { .. }));
        capture.close().await;
        assert_eq!(logs.texts(), [number.to_string()]);
        assert_eq!(logs.notices(), []);
    });
}
