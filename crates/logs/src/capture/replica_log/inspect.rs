//! What an existing file tells: the time of its first and last line, and what a crash left unfinished in it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use mainstay_types::Timestamp;

use crate::record::parse;
use crate::stamp::{STAMP_BYTES, parse_stamp};

/// How much of an existing file's end is looked at for its last time and unfinished lines.
const TAIL_BYTES: u64 = 128 * 1024;

/// What an existing file tells.
pub(super) struct Found {
    pub(super) first_at: Timestamp,
    pub(super) last_at: Timestamp,
    /// Its last line has no end.
    pub(super) torn: bool,
    /// Streams whose last record is a part; known for records within the last [`TAIL_BYTES`].
    pub(super) open: [bool; 2],
}

/// The time of a file's first line, as far as it has one; of a file that begins otherwise, when it was changed last. `None`
/// when it is not there or empty.
pub(super) fn first_line_at(path: &Path) -> Option<Timestamp> {
    // Asked before it is opened: opening a named pipe would wait for its other end.
    let has_lines = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0);
    if !has_lines {
        return None;
    }
    let (first_at, changed_at) = head(&mut File::open(path).ok()?).ok()?;
    Some(first_at.unwrap_or(changed_at))
}

/// The time in front of the first line, and when the file was changed last.
fn head(file: &mut File) -> io::Result<(Option<Timestamp>, Timestamp)> {
    let changed_at = file
        .metadata()?
        .modified()
        .ok()
        .and_then(|time| Timestamp::try_from(time).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(STAMP_BYTES as u64).read_to_end(&mut head)?;
    Ok((parse_stamp(&head), changed_at))
}

/// Looks at a file of this size, which is not empty.
pub(super) fn inspect(file: &mut File, size_bytes: u64) -> io::Result<Found> {
    let (first_at, changed_at) = head(file)?;
    let mut tail = Vec::new();
    let from = size_bytes.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    Read::by_ref(file).take(TAIL_BYTES).read_to_end(&mut tail)?;
    let mut lines = tail.split(|byte| *byte == b'\n');
    if from > 0 {
        // The window begins inside a record.
        lines.next();
    }
    let mut found = Found {
        first_at: first_at.unwrap_or(changed_at),
        last_at: first_at.unwrap_or(Timestamp::UNIX_EPOCH),
        torn: tail.last().is_some_and(|byte| *byte != b'\n'),
        open: [false; 2],
    };
    for record in lines.filter_map(parse) {
        found.last_at = found.last_at.max(record.at);
        found.open[record.stream.index()] = record.partial;
    }
    Ok(found)
}
