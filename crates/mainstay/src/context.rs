//! Which stack a command is about: the file, its stack, and the places of that stack.

use std::path::PathBuf;
use std::sync::Arc;

use mainstay_config::Stack;
use mainstay_host::{LoadError, Paths, chain};
use mainstay_types::{ExitCode, ServiceName, StackName};

use crate::cli::Global;
use crate::failure::Failure;

/// The environment as `${NAME}` and the overrides see it.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The file of the command line, or the default one.
pub(crate) fn file_path(global: &Global) -> PathBuf {
    global.file.clone().unwrap_or_else(|| PathBuf::from("mainstay.toml"))
}

/// Reads and validates the stack's file; errors are shown with their places, in colour where the terminal has it.
pub(crate) fn load_stack(global: &Global) -> Result<Arc<Stack>, Failure> {
    let stack = mainstay_host::load(&file_path(global), &env).map_err(|error| load_failure(&error))?;
    named_as_asked(global, stack)
}

/// The stack, unless `--stack` asks for another one than the file describes.
pub(crate) fn named_as_asked(global: &Global, stack: Stack) -> Result<Arc<Stack>, Failure> {
    if let Some(wanted) = &global.stack
        && stack.name.as_str() != wanted
    {
        let message = format!(
            "{} describes the stack {}, not {wanted}\n  next: leave --stack out, or name another file with -f",
            stack.file.display(),
            stack.name
        );
        return Err(Failure::new(ExitCode::Usage, message));
    }
    Ok(Arc::new(stack))
}

pub(crate) fn load_failure(error: &LoadError) -> Failure {
    match error {
        LoadError::Missing(_) => Failure::new(ExitCode::Usage, error.to_string()),
        LoadError::Read { source, .. } => {
            let denied = source.kind() == std::io::ErrorKind::PermissionDenied;
            Failure::new(if denied { ExitCode::NotPermitted } else { ExitCode::Usage }, chain(error))
        }
        LoadError::Invalid(diagnostics) => {
            let color = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
            let count = diagnostics.list.len() + diagnostics.omitted;
            let errors = if count == 1 { "1 error".to_owned() } else { format!("{count} errors") };
            let message = format!("{}\n{errors}; nothing was changed", diagnostics.render(color));
            Failure { message, code: ExitCode::Usage, headed: true }
        }
    }
}

/// The stack a command addresses: by `--stack`, else by the file.
pub(crate) struct Addressed {
    pub(crate) name: StackName,
    pub(crate) paths: Paths,
    /// The services of the file, where it was read and is valid.
    pub(crate) declared: Vec<ServiceName>,
}

pub(crate) fn addressed(global: &Global) -> Result<Addressed, Failure> {
    let mut declared = Vec::new();
    let name = match &global.stack {
        Some(name) => StackName::parse(name)
            .map_err(|error| Failure::new(ExitCode::Usage, format!("--stack {name:?}: {error}")))?,
        None => match mainstay_host::load(&file_path(global), &env) {
            Ok(stack) => {
                declared.extend(stack.services.iter().map(|service| service.name.clone()));
                stack.name
            }
            // What else is wrong with the file does not matter to a host that runs.
            Err(error) => match mainstay_host::stack_name(&file_path(global), &env) {
                Some(name) => name,
                None if matches!(error, LoadError::Missing(_)) => {
                    let message = format!(
                        "there is no file {}\n  next: name the stack's file with -f FILE, or the running stack with --stack NAME",
                        file_path(global).display()
                    );
                    return Err(Failure::new(ExitCode::Usage, message));
                }
                None => {
                    let mut failure = load_failure(&error);
                    failure
                        .message
                        .push_str("\n  next: mend the file, or name the running stack with --stack NAME");
                    return Err(failure);
                }
            },
        },
    };
    let paths = Paths::of(&name, &env);
    Ok(Addressed { name, paths, declared })
}
