//! From a service's declaration to the one complete request the launcher needs: environment, identity, program.
//!
//! The environment is small and clean: `PATH`, `LANG`, `LC_*` and `TZ` of the host, `HOME`, `USER`, `LOGNAME` and
//! `SHELL` of the account the service runs as, then `env_file`, then `env`. With `inherit_env` the host's whole
//! environment lies below all of these. `MAINSTAY_STACK`, `MAINSTAY_SERVICE` and `MAINSTAY_REPLICA` tell the program who it is.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use mainstay_config::{EnvFileError, Service};
use mainstay_os::{Account, Identity, IdentityError, Launch};
use mainstay_types::{CommandLine, LaunchFailure, LaunchStep, StackName};

/// The search path of a service whose host has none itself; the default of Debian's login(1) for root.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a service cannot be prepared for launching.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The user or group is not there, or may not be taken on.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An `env_file` cannot be read.
    #[error("cannot read env_file {}: {source}", .path.display())]
    EnvFile {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// An `env_file` is read, and wrong.
    #[error(transparent)]
    EnvFileInvalid(#[from] EnvFileError),
    /// The program cannot be executed.
    #[error("{0}")]
    Program(LaunchFailure),
    /// The working folder is not there.
    #[error("cannot enter its working folder {}: {source}", .path.display())]
    Workdir {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl PrepareError {
    /// The doctor's code for it, where one says exactly this.
    #[must_use]
    pub fn cause(&self) -> Option<&'static str> {
        match self {
            Self::Workdir { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("workdir-missing")
            }
            Self::Workdir { .. } => Some("workdir-not-accessible"),
            Self::Program(failure) if failure.errno == 2 && failure.hint.is_none() => Some("exec-not-found"),
            Self::Identity(IdentityError::UnknownUser { .. }) => Some("user-unknown"),
            Self::Identity(IdentityError::UnknownGroup { .. }) => Some("group-unknown"),
            Self::Identity(IdentityError::NotPermitted { .. }) => Some("privilege-cannot-switch-user"),
            Self::Identity(IdentityError::Lookup { .. })
            | Self::Program(_)
            | Self::EnvFile { .. }
            | Self::EnvFileInvalid(_) => None,
        }
    }

    /// The same as a launch that failed, for the lifecycle.
    #[must_use]
    pub(crate) fn into_failure(self) -> LaunchFailure {
        let message = self.to_string();
        let (step, path, errno) = match self {
            Self::Program(failure) => return failure,
            Self::Identity(_) => (LaunchStep::User, None, 0),
            Self::EnvFile { .. } => (LaunchStep::Spawn, None, 0),
            Self::EnvFileInvalid(_) => (LaunchStep::Spawn, None, 0),
            Self::Workdir { path, source } => {
                let errno = source.raw_os_error().unwrap_or(0);
                return LaunchFailure {
                    step: LaunchStep::Workdir,
                    path: Some(path),
                    errno,
                    message: system_message(&source),
                    hint: None,
                };
            }
        };
        LaunchFailure { step, path, errno, message, hint: None }
    }
}

/// The system's words without the number std adds to them.
fn system_message(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Builds the request that starts replica `index` of `service`. Reads the `env_file`s, so that a changed file counts
/// at the next start.
pub(crate) fn prepare(stack: &StackName, service: &Service, index: u32) -> Result<Launch, PrepareError> {
    let identity = mainstay_os::resolve_identity(service.user.as_deref(), service.group.as_deref())?;
    let account = mainstay_os::account(identity.as_ref());
    let env = environment(stack, service, index, &account)?;
    Ok(launch(&service.command, service, identity, env))
}

/// The same surroundings for another command of the service: an exec probe or gate.
pub(crate) fn prepare_command(
    stack: &StackName,
    service: &Service,
    index: u32,
    command: &CommandLine,
) -> Result<Launch, PrepareError> {
    let prepared = prepare(stack, service, index)?;
    Ok(Launch {
        program: command.program.clone().into(),
        args: command.args.iter().map(OsString::from).collect(),
        ..prepared
    })
}

/// What `mainstay check` looks at beyond the file: that everything a launch needs is there now.
#[must_use]
pub fn preflight(stack: &StackName, service: &Service) -> Vec<PrepareError> {
    let mut errors = Vec::new();
    let launch = match prepare(stack, service, 0) {
        Ok(launch) => Some(launch),
        Err(error) => {
            errors.push(error);
            None
        }
    };
    if let Err(source) = std::fs::read_dir(&service.workdir) {
        errors.push(PrepareError::Workdir { path: service.workdir.clone(), source });
    } else {
        let path = launch
            .as_ref()
            .and_then(|launch| launch.env.iter().find(|(name, _)| name == "PATH"))
            .map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value.as_os_str());
        let identity = launch.as_ref().and_then(|launch| launch.identity.as_ref());
        let program = OsStr::new(&service.command.program);
        if let Err(failure) = mainstay_os::check_executable(program, Some(path), &service.workdir, identity) {
            errors.push(PrepareError::Program(failure));
        }
    }
    errors
}

fn launch(
    command: &CommandLine,
    service: &Service,
    identity: Option<Identity>,
    env: BTreeMap<OsString, OsString>,
) -> Launch {
    Launch {
        program: command.program.clone().into(),
        args: command.args.iter().map(OsString::from).collect(),
        env: env.into_iter().collect(),
        workdir: service.workdir.clone(),
        identity,
        open_files: service.limits.open_files,
    }
}

fn environment(
    stack: &StackName,
    service: &Service,
    index: u32,
    account: &Account,
) -> Result<BTreeMap<OsString, OsString>, PrepareError> {
    let mut env = BTreeMap::new();
    env.insert("PATH".into(), DEFAULT_PATH.into());
    for (name, value) in std::env::vars_os() {
        if service.inherit_env || is_passed_on(&name.to_string_lossy()) {
            env.insert(name, value);
        }
    }
    for (name, value) in [
        ("HOME", account.home.clone().into_os_string()),
        ("USER", account.name.clone().into()),
        ("LOGNAME", account.name.clone().into()),
        ("SHELL", account.shell.clone().into_os_string()),
        ("MAINSTAY_STACK", stack.as_str().into()),
        ("MAINSTAY_SERVICE", service.name.as_str().into()),
        ("MAINSTAY_REPLICA", index.to_string().into()),
    ] {
        env.insert(name.into(), value);
    }
    for path in &service.env_files {
        for (name, value) in read_env_file(path)? {
            env.insert(name.into(), value.into());
        }
    }
    for (name, value) in &service.env {
        env.insert(name.into(), value.into());
    }
    Ok(env)
}

fn is_passed_on(name: &str) -> bool {
    matches!(name, "PATH" | "LANG" | "TZ") || name.starts_with("LC_")
}

fn read_env_file(path: &Path) -> Result<Vec<(String, String)>, PrepareError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| PrepareError::EnvFile { path: path.to_owned(), source })?;
    Ok(mainstay_config::parse_env_file(&text, path)?)
}
