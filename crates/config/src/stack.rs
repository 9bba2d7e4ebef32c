//! The resolved stack: every default filled in, every relative path made absolute, nothing optional that has a
//! default. This is what `lifecycle` and `host` work from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_types::{CommandLine, ProbeAction, ServiceName, StackName, StopSignal};

/// All that one file describes. Gates refer only to services that are there, and form no circle.
#[derive(Clone, PartialEq, Debug)]
pub struct Stack {
    /// The stack's name; the folder's name when the file gives none.
    pub name: StackName,
    /// The file this came from, absolute.
    pub file: PathBuf,
    /// The folder of the file, absolute: what relative paths are relative to.
    pub dir: PathBuf,
    /// Upper bound for stopping the whole stack, from the request to the kill of whatever is left; `None` lets every
    /// service have its own grace along the longest chain of gates.
    pub stop_budget: Option<Duration>,
    /// The services in the order of the file.
    pub services: Vec<Service>,
}

impl Stack {
    /// The service of that name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name.as_str() == name)
    }
}

/// One declared program.
#[derive(Clone, PartialEq, Debug)]
pub struct Service {
    /// Its name, unique in the stack.
    pub name: ServiceName,
    /// The line of its table in the file, counted from 1.
    pub line: u32,
    /// A sentence for people.
    pub description: Option<String>,
    /// Meant to run on, or to finish.
    pub kind: Kind,
    /// The program. A path with a separator is absolute already; a bare name is looked for on the service's PATH.
    pub command: CommandLine,
    /// Working folder, absolute.
    pub workdir: PathBuf,
    /// Variables added to the clean environment; they win over `env_files`.
    pub env: BTreeMap<String, String>,
    /// Whether the host's own environment is passed on, below everything else.
    pub inherit_env: bool,
    /// Files of `NAME=value` lines, absolute; a later file wins over an earlier one.
    pub env_files: Vec<PathBuf>,
    /// The user to run as; `None` is the host's own.
    pub user: Option<String>,
    /// The group to run as; `None` is the user's own.
    pub group: Option<String>,
    /// How many run at the same time, 1 to 1000. A oneshot has one.
    pub replicas: u32,
    /// Whether it starts with the stack.
    pub autostart: bool,
    /// What must hold before it may start.
    pub needs: Vec<Need>,
    /// Has it started?
    pub startup: Option<Probe>,
    /// May it get traffic? Without one, a service is ready as soon as its program runs (and startup has passed).
    pub readiness: Option<Probe>,
    /// Must it be restarted?
    pub liveness: Option<Probe>,
    /// What follows an exit nobody asked for.
    pub restart: RestartPolicy,
    /// How it is asked to stop.
    pub stop: StopPolicy,
    /// What becomes of its output.
    pub log: LogPolicy,
    /// Resource limits.
    pub limits: Limits,
}

/// Whether a program is meant to run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It runs until it is stopped.
    LongRunning,
    /// It finishes; exit 0 completes it.
    Oneshot,
}

/// A gate and how long it may stay shut.
#[derive(Clone, PartialEq, Debug)]
pub struct Need {
    /// What must hold.
    pub gate: Gate,
    /// After this time of waiting, the service has failed; `None` waits for ever.
    pub within: Option<Duration>,
}

/// What must hold before a service may start.
#[derive(Clone, PartialEq, Debug)]
pub enum Gate {
    /// Another service of the stack has come far enough.
    Service {
        /// Its name.
        service: ServiceName,
        /// How far.
        is: Condition,
    },
    /// A check of something outside, performed like a probe.
    Outside(ProbeAction),
}

/// How far another service must have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// All its replicas are ready.
    Ready,
    /// All its replicas run.
    Started,
    /// It is a oneshot and has completed.
    Completed,
}

/// One probe, with Kubernetes' thresholds and defaults.
#[derive(Clone, PartialEq, Debug)]
pub struct Probe {
    /// What it does.
    pub action: ProbeAction,
    /// Wait after the start of the program; default 0.
    pub initial_delay: Duration,
    /// Time from one check to the next; default 10 s. While a service is not ready yet, it is asked more often.
    pub period: Duration,
    /// Time for an answer; default 1 s.
    pub timeout: Duration,
    /// Passes in a row that make the verdict good; default 1.
    pub success_threshold: u32,
    /// Failures in a row that make it bad; default 3.
    pub failure_threshold: u32,
}

/// What follows an exit nobody asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct RestartPolicy {
    /// After which exits.
    pub when: RestartWhen,
    /// How long to wait before.
    pub backoff: Backoff,
    /// When to stop trying; `None` never gives up.
    pub give_up: Option<GiveUp>,
}

/// After which exits a program is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestartWhen {
    /// Every exit; the default of a long-running service.
    Always,
    /// Any exit but code 0; the default of a oneshot.
    OnFailure,
    /// None.
    Never,
}

/// Exponential back-off: `first * factor^n`, at most `max`, spread by `±jitter`.
#[derive(Clone, PartialEq, Debug)]
pub struct Backoff {
    /// Before the first restart; default 200 ms; zero restarts at once.
    pub first: Duration,
    /// Growth, 1.0 to 100; default 2.
    pub factor: f64,
    /// Ceiling; default 30 s, at least `first`.
    pub max: Duration,
    /// Share of the wait that is random, in `[0, 1]`; default 0.1.
    pub jitter: f64,
    /// A run at least this long puts the wait back to `first`; default 60 s.
    pub reset_after: Duration,
}

/// The restart limit: this many failures within this time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GiveUp {
    /// At least 1; default 5. With 1, the first failure is final.
    pub failures: u32,
    /// Default 60 s.
    pub within: Duration,
}

/// How a service is asked to stop.
#[derive(Clone, PartialEq, Debug)]
pub struct StopPolicy {
    /// What is sent to its processes; default SIGTERM.
    pub signal: StopSignal,
    /// Time until the whole process tree is killed; default 15 s.
    pub grace: Duration,
}

/// What becomes of a service's output.
#[derive(Clone, PartialEq, Debug)]
pub struct LogPolicy {
    /// When a new file is begun.
    pub rotate: Rotation,
    /// Bytes of one record; a longer line is kept in parts. 1 KiB to 16 MiB, default 64 KiB.
    pub max_line_bytes: u64,
}

/// Rotation by size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// A file is closed when it would pass this; at least 64 KiB, default 64 MiB.
    pub size_bytes: u64,
    /// Closed files kept; 0 to 10000, default 8.
    pub keep: u32,
    /// Whether closed files are compressed with zstd; default true.
    pub compress: bool,
}

/// Resource limits in force for each process of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Open files (RLIMIT_NOFILE); `None` is the host's own limit as it was inherited.
    pub open_files: Option<u64>,
}
