//! The text of one file, compressed or not, from anywhere.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::packed::Packed;

/// A file whose text may be read from anywhere.
#[derive(Debug)]
pub(super) enum Text {
    /// The bytes as they were written.
    Plain(File),
    /// Compressed in frames.
    Packed(Packed),
}

impl Text {
    /// Bytes of text that are there now.
    pub(super) fn size_bytes(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => file.metadata().map(|metadata| metadata.len()),
            Self::Packed(packed) => Ok(packed.text_bytes()),
        }
    }

    /// Reads some bytes at `offset`; none at the end.
    pub(super) fn read_at(&mut self, offset: u64, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => {
                file.seek(SeekFrom::Start(offset))?;
                loop {
                    match file.read(space) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        outcome => return outcome,
                    }
                }
            }
            Self::Packed(packed) => {
                let found = packed.from(offset)?;
                let count = found.len().min(space.len());
                space[..count].copy_from_slice(&found[..count]);
                Ok(count)
            }
        }
    }

    /// Reads all of a range, or what is there of it: a foreign hand may have cut the file.
    pub(super) fn read_range(&mut self, start: u64, end: u64, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        into.resize(usize::try_from(end.saturating_sub(start)).unwrap_or(0), 0);
        let mut filled = 0;
        while filled < into.len() {
            match self.read_at(start + filled as u64, &mut into[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        into.truncate(filled);
        Ok(())
    }
}

/// A text from an offset to another, or what can only be read from its beginning.
pub(super) enum Source {
    /// From anywhere.
    Text {
        /// Of this file.
        text: Text,
        /// Here.
        offset: u64,
        /// To here.
        end: u64,
    },
    /// As it comes: compressed as one frame.
    Stream(Box<dyn Read>),
}

impl Read for Source {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Text { text, offset, end } => {
                let left = usize::try_from(end.saturating_sub(*offset)).unwrap_or(usize::MAX);
                let room = space.len().min(left);
                if room == 0 {
                    return Ok(0);
                }
                let count = text.read_at(*offset, &mut space[..room])?;
                *offset += count as u64;
                Ok(count)
            }
            Self::Stream(read) => read.read(space),
        }
    }
}
