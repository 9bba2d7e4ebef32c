//! `${NAME}` and `${NAME:-default}` in texts; `$${` is a literal `${`.

use std::ops::Range;

/// A part of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Piece<'t> {
    /// The bytes of the text it comes from.
    pub(crate) range: Range<usize>,
    pub(crate) kind: PieceKind<'t>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PieceKind<'t> {
    /// As it stands.
    Literal(&'t str),
    /// To be replaced by a variable's value; the default also stands in for an empty value, as in a POSIX shell.
    Variable { name: &'t str, default: Option<&'t str> },
    /// Begins with `${` and is no variable; says why.
    Bad(&'static str),
}

/// Cuts a text into literals and variables.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut literal_start = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find('$') {
        let dollar = at + found;
        let rest = &text[dollar..];
        if rest.starts_with("$${") {
            // The first `$` is dropped, the second begins the next literal.
            push_literal(&mut pieces, text, literal_start..dollar);
            literal_start = dollar + 1;
            at = dollar + 3;
        } else if rest.starts_with("${") {
            push_literal(&mut pieces, text, literal_start..dollar);
            let (length, kind) = variable(rest);
            pieces.push(Piece { range: dollar..dollar + length, kind });
            at = dollar + length;
            literal_start = at;
        } else {
            at = dollar + 1;
        }
    }
    push_literal(&mut pieces, text, literal_start..text.len());
    pieces
}

fn push_literal<'t>(pieces: &mut Vec<Piece<'t>>, text: &'t str, range: Range<usize>) {
    if !range.is_empty() {
        pieces.push(Piece { kind: PieceKind::Literal(&text[range.clone()]), range });
    }
}

/// Reads the variable at the beginning of `text`, which starts with `${`; with the number of bytes it takes.
fn variable(text: &str) -> (usize, PieceKind<'_>) {
    let Some(close) = text.find('}') else {
        return (text.len(), PieceKind::Bad("`${` has no closing `}`"));
    };
    let inner = &text[2..close];
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let kind = if default.is_some_and(|default| default.contains("${")) {
        PieceKind::Bad("a default cannot hold another `${...}`")
    } else if is_variable_name(name) {
        PieceKind::Variable { name, default }
    } else if name.is_empty() {
        PieceKind::Bad("`${}` names no variable")
    } else {
        PieceKind::Bad("a variable's name is made of letters, digits and `_`, and begins with no digit")
    };
    (close + 1, kind)
}

/// Whether a text can stand in `${...}` (POSIX.1-2024, 3.216: Name).
fn is_variable_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use PieceKind::{Bad, Literal, Variable};

    fn kinds(text: &str) -> Vec<PieceKind<'_>> {
        pieces(text).into_iter().map(|piece| piece.kind).collect()
    }

    #[test]
    fn variables_defaults_and_literals_are_told_apart() {
        let named = |name| Variable { name, default: None };
        for (text, want) in [
            ("", vec![]),
            ("plain $HOME $", vec![Literal("plain $HOME $")]),
            ("${A}", vec![named("A")]),
            ("x${A_1}y", vec![Literal("x"), named("A_1"), Literal("y")]),
            ("${A:-}", vec![Variable { name: "A", default: Some("") }]),
            ("${A:-b c}", vec![Variable { name: "A", default: Some("b c") }]),
            ("$${A}", vec![Literal("${A}")]),
            ("a$${A}${B}", vec![Literal("a"), Literal("${A}"), named("B")]),
            ("$$${A}", vec![Literal("$"), Literal("${A}")]),
            ("é${A}é", vec![Literal("é"), named("A"), Literal("é")]),
        ] {
            assert_eq!(kinds(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_variable_says_why() {
        for text in ["${}", "${A", "${1A}", "${A-b}", "${A:-${B}}", "${ A }", "${é}"] {
            assert!(matches!(kinds(text)[0], Bad(_)), "{text}");
        }
    }

    #[test]
    fn ranges_cover_the_variable() {
        let text = "ab${C}$${D}${E:-f}";
        let ranges: Vec<_> = pieces(text)
            .into_iter()
            .filter(|piece| matches!(piece.kind, Variable { .. }))
            .map(|piece| &text[piece.range])
            .collect();
        assert_eq!(ranges, ["${C}", "${E:-f}"]);
    }
}
