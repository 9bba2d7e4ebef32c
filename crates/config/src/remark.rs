//! What others find out about a file that is valid in itself: shown at the key it is about, as errors of the file are.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Lines;
use crate::render;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// It will not run like that.
    Error,
    /// It runs, and something is not as it is written.
    Warning,
}

/// Something about a key of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remark {
    /// How bad it is.
    pub severity: Severity,
    /// The cause, as `doctor` names it, where there is a name for it.
    pub cause: Option<&'static str>,
    /// One sentence in lower case.
    pub message: String,
    /// The next step.
    pub help: Option<String>,
    /// The line of the place, counted from 1.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
    span: Range<usize>,
}

impl Remark {
    /// A remark on `key` of `service` in `text`: `user`, `limits.pids`, `needs.exec`. The nearest place there is when
    /// the key is not written, as when it is a default.
    #[must_use]
    pub fn new(text: &str, service: &str, key: &str, severity: Severity, message: String) -> Self {
        let span = place(text, service, key);
        let (line, column) = Lines::new(text).position(text, span.start);
        Self { severity, cause: None, message, help: None, line, column, span }
    }

    /// A remark on `key` of the target `target`, as [`Remark::new`].
    #[must_use]
    pub fn of_target(text: &str, target: &str, key: &str, severity: Severity, message: String) -> Self {
        let span = place_in(text, "forward", target, key);
        let (line, column) = Lines::new(text).position(text, span.start);
        Self { severity, cause: None, message, help: None, line, column, span }
    }

    /// The remark as a block: what, and where with its line and a caret. `text` is the one it was made for. Ends
    /// without a line break.
    #[must_use]
    pub fn render(&self, file: &Path, text: &str, color: bool) -> String {
        let Self { severity, cause, message, help, line, column: _, span } = self;
        let shown = render::Shown {
            error: *severity == Severity::Error,
            cause: *cause,
            message,
            help: help.as_deref(),
            line: *line,
            span,
        };
        render::render_one(&shown, file, text, color)
    }
}

/// Where the file speaks of it, as deep as it is written: the value of the key, else the table it would be in, else the
/// name of the service, else the beginning.
fn place(text: &str, service: &str, key: &str) -> Range<usize> {
    place_in(text, "service", service, key)
}

fn place_in(text: &str, table: &str, service: &str, key: &str) -> Range<usize> {
    let (root, _) = DeTable::parse_recoverable(text);
    let services = root.get_ref().get(table).and_then(|services| services.get_ref().as_table());
    let found = services.and_then(|services| services.iter().find(|(name, _)| name.get_ref() == service));
    let Some((name, mut at)) = found else { return 0..0 };
    let mut span = name.span();
    for part in key.split('.') {
        let Some((next, inner)) = entry(at.get_ref(), part) else { break };
        // A table under a header of its own has no place but its name.
        span = if inner.get_ref().is_table() { next } else { inner.span() };
        at = inner;
    }
    span
}

/// The key's place and value in a table, or in the first table of a list that has it.
fn entry<'v, 'd>(value: &'v DeValue<'d>, key: &str) -> Option<(Range<usize>, &'v Spanned<DeValue<'d>>)> {
    if let Some(table) = value.as_table() {
        let (name, inner) = table.iter().find(|(name, _)| name.get_ref() == key)?;
        return Some((name.span(), inner));
    }
    value.as_array()?.iter().find_map(|one| {
        let (name, inner) = one.get_ref().as_table()?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((name.span(), inner))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[service.web]\ncommand = \"./web\"\nneeds = [{ tcp = \"a:1\" }, { exec = [\"x\"] }]\n\
                        [service.web.limits]\npids = 5\n";

    #[test]
    fn the_place_is_as_deep_as_the_file_goes() {
        for (key, shown) in [
            ("command", "\"./web\""),
            ("needs.exec", "[\"x\"]"),
            ("limits.pids", "5"),
            ("limits.cpu", "limits"),
            ("user", "web"),
        ] {
            assert_eq!(&TEXT[place(TEXT, "web", key)], shown, "{key}");
        }
        assert_eq!(place(TEXT, "db", "user"), 0..0);
        assert_eq!(place("not = [toml", "db", "user"), 0..0);
    }

    #[test]
    fn a_remark_looks_like_an_error_of_the_file() {
        let mut remark =
            Remark::new(TEXT, "web", "limits.pids", Severity::Warning, "it is not held".to_owned());
        remark.help = Some("run it as root".to_owned());
        let text = remark.render(Path::new("a.toml"), TEXT, false);
        assert!(text.starts_with("warning: it is not held\n --> a.toml:5:8"), "{text}");
        assert!(text.contains("pids = 5") && text.ends_with("help: run it as root"), "{text}");
    }
}
