//! One start, from the request to the running process: the program's file, its command line, environment and streams.

use std::ffi::{OsStr, OsString};
use std::os::windows::io::OwnedHandle;

use mainstay_types::{LaunchFailure, LaunchStep};

use super::command_line::{self, CommandLineError};
use super::environment;
use super::job::Job;
use super::listener;
use super::output::{Output, OutputPipe, no_input};
use super::program::{
    check_executable, failure_from, failure_in_words, failure_of, is_batch_file, not_created,
};
use super::security::OwnersOnly;
use super::spawn::{Made, Plan, SpawnError, spawn};
use super::system::{units, wide};
use crate::Launch;

/// Without these hardly a program starts: sockets and cryptography look for their parts below `SystemRoot`.
const ALWAYS: [&str; 2] = ["SystemRoot", "SystemDrive"];

/// Makes the process of `launch` in its job. Looks at files, so it may take its time.
pub(super) fn start(
    launch: &Launch,
    job: &Job,
    owners: &OwnersOnly,
) -> Result<(Made, Output), LaunchFailure> {
    if launch.handed.len() != launch.listen_names.len() {
        let message = "only sockets with a name are handed to programs on Windows".to_owned();
        return Err(failure_in_words(LaunchStep::Listen, None, message));
    }
    let handed = listener::inheritable(&launch.handed)
        .map_err(|error| failure_from(LaunchStep::Listen, None, &error))?;
    match std::fs::metadata(&launch.workdir) {
        Ok(found) if found.is_dir() => {}
        // "The directory name is invalid."
        Ok(_) => return Err(failure_of(LaunchStep::Workdir, Some(launch.workdir.clone()), 267, None)),
        Err(error) => return Err(failure_from(LaunchStep::Workdir, Some(launch.workdir.clone()), &error)),
    }
    let path = launch.env.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case("PATH"));
    let path = path.map(|(_, value)| value.as_os_str());
    let file = check_executable(&launch.program, path, &launch.workdir, None)?;
    let args: Vec<Vec<u16>> = launch.args.iter().map(units).collect();
    let interpreter = is_batch_file(&file).then(super::command_interpreter);
    let line = match &interpreter {
        Some(interpreter) => command_line::of_batch_file(&units(interpreter), &units(&file), &args),
        None => command_line::of_program(&units(&file), &args),
    };
    let command_line = line.map_err(|error| unfit(&file, &error))?;
    let environment = environment_of(launch, &listener::variables(&handed, &launch.listen_names))?;
    let stdio = |error| failure_from(LaunchStep::Stdio, None, &error);
    let (stdout, output) = OutputPipe::pair(owners).map_err(stdio)?;
    let (stderr, error) = OutputPipe::pair(owners).map_err(stdio)?;
    let standard: [OwnedHandle; 3] = [no_input().map_err(stdio)?, output, error];
    let plan = Plan {
        file: &wide(interpreter.as_ref().unwrap_or(&file)),
        command_line,
        environment: Some(&environment),
        workdir: Some(&wide(&launch.workdir)),
        standard: Some(&standard),
        inherited: &handed,
        job: Some(job),
    };
    match spawn(plan) {
        Ok(made) => Ok((made, Output { stdout, stderr })),
        Err(SpawnError::Create(error)) => Err(not_created(&file, &launch.workdir, &error)),
        Err(SpawnError::Job(error)) => Err(failure_from(LaunchStep::Cgroup, None, &error)),
    }
}

fn unfit(file: &std::path::Path, error: &CommandLineError) -> LaunchFailure {
    failure_in_words(LaunchStep::Exec, Some(file.to_owned()), error.to_string())
}

fn environment_of(launch: &Launch, more: &[(OsString, OsString)]) -> Result<Vec<u16>, LaunchFailure> {
    let pair = |name: &OsStr, value: &OsStr| (units(name), units(value));
    let variables: Vec<_> = launch.env.iter().chain(more).map(|(name, value)| pair(name, value)).collect();
    let kept: Vec<_> =
        ALWAYS.iter().filter_map(|name| Some(pair(name.as_ref(), &std::env::var_os(name)?))).collect();
    environment::block(&variables, &kept)
        .map_err(|error| failure_in_words(LaunchStep::Environment, None, error.to_string()))
}
