//! TOML errors in the words of this file's user, and what of the file can still be trusted after them.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, Error};

use crate::diagnostic::{Collector, ConfigCause, Found, Lines};
use crate::quote::toml_text;
use crate::read::shown;

/// The tables of a text, with its syntax errors reported as far as they are causes and not consequences.
pub(crate) struct Parsed<'t> {
    pub(crate) root: Spanned<DeTable<'t>>,
    trust: Trust,
}

/// Which later errors would be true even though the text is broken.
struct Trust {
    /// From this byte on, values may have ended up in the wrong place.
    until: usize,
    /// Lines whose value is not what the user meant, counted from 0.
    broken_lines: Vec<usize>,
}

/// Parses the text. Reports one syntax error a line, and stops at the first one the parser does not recover from.
pub(crate) fn parse<'t>(text: &'t str, lines: &Lines, collector: &mut Collector) -> Parsed<'t> {
    let (root, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| start_of(error, text));
    let mut trust = Trust { until: text.len(), broken_lines: Vec::new() };
    for error in &errors {
        let start = start_of(error, text);
        let line = lines.index(start);
        if trust.broken_lines.contains(&line) {
            continue;
        }
        collector.push(explain(error, text));
        if is_duplicate(error) {
            // Everything is where it belongs; the first of the two was kept.
            continue;
        }
        trust.broken_lines.push(line);
        if !stays_in_its_line(error.message()) || collector.is_full() {
            trust.until = start;
            break;
        }
    }
    trust.broken_lines.sort_unstable();
    Parsed { root, trust }
}

impl Parsed<'_> {
    /// Whether an error found while reading the tables is the user's and not a consequence of a syntax error.
    pub(crate) fn is_believable(&self, found: &Found, lines: &Lines, text: &str) -> bool {
        let Trust { until, broken_lines } = &self.trust;
        let whole = *until == text.len() && broken_lines.is_empty();
        whole
            || !found.is_absence()
                && found.span().start < *until
                && !found.span().is_empty()
                && broken_lines.binary_search(&lines.index(found.span().start)).is_err()
    }
}

fn start_of(error: &Error, text: &str) -> usize {
    error.span().map_or(text.len(), |span| span.start)
}

fn is_duplicate(error: &Error) -> bool {
    error.message().starts_with("duplicate key")
}

/// Errors inside one value after which the parser goes on correctly in the next line.
fn stays_in_its_line(message: &str) -> bool {
    const LOCAL: [&str; 10] = [
        "string values must be quoted",
        "invalid boolean",
        "invalid basic string",
        "invalid literal string",
        "missing escaped value",
        "invalid mantissa",
        "invalid fraction",
        "invalid exponent",
        "invalid float",
        "invalid integer",
    ];
    LOCAL.iter().any(|local| message.starts_with(local))
}

fn explain(error: &Error, text: &str) -> Found {
    let span = error.span().map_or(text.len()..text.len(), |span| inside(span, text));
    let line_start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[line_start..].find('\n').map_or(text.len(), |at| line_start + at);
    let line = text[line_start..line_end].trim_end();
    let syntax = |span: Range<usize>, message: String| Found::new(ConfigCause::Syntax, span, message);
    if is_duplicate(error) {
        let key = shown(text.get(span.clone()).unwrap_or_default());
        let help = "keep one of them; a table [...] is opened once as well";
        return syntax(span, format!("`{key}` is here a second time")).help(help);
    }
    if let Some((at, value)) = unquoted_value(line) {
        let start = line_start + at;
        if value.is_empty() {
            return syntax(start..start, "a value is missing after `=`".to_owned());
        }
        let plain = value.replace(['“', '”', '„', '‘', '’'], "");
        let message = if plain.len() < value.len() {
            "typographic quotes are no quotes in TOML"
        } else {
            "a text must be in quotes"
        };
        return syntax(start..start + value.len(), message.to_owned())
            .help(format!("write {}", toml_text(&plain)));
    }
    let message = error.message();
    let help = if message.starts_with("invalid basic string") {
        Some("close the text with a double quote on the same line")
    } else if message.starts_with("missing escaped value") {
        Some("in double quotes write \\\\ for a backslash; in single quotes everything stands for itself")
    } else if message.starts_with("missing comma") || message.starts_with("unclosed array") {
        Some("is the list or table before it closed with `]` or `}`?")
    } else if message.starts_with("key with no value") {
        Some("write KEY = VALUE; a key with other characters than A-Z a-z 0-9 - _ is written in quotes")
    } else {
        None
    };
    let found = syntax(span, message.to_owned());
    match help {
        Some(help) => found.help(help),
        None => found,
    }
}

/// The value of a `key = value` line, when it begins like no value of TOML does; with its offset in the line.
fn unquoted_value(line: &str) -> Option<(usize, &str)> {
    let (key, rest) = line.split_once('=')?;
    let is_key =
        !key.trim().is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || " \t-_.\"'".contains(c));
    let rest = rest.find(" #").map_or(rest, |comment| &rest[..comment]);
    let value = rest.trim();
    let at = key.len() + 1 + (rest.len() - rest.trim_start().len());
    let first = value.chars().next();
    let like_text = |c: char| c.is_alphabetic() || "./~$“”„‘’".contains(c);
    let like_amount =
        first.is_some_and(|c| c.is_ascii_digit()) && value.ends_with(|c: char| c.is_ascii_alphabetic());
    let unquoted = first.is_none_or(like_text) || like_amount;
    let one_value = !value.contains(['"', '\'', '[', ']', '{', '}', '=', ',']);
    (is_key && unquoted && one_value).then_some((at, value))
}

/// The span, moved onto character boundaries inside the text.
fn inside(span: Range<usize>, text: &str) -> Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}
