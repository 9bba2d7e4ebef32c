//! Commands: a list of texts, or one text split as a POSIX shell splits words. No shell takes part.

use mainstay_types::CommandLine;
use toml::Spanned;
use toml::de::DeValue;

use crate::declare::{Key, Shape};
use crate::diagnostic::Found;
use crate::expand::{PieceKind, pieces};
use crate::quote::toml_text;
use crate::read::{Reader, shown};
use crate::value::resolve_path;

/// Words that only a shell understands (POSIX.1-2024, Shell Command Language, 2.10: operators), and the common
/// redirections.
const SHELL_OPERATORS: [&str; 17] =
    ["|", "||", "&", "&&", ";", "<", ">", ">>", "<<", "2>", "2>>", "2>&1", "&>", ">&2", "|&", ";;", "1>"];

pub(crate) fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<CommandLine> {
    let words = if let Some(array) = value.get_ref().as_array() {
        let word = |item: &Spanned<DeValue<'_>>| {
            if item.get_ref().is_str() {
                return reader.text(key, Shape::Command, item);
            }
            reader.wrong_item(key, item);
            None
        };
        let words: Vec<_> = array.iter().map(word).collect();
        words.into_iter().collect::<Option<Vec<_>>>()?
    } else if let Some(text) = value.get_ref().as_str() {
        split(reader, key, value, text)?
    } else {
        reader.wrong_type(key, Shape::Command, value, None);
        return None;
    };
    let mut words = words.into_iter();
    let Some(program) = words.next().filter(|program| !program.trim().is_empty()) else {
        let message = format!("`{}` names no program", key.name);
        let help = format!("for example: {} = {}", key.name, key.example);
        reader.report(Found::invalid(value.span(), message).help(help));
        return None;
    };
    let program = if program.contains(std::path::is_separator) {
        let path = resolve_path(reader, key, value.span(), &program)?;
        path.to_str().map_or(program, str::to_owned)
    } else {
        program
    };
    Some(CommandLine { program, args: words.collect() })
}

/// Splits the text into words and then replaces variables, so that the value of one is never split: a blank or a
/// quote in it stays what it is, as with `${NAME}` in a unit of systemd.
fn split(
    reader: &mut Reader<'_>,
    key: &Key,
    value: &Spanned<DeValue<'_>>,
    text: &str,
) -> Option<Vec<String>> {
    let pieces = pieces(text);
    let values = reader.expand(&pieces, value)?;
    if text.contains('\0') || values.iter().any(|value| value.contains('\0')) {
        let message = format!("`{}` holds a NUL character, which no program can be given", key.name);
        reader.report(Found::invalid(value.span(), message));
        return None;
    }
    // Each variable becomes its number between two NULs, which the text has been shown not to hold.
    let mut template = String::with_capacity(text.len());
    let mut variables = Vec::new();
    for (piece, value) in pieces.iter().zip(values) {
        if matches!(piece.kind, PieceKind::Literal(_)) {
            template.push_str(&value);
        } else {
            template.push_str(&format!("\0{}\0", variables.len()));
            variables.push(value);
        }
    }
    let Ok(words) = shell_words::split(&template) else {
        let message = format!("a quote in `{}` is not closed", key.name);
        let help = "close it, or write the command as a list: [\"program\", \"argument\"]";
        reader.report(Found::invalid(value.span(), message).help(help));
        return None;
    };
    if let Some(operator) = shell_operator(&template, &words) {
        let message =
            format!("`{operator}` in `{}` would be passed to the program: no shell is run", key.name);
        let help = format!(
            "for a shell write [\"sh\", \"-c\", {}]; to pass `{operator}` as it is, write a list",
            toml_text(&shown(text))
        );
        reader.report(Found::invalid(value.span(), message).help(help));
        return None;
    }
    if let Some(assignment) = words.first().filter(|word| is_assignment(word)) {
        let name = assignment.split('=').next().unwrap_or(assignment);
        let message = format!("`{}` begins with a variable, not with a program: no shell is run", key.name);
        let help = format!("set the variable with env = {{ {} = ... }}", shown(name));
        reader.report(Found::invalid(value.span(), message).help(help));
        return None;
    }
    Some(words.iter().map(|word| fill(word, &variables)).collect())
}

/// The first shell operator that stands as a word of its own, outside quotes.
fn shell_operator(template: &str, words: &[String]) -> Option<&'static str> {
    let bare: Vec<_> = template.split_ascii_whitespace().collect();
    SHELL_OPERATORS
        .into_iter()
        .find(|operator| bare.contains(operator) && words.iter().any(|word| word == operator))
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// Puts the variables' values in place of their numbers.
fn fill(word: &str, variables: &[String]) -> String {
    // Between NULs every second part is a number: they were put there in pairs, and splitting into words breaks none.
    let parts = word.split('\0').enumerate().map(|(index, part)| {
        let variable =
            if index % 2 == 1 { part.parse().ok().and_then(|at: usize| variables.get(at)) } else { None };
        variable.map_or(part, String::as_str)
    });
    parts.collect()
}
