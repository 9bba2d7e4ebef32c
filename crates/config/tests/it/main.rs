//! What a user's file becomes, and what is said about a wrong one.

mod around;
mod bad_input;
mod checks;
mod contract;
mod diff;
mod forward;
mod generated;
mod good_input;
mod properties;

use std::path::Path;

use mainstay_config::{Diagnostics, Input, Stack, parse};

/// The environment of these tests.
fn env(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/home/me".to_owned()),
        "SPACED" => Some("a b 'c".to_owned()),
        "EMPTY" => Some(String::new()),
        "NUL" => Some("a\0b".to_owned()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Stack, Diagnostics> {
    parse(&Input { text, file: Path::new("/srv/my shop/mainstay.toml"), env: &env })
}

/// A stack that must be right.
fn good(text: &str) -> Stack {
    read(text).unwrap_or_else(|errors| panic!("{}\n{text}", errors.render(false)))
}

/// The help of the only error.
fn help(text: &str) -> String {
    let Err(diagnostics) = read(text) else { panic!("accepted:\n{text}") };
    assert_eq!(diagnostics.list.len(), 1, "{diagnostics}");
    diagnostics.list[0].help.clone().unwrap_or_else(|| panic!("no help: {diagnostics}"))
}

/// Every error as `line:column cause: message`.
fn errors(text: &str) -> Vec<String> {
    let Err(diagnostics) = read(text) else { panic!("accepted:\n{text}") };
    let one = |error: &mainstay_config::Diagnostic| {
        format!("{}:{} {}: {}", error.line, error.column, error.cause, error.message)
    };
    diagnostics.list.iter().map(one).collect()
}
