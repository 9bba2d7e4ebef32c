//! Secrets reach neither the files, nor whoever looks on, nor the last lines of a failure.

use std::sync::{Arc, Mutex};

use mainstay_logs::{CapturePolicy, Lines, Masks, Stream, Tap};
use mainstay_types::{ReplicaId, SpawnId, Timestamp};
use proptest::prelude::*;

use crate::support::{Logs, POLICY, attach, run, texts, web};

#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Tap for Seen {
    fn lines(&self, _replica: &ReplicaId, _stream: Stream, _at: Timestamp, lines: Lines<'_>) {
        let lines = lines.map(|line| String::from_utf8_lossy(line.text).into_owned());
        self.0.lock().unwrap().extend(lines);
    }
}

fn policy() -> CapturePolicy {
    let masks = Masks::new(["token=[a-z0-9]+"], [&b"correct horse"[..]]).unwrap();
    CapturePolicy { masks, max_line_bytes: 100, ..POLICY }
}

#[test]
fn a_secret_is_nowhere() {
    run(async {
        let logs = Logs::new();
        let seen = Arc::new(Seen::default());
        let capture = logs.start_with(Some(Arc::clone(&seen) as Arc<dyn Tap>));
        let mut output = attach(&capture, &web(), 1, policy(), 4096);
        output.out("login with token=ab").await;
        output.out("c12 done\n").await;
        // Across the parts in which a long line is kept.
        output.out(format!("{}correct horse{}\n", "x".repeat(95), "y".repeat(150))).await;
        // Without its end when the program dies.
        output.write(Stream::Stderr, "dying with token=zzz9").await;
        let tail = texts(&capture.settle(SpawnId(1), 10).await);
        assert_eq!(tail.last().unwrap(), "dying with [redacted]");
        capture.detach(SpawnId(1)).await;
        let masked = capture.counts()[0].1.masked;
        capture.close().await;
        let written = std::fs::read_to_string(logs.dir().join("web/current.log")).unwrap();
        for text in [written, seen.0.lock().unwrap().join("\n"), logs.texts().join("\n")] {
            for secret in ["abc12", "token=", "horse", "zzz9"] {
                assert!(!text.contains(secret), "{secret} is in {text}");
            }
        }
        assert_eq!(masked, 3);
        assert_eq!(logs.texts()[0], "login with [redacted] done");
    });
}

#[test]
fn masks_that_come_and_go_with_the_file_lose_nothing() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let mut output = attach(&capture, &web(), 1, policy(), 4096);
        output.out("one token=a\ntwo ").await;
        capture.settle(SpawnId(1), 1).await;
        output.out("token=").await;
        while capture.counts()[0].1.bytes[0] < 4 {
            tokio::task::yield_now().await;
        }
        capture.set_policy(web(), POLICY);
        // Answered behind it: the policy has been taken by then.
        capture.tail(&web(), 0).await;
        output.out("b\nthree token=c\n").await;
        capture.detach(SpawnId(1)).await;
        capture.close().await;
        assert_eq!(logs.texts(), ["one [redacted]", "two token=b", "three token=c"]);
    });
}

/// Every byte of a secret marked, and each run of marks replaced.
fn masked_by_hand(line: &str) -> String {
    let mut secret = vec![false; line.len()];
    for pattern in ["token=[a-z0-9]+", "correct horse"] {
        for found in regex::Regex::new(pattern).unwrap().find_iter(line) {
            secret[found.range()].fill(true);
        }
    }
    let mut shown = String::new();
    for (index, character) in line.char_indices() {
        if !secret[index] {
            shown.push(character);
        } else if index == 0 || !secret[index - 1] {
            shown.push_str("[redacted]");
        }
    }
    shown
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_read_is_what_was_written_but_for_the_secrets(
        pieces in prop::collection::vec("(token=|a1|b|correct|correct horse|\n| ){0,12}", 0..20),
        pipe_bytes in 1_usize..50,
        rotate_bytes in 1_u64..2000,
    ) {
        run(async {
            let logs = Logs::new();
            let capture = logs.start();
            let policy = CapturePolicy { rotate_bytes, ..policy() };
            let mut output = attach(&capture, &web(), 1, policy, pipe_bytes);
            for piece in &pieces {
                output.out(piece).await;
            }
            capture.detach(SpawnId(1)).await;
            capture.close().await;
            let text = pieces.concat();
            let mut expected: Vec<String> = text.split('\n').map(masked_by_hand).collect();
            if expected.last().is_some_and(String::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(logs.texts(), expected);
            Ok(())
        })?;
    }
}
