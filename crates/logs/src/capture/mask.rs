//! Keeps secrets out of the logs: what matches is replaced before anything else sees it.
//!
//! ```text
//! a read ──► Masker (holds back a line that has no end yet) ──► whole lines, masked ──► Splitter
//! ```
//!
//! Lines are looked at one by one and whole, whatever the reads were. A line longer than [`WINDOW_BYTES`] is looked at in
//! windows that overlap by [`OVERLAP_BYTES`]: in such a line a secret of up to that many bytes is found wherever it stands.
//! What a program has said when it ends in the middle of a line is masked as it stands; bytes that another process adds to
//! the same line afterwards are looked at on their own.

use std::ops::Range;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use regex::bytes::Regex;

/// What stands in place of a secret.
pub const MASK: &str = "[redacted]";

/// Bytes of a line that are held back at most until its end comes.
pub const WINDOW_BYTES: usize = 64 * 1024;

/// The longest secret that is found wherever it stands in a line longer than the window.
pub const OVERLAP_BYTES: usize = 8 * 1024;

/// A shorter value is not masked wherever it occurs: it would hide half of every line.
pub const LEAST_VALUE_BYTES: usize = 4;

/// What is kept out of the logs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Masks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    patterns: Vec<Regex>,
    values: Option<AhoCorasick>,
}

/// Why masks cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MaskError {
    /// A pattern is no regular expression.
    #[error("cannot use the pattern {pattern:?}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it; boxed for its size.
        source: Box<regex::Error>,
    },
    /// The values are too many or too long to be looked for together. They are not shown.
    #[error("cannot look for the secret values: together they are too large")]
    Values,
}

