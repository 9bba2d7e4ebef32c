//! Compressed files that can be read from anywhere: independent zstd frames, and a table of where each begins.
//!
//! The format is zstd's seekable format (facebook/zstd, `contrib/seekable_format/zstd_seekable_compression_format.md`):
//! frames one after the other, each with its own checksum, then the table as a skippable frame. Every zstd tool reads
//! the file as if it were one frame.
//!
//! ```text
//! frame, frame, ...   at most FRAME_BYTES of text each, cut behind a newline where there is one
//! 5E 2A 4D 18         magic of a skippable frame
//! u32                 length of what follows
//! u32, u32            for each frame: bytes in the file, bytes of text
//! u32, 00, B1 EA 92 8F    number of frames, no checksums in the table, magic of the seekable format
//! ```
//!
//! A table is believed only if its sums are those of the file, and a frame only if it unpacks to what the table says.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// zstd's fastest ordinary level: logs shrink to about a tenth, at several hundred MB/s; higher levels cost several
/// times the processor time, which belongs to the services.
const LEVEL: i32 = 1;

/// Text of one frame. A reader unpacks one to find a time: about a millisecond. Larger ones shrink no better, for the
/// window of [`LEVEL`] is half of this.
const FRAME_BYTES: usize = 1024 * 1024;

/// A frame of more text is not unpacked: the file is not ours.
const MOST_FRAME_BYTES: u32 = 16 * 1024 * 1024;

/// Frames of one file that are kept track of: 64 GiB of text. A larger file is read from its beginning.
const MOST_FRAMES: u32 = 65_536;

/// Bytes read at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// The skippable frame that the seekable format uses.
const TABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
const TABLE_HEAD_BYTES: u64 = 8;
const TABLE_FOOT_BYTES: u64 = 9;
/// The descriptor's bit for checksums in the table, and those that must be 0.
const HAS_CHECKSUMS: u8 = 0b1000_0000;
const RESERVED: u8 = 0b0111_1100;

/// Compresses the text of a closed log file. `go_on` is asked after each block; when it says no, nothing more is written and the answer is
/// false.
pub fn pack(plain: &mut impl Read, packed: &mut impl Write, go_on: impl FnMut() -> bool) -> io::Result<bool> {
    pack_frames(plain, packed, FRAME_BYTES, go_on)
}

/// As [`pack`], with frames of this size.
pub(crate) fn pack_frames(
    plain: &mut impl Read,
    packed: &mut impl Write,
    frame_bytes: usize,
    mut go_on: impl FnMut() -> bool,
) -> io::Result<bool> {
    let mut packer = zstd::bulk::Compressor::new(LEVEL)?;
    packer.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
    let mut table = Vec::new();
    let mut text = vec![0; frame_bytes];
    let mut frame = Vec::new();
    // Bytes of `text` that are filled.
    let mut filled = 0;
    loop {
        let until = text.len().min(filled + BLOCK_BYTES);
        let count = match plain.read(&mut text[filled..until]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            outcome => outcome?,
        };
        filled += count;
        if !go_on() {
            return Ok(false);
        }
        if count > 0 && filled < text.len() {
            continue;
        }
        let end = if count == 0 {
            filled
        } else {
            memchr::memrchr(b'\n', &text[..filled]).map_or(filled, |newline| newline + 1)
        };
        if end > 0 {
            frame.clear();
            frame.reserve(zstd::zstd_safe::compress_bound(end));
            packer.compress_to_buffer(&text[..end], &mut frame)?;
            packed.write_all(&frame)?;
            let sizes = u32::try_from(frame.len()).ok().zip(u32::try_from(end).ok());
            table.push(sizes.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?);
            text.copy_within(end..filled, 0);
            filled -= end;
        }
        if count == 0 {
            packed.write_all(&table_bytes(&table)?)?;
            return Ok(true);
        }
    }
}

