//! One record of a log file in the CRI format: `TIME STREAM TAG TEXT`, tag `F` for the end of a line, `P` for a part
//! with more to come.
//!
//! Source: Kubernetes, `pkg/kubelet/kuberuntime/logs/logs.go` (`parseCRILog`); several tags are separated by `:`.

use mainstay_types::Timestamp;

use crate::Stream;
use crate::stamp::{STAMP_BYTES, parse_stamp, stamp};

/// Bytes in front of the text: the time, ` stdout`, ` F`, and a space.
pub(crate) const HEADER_BYTES: usize = STAMP_BYTES + 10;

/// Place of the tag in a header.
const TAG: usize = STAMP_BYTES + 8;

/// What stands in front of the text.
pub(crate) fn header(at: Timestamp, stream: Stream, partial: bool) -> [u8; HEADER_BYTES] {
    let mut bytes = [b' '; HEADER_BYTES];
    bytes[..STAMP_BYTES].copy_from_slice(&stamp(at));
    bytes[STAMP_BYTES + 1..TAG - 1].copy_from_slice(stream.as_str().as_bytes());
    bytes[TAG] = if partial { b'P' } else { b'F' };
    bytes
}

/// Whether a record that begins with one of our headers is a part with more to come.
pub(crate) fn is_partial(record: &[u8]) -> bool {
    record.get(TAG) == Some(&b'P')
}

/// A record, its text still in the file's buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) at: Timestamp,
    pub(crate) stream: Stream,
    pub(crate) partial: bool,
    pub(crate) text: &'a [u8],
}

/// Reads a line of a file, without its newline. `None` is a line this format did not make.
pub(crate) fn parse(line: &[u8]) -> Option<Record<'_>> {
    let (time, rest) = split_space(line)?;
    let (stream, rest) = split_space(rest)?;
    // A writer that trims trailing blanks leaves no space behind the tag of an empty line.
    let (tags, text) = split_space(rest).unwrap_or((rest, &[]));
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let partial = match tags.split(|byte| *byte == b':').next() {
        Some(b"P") => true,
        Some(b"F") => false,
        _ => return None,
    };
    Some(Record { at: parse_stamp(time)?, stream, partial, text })
}

fn split_space(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let place = memchr::memchr(b' ', text)?;
    Some((&text[..place], &text[place + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back() {
        let at = "2026-11-22T15:20:01.123456789Z".parse().unwrap();
        let mut line = header(at, Stream::Stderr, true).to_vec();
        assert_eq!(line, b"2026-11-22T15:20:01.123456789Z stderr P ");
        assert!(is_partial(&line));
        line.extend_from_slice(b" a  b\0\r\xff");
        assert_eq!(
            parse(&line),
            Some(Record { at, stream: Stream::Stderr, partial: true, text: b" a  b\0\r\xff" })
        );
    }

    #[test]
    fn foreign_lines_are_told_apart() {
        let at = "2026-11-22T15:20:01Z".parse().unwrap();
        let read = parse(b"2026-11-22T15:20:01Z stdout F:x text").unwrap();
        assert_eq!(read, Record { at, stream: Stream::Stdout, partial: false, text: b"text" });
        assert_eq!(parse(b"2026-11-22T15:20:01Z stdout F").unwrap().text, b"");
        for bad in [
            &b""[..],
            b"hello",
            b"2026-11-22T15:20:01Z",
            b"2026-11-22T15:20:01Z stdout",
            b"2026-11-22T15:20:01Z stdin F x",
            b"2026-11-22T15:20:01Z stdout X x",
            b"yesterday stdout F x",
        ] {
            assert_eq!(parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
