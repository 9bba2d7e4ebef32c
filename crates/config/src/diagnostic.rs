//! What is wrong with a file: each error with its cause, its place and the next step, for people and for `--json`.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::render;

/// Errors reported for one file. A broken file can hold as many errors as it has bytes; past this number nobody reads
/// on, and the rest is only counted.
pub const MAX_DIAGNOSTICS: usize = 100;

/// The cause codes of the file, as `doctor` names them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConfigCause {
    /// Not TOML, not UTF-8, or too large.
    Syntax,
    /// No such key here.
    UnknownKey,
    /// Wrong type, unit or range, keys that exclude each other, a missing key, or one that is not supported yet.
    InvalidValue,
    /// `${NAME}` without a value.
    MissingVariable,
    /// Services wait for each other.
    DependencyCycle,
    /// A gate names a service that is not there.
    UnknownService,
}

impl ConfigCause {
    /// All causes.
    pub const ALL: [Self; 6] = [
        Self::Syntax,
        Self::UnknownKey,
        Self::InvalidValue,
        Self::MissingVariable,
        Self::DependencyCycle,
        Self::UnknownService,
    ];

    /// The code users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "config-syntax",
            Self::UnknownKey => "config-unknown-key",
            Self::InvalidValue => "config-invalid-value",
            Self::MissingVariable => "config-missing-variable",
            Self::DependencyCycle => "config-dependency-cycle",
            Self::UnknownService => "config-unknown-service",
        }
    }
}

impl fmt::Display for ConfigCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One error of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// The cause code.
    pub cause: ConfigCause,
    /// What is wrong, one sentence in lower case.
    pub message: String,
    /// Counted from 1.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
    /// The bytes of [`Diagnostics::text`] it is about; may be empty at the place where something is missing.
    pub span: Range<usize>,
    /// What is accepted, the nearest name, or the next step.
    pub help: Option<String>,
    /// The service whose table it is in.
    pub service: Option<String>,
}

/// All errors of one file, in the order of the file. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostics {
    /// The file.
    pub file: PathBuf,
    /// Its text, as far as it is text; spans count its bytes.
    pub text: String,
    /// The errors, by position; at most [`MAX_DIAGNOSTICS`].
    pub list: Vec<Diagnostic>,
    /// Errors found beyond [`MAX_DIAGNOSTICS`] and not kept.
    pub omitted: usize,
}

impl Diagnostics {
    /// One error about the whole of a file whose text cannot be used.
    pub(crate) fn whole_file(
        file: &Path,
        text: String,
        span: Range<usize>,
        message: String,
        help: &str,
    ) -> Self {
        let (line, column) = Lines::new(&text).position(&text, span.start);
        let diagnostic = Diagnostic {
            cause: ConfigCause::Syntax,
            message,
            line,
            column,
            span,
            help: Some(help.to_owned()),
            service: None,
        };
        Self { file: file.to_owned(), text, list: vec![diagnostic], omitted: 0 }
    }

    /// Every error as a block: what, where with its line and a caret, and the help. Ends without a line break.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        render::render(self, color)
    }
}

impl fmt::Display for Diagnostics {
    /// One line an error: `mainstay.toml:3:1: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let Diagnostic { line, column, message, .. } = diagnostic;
            write!(f, "{}:{line}:{column}: {message}", self.file.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Collects errors while the file is read; positions are added at the end.
#[derive(Default)]
pub(crate) struct Collector {
    found: Vec<Found>,
    omitted: usize,
}

/// An error before it is placed.
pub(crate) struct Found {
    cause: ConfigCause,
    message: String,
    span: Range<usize>,
    help: Option<String>,
    service: Option<String>,
    /// Says, or follows from it, that something is not there: not to be believed when a part of the file is broken.
    absence: bool,
}

impl Found {
    pub(crate) fn new(cause: ConfigCause, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), span, help: None, service: None, absence: false }
    }

    pub(crate) fn invalid(span: Range<usize>, message: impl Into<String>) -> Self {
        Self::new(ConfigCause::InvalidValue, span, message)
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn service(mut self, service: Option<&str>) -> Self {
        self.service = service.map(str::to_owned);
        self
    }

    pub(crate) fn absence(mut self) -> Self {
        self.absence = true;
        self
    }

    pub(crate) fn is_absence(&self) -> bool {
        self.absence
    }

    pub(crate) fn span(&self) -> &Range<usize> {
        &self.span
    }
}

impl Collector {
    pub(crate) fn push(&mut self, found: Found) {
        // A margin over the limit, because broken syntax makes some of them fall away again.
        if self.found.len() < 2 * MAX_DIAGNOSTICS {
            self.found.push(found);
        } else {
            self.omitted += 1;
        }
    }

    /// Whether further errors are only counted: the costly part of an error, such as the nearest name, can be saved.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= 2 * MAX_DIAGNOSTICS
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&Found) -> bool) {
        self.found.retain(keep);
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.omitted += other.omitted;
        self.found.extend(other.found);
    }

    /// The errors in the order of the file, placed; `None` when there are none.
    pub(crate) fn into_diagnostics(mut self, file: &Path, text: &str) -> Option<Diagnostics> {
        if self.found.is_empty() {
            return None;
        }
        self.found.sort_by_key(|found| (found.span.start, found.cause));
        let omitted = self.omitted + self.found.len().saturating_sub(MAX_DIAGNOSTICS);
        self.found.truncate(MAX_DIAGNOSTICS);
        let lines = Lines::new(text);
        let place = |found: Found| {
            let (line, column) = lines.position(text, found.span.start);
            let Found { cause, message, span, help, service, absence: _ } = found;
            Diagnostic { cause, message, line, column, span, help, service }
        };
        let list = self.found.into_iter().map(place).collect();
        Some(Diagnostics { file: file.to_owned(), text: text.to_owned(), list, omitted })
    }
}

/// Where each line of a text begins, for positions in logarithmic time.
pub(crate) struct Lines {
    /// Byte offsets of the first byte of each line, growing, the first one 0.
    starts: Vec<usize>,
}

impl Lines {
    pub(crate) fn new(text: &str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// The index of the line that holds the byte, counted from 0.
    pub(crate) fn index(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// Line and column of a byte, both counted from 1, the column in characters.
    pub(crate) fn position(&self, text: &str, offset: usize) -> (u32, u32) {
        let index = self.index(offset);
        let before = text.get(self.starts[index]..offset).map_or(0, |before| before.chars().count());
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        (number(index + 1), number(before + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "ä = 1\n\nxy";
        let lines = Lines::new(text);
        for (offset, position) in
            [(0, (1, 1)), (2, (1, 2)), (6, (1, 6)), (7, (2, 1)), (8, (3, 1)), (10, (3, 3)), (99, (3, 1))]
        {
            assert_eq!(lines.position(text, offset), position, "{offset}");
        }
    }

    #[test]
    fn errors_beyond_the_limit_are_counted() {
        let mut collector = Collector::default();
        for _ in 0..1000 {
            collector.push(Found::invalid(0..0, "x"));
        }
        let diagnostics = collector.into_diagnostics(Path::new("f"), "").unwrap();
        assert_eq!((diagnostics.list.len(), diagnostics.omitted), (MAX_DIAGNOSTICS, 1000 - MAX_DIAGNOSTICS));
    }
}
