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
        "stack {stack} is already supervised by {}\n  \
         next: `mainstay status --stack {stack}` shows it; Ctrl-C there, or SIGTERM to it, stops it", host_of(*pid)
    )]
    AlreadyRunning {
        /// The stack.
        stack: StackName,
        /// The other host; `None` when it cannot be told.
        pid: Option<u32>,
    },
    /// Another host has its state folder, for another stack.
    #[error(
        "the state folder {} of the stack {stack} is taken by {}, which runs the stack {other}\n  \
         next: name another folder with {STATE_DIR_VARIABLE}; without it, each stack has its own",
        .path.display(), host_of(*pid)
    )]
    StateDirTaken {
        /// The stack that wants it.
        stack: StackName,
        /// The stack that has it.
        other: String,
        /// The folder.
        path: PathBuf,
        /// The other host; `None` when it cannot be told.
        pid: Option<u32>,
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
            LockError::HeldBy(pid) => match paths.holder() {
                Some(other) if other != stack.as_str() => {
                    Self::StateDirTaken { stack: stack.clone(), other, path: paths.state_dir.clone(), pid }
                }
                Some(_) | None => Self::AlreadyRunning { stack: stack.clone(), pid },
            },
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
            | Self::StateDirTaken { .. }
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

/// The host that holds a lock, in words.
fn host_of(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another mainstay host".to_owned(), |pid| format!("the mainstay host with pid {pid}"))
}

/// Makes a folder of the state, with its parents, readable by its owner only.
pub(crate) fn create_dir(path: &Path) -> Result<(), HostError> {
    mainstay_os::create_private_dir(path)
        .map_err(|source| HostError::StateDir { path: path.to_owned(), source })
}

/// An error with its causes, `outer: inner: innermost`. A hint on a line of its own (`next: ...`) stays last.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let (head, hint) = match text.split_once("\n  next:") {
        Some((head, hint)) => (head.to_owned(), Some(hint.to_owned())),
        None => (text, None),
    };
    let mut words = head;
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !words.ends_with(&cause_text) {
            words.push_str(": ");
            words.push_str(&cause_text);
        }
        source = cause.source();
    }
    if let Some(hint) = hint {
        words.push_str("\n  next:");
        words.push_str(&hint);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_and_the_hint_stays_last() {
        let error = HostError::StateDir { path: "/x".into(), source: io::Error::other("it is full") };
        let words = chain(&error);
        assert!(words.starts_with("cannot write the state folder /x: it is full\n  next: "), "{words}");
    }
}
