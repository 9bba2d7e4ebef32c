//! What a line says of itself: how serious it is, and when it was written; pure.
//!
//! Programs say it in many ways. Four are told apart, by how the line begins:
//!
//! | form | begins with | of what is read |
//! |---|---|---|
//! | `json` | `{` | the keys that loggers use for level and time, at the top or one below |
//! | `logfmt` | `word=` | the same keys |
//! | `text` | a priority `<N>`, a time, a level, a name | what stands in front of the message: never the message itself |
//! | `text` | words with which runtimes report the end of a program | an error, or worse |
//!
//! A word counts only where a logger puts it, so that "no errors found" is no error. What is not sure is not said. A time
//! counts only if it names its zone: what time `15:20:01` means, only the program knows.

mod json;

mod logfmt;

mod text;

mod time;

mod words;

#[cfg(test)]
mod tests;

use mainstay_types::{Level, Timestamp};

/// Bytes of a line that are looked at; what loggers put in front of a message is far shorter, and JSON may have its level
/// last.
const LOOKED_AT_BYTES: usize = 64 * 1024;

/// Lines that can go with one message: more than any trace has.
pub(crate) const MOST_LINES_OF_A_MESSAGE: usize = 1000;

/// What a line says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// How serious it is.
    pub level: Option<Level>,
    /// When the program says it wrote it.
    pub at: Option<Timestamp>,
}

/// Reads what a line says of itself; the line as it was written, without its newline.
#[must_use]
pub fn facts(text: &[u8]) -> Facts {
    let Head { level, at, .. } = head(text);
    Facts { level, at }
}

/// What stands in front of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Head {
    pub(crate) level: Option<Level>,
    pub(crate) at: Option<Timestamp>,
    /// It begins with a time, though perhaps without a zone.
    pub(crate) timed: bool,
    /// It says more about the message before it, and nothing new.
    pub(crate) continues: bool,
    /// It is a whole message, JSON or logfmt: no line behind it is part of it.
    pub(crate) whole: bool,
}

/// Reads what stands in front of the message.
pub(crate) fn head(text: &[u8]) -> Head {
    let text = &text[..text.len().min(LOOKED_AT_BYTES)];
    let trimmed = text.trim_ascii_start();
    match trimmed.first() {
        None => Head { continues: true, ..Head::default() },
        Some(b'{') => json::head(trimmed).unwrap_or_else(|| text::head(text)),
        Some(_) => logfmt::head(trimmed).unwrap_or_else(|| text::head(text)),
    }
}

/// Gives lines without a level that of the line they go with: a stack trace is part of its error.
///
/// Such a line has neither level nor time, and either begins with a blank or follows a line that has both. A line of the
/// other stream between the two does not matter. Fed with all lines of one file, in order.
/// After [`MOST_LINES_OF_A_MESSAGE`] such lines it is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Levels {
    before: [Before; 2],
}

#[derive(Clone, Copy, Debug, Default)]
struct Before {
    level: Option<Level>,
    timed: bool,
    /// Lines that went with it.
    lines: usize,
}

impl Levels {
    /// The level of the next line, its own or that of the line it goes with.
    pub(crate) fn next(&mut self, stream: crate::Stream, text: &[u8]) -> Option<Level> {
        let before = &mut self.before[stream.index()];
        let head = head(text);
        match belongs(head, text) {
            Belongs::Itself => *before = Before { level: head.level, timed: head.timed, lines: 0 },
            Belongs::ToTheLineBefore | Belongs::ToATimedLineBefore
                if before.lines == MOST_LINES_OF_A_MESSAGE =>
            {
                *before = Before::default();
            }
            Belongs::ToTheLineBefore => before.lines += 1,
            // A line without a time, after one that has one, is more of it; else it is a message of its own.
            Belongs::ToATimedLineBefore if before.timed => before.lines += 1,
            Belongs::ToATimedLineBefore => *before = Before::default(),
        }
        before.level
    }
}

/// What a line goes with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Belongs {
    /// It is a message.
    Itself,
    /// It is more of the message before it.
    ToTheLineBefore,
    /// It is more of the message before it if that has a time.
    ToATimedLineBefore,
}

/// Whether a line is a message, or more of the one before it.
pub(crate) fn is_message(text: &[u8]) -> bool {
    belongs(head(text), text) == Belongs::Itself
}

fn belongs(head: Head, text: &[u8]) -> Belongs {
    if head.continues {
        Belongs::ToTheLineBefore
    } else if head.level.is_some() || head.timed || head.whole {
        Belongs::Itself
    } else if text.first().is_none_or(|byte| matches!(byte, b' ' | b'\t')) {
        Belongs::ToTheLineBefore
    } else {
        Belongs::ToATimedLineBefore
    }
}
