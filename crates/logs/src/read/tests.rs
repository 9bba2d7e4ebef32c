//! The reader against a model that reads everything and then chooses: whatever the files hold, however they are kept,
//! whatever is asked.

use std::fs;
use std::path::Path;

use mainstay_types::{Level, ReplicaId, ServiceName, Timestamp};
use proptest::prelude::*;
use regex::bytes::Regex;

use super::{Query, follow, read};
use crate::facts::Levels;
use crate::packed::pack_frames;
use crate::record::header;
use crate::store::{CURRENT, PACKED, PLAIN, closed_path};
use crate::{LogLine, Stream};

/// What stands in a file.
#[derive(Clone, Debug)]
enum Item {
    Record { step_ms: i64, stream: Stream, partial: bool, text: String },
    Foreign(String),
}

/// How a closed file is kept.
#[derive(Clone, Copy, Debug)]
enum Form {
    Plain,
    OneFrame,
    Frames(usize),
}

fn text() -> impl Strategy<Value = String> {
    let begin = prop_oneof![
        Just("ERROR "),
        Just("INFO "),
        Just("2026-11-22 15:20:01 WARN "),
        Just("2026-11-22 15:20:01 "),
        Just("  at "),
        Just("plain "),
        Just(""),
    ];
    // Long ones, so that files are larger than what is read at once.
    (begin, prop_oneof![3 => 0_usize..20, 1 => 1000_usize..6000])
        .prop_map(|(begin, length)| format!("{begin}{}", "x".repeat(length)))
}

fn item() -> impl Strategy<Value = Item> {
    let stream = prop_oneof![4 => Just(Stream::Stdout), 1 => Just(Stream::Stderr)];
    let record = (0_i64..3, stream, prop::bool::weighted(0.2), text())
        .prop_map(|(step_ms, stream, partial, text)| Item::Record { step_ms, stream, partial, text });
    prop_oneof![12 => record, 1 => text().prop_map(Item::Foreign)]
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::Plain), Just(Form::OneFrame), (500_usize..20_000).prop_map(Form::Frames)]
}

fn replica() -> ReplicaId {
    ReplicaId { service: ServiceName::parse("web").unwrap(), index: 0 }
}

/// A file as it is written, and the lines that are in it.
struct Written {
    first_at: Timestamp,
    bytes: Vec<u8>,
    lines: Vec<LogLine>,
}

/// Lays the items out from this time on.
fn write(items: &[Item], clock_ms: &mut i64) -> Written {
    let line = |at, stream, partial, text: &str| LogLine {
        at,
        replica: replica(),
        stream,
        partial,
        text: text.as_bytes().to_vec(),
    };
    // Two files never begin at the same time.
    *clock_ms += 1;
    let first_at = Timestamp::from_millisecond(*clock_ms).unwrap();
    let mut last_at = first_at;
    let (mut bytes, mut lines) = (Vec::new(), Vec::new());
    let mut open: [Option<(Timestamp, String)>; 2] = [None, None];
    let begin = Item::Record { step_ms: 0, stream: Stream::Stdout, partial: false, text: "begin".to_owned() };
    for item in std::iter::once(&begin).chain(items) {
        match item {
            Item::Foreign(text) => {
                bytes.extend_from_slice(text.as_bytes());
                lines.push(line(last_at, Stream::Stdout, false, text));
            }
            Item::Record { step_ms, stream, partial, text } => {
                *clock_ms += step_ms;
                last_at = Timestamp::from_millisecond(*clock_ms).unwrap();
                bytes.extend_from_slice(&header(last_at, *stream, *partial));
                bytes.extend_from_slice(text.as_bytes());
                let before = open[stream.index()].take().map_or(String::new(), |(_, text)| text);
                let whole = before + text;
                if *partial {
                    open[stream.index()] = Some((last_at, whole));
                } else {
                    lines.push(line(last_at, *stream, false, &whole));
                }
            }
        }
        bytes.push(b'\n');
    }
    let mut torn: Vec<_> =
        Stream::ALL.into_iter().filter_map(|stream| Some((stream, open[stream.index()].take()?))).collect();
    torn.sort_by_key(|(_, (at, _))| *at);
    lines.extend(torn.into_iter().map(|(stream, (at, text))| line(at, stream, true, &text)));
    Written { first_at, bytes, lines }
}

fn store(dir: &Path, file: &Written, form: Option<Form>) {
    match form {
        None => fs::write(dir.join(CURRENT), &file.bytes).unwrap(),
        Some(Form::Plain) => fs::write(closed_path(dir, file.first_at, PLAIN), &file.bytes).unwrap(),
        Some(Form::OneFrame) => {
            let packed = zstd::encode_all(&file.bytes[..], 1).unwrap();
            fs::write(closed_path(dir, file.first_at, PACKED), packed).unwrap();
        }
        Some(Form::Frames(size)) => {
            let mut packed = Vec::new();
            pack_frames(&mut &file.bytes[..], &mut packed, size, || true).unwrap();
            fs::write(closed_path(dir, file.first_at, PACKED), packed).unwrap();
        }
    }
}

