//! Why a program could not be started: the step of the launch, the object and the system's answer.

use std::fmt;
use std::path::PathBuf;

/// The steps between "start this" and the program's first instruction, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LaunchStep {
    /// Running the command before its start.
    BeforeStart,
    /// Opening the sockets it is handed, or handing them over: then without a path.
    Listen,
    /// Putting its environment together.
    Environment,
    /// Getting a process at all: pipes, the launcher, fork.
    Spawn,
    /// Entering the service's control group.
    Cgroup,
    /// A session of its own.
    Session,
    /// Standard input, output and error.
    Stdio,
    /// Resource limits.
    Limits,
    /// Supplementary groups.
    Groups,
    /// The group.
    Group,
    /// The user.
    User,
    /// The working folder.
    Workdir,
    /// Becoming the program.
    Exec,
}

impl LaunchStep {
    /// All steps in order; a step's place here is its number on the launcher's pipe.
    pub const ALL: [Self; 13] = [
        Self::BeforeStart,
        Self::Listen,
        Self::Environment,
        Self::Spawn,
        Self::Cgroup,
        Self::Session,
        Self::Stdio,
        Self::Limits,
        Self::Groups,
        Self::Group,
        Self::User,
        Self::Workdir,
        Self::Exec,
    ];

    /// One word, for machines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeforeStart => "before-start",
            Self::Listen => "listen",
            Self::Environment => "environment",
            Self::Spawn => "spawn",
            Self::Cgroup => "cgroup",
            Self::Session => "session",
            Self::Stdio => "stdio",
            Self::Limits => "limits",
            Self::Groups => "groups",
            Self::Group => "group",
            Self::User => "user",
            Self::Workdir => "workdir",
            Self::Exec => "exec",
        }
    }
}

impl fmt::Display for LaunchStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A launch that did not reach the program's first instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaunchFailure {
    /// The step that failed.
    pub step: LaunchStep,
    /// The file or folder concerned, where there is one.
    pub path: Option<PathBuf>,
    /// The operating system's error number; 0 when none was involved.
    pub errno: i32,
    /// The operating system's answer in words, or our own where `errno` is 0.
    pub message: String,
    /// What to look at next, where it is known (say: the interpreter of a script is missing).
    pub hint: Option<String>,
}

impl fmt::Display for LaunchFailure {
    /// `cannot execute ./web: No such file or directory (errno 2)`, with the hint after a dash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self.step {
            LaunchStep::BeforeStart => "before_start",
            LaunchStep::Listen if self.path.is_none() => "cannot hand over its sockets",
            LaunchStep::Listen => "cannot listen on",
            LaunchStep::Environment => "cannot put its environment together",
            LaunchStep::Spawn => "cannot create a process",
            LaunchStep::Cgroup => "cannot enter the control group",
            LaunchStep::Session => "cannot begin a session",
            LaunchStep::Stdio => "cannot connect its input and output",
            LaunchStep::Limits => "cannot set its resource limits",
            LaunchStep::Groups => "cannot set its groups",
            LaunchStep::Group => "cannot switch to its group",
            LaunchStep::User => "cannot switch to its user",
            LaunchStep::Workdir => "cannot enter its working folder",
            LaunchStep::Exec => "cannot execute",
        };
        f.write_str(doing)?;
        if let Some(path) = &self.path {
            write!(f, " {}", path.display())?;
        }
        write!(f, ": {}", self.message)?;
        if self.errno != 0 {
            write!(f, " (errno {})", self.errno)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " - {hint}")?;
        }
        Ok(())
    }
}
