//! How the process trees of one host are begun, the same on every system.

use std::path::PathBuf;

use mainstay_types::StackName;

/// What a host says about itself when it begins to keep process trees.
#[derive(Clone, Debug)]
pub struct ProcessesOptions {
    /// The stack; part of the marker in every environment and of the names of control groups.
    pub stack: StackName,
    /// The folder of the stack's state: tells stacks with the same name apart.
    pub state_dir: PathBuf,
    /// The binary that calls [`crate::run_launcher_if_asked`] first in its `main`: on Linux best `/proc/self/exe`, which
    /// stays right when the file is replaced.
    pub launcher_exe: PathBuf,
    /// Whether control groups may be used.
    pub cgroups: UseCgroups,
}

/// Whether trees are kept in control groups (Linux).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UseCgroups {
    /// Where version 2 is there, lets this process make groups, and can kill them; else by descent and marker.
    #[default]
    IfPossible,
    /// By descent and marker only.
    Never,
}

/// Why a host cannot keep process trees.
#[derive(Debug, thiserror::Error)]
pub enum ProcessesStartError {
    /// There is one already in this process, and the children of a process cannot be shared out.
    #[error("this process keeps process trees already: only one host may run in a process")]
    AlreadyStarted,
    /// Not called from within a tokio runtime with I/O.
    #[error("process trees can only be kept within a running tokio runtime")]
    NoRuntime,
    /// A step that any Linux allows failed.
    #[error("cannot {doing}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The first launcher could not be started.
    #[error("cannot start the launcher {}", exe.display())]
    Launcher {
        /// The binary.
        exe: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

/// A process that an earlier, dead host of the same stack left behind, and that was ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leftover {
    /// For people.
    pub pid: u32,
    /// The process's own name, at most 15 bytes.
    pub name: String,
}
