//! Records on their way to a file: bytes ready to be written, and where new files begin between them.
//!
//! There is one batch a capture thread. It is filled by one pass over what was read, written with one system call
//! where no file ends in it, and used again: no line costs an allocation.

use mainstay_types::Timestamp;

use crate::Stream;
use crate::read::JOIN_LIMIT;
use crate::record::{HEADER_BYTES, header};

/// A batch is written when it has grown to this; large enough that the system call does not count beside the copying,
/// small enough to stay in the cache between the two.
pub(super) const BATCH_BYTES: usize = 256 * 1024;

/// Records of one stream, read at one time.
pub(super) struct Batch {
    /// Whole records.
    pub(super) bytes: Vec<u8>,
    /// Offsets in `bytes`, ascending, at which the current file is closed and a new one begun.
    pub(super) cuts: Vec<usize>,
    /// The time of the records behind the last cut.
    at: Timestamp,
    stream: Stream,
    /// The header of a full line, and of a part.
    headers: [[u8; HEADER_BYTES]; 2],
    /// Bytes the current file will hold once `bytes` are written.
    size_bytes: u64,
    rotate_bytes: u64,
    /// Of which streams the current file holds a part of a line but not its end.
    open: [bool; 2],
    /// Records in `bytes`, and bytes of their texts.
    lines: u64,
    text_bytes: u64,
}

/// What a batch has to know to begin.
#[derive(Clone, Copy)]
pub(super) struct Start {
    /// The time of the records; at least that of every record already in the file.
    pub(super) at: Timestamp,
    /// Where they come from.
    pub(super) stream: Stream,
    /// Bytes in the current file.
    pub(super) size_bytes: u64,
    /// The size a file should not pass.
    pub(super) rotate_bytes: u64,
    /// Of which streams the current file holds a part of a line but not its end.
    pub(super) open: [bool; 2],
}

impl Batch {
    pub(super) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            cuts: Vec::new(),
            at: Timestamp::UNIX_EPOCH,
            stream: Stream::Stdout,
            headers: [[0; HEADER_BYTES]; 2],
            size_bytes: 0,
            rotate_bytes: u64::MAX,
            open: [false; 2],
            lines: 0,
            text_bytes: 0,
        }
    }

    /// Empties the batch and gives its records their time and place.
    pub(super) fn begin(&mut self, start: Start) {
        self.bytes.clear();
        self.cuts.clear();
        // One huge record must not keep its memory for ever.
        if self.bytes.capacity() > 4 * BATCH_BYTES {
            self.bytes.shrink_to(BATCH_BYTES);
        }
        self.stream = start.stream;
        self.size_bytes = start.size_bytes;
        self.rotate_bytes = start.rotate_bytes;
        self.open = start.open;
        self.lines = 0;
        self.text_bytes = 0;
        self.set_time(start.at);
    }

    fn set_time(&mut self, at: Timestamp) {
        self.at = at;
        self.headers = [header(at, self.stream, false), header(at, self.stream, true)];
    }

    /// Whether it is time to write.
    pub(super) const fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    /// The time of the last record.
    pub(super) const fn at(&self) -> Timestamp {
        self.at
    }

    /// Bytes the current file will hold once this batch is written.
    pub(super) const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Of which streams the file holds an unfinished line once this batch is written.
    pub(super) const fn open(&self) -> [bool; 2] {
        self.open
    }

    /// Which stream its records are of.
    pub(super) const fn stream(&self) -> Stream {
        self.stream
    }

    /// How many records it holds, and bytes of their texts.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.lines, self.text_bytes)
    }

    /// Adds one record whose text is `first` followed by `second`.
    ///
    /// `partial` says that more of the line follows.
    #[inline]
    pub(super) fn push(&mut self, first: &[u8], second: &[u8], partial: bool) {
        let length = HEADER_BYTES + first.len() + second.len() + 1;
        if self.size_bytes + length as u64 > self.rotate_bytes && self.size_bytes > 0 {
            self.cut_if_between_lines();
        }
        self.size_bytes += length as u64;
        self.open[self.stream.index()] = partial;
        self.lines += 1;
        self.text_bytes += (first.len() + second.len()) as u64;
        self.bytes.reserve(length);
        self.bytes.extend_from_slice(&self.headers[usize::from(partial)]);
        self.bytes.extend_from_slice(first);
        self.bytes.extend_from_slice(second);
        self.bytes.push(b'\n');
    }

    /// Begins a new file here, unless that would part a line; a line that outgrows what a reader joins is parted.
    #[cold]
    fn cut_if_between_lines(&mut self) {
        if self.open != [false; 2] && self.size_bytes < self.rotate_bytes.saturating_add(JOIN_LIMIT as u64) {
            return;
        }
        self.cuts.push(self.bytes.len());
        self.size_bytes = 0;
        // One nanosecond apart, so that no two files begin with the same time, which is their name.
        let next = Timestamp::from_nanosecond(self.at.as_nanosecond() + 1).unwrap_or(self.at);
        self.set_time(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::parse;

    fn batch(size_bytes: u64, rotate_bytes: u64, open: [bool; 2]) -> Batch {
        let mut batch = Batch::new();
        batch.begin(Start {
            at: Timestamp::UNIX_EPOCH,
            stream: Stream::Stdout,
            size_bytes,
            rotate_bytes,
            open,
        });
        batch
    }

    #[test]
    fn a_file_ends_before_the_record_that_would_pass_its_size() {
        let mut batch = batch(0, 100, [false; 2]);
        for _ in 0..4 {
            batch.push(b"12345", b"6789", false);
        }
        // Each record has 50 bytes: two fit exactly.
        assert_eq!(batch.cuts, [100]);
        assert_eq!(batch.size_bytes(), 100);
        let times: Vec<_> = batch
            .bytes
            .split(|byte| *byte == b'\n')
            .filter_map(parse)
            .map(|record| record.at.as_nanosecond())
            .collect();
        assert_eq!(times, [0, 0, 1, 1]);
    }

    #[test]
    fn a_record_larger_than_a_file_has_one_of_its_own() {
        let mut batch = batch(0, 100, [false; 2]);
        batch.push(&[b'x'; 300], b"", false);
        batch.push(b"y", b"", false);
        assert_eq!(batch.cuts, [341]);
    }

    #[test]
    fn an_unfinished_line_is_not_parted() {
        // Of standard error the file holds a part; the batch is of standard output.
        let mut batch = batch(90, 100, [false, true]);
        batch.push(b"other stream", b"", false);
        assert!(batch.cuts.is_empty());
        let (size_bytes, rotate_bytes) = (batch.size_bytes(), 100);
        batch.begin(Start {
            stream: Stream::Stderr,
            at: batch.at(),
            size_bytes,
            rotate_bytes,
            open: batch.open(),
        });
        batch.push(b"end of it", b"", false);
        assert_eq!(batch.open(), [false; 2]);
        let end = batch.bytes.len();
        batch.push(b"next", b"", false);
        assert_eq!(batch.cuts, [end]);
    }

    #[test]
    fn a_line_without_end_does_not_keep_a_file_open_for_ever() {
        let mut batch = batch(100 + JOIN_LIMIT as u64, 100, [true, false]);
        batch.push(b"more", b"", true);
        assert_eq!(batch.cuts, [0]);
    }
}
