//! Parts of lines put together again; pure.

use mainstay_types::{ReplicaId, Timestamp};

use crate::record::{Record, parse};
use crate::{LogLine, Stream};

/// Puts the records of one file, given in order, together to lines.
#[derive(Clone)]
pub(super) struct Joiner {
    replica: ReplicaId,
    /// Bytes of text a line may have.
    limit: usize,
    overflow: Overflow,
    /// What there is of each stream's unfinished line.
    open: [Option<Open>; 2],
    /// The time of the last record: a line that is no record takes it.
    last_at: Timestamp,
}

/// What happens to a line longer than the limit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// It comes out in pieces.
    Split,
    /// Its rest is dropped.
    Cut,
}

#[derive(Clone)]
struct Open {
    at: Timestamp,
    text: Vec<u8>,
    /// Something was dropped.
    cut: bool,
}

impl Joiner {
    /// `first_at` is the time of lines before the first record.
    pub(super) const fn new(
        replica: ReplicaId,
        limit: usize,
        overflow: Overflow,
        first_at: Timestamp,
    ) -> Self {
        Self { replica, limit, overflow, open: [None, None], last_at: first_at }
    }

    /// The time of the last record.
    pub(super) const fn last_at(&self) -> Timestamp {
        self.last_at
    }

    /// Passes a record that is not wanted.
    pub(super) const fn pass(&mut self, at: Timestamp) {
        self.last_at = at;
    }

    /// Whether a line of either stream is unfinished.
    pub(super) const fn is_open(&self) -> bool {
        self.open[0].is_some() || self.open[1].is_some()
    }

    /// Takes a line of the file.
    pub(super) fn push_line(
        &mut self,
        line: &[u8],
        wanted: impl Fn(Stream) -> bool,
        mut emit: impl FnMut(LogLine),
    ) {
        match parse(line) {
            Some(record) => {
                self.last_at = record.at;
                if wanted(record.stream) {
                    self.push(record, &mut emit);
                }
            }
            None if wanted(Stream::Stdout) => {
                let kept = self.kept(line.len());
                emit(LogLine {
                    at: self.last_at,
                    replica: self.replica.clone(),
                    stream: Stream::Stdout,
                    partial: kept < line.len(),
                    text: line[..kept].to_vec(),
                });
            }
            None => {}
        }
    }

    fn kept(&self, length: usize) -> usize {
        match self.overflow {
            Overflow::Split => length,
            Overflow::Cut => length.min(self.limit),
        }
    }

    fn push(&mut self, record: Record<'_>, emit: &mut impl FnMut(LogLine)) {
        let open = self.open[record.stream.index()].take();
        if open.is_none() && !record.partial {
            // The common case: a line in one record.
            let kept = self.kept(record.text.len());
            emit(self.line(record.at, record.stream, kept < record.text.len(), record.text[..kept].to_vec()));
            return;
        }
        let mut open = open.unwrap_or(Open { at: record.at, text: Vec::new(), cut: false });
        open.at = record.at;
        let room = self.limit.saturating_sub(open.text.len());
        if record.text.len() > room {
            match self.overflow {
                Overflow::Cut => open.cut = true,
                Overflow::Split => {
                    let text = std::mem::take(&mut open.text);
                    if !text.is_empty() {
                        emit(self.line(open.at, record.stream, true, text));
                    }
                }
            }
        }
        let kept = match self.overflow {
            Overflow::Split => record.text.len(),
            Overflow::Cut => record.text.len().min(room),
        };
        open.text.extend_from_slice(&record.text[..kept]);
        if record.partial {
            self.open[record.stream.index()] = Some(open);
        } else {
            emit(self.line(open.at, record.stream, open.cut, open.text));
        }
    }

    /// The file is at its end: what is unfinished comes out as it is.
    pub(super) fn finish(&mut self, mut emit: impl FnMut(LogLine)) {
        let mut left: Vec<_> = Stream::ALL
            .into_iter()
            .filter_map(|stream| self.open[stream.index()].take().map(|open| (stream, open)))
            .collect();
        left.sort_by_key(|(_, open)| open.at);
        for (stream, open) in left {
            emit(self.line(open.at, stream, true, open.text));
        }
    }

    fn line(&self, at: Timestamp, stream: Stream, partial: bool, text: Vec<u8>) -> LogLine {
        LogLine { at, replica: self.replica.clone(), stream, partial, text }
    }
}

#[cfg(test)]
mod tests {
    use mainstay_types::ServiceName;

    use super::*;

    fn join(lines: &[&str], limit: usize, overflow: Overflow) -> Vec<(String, bool, i64)> {
        let replica = ReplicaId { service: ServiceName::parse("web").unwrap(), index: 0 };
        let mut joiner = Joiner::new(replica, limit, overflow, Timestamp::UNIX_EPOCH);
        let mut out = Vec::new();
        for (second, line) in lines.iter().enumerate() {
            let line = if let Some(text) = line.strip_prefix('!') {
                text.to_owned()
            } else {
                format!("1970-01-01T00:00:{:02}.000000000Z {line}", second + 1)
            };
            joiner.push_line(line.as_bytes(), |_| true, |line| out.push(line));
        }
        joiner.finish(|line| out.push(line));
        out.into_iter()
            .map(|line| (String::from_utf8(line.text).unwrap(), line.partial, line.at.as_second()))
            .collect()
    }

    fn owned(lines: &[(&str, bool, i64)]) -> Vec<(String, bool, i64)> {
        lines.iter().map(|(text, partial, at)| ((*text).to_owned(), *partial, *at)).collect()
    }

    #[test]
    fn parts_join_across_the_other_stream_and_foreign_lines() {
        let lines = ["stdout P ab", "stderr F x", "!what?", "stdout P cd", "stdout F ", "stderr P tail"];
        assert_eq!(
            join(&lines, 100, Overflow::Split),
            owned(&[("x", false, 2), ("what?", false, 2), ("abcd", false, 5), ("tail", true, 6)])
        );
    }

    #[test]
    fn a_line_beyond_the_limit_is_split_or_cut() {
        let lines = ["stdout P abc", "stdout P def", "stdout F g"];
        assert_eq!(join(&lines, 4, Overflow::Split), owned(&[("abc", true, 2), ("defg", false, 3)]));
        assert_eq!(join(&lines, 4, Overflow::Cut), owned(&[("abcd", true, 3)]));
        assert_eq!(join(&["stdout F abcdef"], 4, Overflow::Cut), owned(&[("abcd", true, 1)]));
    }
}
