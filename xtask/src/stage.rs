//! Runs the steps of a verb: says which step starts, how long it took, and counts what passed and what failed.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::places;

/// The steps of one verb. All of them run, so that one call shows everything that is wrong.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    finished: Vec<(String, Duration, Result<(), String>)>,
}

impl Stages {
    /// Runs one step and remembers its outcome; a failure is printed at once and reported by [`Stages::finish`].
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> anyhow::Result<()>) {
        eprintln!("== {name}");
        let started = Instant::now();
        let outcome = step().map_err(|error| format!("{error:#}"));
        let took = started.elapsed();
        match &outcome {
            Ok(()) => eprintln!("== {name}: passed in {:.1} s", took.as_secs_f64()),
            Err(reason) => eprintln!("== {name}: FAILED in {:.1} s: {reason}", took.as_secs_f64()),
        }
        self.finished.push((name.to_owned(), took, outcome));
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// When a step failed, or none ran; the text names the failed steps.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let mut table = String::new();
        for (name, took, outcome) in &self.finished {
            let verdict = if outcome.is_ok() { "passed" } else { "FAILED" };
            writeln!(table, "  {verdict}  {:>7.1} s  {name}", took.as_secs_f64())?;
        }
        let failed: Vec<&str> =
            self.finished.iter().filter(|(.., outcome)| outcome.is_err()).map(|(name, ..)| &**name).collect();
        eprint!("{table}");
        println!("{} passed, {} failed", self.finished.len() - failed.len(), failed.len());
        if self.finished.is_empty() {
            bail!("no step ran");
        }
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}

/// A command that runs in the root of the checkout.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(places::root_dir());
    command
}

/// The cargo that started this program, so that the same toolchain does the work.
pub(crate) fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The command as one would type it, for messages.
pub(crate) fn describe(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut text = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Runs the command with this program's own output.
///
/// # Errors
/// When it cannot be started or does not end with 0.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let text = describe(&command);
    eprintln!("$ {text}");
    let status = command.status().with_context(|| format!("cannot start `{text}`"))?;
    if !status.success() {
        bail!("`{text}` ended with {status}");
    }
    Ok(())
}

/// Runs the command and returns what it wrote to stdout.
///
/// # Errors
/// When it cannot be started, does not end with 0, or writes something that is not UTF-8.
pub(crate) fn output(mut command: Command) -> anyhow::Result<String> {
    let text = describe(&command);
    let output = command.output().with_context(|| format!("cannot start `{text}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{text}` ended with {}: {}", output.status, stderr.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{text}` wrote something that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_runs_and_one_failure_fails_the_verb() {
        let mut stages = Stages::default();
        let mut ran = 0;
        stages.run("first", || bail!("no"));
        stages.run("second", || {
            ran += 1;
            Ok(())
        });
        assert_eq!(ran, 1);
        assert_eq!(stages.finish().unwrap_err().to_string(), "failed: first");
    }

    #[test]
    fn a_verb_without_steps_fails() {
        assert!(Stages::default().finish().is_err());
    }

    #[test]
    fn a_command_that_fails_is_an_error_with_its_text() {
        let mut command = cargo();
        command.arg("--no-such-option");
        let error = output(command).unwrap_err().to_string();
        assert!(error.contains("--no-such-option"), "{error}");
    }
}