/// The table as it stands in the file.
fn table_bytes(table: &[(u32, u32)]) -> io::Result<Vec<u8>> {
    let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
    let count = u32::try_from(table.len()).map_err(too_large)?;
    let length = u32::try_from(table.len() * 8 + 9).map_err(too_large)?;
    let mut bytes = Vec::with_capacity(table.len() * 8 + 17);
    bytes.extend_from_slice(&TABLE_MAGIC.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    for (packed, text) in table {
        bytes.extend_from_slice(&packed.to_le_bytes());
        bytes.extend_from_slice(&text.to_le_bytes());
    }
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
    Ok(bytes)
}

/// Whether a compressed file unpacks to exactly the plain one; any doubt is a no.
pub(crate) fn holds_the_same(plain: impl Read, packed: impl Read) -> bool {
    let mut plain = plain;
    let compare = || -> io::Result<bool> {
        let mut packed = zstd::Decoder::new(packed)?;
        let (mut expected, mut found) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
        loop {
            let count = packed.read(&mut found)?;
            if count == 0 {
                return Ok(plain.read(&mut expected)? == 0);
            }
            match plain.read_exact(&mut expected[..count]) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
                Ok(()) => {}
            }
            if expected[..count] != found[..count] {
                return Ok(false);
            }
        }
    };
    compare().unwrap_or(false)
}

/// The text of a compressed file, from anywhere. Holds one frame.
#[derive(Debug)]
pub(crate) struct Packed {
    file: File,
    /// Where each frame begins, in the file and in the text; and where the last one ends.
    frames: Vec<Bounds>,
    /// The frame that `text` is.
    unpacked: Option<usize>,
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    packed: u64,
    text: u64,
}

impl Packed {
    /// `Err` gives the file back, from its beginning, when it has no table that can be believed.
    pub(crate) fn open(mut file: File) -> io::Result<Result<Self, File>> {
        let frames = read_table(&mut file)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(match frames {
            Some(frames) => Ok(Self { file, frames, unpacked: None, text: Vec::new() }),
            None => Err(file),
        })
    }

