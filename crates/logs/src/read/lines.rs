//! Lines of a file, whatever their length, without copying them.

use std::io::{self, Read};

use crate::record::HEADER_BYTES;

use super::JOIN_LIMIT;

/// Bytes asked of the file at once.
const BLOCK_BYTES: usize = 64 * 1024;

/// A longer line than any record may be comes out in pieces of this size.
const LONGEST: usize = JOIN_LIMIT + 2 * HEADER_BYTES;

/// Reads lines one by one.
pub(super) struct LineReader<R> {
    source: R,
    buffer: Vec<u8>,
    /// The unread bytes are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Bytes from `start` known to hold no newline.
    searched: usize,
}

impl<R: Read> LineReader<R> {
    pub(super) const fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), start: 0, end: 0, searched: 0 }
    }

    /// What the lines are read from.
    pub(super) const fn source_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// The next line, and whether a newline ended it (which is not part of it). `None` at the end.
    pub(super) fn next_line(&mut self) -> io::Result<Option<(&[u8], bool)>> {
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(found) = memchr::memchr(b'\n', &unread[self.searched..]) {
                let from = self.start;
                let to = from + self.searched + found;
                self.start = to + 1;
                self.searched = 0;
                return Ok(Some((&self.buffer[from..to], true)));
            }
            self.searched = unread.len();
            if unread.len() >= LONGEST || self.fill()? == 0 {
                let (from, to) = (self.start, self.end);
                self.start = to;
                self.searched = 0;
                return Ok((to > from).then_some((&self.buffer[from..to], false)));
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < BLOCK_BYTES {
            // Doubling keeps the copying for a long line in proportion to its length.
            self.buffer.resize((self.end * 2).max(self.end + BLOCK_BYTES), 0);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes in small pieces.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(space.len());
            space[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    proptest! {
        #[test]
        fn lines_are_those_of_split(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300),
            step in 1_usize..40,
        ) {
            let mut reader = LineReader::new(Trickle(&bytes, step));
            let mut back = Vec::new();
            while let Some((line, ended)) = reader.next_line().unwrap() {
                prop_assert!(!line.contains(&b'\n'));
                back.extend_from_slice(line);
                if ended { back.push(b'\n'); }
            }
            prop_assert_eq!(back, bytes);
        }
    }
}
