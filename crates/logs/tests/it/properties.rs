//! Whatever is written, in whatever pieces, with whatever sizes of files: it reads back byte for byte.

use mainstay_logs::read::{Query, follow};
use mainstay_logs::{CapturePolicy, LogLine, Stream};
use mainstay_types::SpawnId;
use proptest::prelude::*;

use crate::support::{Logs, POLICY, attach, run, web};

/// A piece of output: which stream, and bytes with many newlines, blanks and zeros among them.
fn piece() -> impl Strategy<Value = (Stream, Vec<u8>)> {
    let byte =
        prop_oneof![3 => Just(b'\n'), 1 => Just(0), 1 => Just(b'\r'), 2 => Just(b' '), 8 => any::<u8>()];
    (prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)], prop::collection::vec(byte, 0..120))
}

/// The lines of one stream as the bytes that made them, each line closed.
fn bytes_of(lines: &[LogLine], stream: Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines.iter().filter(|line| line.stream == stream) {
        assert!(!line.partial);
        bytes.extend_from_slice(&line.text);
        bytes.push(b'\n');
    }
    bytes
}

fn written(pieces: &[(Stream, Vec<u8>)], stream: Stream) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        pieces.iter().filter(|piece| piece.0 == stream).flat_map(|piece| piece.1.clone()).collect();
    if bytes.last().is_some_and(|byte| *byte != b'\n') {
        bytes.push(b'\n');
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_read_is_what_was_written(
        pieces in prop::collection::vec(piece(), 0..40),
        pipe_bytes in 1_usize..200,
        rotate_bytes in 1_u64..3000,
        max_line_bytes in 1_usize..100,
        compress in any::<bool>(),
        settle_every in 1_usize..20,
        last in 0_usize..30,
    ) {
        run(async {
            let logs = Logs::new();
            let capture = logs.start();
            let policy = CapturePolicy { rotate_bytes, max_line_bytes, compress, ..POLICY };
            let mut output = attach(&capture, &web(), 1, policy, pipe_bytes);
            let (reader, mut follower) = follow(&logs.dir(), &Query { last: Some(0), ..Query::default() });
            prop_assert_eq!(reader.count(), 0);
            let mut followed = Vec::new();
            for (number, (stream, bytes)) in pieces.iter().enumerate() {
                output.write(*stream, bytes).await;
                if number % settle_every == 0 {
                    capture.settle(SpawnId(1), 3).await;
                    followed.extend(follower.poll().unwrap());
                }
            }
            capture.detach(SpawnId(1)).await;
            capture.close().await;

            let lines = logs.lines(&Query::default());
            for stream in Stream::ALL {
                prop_assert_eq!(bytes_of(&lines, stream), written(&pieces, stream));
            }
            prop_assert!(lines.is_sorted_by_key(|line| line.at));

            loop {
                let more = follower.poll().unwrap();
                if more.is_empty() { break; }
                followed.extend(more);
            }
            prop_assert_eq!(&followed, &lines);

            // What is found from the ends is what is found from the beginning.
            let from_end = logs.lines(&Query { last: Some(last), ..Query::default() });
            prop_assert_eq!(&from_end[..], &lines[lines.len().saturating_sub(last)..]);
            let since = lines.get(lines.len() / 3).map(|line| line.at);
            let until = lines.get(lines.len() / 3 * 2).map(|line| line.at);
            let grep = Some(regex::bytes::Regex::new("(?-u)^[ -~]").unwrap());
            for last in [None, Some(last)] {
                let query =
                    Query { since, until, grep: grep.clone(), stream: Some(Stream::Stderr), last, ..Query::default() };
                let mut expected: Vec<_> = lines
                    .iter()
                    .filter(|line| line.stream == Stream::Stderr)
                    .filter(|line| since.is_none_or(|since| line.at >= since))
                    .filter(|line| until.is_none_or(|until| line.at <= until))
                    .filter(|line| line.text.first().is_some_and(|byte| (b' '..=b'~').contains(byte)))
                    .cloned()
                    .collect();
                if let Some(last) = last {
                    expected.drain(..expected.len().saturating_sub(last));
                }
                prop_assert_eq!(logs.lines(&query), expected);
            }
            prop_assert_eq!(logs.notices(), []);
            Ok(())
        })?;
    }
}

#[test]
fn a_file_may_end_anywhere() {
    // One size after the other: every record boundary of this output is a file's end once.
    let text: String = (0..8).map(|number| format!("{}\n", "x".repeat(number * 3 % 11))).collect();
    for rotate_bytes in 30..500 {
        run(async {
            let logs = Logs::new();
            let capture = logs.start();
            let policy = CapturePolicy { rotate_bytes, max_line_bytes: 5, compress: false, ..POLICY };
            let mut output = attach(&capture, &web(), 1, policy, 4096);
            output.out(&text).await;
            capture.detach(SpawnId(1)).await;
            capture.close().await;
            let lines = logs.lines(&Query::default());
            assert_eq!(bytes_of(&lines, Stream::Stdout), text.as_bytes(), "{rotate_bytes}");
        });
    }
}
