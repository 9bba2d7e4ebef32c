//! What every body of this crate promises about processes: one trait, its requests and its answers.

use std::ffi::OsString;
use std::path::PathBuf;
use std::task::{Context, Poll};

use mainstay_types::{Exit, LaunchFailure, ReplicaId, SpawnId, StopSignal};

/// Everything needed to start one program; nothing is left to be looked up but the program on `PATH` of `env`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Launch {
    /// A path with a separator, or a name to be looked for on the `PATH` in `env`.
    pub program: OsString,
    /// Arguments without the program's own name.
    pub args: Vec<OsString>,
    /// The complete environment; the marker of the instance is added by the body.
    pub env: Vec<(OsString, OsString)>,
    /// Absolute.
    pub workdir: PathBuf,
    /// Who to become; `None` stays who the host is.
    pub identity: Option<Identity>,
    /// RLIMIT_NOFILE, soft and hard; `None` restores what the host itself was started with.
    pub open_files: Option<u64>,
}

/// A user and its groups, as numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// News about one start. For each `launch` there is one `Launched` or `LaunchFailed`; after `Launched` one `Exited`;
/// after `Exited { leftovers > 0 }` one `TreeEnded`.
#[derive(Debug)]
pub enum ProcessEvent<Output> {
    /// The program runs: its exec succeeded.
    Launched {
        /// Which start.
        spawn: SpawnId,
        /// For people; everything else goes by handle.
        pid: u32,
        /// The reading ends of its output, given out once.
        output: Output,
    },
    /// It does not run, and nothing of it is left.
    LaunchFailed {
        /// Which start.
        spawn: SpawnId,
        /// Why.
        failure: LaunchFailure,
    },
    /// The main process ended.
    Exited {
        /// Which start.
        spawn: SpawnId,
        /// How.
        exit: Exit,
        /// Processes of the tree still there.
        leftovers: u32,
    },
    /// The last leftover is gone.
    TreeEnded {
        /// Which start.
        spawn: SpawnId,
    },
}

/// The process trees of one host. No request blocks; answers come from `poll_event`.
pub trait ProcessTrees {
    /// The reading ends of a program's standard output and error.
    type Output;

    /// Starts a program in a tree of its own.
    fn launch(&mut self, replica: &ReplicaId, spawn: SpawnId, launch: Launch);

    /// Sends a signal to every process of the tree. Nothing happens when the tree is gone.
    fn signal(&mut self, spawn: SpawnId, signal: StopSignal);

    /// Kills every process of the tree, those that left its session or group included, until none is left.
    fn kill(&mut self, spawn: SpawnId);

    /// The next piece of news; pending when there is none.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<ProcessEvent<Self::Output>>;
}
