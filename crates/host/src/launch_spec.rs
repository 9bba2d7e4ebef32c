//! From a service's declaration to the one complete request the launcher needs: environment, identity, program.
//!
//! The environment is small and clean: `PATH`, `LANG`, `LC_*` and `TZ` of the host, `HOME`, `USER`, `LOGNAME` and
//! `SHELL` of the account the service runs as (on Windows what its own libraries need), then `env_file`, then `env`. With `inherit_env` the host's whole
//! environment lies below all of these. `MAINSTAY_STACK`, `MAINSTAY_SERVICE` and `MAINSTAY_REPLICA` tell the program who it is.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use mainstay_config::{EnvFileError, Limits, Service};
use mainstay_os::{Account, IdentityError, Launch, ResourceLimits};
use mainstay_types::{CommandLine, LaunchFailure, LaunchStep, StackName};

/// Why a service cannot be prepared for launching.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The user or group is not there, or may not be taken on.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An `env_file` cannot be read.
    #[error("cannot read env_file {}: {}", .path.display(), system_message(.source))]
    EnvFile {
        /// The file.
        path: PathBuf,
        /// The system's answer, which is part of the words.
        source: io::Error,
    },
    /// An `env_file` is read, and wrong.
    #[error(transparent)]
    EnvFileInvalid(#[from] EnvFileError),
    /// The program cannot be executed.
    #[error("{0}")]
    Program(LaunchFailure),
    /// A command around it cannot be executed.
    #[error("{key}: {failure}")]
    Command {
        /// The key: `before_start`, `readiness.exec`.
        key: String,
        /// Why.
        failure: LaunchFailure,
    },
    /// The file of an authority that signs certificates cannot be read.
    #[error("{key}: cannot read {}: {}", .path.display(), system_message(.source))]
    Ca {
        /// The key: `readiness.ca`.
        key: String,
        /// The file.
        path: PathBuf,
        /// The system's answer, which is part of the words.
        source: io::Error,
    },
    /// The working folder is not there.
    #[error("cannot enter its working folder {}: {}", .path.display(), system_message(.source))]
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
            Self::Program(failure) | Self::Command { failure, .. }
                if failure.errno == 2 && failure.hint.is_none() =>
            {
                Some("exec-not-found")
            }
            Self::Identity(IdentityError::UnknownUser { .. }) => Some("user-unknown"),
            Self::Identity(IdentityError::UnknownGroup { .. }) => Some("group-unknown"),
            Self::Identity(IdentityError::NotPermitted { .. }) => Some("privilege-cannot-switch-user"),
            Self::Identity(IdentityError::Lookup { .. })
            | Self::Program(_)
            | Self::Command { .. }
            | Self::Ca { .. }
            | Self::EnvFile { .. }
            | Self::EnvFileInvalid(_) => None,
        }
    }

    /// The key of the service that it is about: `command`, `readiness.exec`.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Identity(IdentityError::UnknownGroup { .. }) => "group",
            Self::Identity(
                IdentityError::UnknownUser { .. }
                | IdentityError::NotPermitted { .. }
                | IdentityError::Lookup { .. },
            ) => "user",
            Self::EnvFile { .. } | Self::EnvFileInvalid(_) => "env_file",
            Self::Program(_) => "command",
            Self::Command { key, .. } | Self::Ca { key, .. } => key,
            Self::Workdir { .. } => "workdir",
        }
    }

    /// The same as a launch that failed, for the lifecycle.
    #[must_use]
    pub(crate) fn into_failure(self) -> LaunchFailure {
        let message = self.to_string();
        let (step, path, errno) = match self {
            Self::Program(failure) | Self::Command { failure, .. } => return failure,
            Self::Ca { path, .. } => (LaunchStep::Spawn, Some(path), 0),
            Self::Identity(_) => (LaunchStep::User, None, 0),
            Self::EnvFile { .. } | Self::EnvFileInvalid(_) => (LaunchStep::Environment, None, 0),
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

/// What all launches of one host share: looked up once, because a restart must not cost a look at the user database.
pub(crate) struct Surroundings {
    stack: StackName,
    /// The variables of the host, any of which may be passed on.
    host_env: Vec<(OsString, OsString)>,
    /// Who the host is.
    own_account: Account,
}

impl Surroundings {
    /// Takes the environment of this process as it is now.
    pub(crate) fn of(stack: &StackName) -> Self {
        Self {
            stack: stack.clone(),
            host_env: std::env::vars_os().collect(),
            own_account: mainstay_os::account(None),
        }
    }

    /// Builds the request that starts replica `index` of `service`. Reads the `env_file`s and looks the account up each
    /// time, so that what changed counts at the next start.
    pub(crate) fn prepare(&self, service: &Service, index: u32) -> Result<Launch, PrepareError> {
        self.prepare_command(service, index, &service.command)
    }

    /// The same for another command of the service: an exec probe or gate.
    pub(crate) fn prepare_command(
        &self,
        service: &Service,
        index: u32,
        command: &CommandLine,
    ) -> Result<Launch, PrepareError> {
        let identity = mainstay_os::resolve_identity(service.user.as_deref(), service.group.as_deref())?;
        let env = match &identity {
            None => self.environment(service, index, &self.own_account)?,
            Some(_) => self.environment(service, index, &mainstay_os::account(identity.as_ref()))?,
        };
        Ok(Launch {
            program: command.program.clone().into(),
            args: command.args.iter().map(OsString::from).collect(),
            env,
            workdir: service.workdir.clone(),
            identity,
            limits: limits(service),
            handed: Vec::new(),
            listen_names: Vec::new(),
        })
    }

    fn environment(
        &self,
        service: &Service,
        index: u32,
        account: &Account,
    ) -> Result<Vec<(OsString, OsString)>, PrepareError> {
        let mut env = Variables::default();
        env.set("PATH", mainstay_os::default_path());
        for (name, value) in &self.host_env {
            let shown = name.to_string_lossy();
            if (service.inherit_env && !is_the_hosts_own(&shown)) || mainstay_os::is_passed_on(&shown) {
                env.set(name, value);
            }
        }
        for (name, value) in mainstay_os::account_variables(account) {
            env.set(name, value);
        }
        env.set("MAINSTAY_STACK", self.stack.as_str());
        env.set("MAINSTAY_SERVICE", service.name.as_str());
        env.set("MAINSTAY_REPLICA", index.to_string());
        for path in &service.env_files {
            for (name, value) in read_env_file(path)? {
                env.set(name, value);
            }
        }
        for (name, value) in &service.env {
            env.set(name, value);
        }
        Ok(env.0.into_values().collect())
    }
}

/// Variables in the order of their names; of two with one name, as the system takes it, the later one counts.
#[derive(Default)]
struct Variables(BTreeMap<OsString, (OsString, OsString)>);

impl Variables {
    fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        let (name, value) = (name.as_ref(), value.as_ref());
        self.0.insert(mainstay_os::variable_key(name), (name.to_owned(), value.to_owned()));
    }
}

/// What a service may use, as the launcher takes it.
pub(crate) const fn limits(service: &Service) -> ResourceLimits {
    let Limits { open_files, memory_bytes, pids, cpu_millis } = service.limits;
    ResourceLimits { open_files, memory_bytes, pids, cpu_millis }
}

/// What a service manager told the host about the host itself (sd_notify(3), sd_listen_fds(3)): never a service's.
fn is_the_hosts_own(name: &str) -> bool {
    matches!(
        name,
        "NOTIFY_SOCKET"
            | "WATCHDOG_USEC"
            | "WATCHDOG_PID"
            | "LISTEN_FDS"
            | "LISTEN_PID"
            | "LISTEN_PIDFDID"
            | "LISTEN_FDNAMES"
            | "LISTEN_HANDLES"
            | "MAINPID"
            | "FDSTORE"
            | "INVOCATION_ID"
            | "JOURNAL_STREAM"
    )
}

fn read_env_file(path: &Path) -> Result<Vec<(String, String)>, PrepareError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| PrepareError::EnvFile { path: path.to_owned(), source })?;
    Ok(mainstay_config::parse_env_file(&text, path)?)
}
