//! `mainstay completions` and `mainstay man`: made from the declaration of the command line.

use std::io::Write;
use std::path::Path;

use clap_complete::Shell;
use mainstay_types::ExitCode;

use crate::cli;
use crate::failure::Failure;

/// Prints the completion script.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "mainstay", &mut script);
    // A reader that closed the pipe has what it wanted.
    let _ = std::io::stdout().write_all(&script);
    Ok(())
}

/// Writes `mainstay.1` and a page for each command.
pub(crate) fn man(dir: &Path, quiet: bool) -> Result<(), Failure> {
    let cannot = |error: &std::io::Error| {
        Failure::new(ExitCode::Failed, format!("cannot write man pages into {}: {error}", dir.display()))
    };
    std::fs::create_dir_all(dir).map_err(|error| cannot(&error))?;
    clap_mangen::generate_to(cli::command(), dir).map_err(|error| cannot(&error))?;
    if !quiet {
        anstream::eprintln!("wrote the man pages into {}", dir.display());
    }
    Ok(())
}
