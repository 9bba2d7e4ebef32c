//! `mainstay check`: reads and validates the file, and everything it refers to.

use mainstay_config::{Remark, Severity, Stack};
use mainstay_host::{LoadError, chain};
use mainstay_types::ExitCode;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::context::{env, file_path, load_failure};
use crate::failure::Failure;
use crate::terminal::{GOOD, paint, print};

/// Prints every error there is: first those of the file, and when it has none, those of what it refers to.
pub(crate) fn check(global: &Global) -> Result<(), Failure> {
    match mainstay_host::load(&file_path(global), &env) {
        Err(error) if global.json => {
            print_json(None, &file_errors(&error), &[]);
            Err(Failure::silent(load_failure(&error).code))
        }
        Err(error) => Err(load_failure(&error)),
        Ok(stack) => check_references(global, &stack),
    }
}

fn check_references(global: &Global, stack: &Stack) -> Result<(), Failure> {
    // For showing places only; a file that has gone meanwhile has none.
    let text = std::fs::read_to_string(&stack.file).unwrap_or_default();
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for service in &stack.services {
        let name = service.name.as_str();
        for error in mainstay_host::preflight(&stack.name, service) {
            let message = format!("service {name}: {error}");
            let mut remark = Remark::new(&text, name, error.key(), Severity::Error, message);
            remark.cause = error.cause();
            errors.push((name, remark));
        }
        for warning in mainstay_host::warnings(service) {
            let message = format!("service {name}: {}", warning.message);
            warnings.push((name, Remark::new(&text, name, &warning.key, Severity::Warning, message)));
        }
    }
    for target in &stack.forwards {
        let name = target.name.as_str();
        for (key, message) in mainstay_host::preflight_forward(target) {
            let message = format!("target {name}: {message}");
            errors.push((name, Remark::of_target(&text, name, key, Severity::Error, message)));
        }
    }
    if global.json {
        let value = |(service, remark): &(&str, Remark)| {
            json!({
                "cause": remark.cause, "service": service, "message": remark.message, "help": remark.help,
                "source": { "file": stack.file, "line": remark.line, "column": remark.column },
            })
        };
        let listed = |remarks: &[(&str, Remark)]| remarks.iter().map(value).collect::<Vec<_>>();
        print_json(Some(stack), &listed(&errors), &listed(&warnings));
    } else {
        say(global, stack, &text, &errors, &warnings);
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::silent(ExitCode::Failed)) }
}

fn say(global: &Global, stack: &Stack, text: &str, errors: &[(&str, Remark)], warnings: &[(&str, Remark)]) {
    let color = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let shown = warnings.iter().filter(|_| !global.quiet).chain(errors);
    for (_, remark) in shown {
        anstream::eprintln!("{}\n", remark.render(&stack.file, text, color));
    }
    if errors.is_empty() && !global.quiet {
        let counted = |count: usize, one: &str| {
            if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
        };
        let services = counted(stack.services.len(), "service");
        let more = match warnings.len() {
            0 => String::new(),
            count => format!(", {}", counted(count, "warning")),
        };
        let (ok, file) = (paint(GOOD, "ok"), stack.file.display());
        // A reader that has gone needs no answer; here and below.
        let _ = print(&format!("{ok} {file}: stack {}, {services}{more}\n", stack.name));
    }
}

fn file_errors(error: &LoadError) -> Vec<Value> {
    match error {
        LoadError::Missing(path) | LoadError::Read { path, .. } => vec![json!({
            "cause": "config-syntax", "service": null, "message": chain(error), "help": null,
            "source": { "file": path, "line": null, "column": null },
        })],
        LoadError::Invalid(diagnostics) => diagnostics
            .list
            .iter()
            .map(|diagnostic| {
                json!({
                    "cause": diagnostic.cause.as_str(), "service": diagnostic.service, "message": diagnostic.message, "help": diagnostic.help,
                    "source": { "file": diagnostics.file, "line": diagnostic.line, "column": diagnostic.column },
                })
            })
            .collect(),
    }
}

fn print_json(stack: Option<&Stack>, errors: &[Value], warnings: &[Value]) {
    let document = json!({ "stack": stack.map(|stack| stack.name.as_str()), "valid": errors.is_empty(), "errors": errors, "warnings": warnings });
    let _ = print(&format!("{document:#}\n"));
}
