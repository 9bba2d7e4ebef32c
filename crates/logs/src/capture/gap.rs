//! Lines left out on purpose (`when_blocked = "drop"`): counted while the file cannot be written, and told in the file at
//! the place where they are missing; pure.
//!
//! Whole lines are left out. A line of which the file holds a part already is closed there, and its rest is left out; a
//! line that begins while the file cannot be written is left out to its end, even when that comes later.

use mainstay_types::{Timestamp, format_size};

use crate::Stream;
use crate::record::{header, is_partial};

/// How the record that stands for missing lines begins, on whichever stream lost some.
pub(super) const GAP_WORDS: &str = "[mainstay] missing here: ";

/// What is being left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Gap {
    /// Lines of which all or the rest is missing.
    pub(super) lines: u64,
    /// Bytes of their texts.
    pub(super) bytes: u64,
    from: Timestamp,
    to: Timestamp,
    /// Streams that lost something.
    touched: [bool; 2],
}

impl Gap {
    pub(super) const fn new(at: Timestamp) -> Self {
        Self { lines: 0, bytes: 0, from: at, to: at, touched: [false; 2] }
    }

    /// Counts records of one stream, read at one time, as missing. `mid_line` says whether the stream is in the middle of a
    /// missing line, before and after.
    pub(super) fn count(&mut self, records: &[u8], stream: Stream, at: Timestamp, mid_line: &mut bool) {
        for record in records.split_inclusive(|byte| *byte == b'\n') {
            if !*mid_line {
                self.lines += 1;
            }
            *mid_line = is_partial(record);
            self.bytes += text_bytes(record);
        }
        self.to = at;
        self.touched[stream.index()] = true;
    }

    /// The records that tell of it: an end for each line that was cut short, then the count. `open` says of which streams
    /// the file holds a part of a line but not its end, before and after.
    pub(super) fn records(&self, open: &mut [bool; 2], at: Timestamp) -> Vec<u8> {
        let mut records = Vec::new();
        let mut told_on = Stream::Stderr;
        for stream in Stream::ALL {
            if self.touched[stream.index()] {
                told_on = stream;
                if std::mem::take(&mut open[stream.index()]) {
                    records.extend_from_slice(&header(at, stream, false));
                    records.push(b'\n');
                }
            }
        }
        records.extend_from_slice(&header(at, told_on, false));
        let plural = if self.lines == 1 { "line" } else { "lines" };
        let text = format!(
            "{GAP_WORDS}{} {plural} ({}) written from {} to {}, while the log could not be\n",
            self.lines,
            format_size(self.bytes),
            self.from,
            self.to
        );
        records.extend_from_slice(text.as_bytes());
        records
    }
}

/// How many bytes at the beginning of these records of one stream belong to a line that is being left out.
pub(super) fn rest_of_line(records: &[u8], mid_line: &mut bool) -> usize {
    let mut length = 0;
    for record in records.split_inclusive(|byte| *byte == b'\n') {
        if !*mid_line {
            break;
        }
        length += record.len();
        *mid_line = is_partial(record);
    }
    length
}

/// Bytes of the text of a record that ends with its newline.
fn text_bytes(record: &[u8]) -> u64 {
    record.len().saturating_sub(crate::record::HEADER_BYTES + 1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::parse;

    const AT: Timestamp = Timestamp::UNIX_EPOCH;

    fn records(list: &[(bool, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (partial, text) in list {
            bytes.extend_from_slice(&header(AT, Stream::Stdout, *partial));
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }

    #[test]
    fn lines_are_counted_once_whatever_their_parts() {
        let mut gap = Gap::new(AT);
        let mut mid_line = false;
        gap.count(&records(&[(false, "one"), (true, "tw"), (false, "o")]), Stream::Stdout, AT, &mut mid_line);
        gap.count(&records(&[(true, "three and")]), Stream::Stdout, AT, &mut mid_line);
        assert!(mid_line);
        gap.count(&records(&[(true, " on")]), Stream::Stdout, AT, &mut mid_line);
        assert_eq!((gap.lines, gap.bytes), (3, 18));
    }

    #[test]
    fn the_rest_of_a_missing_line_is_missing_and_what_follows_is_not() {
        let rest = records(&[(true, "rest"), (false, "end"), (true, "new")]);
        let mut mid_line = true;
        let length = rest_of_line(&rest, &mut mid_line);
        assert_eq!(parse(rest[length..].trim_ascii_end()).unwrap().text, b"new");
        assert!(!mid_line);
        assert_eq!(rest_of_line(&rest, &mut mid_line), 0);
    }

    #[test]
    fn a_line_cut_short_is_closed_before_the_gap_is_told() {
        let mut gap = Gap::new(AT);
        gap.count(&records(&[(false, "end of it")]), Stream::Stdout, AT, &mut false);
        let mut open = [true, true];
        let told = gap.records(&mut open, AT);
        assert_eq!(open, [false, true], "a line of the other stream goes on");
        let told: Vec<_> = told.split(|byte| *byte == b'\n').filter_map(parse).collect();
        assert_eq!(told.len(), 2);
        assert!(told.iter().all(|record| record.stream == Stream::Stdout && !record.partial));
        assert!(told[0].text.is_empty());
        assert!(told[1].text.starts_with(b"[mainstay] missing here: 1 line (9 B) written from 1970-"));
    }
}
