//! A log that this program writes about itself: lines in the CRI format, rotated by size, closed files kept by number.
//! `read` reads it back like any other.
//!
//! The file is opened for each batch: nothing is held open, a folder that was removed comes back, and a file that ends
//! in a torn line (a full disk, a power cut) goes on with a new one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use mainstay_types::{ReplicaId, Timestamp};

use crate::record::header;
use crate::stamp::{STAMP_BYTES, parse_stamp};
use crate::{Stream, store};

/// One such log.
#[derive(Debug)]
pub struct LineFile {
    dir: PathBuf,
    rotate_bytes: u64,
    keep: usize,
    last: Timestamp,
}

impl LineFile {
    /// The log of `name` below `root`. A file is closed when it would pass `rotate_bytes`; `keep` closed ones stay.
    #[must_use]
    pub fn new(root: &Path, name: &ReplicaId, rotate_bytes: u64, keep: usize) -> Self {
        Self { dir: store::replica_dir(root, name), rotate_bytes, keep, last: Timestamp::MIN }
    }

    /// Writes these lines, each with its time, as standard error. A text of several lines becomes as many. The folder
    /// is made when it is not there.
    ///
    /// On an error nothing, or a part of them, is written; they are not tried again.
    pub fn append<'a>(&mut self, lines: impl IntoIterator<Item = (Timestamp, &'a str)>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (at, text) in lines {
            // Times never go back within a file, not even when the wall clock does.
            self.last = self.last.max(at);
            for line in text.lines() {
                bytes.extend_from_slice(&header(self.last, Stream::Stderr, false));
                bytes.extend_from_slice(line.as_bytes());
                bytes.push(b'\n');
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.dir)?;
        let current = self.dir.join(store::CURRENT);
        let mut file = open(&current)?;
        let mut length = file.metadata()?.len();
        if length > 0 && length + bytes.len() as u64 > self.rotate_bytes {
            match self.rotate(&mut file, &current) {
                Ok(()) => {
                    file = open(&current)?;
                    length = 0;
                }
                // It may grow a little; without an end it may not.
                Err(_) if length < self.rotate_bytes.saturating_mul(2) => {}
                Err(error) => return Err(error),
            }
        }
        if length > 0 && !ends_with_newline(&mut file)? {
            bytes.insert(0, b'\n');
        }
        file.write_all(&bytes)
    }

    /// Closes the current file under the time of its first line, and removes what is too old.
    fn rotate(&self, file: &mut File, current: &Path) -> io::Result<()> {
        let mut stamp = [0; STAMP_BYTES];
        file.seek(SeekFrom::Start(0))?;
        let first_at = file.read_exact(&mut stamp).ok().and_then(|()| parse_stamp(&stamp));
        let first_at = first_at.unwrap_or_else(Timestamp::now);
        std::fs::rename(current, store::closed_path(&self.dir, first_at, store::PLAIN))?;
        let closed = store::closed_files(&self.dir)?;
        for old in &closed[..closed.len().saturating_sub(self.keep)] {
            for extension in [store::PLAIN, store::PACKED] {
                // One of the two is there; what cannot be removed is tried again at the next rotation.
                let _ = std::fs::remove_file(store::closed_path(&self.dir, old.first_at, extension));
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).open(path)
}

fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use mainstay_types::ServiceName;

    use super::*;
    use crate::read::{Query, read};

    fn name() -> ReplicaId {
        ReplicaId { service: ServiceName::parse("host").unwrap(), index: 0 }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn texts(root: &Path) -> Vec<String> {
        let lines = read(root, &Query::default());
        lines.map(|line| String::from_utf8(line.unwrap().text).unwrap()).collect()
    }

    #[test]
    fn lines_are_read_back_across_rotated_files_of_a_bounded_number() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LineFile::new(dir.path(), &name(), 200, 2);
        for number in 0..40 {
            log.append([(at(number), format!("line {number}").as_str())]).unwrap();
        }
        let read = texts(dir.path());
        assert_eq!(read.last().unwrap(), "line 39");
        let first: usize = read[0].strip_prefix("line ").unwrap().parse().unwrap();
        let expected: Vec<String> = (first..40).map(|number| format!("line {number}")).collect();
        assert_eq!(read, expected);
        assert!(first > 0 && read.len() > 5, "{read:?}");
        assert_eq!(std::fs::read_dir(dir.path().join("host")).unwrap().count(), 3);
    }

    #[test]
    fn a_torn_line_a_removed_folder_and_a_clock_that_goes_back_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LineFile::new(dir.path(), &name(), 10_000, 2);
        log.append([(at(5), "one\ntwo"), (at(3), "three")]).unwrap();
        let current = dir.path().join("host/current.log");
        let times: Vec<_> = read(dir.path(), &Query::default()).map(|line| line.unwrap().at).collect();
        assert_eq!(times, [at(5); 3]);
        let whole = std::fs::read(&current).unwrap();
        std::fs::write(&current, &whole[..whole.len() - 3]).unwrap();
        log.append([(at(6), "four")]).unwrap();
        assert_eq!(texts(dir.path()), ["one", "two", "thr", "four"]);
        std::fs::remove_dir_all(dir.path().join("host")).unwrap();
        log.append([(at(7), "five")]).unwrap();
        assert_eq!(texts(dir.path()), ["five"]);
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("host"), "in its place").unwrap();
        assert!(LineFile::new(dir.path(), &name(), 100, 2).append([(at(1), "x")]).is_err());
    }
}