impl Masks {
    /// Masks every match of these patterns, each looked for in one line, and every occurrence of these values. A value of
    /// several lines is looked for line by line; values and lines shorter than [`LEAST_VALUE_BYTES`] are not looked for.
    /// `None` when there is nothing to look for.
    pub fn new<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Option<Self>, MaskError> {
        let patterns = patterns
            .into_iter()
            .map(|pattern| {
                Regex::new(pattern).map_err(|source| MaskError::Pattern {
                    pattern: pattern.to_owned(),
                    source: Box::new(source),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let values: Vec<&[u8]> = values
            .into_iter()
            .flat_map(|value| value.split(|byte| *byte == b'\n'))
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .filter(|line| line.len() >= LEAST_VALUE_BYTES)
            .collect();
        let values = match values.is_empty() {
            true => None,
            false => Some(AhoCorasick::new(values).map_err(|_| MaskError::Values)?),
        };
        if patterns.is_empty() && values.is_none() {
            return Ok(None);
        }
        Ok(Some(Self { inner: Arc::new(Inner { patterns, values }) }))
    }

    /// The places to mask, in order, those that touch or overlap joined.
    fn places(&self, line: &[u8]) -> Vec<Range<usize>> {
        let mut places: Vec<Range<usize>> = Vec::new();
        for pattern in &self.inner.patterns {
            // An empty match hides nothing.
            places
                .extend(pattern.find_iter(line).map(|found| found.range()).filter(|range| !range.is_empty()));
        }
        if let Some(values) = &self.inner.values {
            places.extend(values.find_overlapping_iter(line).map(|found| found.range()));
        }
        places.sort_unstable_by_key(|place| place.start);
        places.dedup_by(|later, earlier| {
            let joined = later.start <= earlier.end;
            if joined {
                earlier.end = earlier.end.max(later.end);
            }
            joined
        });
        places
    }

    /// Adds a line to `out`, masked, and says in how many places.
    fn mask(&self, line: &[u8], out: &mut Vec<u8>) -> u64 {
        let places = self.places(line);
        mask_places(line, &places, out);
        places.len() as u64
    }
}

fn mask_places(line: &[u8], places: &[Range<usize>], out: &mut Vec<u8>) {
    let mut from = 0;
    for place in places {
        out.extend_from_slice(&line[from..place.start]);
        out.extend_from_slice(MASK.as_bytes());
        from = place.end;
    }
    out.extend_from_slice(&line[from..]);
}

/// One stream on its way through the masks.
#[derive(Default)]
pub(super) struct Masker {
    /// The bytes of a line that has no end yet, as they were written.
    held: Vec<u8>,
}

impl Masker {
    /// Takes bytes as they were read; adds what may be shown to `out`, and says how many places were masked.
    pub(super) fn push(&mut self, masks: &Masks, chunk: &[u8], out: &mut Vec<u8>) -> u64 {
        let mut masked = 0;
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            let line = &chunk[start..end];
            masked += if self.held.is_empty() {
                masks.mask(line, out)
            } else {
                self.held.extend_from_slice(line);
                self.release(masks, out)
            };
            out.push(b'\n');
            start = end + 1;
        }
        self.held.extend_from_slice(&chunk[start..]);
        masked + self.release_front(masks, out)
    }

    /// Gives out all that is held: its line has no more, or is not waited for.
    pub(super) fn release(&mut self, masks: &Masks, out: &mut Vec<u8>) -> u64 {
        let masked = masks.mask(&self.held, out);
        self.held.clear();
        masked
    }

    /// Gives out all that is held as it is: there are no masks any more.
    pub(super) fn give_up(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    /// Gives out the front of a line that is longer than the window; a secret that reaches into the rest stays with it.
    fn release_front(&mut self, masks: &Masks, out: &mut Vec<u8>) -> u64 {
        if self.held.len() <= WINDOW_BYTES {
            return 0;
        }
        let places = masks.places(&self.held);
        let mut cut = self.held.len() - OVERLAP_BYTES;
        if let Some(across) = places.iter().find(|place| place.start < cut && place.end > cut) {
            // It is whole if it ends before the end; one that may go on is given out masked when it fills the window.
            cut = if across.end < self.held.len() || across.start == 0 { across.end } else { across.start };
        }
        let whole = places.partition_point(|place| place.end <= cut);
        mask_places(&self.held[..cut], &places[..whole], out);
        self.held.drain(..cut);
        whole as u64
    }

    /// Whether something is held.
    pub(super) const fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Gives memory back; called when the stream falls silent.
    pub(super) fn shrink(&mut self) {
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masks(patterns: &[&str], values: &[&[u8]]) -> Masks {
        Masks::new(patterns.iter().copied(), values.iter().copied()).unwrap().unwrap()
    }

    fn pass(masks: &Masks, pieces: &[&[u8]]) -> (String, u64) {
        let mut masker = Masker::default();
        let mut out = Vec::new();
        let mut masked = 0;
        for piece in pieces {
            masked += masker.push(masks, piece, &mut out);
        }
        masked += masker.release(masks, &mut out);
        (String::from_utf8(out).unwrap(), masked)
    }

    #[test]
    fn patterns_and_values_are_masked_and_counted() {
        let masks = masks(&["password=\\S+"], &[b"hunter2"]);
        let text = b"user=a password=b x\nhunter2 and hunter2\nnothing\n";
        let expected = "user=a [redacted] x\n[redacted] and [redacted]\nnothing\n";
        assert_eq!(pass(&masks, &[text]), (expected.to_owned(), 3));
    }

    #[test]
    fn wherever_the_reads_part_it() {
        let masks = masks(&["^token .*$"], &[b"hunter2"]);
        let text = b"a hunter2 b\ntoken abc\nc";
        for first in 0..text.len() {
            for second in first..text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(
                    pass(&masks, &pieces),
                    ("a [redacted] b\n[redacted]\nc".to_owned(), 2),
                    "{first}, {second}"
                );
            }
        }
    }

    #[test]
    fn overlapping_matches_are_one_place() {
        let masks = masks(&["abcd", "cdef"], &[b"efgh"]);
        assert_eq!(pass(&masks, &[b"xabcdefghx\n"]), ("x[redacted]x\n".to_owned(), 1));
    }

    #[test]
    fn a_value_of_several_lines_is_masked_line_by_line() {
        let masks = masks(&[], &[b"-----BEGIN KEY-----\r\nMIIabc\n==\n"]);
        let text = b"key:\n-----BEGIN KEY-----\nMIIabc\n==\n";
        assert_eq!(pass(&masks, &[text]), ("key:\n[redacted]\n[redacted]\n==\n".to_owned(), 2));
        assert!(Masks::new([], [&b"abc"[..]]).unwrap().is_none(), "too short to be looked for");
        assert!(matches!(Masks::new(["("], []), Err(MaskError::Pattern { .. })));
    }

    #[test]
    fn in_a_line_longer_than_the_window_it_is_found_wherever_it_stands() {
        let masks = masks(&["s[0-9]+e"], &[]);
        let secret = format!("s{}e", "7".repeat(OVERLAP_BYTES - 3));
        for at in
            [0, 1, WINDOW_BYTES - OVERLAP_BYTES - 5, WINDOW_BYTES - 10, WINDOW_BYTES, 3 * WINDOW_BYTES + 7]
        {
            let line = format!("{}{secret}{}\n", "x".repeat(at), "y".repeat(2 * WINDOW_BYTES));
            for size in [1000, 4096, 70_000] {
                let pieces: Vec<&[u8]> = line.as_bytes().chunks(size).collect();
                let (text, masked) = pass(&masks, &pieces);
                assert_eq!(masked, 1, "at {at}, reads of {size}");
                assert_eq!(text, line.replace(&secret, MASK), "at {at}, reads of {size}");
            }
        }
    }

    #[test]
    fn memory_stays_bounded_whatever_matches() {
        let masks = masks(&["x+"], &[]);
        let mut masker = Masker::default();
        let mut out = Vec::new();
        for _ in 0..50 {
            masker.push(&masks, &[b'x'; 10_000], &mut out);
            assert!(masker.held.len() <= WINDOW_BYTES + 10_000);
        }
        assert!(!out.contains(&b'x'));
    }

    proptest! {
        #[test]
        fn without_a_match_nothing_changes(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let masks = masks(&["(?-u)\\xff\\x00\\xff\\x00never"], &[]);
            let mut masker = Masker::default();
            let mut out = Vec::new();
            for piece in &pieces {
                prop_assert_eq!(masker.push(&masks, piece, &mut out), 0);
            }
            masker.release(&masks, &mut out);
            prop_assert_eq!(out, pieces.concat());
        }

        #[test]
        fn what_is_read_in_pieces_is_masked_as_if_read_at_once(
            text in "[ab\n]{0,200}",
            sizes in prop::collection::vec(1_usize..20, 1..20),
        ) {
            let masks = masks(&["ab+a", "^b"], &[b"abab"]);
            let mut rest = text.as_bytes();
            let mut pieces = Vec::new();
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, others) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = others;
            }
            prop_assert_eq!(pass(&masks, &pieces), pass(&masks, &[text.as_bytes()]));
        }
    }
}
