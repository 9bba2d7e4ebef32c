//! Files of `NAME=value` lines, as `env_file` names them.
//!
//! ```text
//! # a comment
//! NAME=value              everything to the end of the line, blanks at both ends dropped; ` #` begins a comment
//! export NAME=value       the same
//! NAME='as it stands'     until the next '
//! NAME="with \n \" \\ \$" escapes; either kind of quote may span lines
//! ```
//! Nothing is expanded: `$` is a character like any other.

use std::path::{Path, PathBuf};

use crate::nested::bad_variable_name;
use crate::read::shown;

/// A line of an environment file that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}:{line}: {reason}", .file.display())]
pub struct EnvFileError {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: u32,
    /// What is wrong with it, and what belongs there.
    pub reason: String,
}

/// Reads the variables of a file, in its order; a name may come more than once, and the last one counts. Stops at the
/// first error: a file that is half understood sets half an environment.
pub fn parse_env_file(text: &str, file: &Path) -> Result<Vec<(String, String)>, EnvFileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Vec::new();
    let mut scanner = Scanner { rest: text, line: 1 };
    loop {
        match scanner.next_variable() {
            Ok(Some(variable)) => variables.push(variable),
            Ok(None) => return Ok(variables),
            Err(reason) => {
                return Err(EnvFileError { file: file.to_owned(), line: scanner.line, reason });
            }
        }
    }
}

struct Scanner<'t> {
    rest: &'t str,
    /// The line in which `rest` begins, counted from 1.
    line: u32,
}

impl<'t> Scanner<'t> {
    /// The next variable; `None` at the end. After an error `line` is the line to blame.
    fn next_variable(&mut self) -> Result<Option<(String, String)>, String> {
        loop {
            if self.rest.is_empty() {
                return Ok(None);
            }
            let line = self.rest.split('\n').next().unwrap_or_default();
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                self.advance(line.len() + 1);
                continue;
            }
            return self.variable(line).map(Some);
        }
    }

    fn variable(&mut self, line: &'t str) -> Result<(String, String), String> {
        let Some((name, after)) = line.split_once('=') else {
            return Err(format!("\"{}\" is no NAME=value; a comment begins with #", shown(line.trim())));
        };
        let name = name.trim();
        let name = match name.strip_prefix("export") {
            Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
            _ => name,
        };
        if let Some(why) = bad_variable_name(name) {
            return Err(format!("\"{}\" is no name of a variable: {why}", shown(name)));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!("\"{}\" is no name of a variable: it holds a blank", shown(name)));
        }
        let name = name.to_owned();
        self.advance(line.len() - after.len());
        let blanks = after.len() - after.trim_start_matches([' ', '\t']).len();
        self.advance(blanks);
        let value = match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
            _ => self.plain(),
        };
        if value.contains('\0') {
            return Err(format!(
                "the value of `{}` holds a NUL character, which no program can be given",
                shown(&name)
            ));
        }
        Ok((name, value))
    }

    /// The value up to the end of the line or to a comment.
    fn plain(&mut self) -> String {
        let line = self.rest.split('\n').next().unwrap_or_default();
        let comment =
            if line.starts_with('#') { Some(0) } else { line.find(" #").or_else(|| line.find("\t#")) };
        let value = line[..comment.unwrap_or(line.len())].trim().to_owned();
        self.advance(line.len() + 1);
        value
    }

    /// The value between quotes, and the rest of the line, which may only hold a comment.
    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut value = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        let end = loop {
            let Some((at, c)) = chars.next() else {
                return Err(format!("the quote {quote} is not closed"));
            };
            match c {
                c if c == quote => break at + 1,
                '\\' if quote == '"' => match chars.next().map(|(_, c)| c) {
                    Some('n') => value.push('\n'),
                    Some('r') => value.push('\r'),
                    Some('t') => value.push('\t'),
                    // A shell's escapes; a line break after the backslash joins two lines.
                    Some(c @ ('"' | '\\' | '$' | '`' | '\'')) => value.push(c),
                    Some('\n') => {}
                    Some(c) => {
                        return Err(format!(
                            "\\{} is no escape: use \\n \\r \\t \\\" \\\\ \\$",
                            c.escape_debug()
                        ));
                    }
                    None => return Err(format!("the quote {quote} is not closed")),
                },
                c => value.push(c),
            }
        };
        self.advance(end);
        let after = self.rest.split('\n').next().unwrap_or_default();
        let trimmed = after.trim();
        if !trimmed.is_empty() && !trimmed.starts_with('#') {
            return Err(format!("\"{}\" follows the closing quote; only a comment may", shown(trimmed)));
        }
        self.advance(after.len() + 1);
        Ok(value)
    }

    fn advance(&mut self, bytes: usize) {
        let bytes = bytes.min(self.rest.len());
        let (passed, rest) = self.rest.split_at(bytes);
        let breaks = passed.bytes().filter(|byte| *byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX));
        self.rest = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, (u32, String)> {
        parse_env_file(text, Path::new(".env")).map_err(|error| (error.line, error.reason))
    }

    #[test]
    fn reads_what_env_files_hold() {
        for (text, value) in [
            ("A=b", "b"),
            ("\u{feff}A=b", "b"),
            ("  A = b c \r\n", "b c"),
            ("export A=b", "b"),
            ("export\tA=b", "b"),
            ("A=", ""),
            ("A=b # comment", "b"),
            ("A=b#c", "b#c"),
            ("A=#c", ""),
            ("A='b \\n # c'", "b \\n # c"),
            ("A=\"b\\n\\\"\\\\\\$C\" # comment", "b\n\"\\$C"),
            ("A=\"b\nc\"", "b\nc"),
            ("A=\"b\\\nc\"", "bc"),
            ("A=$HOME ${X}", "$HOME ${X}"),
            ("A=b=c", "b=c"),
            ("A=\"\"", ""),
            ("# comment\n\n  # another\nA=b\n", "b"),
        ] {
            assert_eq!(read(text), Ok(vec![("A".to_owned(), value.to_owned())]), "{text:?}");
        }
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("exportA=1\nB=2").unwrap()[0].0, "exportA");
    }

    #[test]
    fn errors_name_their_line() {
        for (text, line, reason) in [
            ("A=1\nB\n", 2, "\"B\" is no NAME=value; a comment begins with #"),
            ("=1", 1, "\"\" is no name of a variable: it is empty"),
            ("A B=1", 1, "\"A B\" is no name of a variable: it holds a blank"),
            ("A='1\n\n", 1, "the quote ' is not closed"),
            ("A=\"x\ny\"\nB='1' 2\n", 3, "\"2\" follows the closing quote; only a comment may"),
            ("A=\"\\q\"", 1, "\\q is no escape: use \\n \\r \\t \\\" \\\\ \\$"),
            ("A=\0", 1, "the value of `A` holds a NUL character, which no program can be given"),
        ] {
            assert_eq!(read(text), Err((line, reason.to_owned())), "{text:?}");
        }
        let error = parse_env_file("x", Path::new("/srv/.env")).unwrap_err();
        assert!(error.to_string().starts_with("/srv/.env:1: "), "{error}");
    }
}
