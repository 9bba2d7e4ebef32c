//! A tail against what was written: whatever becomes of the files, what it gives out and what it counts as missing is all of it.

use std::fs;
use std::path::Path;

use mainstay_types::{Level, ReplicaId, ServiceName, Timestamp};
use proptest::prelude::*;

use super::{Missing, Place, Tail, Wanted};
use crate::Stream;
use crate::packed::pack_frames;
use crate::record::header;
use crate::store::{CURRENT, PACKED, PLAIN, closed_files, closed_path};

fn replica() -> ReplicaId {
    ReplicaId { service: ServiceName::parse("web").unwrap(), index: 0 }
}

/// A replica's folder, written as capture writes it.
struct Files {
    root: tempfile::TempDir,
    next: i64,
    /// The time of the current file's first line.
    begun: Option<Timestamp>,
}

impl Files {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("web")).unwrap();
        Self { root, next: 0, begun: None }
    }

    fn root(&self) -> &Path {
        self.root.path()
    }

    fn dir(&self) -> std::path::PathBuf {
        self.root().join("web")
    }

    fn append(&mut self, stream: Stream, partial: bool, text: &str) {
        let at = Timestamp::from_second(1_795_360_801 + self.next).unwrap();
        self.begun.get_or_insert(at);
        self.next += 1;
        let mut bytes = header(at, stream, partial).to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(b'\n');
        let mut current = fs::read(self.dir().join(CURRENT)).unwrap_or_default();
        current.extend(bytes);
        fs::write(self.dir().join(CURRENT), current).unwrap();
    }

    fn rotate(&mut self) {
        if let Some(begun) = self.begun.take() {
            fs::rename(self.dir().join(CURRENT), closed_path(&self.dir(), begun, PLAIN)).unwrap();
        }
    }

    fn pack(&self) {
        for file in closed_files(&self.dir()).unwrap().into_iter().filter(|file| file.plain) {
            let plain = closed_path(&self.dir(), file.first_at, PLAIN);
            let mut packed = Vec::new();
            pack_frames(&mut &fs::read(&plain).unwrap()[..], &mut packed, 300, || true).unwrap();
            fs::write(closed_path(&self.dir(), file.first_at, PACKED), packed).unwrap();
            fs::remove_file(plain).unwrap();
        }
    }

    fn remove_oldest(&self) {
        if let Some(file) = closed_files(&self.dir()).unwrap().first() {
            for extension in [PLAIN, PACKED] {
                let _ = fs::remove_file(closed_path(&self.dir(), file.first_at, extension));
            }
        }
    }
}

fn taken(tail: &mut Tail, most: u64) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < usize::try_from(most).unwrap() {
        let left = most - texts.len() as u64;
        let mut take = |passed: super::PassedLine| texts.push(String::from_utf8(passed.line.text).unwrap());
        if !tail.read(left, u64::MAX, &mut take).unwrap() {
            break;
        }
    }
    texts
}

fn look(tail: &mut Tail) {
    while !tail.look().unwrap() {}
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Append,
    Rotate,
    Pack,
    RemoveOldest,
    Read(u64),
    Skip(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Append),
        2 => Just(Step::Rotate),
        1 => Just(Step::Pack),
        1 => Just(Step::RemoveOldest),
        2 => (1_u64..5).prop_map(Step::Read),
        1 => (0_u64..400).prop_map(Step::Skip),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn what_is_given_out_and_what_is_missing_is_all_there_was(steps in prop::collection::vec(step(), 1..80)) {
        let mut files = Files::new();
        let mut tail = Tail::from(files.root(), &replica(), Wanted::ALL, Place::default());
        let (mut given, mut missing, mut written) = (Vec::new(), Missing::default(), 0_u64);
        for step in steps {
            match step {
                Step::Append => {
                    files.append(Stream::Stdout, false, &written.to_string());
                    written += 1;
                }
                Step::Rotate => files.rotate(),
                Step::Pack => files.pack(),
                Step::RemoveOldest => files.remove_oldest(),
                Step::Read(most) => given.extend(taken(&mut tail, most)),
                Step::Skip(to) => {
                    tail.skip_to(to).unwrap();
                    prop_assert!(tail.behind_bytes() <= to);
                }
                Step::Restart => {
                    // What is gone is told before the place is kept, as whoever keeps it does.
                    given.extend(taken(&mut tail, 1));
                    missing.add(tail.take_missing());
                    tail = Tail::from(files.root(), &replica(), Wanted::ALL, tail.place());
                }
            }
            look(&mut tail);
            missing.add(tail.take_missing());
        }
        given.extend(taken(&mut tail, 1_000_000));
        missing.add(tail.take_missing());
        prop_assert_eq!(tail.behind_bytes(), 0);
        let numbers: Vec<u64> = given.iter().map(|text| text.parse().unwrap()).collect();
        prop_assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        if missing.more {
            // A file that was being read at a restart was removed before it was looked at again.
            prop_assert!(numbers.len() as u64 + missing.lines <= written);
        } else {
            prop_assert_eq!(numbers.len() as u64 + missing.lines, written);
        }
    }
}

