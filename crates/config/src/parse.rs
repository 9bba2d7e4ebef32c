//! From the text to the stack: syntax, then every table by its declaration, then the services together. No stage
//! stops the next one, so that one run reports every error.

use std::path::Path;

use mainstay_types::StackName;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::declare::Options as _;
use crate::diagnostic::{Diagnostics, Found, Lines};
use crate::forward;
use crate::keys::StackOptions;
use crate::read::Reader;
use crate::resolve;
use crate::stack::Stack;
use crate::syntax;

/// What a file is read from. Nothing else is looked at.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The text of the file, as [`decode`](fn@crate::decode) gives it.
    pub text: &'a str,
    /// Its path, absolute: relative paths in it are relative to its folder.
    pub file: &'a Path,
    /// The environment that `${NAME}` is taken from.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

impl std::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input")
            .field("file", &self.file)
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

/// The name of the stack that a file describes, whatever else is wrong with it: for finding the host that runs an
/// earlier state of the file. `None` when the name cannot be told: the file is no TOML, or its name is none, or is
/// made from variables.
#[must_use]
pub fn stack_name(input: &Input<'_>) -> Option<StackName> {
    let (root, errors) = DeTable::parse_recoverable(input.text);
    match root.get_ref().get("stack").map(Spanned::get_ref) {
        Some(DeValue::String(name)) => StackName::parse(name).ok(),
        None if errors.is_empty() => {
            Some(StackName::from_folder(&input.file.parent()?.file_name()?.to_string_lossy()))
        }
        Some(_) | None => None,
    }
}

/// Reads, checks and resolves a file. On failure all its errors are there, in the order of the file.
pub fn parse(input: &Input<'_>) -> Result<Stack, Diagnostics> {
    let Input { text, file, env } = *input;
    let dir = file.parent().unwrap_or_else(|| Path::new("")).to_owned();
    let lines = Lines::new(text);
    let mut reader = Reader::new(text, env, dir);
    let parsed = syntax::parse(text, &lines, &mut reader.collector);
    let mut syntax_errors = std::mem::take(&mut reader.collector);

    let stack = read(&mut reader, &parsed, &lines, file);

    reader.collector.retain(|found| parsed.is_believable(found, &lines, text));
    syntax_errors.append(reader.collector);
    match (syntax_errors.into_diagnostics(file, text), stack) {
        (None, Some(stack)) => Ok(stack),
        (Some(diagnostics), _) => Err(diagnostics),
        // No stack without an error: whatever could not be resolved has been reported, or is said here.
        (None, None) => {
            Err(Diagnostics::whole_file(file, text.to_owned(), 0..0, no_services(), NO_SERVICES_HELP))
        }
    }
}

const NO_SERVICES_HELP: &str = "add one:\n\n    [service.web]\n    command = [\"./web\"]\n\nor let `mainstay init -- COMMAND` write the file";

fn no_services() -> String {
    "the file declares no service".to_owned()
}

fn read(reader: &mut Reader<'_>, parsed: &syntax::Parsed<'_>, lines: &Lines, file: &Path) -> Option<Stack> {
    let entries = reader.entries(StackOptions::table(), parsed.root.get_ref(), &(0..0));
    let options = StackOptions::from_entries(reader, &entries);
    let services = options.service.as_ref().map_or(&[][..], |at| &at.value.0);
    // A table under a wrong name is a service table as likely as not, and has been reported.
    let has_tables = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let empty = value.get_ref().as_table().is_none_or(DeTable::is_empty);
        if name.get_ref() == "service" { options.service.is_none() || !empty } else { !empty }
    };
    if !parsed.root.get_ref().iter().any(has_tables) {
        reader.report(Found::invalid(0..0, no_services()).help(NO_SERVICES_HELP).absence());
    }
    let log = options.log.as_ref().map(|at| at.value.clone()).unwrap_or_default();
    let redact = log.redact.map(|at| at.value.0).unwrap_or_default();
    let forwards = forward::resolve(reader, options.forward.as_ref(), services);
    let services = resolve::services(reader, services, &redact, lines)?;
    let log_max_total_bytes = resolve::log_max_total(log.max_total.map(|at| at.value.0), &services);
    Some(Stack {
        name: options.stack.map_or_else(|| name_of_folder(&reader.dir), |at| at.value),
        file: file.to_owned(),
        dir: reader.dir.clone(),
        stop_budget: options.stop_budget.map(|at| at.value),
        log_max_total_bytes,
        services,
        forwards: forwards?,
    })
}

fn name_of_folder(dir: &Path) -> StackName {
    StackName::from_folder(&dir.file_name().map(|name| name.to_string_lossy()).unwrap_or_default())
}
