//! `mainstay init`: writes a commented `mainstay.toml`.

use std::io::{ErrorKind, Write};
use std::path::Path;

use mainstay_types::{ExitCode, StackName};

use crate::cli::Global;
use crate::context::file_path;
use crate::failure::Failure;

/// Writes the file for `command`, or one with a placeholder; refuses to touch one that is there.
pub(crate) fn init(global: &Global, command: &[String]) -> Result<(), Failure> {
    let file = file_path(global);
    let folder =
        std::path::absolute(&file).ok().and_then(|file| Some(file.parent()?.file_name()?.to_owned()));
    let stack = StackName::from_folder(&folder.unwrap_or_default().to_string_lossy());
    let text = mainstay_config::template(Some(command).filter(|command| !command.is_empty()), stack.as_str());
    let mut out = std::fs::File::create_new(&file).map_err(|error| cannot_create(&file, &error))?;
    out.write_all(text.as_bytes()).map_err(|error| {
        // Half a file would be refused by every later command; as it is new, nothing of the user's is lost.
        let _ = std::fs::remove_file(&file);
        Failure::new(ExitCode::Failed, format!("cannot write {}: {error}", file.display()))
    })?;
    if !global.quiet {
        anstream::eprintln!("wrote {} for the stack {stack}", file.display());
        anstream::eprintln!("  next: mainstay check    looks whether everything it names is there");
        anstream::eprintln!("        mainstay run      supervises it here, in the foreground");
    }
    Ok(())
}

fn cannot_create(file: &Path, error: &std::io::Error) -> Failure {
    let place = file.display();
    if error.kind() == ErrorKind::AlreadyExists {
        let words =
            format!("{place} is there already and stays as it is\n  next: edit it, or name another with -f");
        return Failure::new(ExitCode::Failed, words);
    }
    let denied = error.kind() == ErrorKind::PermissionDenied;
    let code = if denied { ExitCode::NotPermitted } else { ExitCode::Failed };
    Failure::new(code, format!("cannot create {place}: {error}"))
}
