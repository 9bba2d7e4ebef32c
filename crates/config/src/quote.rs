//! Texts as TOML writes them.

use std::fmt::Write as _;

/// A text as a TOML basic string (TOML 1.0, "String"), on one line.
pub(crate) fn toml_text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            // TOML allows no other control character unescaped; writing to a String cannot fail.
            c if c.is_control() => _ = write!(quoted, "\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A text as a value of `mainstay.toml` that stands for exactly itself: `${` does not begin a variable.
pub(crate) fn literal_text(text: &str) -> String {
    toml_text(&text.replace("${", "$${"))
}
