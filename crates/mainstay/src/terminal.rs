//! How things look: colours by meaning, and a colour of its own for each service.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use mainstay_types::{Level, State};

/// Text of less weight.
pub(crate) const DIM: Style = Style::new().dimmed();
/// Headings.
pub(crate) const BOLD: Style = Style::new().bold();
/// Bad news.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// News to look at.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
/// Good news.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();

/// The colours of services, in their order; the seventh service has the first one's again.
const SERVICE_COLORS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::Yellow,
    AnsiColor::Green,
    AnsiColor::BrightCyan,
];

/// The colour of the service at this place of the stack.
pub(crate) fn service_style(place: usize) -> Style {
    SERVICE_COLORS[place % SERVICE_COLORS.len()].on_default()
}

/// The colour of a state.
pub(crate) fn state_style(state: State) -> Style {
    match state {
        State::Ready | State::Completed => GOOD,
        State::Waiting | State::Starting | State::Stopping | State::Unready | State::Backoff => WARN,
        State::Failed => BAD,
        State::Stopped => DIM,
    }
}

/// The colour of a line this serious.
fn level_style(level: Level) -> Style {
    match level {
        Level::Trace | Level::Debug => DIM,
        Level::Info => Style::new(),
        Level::Warn => WARN,
        Level::Error => AnsiColor::Red.on_default(),
        Level::Fatal => BAD,
    }
}

/// Whether standard output shows colours.
pub(crate) fn has_colors() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// A program's line as a terminal shows it: safe, and where there are colours in that of its level, unless it has colours
/// of its own.
pub(crate) fn program_line(bytes: &[u8], colored: bool) -> String {
    let text = printable(bytes);
    if !colored {
        return text;
    }
    match mainstay_logs::facts(bytes).level.map(level_style) {
        Some(style) if style != Style::new() && !text.contains('\u{1b}') => paint(style, &text),
        Some(_) | None => text,
    }
}

/// Puts `text` into `style`; the stream it is printed to takes the codes out again where there are no colours.
pub(crate) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Columns and lines of the terminal that standard output is; `None` when it is none.
pub(crate) fn size() -> Option<(usize, usize)> {
    let (width, height) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some((usize::from(width.0), usize::from(height.0)))
}

/// Prints text to standard output; false when nobody reads any more, which is no error of ours.
pub(crate) fn print(text: &str) -> bool {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// A program's line made safe for a terminal: control characters other than tab are shown as `\x1b` and the like, and
/// bytes that are no UTF-8 as U+FFFD. Colour sequences (`ESC [ ... m`) stay, closed at the end of the line.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return text.into_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    let mut colored = false;
    let mut rest = text.as_ref();
    while let Some(c) = rest.chars().next() {
        if let Some(length) = color_sequence(rest) {
            out.push_str(&rest[..length]);
            colored = true;
            rest = &rest[length..];
            continue;
        }
        if c == '\r' && rest.len() == 1 {
            // The end of a line written for Windows.
        } else if c.is_control() && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    if colored {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// The length of the colour sequence the text begins with (ECMA-48 SGR).
fn color_sequence(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':'))?;
    parameters[end..].starts_with('m').then_some(2 + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_colour_of_its_level_or_its_own() {
        assert_eq!(program_line(b"ERROR: x", true), "\u{1b}[31mERROR: x\u{1b}[0m");
        assert_eq!(program_line(b"ERROR: x", false), "ERROR: x");
        assert_eq!(program_line(b"no error", true), "no error");
        assert_eq!(program_line(b"INFO: x", true), "INFO: x");
        assert_eq!(program_line(b"\x1b[32mERROR\x1b[0m: x", true), "\u{1b}[32mERROR\u{1b}[0m: x\u{1b}[0m");
    }

    #[test]
    fn a_program_cannot_drive_the_terminal() {
        assert_eq!(printable(b"plain\ttext"), "plain\ttext");
        assert_eq!(printable(b"a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(printable(b"\x1b[31mred"), "\u{1b}[31mred\u{1b}[0m");
        assert_eq!(printable(b"dos\r"), "dos");
        assert_eq!(printable(b"\xff\x00"), "\u{fffd}\\u{0}");
        assert_eq!(printable(b"\x1b[31"), "\\u{1b}[31");
    }
}