#[test]
fn lines_in_parts_come_whole_and_are_not_split_by_a_restart() {
    let mut files = Files::new();
    files.append(Stream::Stdout, true, "ab");
    files.append(Stream::Stderr, false, "x");
    let mut tail = Tail::from(files.root(), &replica(), Wanted::ALL, Place::default());
    assert_eq!(taken(&mut tail, 10), ["x"]);
    let mut tail = Tail::from(files.root(), &replica(), Wanted::ALL, tail.place());
    files.append(Stream::Stdout, false, "cd");
    // The line between the parts comes a second time: at least once, never less.
    assert_eq!(taken(&mut tail, 10), ["x", "abcd"]);
    assert_eq!(taken(&mut tail, 10), Vec::<String>::new());
}

#[test]
fn only_wanted_streams_and_levels_come_and_a_trace_goes_with_its_error() {
    let mut files = Files::new();
    for text in ["INFO begun", "ERROR it broke", "  at line 7", "plain"] {
        files.append(Stream::Stderr, false, text);
    }
    files.append(Stream::Stdout, false, "ERROR elsewhere");
    let wanted = Wanted { streams: [false, true], level: Some(Level::Warn) };
    let mut tail = Tail::from(files.root(), &replica(), wanted, Place::default());
    look(&mut tail);
    let mut passed = Vec::new();
    tail.read(10, u64::MAX, |line| passed.push((line.level, line.line.text))).unwrap();
    let error = Some(Level::Error);
    assert_eq!(passed, [(error, b"ERROR it broke".to_vec()), (error, b"  at line 7".to_vec())]);
}

#[test]
fn from_the_end_nothing_old_comes() {
    let mut files = Files::new();
    files.append(Stream::Stdout, false, "old");
    files.rotate();
    files.append(Stream::Stdout, false, "old, too");
    let mut tail = Tail::from_end(files.root(), &replica(), Wanted::ALL).unwrap();
    files.append(Stream::Stdout, false, "new");
    files.rotate();
    files.append(Stream::Stdout, false, "newer");
    assert_eq!(taken(&mut tail, 10), ["new", "newer"]);
    assert!(tail.take_missing().is_nothing());
}

#[test]
fn a_file_that_lost_its_end_is_read_on_from_what_is_left() {
    let mut files = Files::new();
    files.append(Stream::Stdout, false, "kept");
    let whole = fs::read(files.dir().join(CURRENT)).unwrap();
    files.append(Stream::Stdout, false, "lost with the machine");
    let mut tail = Tail::from(files.root(), &replica(), Wanted::ALL, Place::default());
    assert_eq!(taken(&mut tail, 10), ["kept", "lost with the machine"]);
    fs::write(files.dir().join(CURRENT), whole).unwrap();
    let mut tail = Tail::from(files.root(), &replica(), Wanted::ALL, tail.place());
    files.append(Stream::Stdout, false, "new");
    assert_eq!(taken(&mut tail, 10), ["new"]);
}
