//! One record as it is sent; pure.

use mainstay_logs::read::{Missing, PassedLine};
use mainstay_logs::{Stream, facts};
use mainstay_types::{Level, ReplicaId, Timestamp, format_size};

/// A line, a piece of a long one, or word of what is missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    /// When the line was read from the program.
    pub(crate) at: Timestamp,
    pub(crate) replica: ReplicaId,
    pub(crate) stream: Stream,
    /// Not the whole line.
    pub(crate) partial: bool,
    pub(crate) level: Option<Level>,
    /// When the program says it wrote it.
    pub(crate) said_at: Option<Timestamp>,
    pub(crate) text: Vec<u8>,
    /// For word of what is missing: how much. Such a record is no line of a program.
    pub(crate) missing: Option<Missing>,
}

impl Record {
    /// The time to sort by: the program's own, else when it was read.
    pub(crate) fn time(&self) -> Timestamp {
        self.said_at.unwrap_or(self.at)
    }

    pub(crate) const fn is_line(&self) -> bool {
        self.missing.is_none()
    }

    /// What is missing when this is not sent.
    pub(crate) fn as_missing(&self) -> Missing {
        self.missing.unwrap_or(Missing { lines: 1, bytes: 0, more: false })
    }
}

/// A line as one record, or several when it is longer than a record may be.
pub(crate) fn records(passed: PassedLine, most_text_bytes: usize, records: &mut Vec<Record>) {
    let PassedLine { line, level } = passed;
    let said_at = facts(&line.text).at;
    let whole = Record {
        at: line.at,
        replica: line.replica,
        stream: line.stream,
        partial: line.partial,
        level,
        said_at,
        text: line.text,
        missing: None,
    };
    if whole.text.len() <= most_text_bytes {
        records.push(whole);
        return;
    }
    let text = whole.text.clone();
    let mut rest = text.as_slice();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(piece_end(rest, most_text_bytes));
        records.push(Record { text: piece.to_vec(), partial: true, ..whole.clone() });
        rest = behind;
    }
}

/// The end of the first piece: between two characters where there are any. 1 or more.
fn piece_end(text: &[u8], most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    // A character of UTF-8 has at most three bytes behind its first.
    let starts = |at: &usize| text[*at] & 0b1100_0000 != 0b1000_0000;
    (most.saturating_sub(3).max(1)..=most).rev().find(starts).unwrap_or(most.max(1))
}

/// Says in the target's own stream what is missing there.
pub(crate) fn missing_record(replica: &ReplicaId, missing: &Missing, at: Timestamp) -> Record {
    Record {
        at,
        replica: replica.clone(),
        stream: Stream::Stderr,
        partial: false,
        level: Some(Level::Warn),
        said_at: None,
        text: format!("[mainstay] missing here: {}, which were not sent", missing_words(missing))
            .into_bytes(),
        missing: Some(*missing),
    }
}

/// `500 lines (5.3 KiB of log files)`.
pub(crate) fn missing_words(missing: &Missing) -> String {
    let Missing { lines, bytes, more } = missing;
    let plural = if *lines == 1 { "line" } else { "lines" };
    match (lines, bytes, more) {
        (0, 0, _) => "an unknown number of lines, whose files were removed".to_owned(),
        (lines, bytes, false) => format!("{lines} {plural} ({} of log files)", format_size(*bytes)),
        (lines, bytes, true) => {
            format!("at least {lines} {plural} ({} of log files and more)", format_size(*bytes))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use mainstay_logs::LogLine;
    use mainstay_types::ServiceName;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn record(text: &str) -> Record {
        Record {
            at: "2026-11-22T15:20:01.123456789Z".parse().unwrap(),
            replica: ReplicaId { service: ServiceName::parse("web").unwrap(), index: 0 },
            stream: Stream::Stdout,
            partial: false,
            level: None,
            said_at: None,
            text: text.as_bytes().to_vec(),
            missing: None,
        }
    }

    fn passed(text: &[u8]) -> PassedLine {
        let Record { at, replica, stream, partial, .. } = record("");
        PassedLine { line: LogLine { at, replica, stream, partial, text: text.to_vec() }, level: None }
    }

    proptest! {
        #[test]
        fn the_pieces_of_a_line_are_the_line(text in "[a-zé€😀]{0,80}", most in 4_usize..20) {
            let mut pieces = Vec::new();
            records(passed(text.as_bytes()), most, &mut pieces);
            let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.text.clone()).collect();
            prop_assert_eq!(joined, text.as_bytes());
            let is_long = text.len() > most;
            for piece in &pieces {
                prop_assert!(piece.text.len() <= most && std::str::from_utf8(&piece.text).is_ok());
                prop_assert_eq!(piece.partial, is_long);
            }
        }

        #[test]
        fn bytes_that_are_no_text_are_cut_too(text in prop::collection::vec(any::<u8>(), 0..80), most in 1_usize..20) {
            let mut pieces = Vec::new();
            records(passed(&text), most, &mut pieces);
            let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.text.clone()).collect();
            prop_assert_eq!(joined, text);
        }
    }

    #[test]
    fn a_line_says_its_own_time() {
        let mut found = Vec::new();
        records(passed(br#"{"ts":"2026-11-22T15:19:59Z","level":"warn"}"#), 100, &mut found);
        assert_eq!(found[0].time().to_string(), "2026-11-22T15:19:59Z");
        assert_eq!(record("x").time(), record("x").at);
    }

    #[test]
    fn what_is_missing_is_told_as_exactly_as_it_is_known() {
        let words = |lines, bytes, more| missing_words(&Missing { lines, bytes, more });
        assert_eq!(words(1, 10, false), "1 line (10 B of log files)");
        assert_eq!(words(3, 2048, true), "at least 3 lines (2.0 KiB of log files and more)");
        assert_eq!(words(0, 0, true), "an unknown number of lines, whose files were removed");
    }
}