    /// Bytes of text.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.frames.last().map_or(0, |end| end.text)
    }

    /// The text from `offset` on, as far as it lies in one frame; empty at the end.
    pub(crate) fn from(&mut self, offset: u64) -> io::Result<&[u8]> {
        // The frame behind the last one that begins at or before the offset; those without text are passed over.
        let next = self.frames.partition_point(|frame| frame.text <= offset);
        if next == 0 || next == self.frames.len() {
            return Ok(&[]);
        }
        let frame = next - 1;
        if self.unpacked != Some(frame) {
            self.unpack(frame)?;
        }
        let inside = usize::try_from(offset - self.frames[frame].text).unwrap_or(usize::MAX);
        Ok(self.text.get(inside..).unwrap_or_default())
    }

    fn unpack(&mut self, frame: usize) -> io::Result<()> {
        let (from, to) = (self.frames[frame], self.frames[frame + 1]);
        self.unpacked = None;
        let mut packed = Vec::new();
        self.file.seek(SeekFrom::Start(from.packed))?;
        (&self.file).take(to.packed - from.packed).read_to_end(&mut packed)?;
        let expected = usize::try_from(to.text - from.text).unwrap_or(0);
        self.text.clear();
        self.text.reserve(expected);
        zstd::bulk::Decompressor::new()?.decompress_to_buffer(&packed, &mut self.text)?;
        if self.text.len() != expected {
            let words = format!("a frame has {} bytes, its table says {expected}", self.text.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        self.unpacked = Some(frame);
        Ok(())
    }
}

/// The bounds of all frames; `None` without a table whose sums are those of the file.
fn read_table(file: &mut File) -> io::Result<Option<Vec<Bounds>>> {
    let size = file.seek(SeekFrom::End(0))?;
    let Some(foot_at) = size.checked_sub(TABLE_FOOT_BYTES) else { return Ok(None) };
    file.seek(SeekFrom::Start(foot_at))?;
    let mut foot = [0; TABLE_FOOT_BYTES as usize];
    file.read_exact(&mut foot)?;
    let count = number(&foot, 0);
    let descriptor = foot[4];
    if number(&foot, 5) != SEEKABLE_MAGIC || descriptor & RESERVED != 0 || count > MOST_FRAMES {
        return Ok(None);
    }
    let entry_bytes = if descriptor & HAS_CHECKSUMS == 0 { 8 } else { 12 };
    let length = u64::from(count) * entry_bytes + TABLE_FOOT_BYTES;
    let Some(table_at) = size.checked_sub(length + TABLE_HEAD_BYTES) else { return Ok(None) };
    file.seek(SeekFrom::Start(table_at))?;
    let mut table = Vec::new();
    file.take(length + TABLE_HEAD_BYTES).read_to_end(&mut table)?;
    if table.len() as u64 != length + TABLE_HEAD_BYTES
        || number(&table, 0) != TABLE_MAGIC
        || u64::from(number(&table, 4)) != length
    {
        return Ok(None);
    }
    let mut at = Bounds { packed: 0, text: 0 };
    let mut frames = vec![at];
    for entry in 0..count as usize {
        let place = 8 + entry * entry_bytes as usize;
        let (packed, text) = (number(&table, place), number(&table, place + 4));
        if text > MOST_FRAME_BYTES {
            return Ok(None);
        }
        at = Bounds { packed: at.packed + u64::from(packed), text: at.text + u64::from(text) };
        frames.push(at);
    }
    Ok((at.packed == table_at).then_some(frames))
}

fn number(bytes: &[u8], place: usize) -> u32 {
    let bytes = bytes.get(place..place + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(pack(&mut &text[..], &mut bytes, || true).unwrap());
        bytes
    }

    #[test]
    fn a_packed_text_is_read_from_anywhere_and_by_every_tool() {
        let line = |number: usize| format!("{number:0width$}\n", width = 1 + number % 977);
        let text: Vec<u8> = (0..8000).flat_map(|number| line(number).into_bytes()).collect();
        assert!(text.len() > 3 * FRAME_BYTES);
        let bytes = packed(&text);
        assert_eq!(zstd::decode_all(&bytes[..]).unwrap(), text);
        assert!(holds_the_same(&text[..], &bytes[..]));
        assert!(!holds_the_same(&text[1..], &bytes[..]));
        let mut packed = Packed::open(file(&bytes)).unwrap().unwrap();
        assert_eq!(packed.text_bytes(), text.len() as u64);
        for offset in (0..text.len() + 2).step_by(70_001).chain([0, text.len() - 1, text.len()]) {
            let found = packed.from(offset as u64).unwrap();
            assert_eq!(found.is_empty(), offset >= text.len(), "{offset}");
            assert_eq!(Some(found), text.get(offset..(offset + found.len()).max(offset)).or(Some(&[])));
        }
        for bounds in &packed.frames[1..packed.frames.len() - 1] {
            assert_eq!(text[usize::try_from(bounds.text).unwrap() - 1], b'\n', "frames end with lines");
        }
    }

    #[test]
    fn a_line_longer_than_a_frame_and_no_text_at_all() {
        for text in [vec![b'x'; 2 * FRAME_BYTES + 3], Vec::new(), b"\n".to_vec()] {
            let bytes = packed(&text);
            assert_eq!(zstd::decode_all(&bytes[..]).unwrap(), text);
            let mut packed = Packed::open(file(&bytes)).unwrap().unwrap();
            let mut back = Vec::new();
            loop {
                let more = packed.from(back.len() as u64).unwrap().to_vec();
                if more.is_empty() {
                    break;
                }
                back.extend(more);
            }
            assert_eq!(back, text);
        }
        let stopped = pack(&mut &b"x"[..], &mut Vec::new(), || false).unwrap();
        assert!(!stopped);
    }

    #[test]
    fn a_table_that_does_not_fit_its_file_is_not_believed() {
        let good = packed(b"a\nb\n");
        assert!(Packed::open(file(&good)).unwrap().is_ok());
        let mut longer = b"x".to_vec();
        longer.extend_from_slice(&good);
        let whole = zstd::encode_all(&b"a\nb\n"[..], 1).unwrap();
        for bad in [&longer[..], &good[..good.len() - 1], &whole, b"", b"short"] {
            assert!(Packed::open(file(bad)).unwrap().is_err());
        }
        // The frame is not what the table says.
        let mut lying = good.clone();
        let place = lying.len() - 9 - 4;
        lying[place] += 1;
        let mut lying = Packed::open(file(&lying)).unwrap().unwrap();
        assert_eq!(lying.from(0).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn a_broken_file_is_an_error_and_never_more(
            place in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = packed("a line of the log\n".repeat(50).as_bytes());
            let place = place.index(bytes.len());
            bytes[place] = byte;
            bytes.truncate(bytes.len() - cut.index(3));
            if let Ok(mut packed) = Packed::open(file(&bytes)).unwrap() {
                let _ = packed.from(0);
                let _ = packed.from(packed.text_bytes());
            }
        }
    }
}
