//! One stream's bytes into lines, however they were cut by the reads; pure.

use super::batch::Batch;

/// The state of a stream between two reads: what has no end yet.
#[derive(Default)]
pub(super) struct Splitter {
    /// The bytes since the last record, at most the longest record. Not allocated while empty and silent.
    unfinished: Vec<u8>,
    /// The file holds parts of the line but not its end.
    open: bool,
}

impl Splitter {
    /// Moves lines into the batch until that is full; returns how many bytes were used.
    ///
    /// A line longer than `max_line_bytes` becomes parts of exactly that size and an end, whatever the reads were.
    pub(super) fn push(&mut self, chunk: &[u8], max_line_bytes: usize, batch: &mut Batch) -> usize {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            let text = &chunk[start..end];
            if self.unfinished.is_empty() && text.len() <= max_line_bytes {
                batch.push(text, &[], false);
            } else if self.unfinished.len() + text.len() <= max_line_bytes {
                batch.push(&self.unfinished, text, false);
                self.unfinished.clear();
            } else {
                self.extend(text, max_line_bytes, batch);
                batch.push(&self.unfinished, &[], false);
                self.unfinished.clear();
            }
            self.open = false;
            start = end + 1;
            if batch.is_full() {
                return start;
            }
        }
        self.extend(&chunk[start..], max_line_bytes, batch);
        chunk.len()
    }

    /// Takes bytes of a line whose end is not among them.
    fn extend(&mut self, mut text: &[u8], max_line_bytes: usize, batch: &mut Batch) {
        while self.unfinished.len() + text.len() > max_line_bytes {
            let (part, rest) = text.split_at(max_line_bytes - self.unfinished.len());
            batch.push(&self.unfinished, part, true);
            self.unfinished.clear();
            self.open = true;
            text = rest;
        }
        self.unfinished.extend_from_slice(text);
    }

    /// Records what there is of an unfinished line, as a part: more of it may come.
    pub(super) fn settle(&mut self, batch: &mut Batch) {
        if !self.unfinished.is_empty() {
            batch.push(&self.unfinished, &[], true);
            self.open = true;
            self.unfinished = Vec::new();
        }
    }

    /// Ends an unfinished line: nothing more comes. A line recorded in parts so far gets an empty end.
    pub(super) fn finish(&mut self, batch: &mut Batch) {
        if !self.unfinished.is_empty() || self.open {
            batch.push(&self.unfinished, &[], false);
            self.open = false;
            self.unfinished = Vec::new();
        }
    }

    /// Whether neither memory nor the file holds a line without its end.
    pub(super) fn is_between_lines(&self) -> bool {
        self.unfinished.is_empty() && !self.open
    }

    /// Gives memory back; called when the stream falls silent.
    pub(super) fn shrink(&mut self) {
        if self.unfinished.is_empty() {
            self.unfinished = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::batch::Start;
    use super::*;
    use crate::Stream;
    use crate::record::parse;

    fn records(pieces: &[&[u8]], max_line_bytes: usize) -> Vec<(bool, Vec<u8>)> {
        let mut splitter = Splitter::default();
        let mut batch = Batch::new();
        batch.begin(Start {
            at: mainstay_types::Timestamp::UNIX_EPOCH,
            stream: Stream::Stdout,
            size_bytes: 0,
            rotate_bytes: u64::MAX,
            open: [false; 2],
        });
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                rest = &rest[splitter.push(rest, max_line_bytes, &mut batch)..];
            }
        }
        splitter.finish(&mut batch);
        assert_eq!(batch.open(), [false; 2]);
        let mut lines: Vec<_> = batch.bytes.split(|byte| *byte == b'\n').collect();
        lines.pop();
        lines
            .into_iter()
            .map(|line| {
                let record = parse(line).unwrap();
                (record.partial, record.text.to_vec())
            })
            .collect()
    }

    #[test]
    fn lines_parts_and_ends() {
        for (pieces, expected) in [
            (vec![&b"a\nb\n"[..]], vec![(false, "a"), (false, "b")]),
            (vec![b"a", b"b\n\nc"], vec![(false, "ab"), (false, ""), (false, "c")]),
            (vec![b"12345\n"], vec![(false, "12345")]),
            (vec![b"123456\n"], vec![(true, "12345"), (false, "6")]),
            (vec![b"1234567890\n"], vec![(true, "12345"), (false, "67890")]),
            (vec![b"123456"], vec![(true, "12345"), (false, "6")]),
            (vec![b"12345", b"\n"], vec![(false, "12345")]),
            (vec![b"123", b"4567890ab\n"], vec![(true, "12345"), (true, "67890"), (false, "ab")]),
        ] {
            let expected: Vec<_> =
                expected.into_iter().map(|(partial, text)| (partial, text.as_bytes().to_vec())).collect();
            assert_eq!(records(&pieces, 5), expected, "{pieces:?}");
        }
    }

    #[test]
    fn a_settled_line_can_go_on_or_end() {
        let mut batch = Batch::new();
        let mut splitter = Splitter::default();
        splitter.push(b"half", 100, &mut batch);
        splitter.settle(&mut batch);
        splitter.settle(&mut batch);
        splitter.push(b" more", 100, &mut batch);
        splitter.settle(&mut batch);
        splitter.finish(&mut batch);
        splitter.finish(&mut batch);
        let texts: Vec<_> = batch.bytes.split(|byte| *byte == b'\n').map(<[u8]>::len).collect();
        assert_eq!(texts, [44, 45, 40, 0]);
        assert_eq!(batch.open(), [false; 2]);
    }

    proptest! {
        #[test]
        fn how_reads_cut_the_bytes_does_not_show(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>(), Just(b'x')], 0..400),
            cuts in prop::collection::vec(0_usize..400, 0..20),
            max_line_bytes in 1_usize..50,
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            let got = records(&pieces, max_line_bytes);
            prop_assert_eq!(&got, &records(&[&bytes], max_line_bytes));
            let mut back = Vec::new();
            for (partial, text) in got {
                back.extend(text);
                if !partial { back.push(b'\n'); }
            }
            if bytes.last().is_some_and(|byte| *byte != b'\n') { back.pop(); }
            prop_assert_eq!(back, bytes);
        }
    }
}
