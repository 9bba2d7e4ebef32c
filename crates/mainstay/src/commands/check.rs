//! `mainstay check`: reads and validates the file, and everything it refers to.

use mainstay_config::Stack;
use mainstay_host::{LoadError, PrepareError, chain};
use mainstay_types::ExitCode;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::context::{env, file_path, load_failure};
use crate::failure::Failure;
use crate::terminal::{BAD, GOOD, paint, print};

/// Prints every error there is: first those of the file, and when it has none, those of what it refers to.
pub(crate) fn check(global: &Global) -> Result<(), Failure> {
    match mainstay_host::load(&file_path(global), &env) {
        Err(error) if global.json => {
            print_json(None, &file_errors(&error));
            Err(Failure::silent(load_failure(&error).code))
        }
        Err(error) => Err(load_failure(&error)),
        Ok(stack) => check_references(global, &stack),
    }
}

fn check_references(global: &Global, stack: &Stack) -> Result<(), Failure> {
    let mut problems: Vec<(String, PrepareError)> = Vec::new();
    for service in &stack.services {
        for error in mainstay_host::preflight(&stack.name, service) {
            problems.push((service.name.to_string(), error));
        }
    }
    if global.json {
        let errors: Vec<Value> = problems
            .iter()
            .map(|(service, error)| {
                let line = stack.service(service).map(|service| service.line);
                json!({
                    "cause": error.cause(), "service": service, "message": chain(error), "help": null,
                    "source": { "file": stack.file, "line": line, "column": null },
                })
            })
            .collect();
        print_json(Some(stack), &errors);
    } else {
        for (service, error) in &problems {
            let line = stack.service(service).map_or(1, |service| service.line);
            let place = format!("{}:{line}", stack.file.display());
            anstream::eprintln!("{} service {service} ({place}): {}", paint(BAD, "error:"), chain(error));
        }
        if problems.is_empty() && !global.quiet {
            let count = stack.services.len();
            let services = if count == 1 { "1 service".to_owned() } else { format!("{count} services") };
            let _ = print(&format!(
                "{} {}: stack {}, {services}\n",
                paint(GOOD, "ok"),
                stack.file.display(),
                stack.name
            ));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::silent(ExitCode::Failed)) }
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

fn print_json(stack: Option<&Stack>, errors: &[Value]) {
    let document = json!({ "stack": stack.map(|stack| stack.name.as_str()), "valid": errors.is_empty(), "errors": errors });
    // A reader that has gone needs no answer.
    let _ = print(&format!("{document:#}\n"));
}
