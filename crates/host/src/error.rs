//! Why a host cannot take its stack: the thing, the place, the reason and the next step.

use std::io;
use std::path::{Path, PathBuf};

use mainstay_logs::CaptureError;
use mainstay_os::{ControlBindError, LockError, ProcessesStartError};
use mainstay_types::{ExitCode, StackName};

use crate::event_store::EventStoreError;
use crate::paths::{Paths, STATE_DIR_VARIABLE};

/// Why a host cannot take its stack.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Another host has it.
    #[error(
        "stack {stack} is already supervised by the mainstay host with pid {pid}\n  \
         next: `mainstay status --stack {stack}` shows it; Ctrl-C there, or SIGTERM to it, stops it"
    )]
    AlreadyRunning {
        /// The stack.
        stack: StackName,
        /// The other host.
        pid: u32,
    },
    /// The state folder cannot be made or written.
    #[error("cannot write the state folder {}\n  next: make it writable, or name another with {STATE_DIR_VARIABLE}", .path.display())]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The lock is there and cannot be taken.
    #[error("cannot lock {}", .path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The control socket cannot be opened.
    #[error("cannot open the control socket")]
    Socket(#[source] ControlBindError),
    /// The limit of open files cannot be read or raised.
    #[error("cannot raise the limit of open files")]
    OpenFiles(#[source] io::Error),
    /// What an earlier host left running cannot be looked for.
    #[error("cannot look for processes of an earlier host")]
    Leftovers(#[source] io::Error),
    /// Processes cannot be supervised.
    #[error("cannot prepare to start processes")]
    Processes(#[source] ProcessesStartError),
    /// The event record cannot be opened.
    #[error(transparent)]
    Events(EventStoreError),
    /// Output cannot be captured.
    #[error(transparent)]
    Logs(CaptureError),
}

impl HostError {
    pub(crate) fn from_lock(error: LockError, stack: &StackName, paths: &Paths) -> Self {
        match error {
            LockError::HeldBy(pid) => Self::AlreadyRunning { stack: stack.clone(), pid: pid.unwrap_or(0) },
            LockError::Io { source, .. } => Self::Lock { path: paths.lock_path(), source },
        }
    }

    /// The exit code of the command that wanted this host.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        let denied = |source: &io::Error| source.kind() == io::ErrorKind::PermissionDenied;
        match self {
            Self::StateDir { source, .. } | Self::Lock { source, .. } if denied(source) => {
                ExitCode::NotPermitted
            }
            Self::AlreadyRunning { .. }
            | Self::StateDir { .. }
            | Self::Lock { .. }
            | Self::Socket(_)
            | Self::OpenFiles(_)
            | Self::Leftovers(_)
            | Self::Processes(_)
            | Self::Events(_)
            | Self::Logs(_) => ExitCode::Failed,
        }
    }
}

/// Makes a folder of the state, with its parents, readable by its owner only.
pub(crate) fn create_dir(path: &Path) -> Result<(), HostError> {
    mainstay_os::create_private_dir(path)
        .map_err(|source| HostError::StateDir { path: path.to_owned(), source })
}

/// An error and its causes in one line, for a problem document.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    words
}
