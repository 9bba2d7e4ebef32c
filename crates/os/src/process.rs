//! What every body of this crate promises about processes: one trait, its requests and its answers.

use std::ffi::OsString;
use std::path::PathBuf;
use std::task::{Context, Poll};

use crate::Descriptor;
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
    /// What it may use.
    pub limits: ResourceLimits,
    /// Descriptors it gets besides standard input, output and error; at most [`MAX_HANDED`].
    pub handed: Vec<Handed>,
    /// Names for `LISTEN_FDNAMES` of the handed descriptors from 3 on, one each; when not empty, `LISTEN_FDS`, `LISTEN_PID`
    /// and `LISTEN_FDNAMES` replace what the environment has of those names (sd_listen_fds(3)). On Windows `LISTEN_HANDLES`
    /// tells the numbers that the sockets have there.
    pub listen_names: Vec<String>,
}

/// What a tree may use; `None` sets no limit of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ResourceLimits {
    /// RLIMIT_NOFILE, soft and hard; `None` restores what the host itself was started with.
    pub open_files: Option<u64>,
    /// Bytes of memory of all its processes together.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Processor time of all its processes together, in thousandths of a core.
    pub cpu_millis: Option<u64>,
}

/// Most descriptors that one start is handed: far more than sockets a service listens on, and few enough for one message
/// (`SCM_MAX_FD` is 253, unix(7)).
pub const MAX_HANDED: usize = 64;

/// A descriptor of the host that a new process gets under a number of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handed {
    /// The number in the new process, 3 to 1023; each once.
    pub target: u32,
    /// What it gets.
    pub descriptor: Descriptor,
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

/// Why a process does not become the main one of a tree.
#[derive(Debug, thiserror::Error)]
pub enum SetMainError {
    /// The start runs no more, or not yet.
    #[error("process {pid} cannot become the main one: its service does not run")]
    NotRunning {
        /// The process.
        pid: u32,
    },
    /// The tree is being killed.
    #[error("process {pid} cannot become the main one: its service is being killed")]
    Ending {
        /// The process.
        pid: u32,
    },
    /// It is no process of the tree.
    #[error("process {pid} cannot become the main one: it does not belong to the service")]
    NotOfTree {
        /// The process.
        pid: u32,
    },
    /// It has ended.
    #[error("process {pid} cannot become the main one: it has ended")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// It cannot be held.
    #[error("process {pid} cannot become the main one: the system cannot hold it")]
    System {
        /// The process.
        pid: u32,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
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
    /// The main process ended. Void when the host then makes another process of the tree the main one.
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

    /// Sends a signal to the main process of the tree alone. Nothing happens when it has ended.
    fn signal_main(&mut self, spawn: SpawnId, signal: StopSignal);

    /// Kills every process of the tree, those that left its session or group included, until none is left.
    fn kill(&mut self, spawn: SpawnId);

    /// The next piece of news; pending when there is none.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<ProcessEvent<Self::Output>>;
}