/// What the query means.
fn chosen(files: &[Written], query: &Query) -> Vec<LogLine> {
    let mut found = Vec::new();
    for file in files {
        let mut levels = Levels::default();
        for line in file.lines.iter().filter(|line| query.stream.is_none_or(|stream| line.stream == stream)) {
            let level = levels.next(line.stream, &line.text);
            if query.level.is_none_or(|wanted| level >= Some(wanted))
                && query.since.is_none_or(|since| line.at >= since)
                && query.until.is_none_or(|until| line.at <= until)
                && query.grep.as_ref().is_none_or(|grep| grep.is_match(&line.text))
            {
                found.push(line.clone());
            }
        }
    }
    let excess = query.last.map_or(0, |last| found.len().saturating_sub(last));
    found.drain(..excess);
    found
}

fn query() -> impl Strategy<Value = (Option<i64>, Option<i64>, Query)> {
    let level = prop::option::weighted(0.4, prop_oneof![Just(Level::Info), Just(Level::Error)]);
    let stream = prop::option::weighted(0.3, prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)]);
    let time = || prop::option::of(0_i64..400);
    let last = prop::option::of(0_usize..150);
    (time(), time(), level, stream, last, prop::bool::weighted(0.2)).prop_map(
        |(since, until, level, stream, last, grep)| {
            let grep = grep.then(|| Regex::new("R|x{10}").unwrap());
            (since, until, Query { level, stream, last, grep, ..Query::default() })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_found_is_what_reading_through_finds(
        files in prop::collection::vec((form(), prop::collection::vec(item(), 0..120)), 1..4),
        is_current in any::<bool>(),
        queries in prop::collection::vec(query(), 1..8),
    ) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("web");
        fs::create_dir_all(&dir).unwrap();
        let mut clock_ms = 1_795_360_801_000;
        let begun_ms = clock_ms;
        let count = files.len();
        let mut written = Vec::new();
        for (number, (form, items)) in files.iter().enumerate() {
            let file = write(items, &mut clock_ms);
            store(&dir, &file, (number + 1 < count || !is_current).then_some(*form));
            written.push(file);
        }
        let at = |offset_ms: i64| Timestamp::from_millisecond(begun_ms + offset_ms).unwrap();
        for (since, until, query) in queries {
            // With both, a continuation at the beginning of what is looked at may have lost its line: the one it goes with was
            // written before `since`, and is looked for only a little way back.
            let since = since.filter(|_| query.level.is_none());
            let query = Query { since: since.map(at), until: until.map(at), ..query };
            let expected = chosen(&written, &query);
            let found: Vec<LogLine> = read(root.path(), &query).collect::<Result<_, _>>().unwrap();
            let brief = |lines: &[LogLine]| -> Vec<String> {
                let brief = |line: &LogLine| {
                    let text = String::from_utf8_lossy(&line.text[..line.text.len().min(12)]).into_owned();
                    format!("{} {} {} {} {text}", line.at, line.stream, line.partial, line.text.len())
                };
                lines.iter().map(brief).collect()
            };
            prop_assert_eq!(brief(&found), brief(&expected), "{:?}", query);
            prop_assert!(found == expected);
        }
        // A follower that has read it all finds nothing new.
        let (backlog, mut follower) = follow(root.path(), &Query { last: Some(0), ..Query::default() });
        prop_assert_eq!(backlog.count(), 0);
        prop_assert_eq!(follower.poll().unwrap(), Vec::new());
    }
}

/// What is broken elsewhere in the file is not met: it is not read.
#[test]
fn a_time_in_a_large_file_is_found_without_reading_it() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("web");
    fs::create_dir_all(&dir).unwrap();
    let begun = Timestamp::from_second(1_795_360_801).unwrap();
    let mut bytes = Vec::new();
    for number in 0..200_000_i64 {
        let at = begun + std::time::Duration::from_millis(u64::try_from(number).unwrap());
        bytes.extend_from_slice(&header(at, Stream::Stdout, false));
        bytes.extend_from_slice(format!("{number}\n").as_bytes());
    }
    // In the first frame, which no search for a later time unpacks, bytes are broken.
    let mut packed = Vec::new();
    pack_frames(&mut &bytes[..], &mut packed, 64 * 1024, || true).unwrap();
    packed[100..200].fill(0x55);
    fs::write(closed_path(&dir, begun, PACKED), &packed).unwrap();
    let since = begun + std::time::Duration::from_millis(123_456);
    for last in [None, Some(3)] {
        let until = Some(since + std::time::Duration::from_millis(2));
        let query = Query { since: Some(since), until, last, ..Query::default() };
        let found: Vec<LogLine> = read(root.path(), &query).collect::<Result<_, _>>().unwrap();
        let texts: Vec<_> =
            found.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect();
        assert_eq!(texts, ["123456", "123457", "123458"]);
    }
    // The newest lines are found from the end, and reading all of it tells what is broken.
    let query = Query { last: Some(1), ..Query::default() };
    assert_eq!(read(root.path(), &query).next().unwrap().unwrap().text, b"199999");
    assert!(read(root.path(), &Query::default()).any(|line| line.is_err()));
}
