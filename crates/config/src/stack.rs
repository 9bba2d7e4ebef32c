//! The resolved stack: every default filled in, every relative path made absolute, nothing optional that has a
//! default. This is what `lifecycle` and `host` work from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_types::{
    CaFile, CommandLine, Fsync, HostPort, HttpTarget, Level, ListenAddress, ProbeAction, ServiceName,
    StackName, StopSignal, WhenBlocked,
};

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
    /// Bytes of the logs of all services together. Default 4 GiB, or the largest `keep_total_bytes` of a service if
    /// that is more.
    pub log_max_total_bytes: u64,
    /// The services in the order of the file.
    pub services: Vec<Service>,
    /// Where their output is sent to as well, in the order of the file.
    pub forwards: Vec<Forward>,
}

impl Need {
    /// A gate with the defaults of the file: nothing follows its loss.
    #[must_use]
    pub const fn new(gate: Gate, within: Option<Duration>) -> Self {
        Self { gate, within, lose: Lose::Ignore, period: Self::DEFAULT_PERIOD }
    }

    /// How often a kept gate is asked: as often as a probe of Kubernetes.
    pub const DEFAULT_PERIOD: Duration = Duration::from_secs(10);
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
    pub startup: Option<Box<Probe>>,
    /// May it get traffic? Without one, a service is ready as soon as its program runs (and startup has passed).
    pub readiness: Option<Box<Probe>>,
    /// Must it be restarted?
    pub liveness: Option<Box<Probe>>,
    /// What follows an exit nobody asked for.
    pub restart: RestartPolicy,
    /// How it is asked to stop.
    pub stop: StopPolicy,
    /// What becomes of its output.
    pub log: LogPolicy,
    /// How it is asked to read its configuration again.
    pub reload: ReloadPolicy,
    /// Commands around its life.
    pub hooks: Hooks,
    /// Sockets opened by the host and handed over, by name, in the order of the file.
    pub listen: Vec<Listen>,
    /// Resource limits.
    pub limits: Limits,
}

/// One socket for a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    /// Its name in `LISTEN_FDNAMES`: no colon, no control character.
    pub name: String,
    /// Where; the path of a Unix socket is absolute.
    pub address: ListenAddress,
}

/// How a service reads its configuration again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReloadPolicy {
    /// It is restarted, one replica at a time, each ready before the next; the default.
    Rolling,
    /// Its main process gets this signal.
    Signal(StopSignal),
    /// This command asks it, once for each replica.
    Command(Hook),
}

/// Commands around a service's life; each runs as the service would, with the facts in its environment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hooks {
    /// Before each start; when it fails, the start has failed.
    pub before_start: Option<Hook>,
    /// Once a start is ready for the first time; its failure is told and changes nothing. Never for a oneshot: it is ready
    /// when it has done its work, and then `after_exit` is its hook.
    pub after_ready: Option<Hook>,
    /// Before it is asked to stop; the stop's time runs meanwhile.
    pub before_stop: Option<Hook>,
    /// After each end of its tree, before anything else is started in its place.
    pub after_exit: Option<Hook>,
}

/// One command around a service's life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hook {
    /// What runs.
    pub command: CommandLine,
    /// After this time it is killed and has failed; default 30 s.
    pub timeout: Duration,
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
    /// What happens when it no longer holds while the service runs.
    pub lose: Lose,
    /// How often something outside is asked while the service runs, when `lose` is not `Ignore`; default 10 s.
    pub period: Duration,
}

/// What follows when a gate no longer holds while the service runs. A gate on something outside is lost when it was
/// not passed three times in a row; one on a service as soon as the service is not what the gate asks for. A gate on
/// something completed is never lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lose {
    /// Nothing; the default.
    #[default]
    Ignore,
    /// The service stops and waits; it starts again when the gate holds again.
    Stop,
    /// The service runs on, and is restarted when the gate holds again.
    Restart,
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
    /// What it goes by.
    pub check: Check,
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

/// What a probe goes by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Check {
    /// The host asks, once a period.
    Ask(ProbeAction),
    /// The program says so in a line of its output that matches this regular expression, valid. For startup and
    /// readiness; passes once and for the rest of the run.
    Log(String),
    /// The program says so itself, by sd_notify(3): startup and readiness pass with `READY=1`. For liveness it is the
    /// watchdog: it must say `WATCHDOG=1` within `period * failure_threshold`.
    Notify,
    /// The program says so by a newline on this descriptor (s6's notification-fd). For startup and readiness; 3 to 1023,
    /// and apart from the descriptors of `listen`.
    NotifyFd(u32),
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
    /// A service that gave up is tried again this long after, and so on; `None` leaves it failed.
    pub retry_after: Option<Duration>,
}

/// How a service is asked to stop: one step after the other, and in the end the whole process tree is killed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StopPolicy {
    /// At least one; default SIGTERM alone.
    pub steps: Vec<StopStep>,
    /// All the time there is, from the first step to the kill; default 15 s.
    pub grace: Duration,
}

impl StopPolicy {
    /// One signal, and the kill when the grace is over.
    #[must_use]
    pub fn signal(signal: StopSignal, grace: Duration) -> Self {
        Self { steps: vec![StopStep { action: StopAction::Signal(signal), wait: None }], grace }
    }
}

/// One step of a stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StopStep {
    /// What is done.
    pub action: StopAction,
    /// How long to wait before the next step; `None` is all that is left of the grace. A command that fails is not waited for.
    pub wait: Option<Duration>,
}

/// What a step of a stop does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StopAction {
    /// Sends this to every process of the tree.
    Signal(StopSignal),
    /// Runs this command, as the service would.
    Command(CommandLine),
}

/// What becomes of a service's output.
#[derive(Clone, PartialEq, Debug)]
pub struct LogPolicy {
    /// When a new file is begun, and how long old ones stay.
    pub rotate: Rotation,
    /// Bytes of one record; a longer line is kept in parts. 1 KiB to 16 MiB, default 64 KiB.
    pub max_line_bytes: u64,
    /// What happens while it cannot be written.
    pub when_blocked: WhenBlocked,
    /// When what was written is put on the disk.
    pub fsync: Fsync,
    /// What is masked, those of the whole stack first; each is a valid regular expression that does not match nothing.
    pub redact: Vec<String>,
}

/// When a log file is closed, and how long closed files stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// A file is closed when it would pass this; at least 64 KiB, default 64 MiB.
    pub size_bytes: u64,
    /// A file is closed when its first line is this old; `None` lets it grow up to its size.
    pub age: Option<Duration>,
    /// Closed files kept of each replica; 0 to 10000, default 8.
    pub keep: u32,
    /// Closed files go when their last line is this old; `None` keeps them.
    pub keep_age: Option<Duration>,
    /// Bytes of all files of the service, its replicas together, at least `size_bytes`. Default 1 GiB, or twice
    /// `size_bytes` if that is more.
    pub keep_total_bytes: u64,
    /// Whether closed files are compressed with zstd; default true.
    pub compress: bool,
}

/// Resource limits of each replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Open files of each process (RLIMIT_NOFILE); `None` is the host's own limit as it was inherited.
    pub open_files: Option<u64>,
    /// Bytes of memory of all its processes together.
    pub memory_bytes: Option<u64>,
    /// Its processes and threads.
    pub pids: Option<u64>,
    /// Processor time of all its processes together, in thousandths of a core.
    pub cpu_millis: Option<u64>,
}

/// One place that the output of services is sent to.
#[derive(Clone, PartialEq, Debug)]
pub struct Forward {
    /// Its name, unique among the targets.
    pub name: ServiceName,
    /// What and where it is.
    pub destination: Destination,
    /// Whose output; empty is everyone's. All are in the stack.
    pub services: Vec<ServiceName>,
    /// Whether what they write to standard output.
    pub stdout: bool,
    /// Whether what they write to standard error; never neither.
    pub stderr: bool,
    /// At least this serious.
    pub level: Option<Level>,
    /// Sent with every line; the names have letters, digits and `_`.
    pub labels: BTreeMap<String, String>,
    /// Fields of HTTP requests.
    pub headers: Headers,
    /// A file with a bearer token for HTTP requests, absolute.
    pub token_file: Option<PathBuf>,
    /// Whom to trust with TLS; `None` is the system's authorities.
    pub ca: Option<CaFile>,
    /// Whether HTTP requests are compressed by gzip; default true.
    pub gzip: bool,
    /// How many bytes of log files it may be behind; default 256 MiB.
    pub spool_bytes: u64,
    /// How many lines are sent at once.
    pub batch: ForwardBatch,
    /// For one attempt; default 10 s.
    pub timeout: Duration,
    /// How long to wait after a failure.
    pub backoff: ForwardBackoff,
}

/// What and where a target is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// systemd's journal, at this socket; `None` is where journald listens.
    Journald(Option<PathBuf>),
    /// Syslog's messages in datagrams to a local socket.
    SyslogLocal(PathBuf),
    /// Syslog's messages in datagrams (RFC 5426).
    SyslogUdp(HostPort),
    /// Syslog's messages in a stream, counted (RFC 6587).
    SyslogTcp(HostPort),
    /// The same within TLS (RFC 5425).
    SyslogTls(HostPort),
    /// OpenTelemetry over HTTP.
    Otlp(HttpTarget),
    /// Loki's push API.
    Loki(HttpTarget),
}

impl Destination {
    /// What it is and where, in the words of the file; no secret is in them.
    #[must_use]
    pub fn words(&self) -> (&'static str, String) {
        match self {
            Self::Journald(None) => ("journald", "journald's socket".to_owned()),
            Self::Journald(Some(path)) => ("journald", format!("unix://{}", path.display())),
            Self::SyslogLocal(path) => ("syslog", format!("unix://{}", path.display())),
            Self::SyslogUdp(address) => ("syslog", format!("udp://{address}")),
            Self::SyslogTcp(address) => ("syslog", format!("tcp://{address}")),
            Self::SyslogTls(address) => ("syslog", format!("tls://{address}")),
            Self::Otlp(target) => ("otlp", target.to_string()),
            Self::Loki(target) => ("loki", target.to_string()),
        }
    }
}

/// Fields of HTTP requests; their values may be secret, and are not shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers(pub BTreeMap<String, String>);

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// How many lines are sent at once; whichever bound is reached first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForwardBatch {
    /// Lines; default 1000.
    pub records: u32,
    /// Bytes of text; default 1 MiB.
    pub bytes: u64,
    /// How long the first line waits for more; default 200 ms.
    pub wait: Duration,
}

/// The growing wait of a target between attempts that fail.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ForwardBackoff {
    /// The first wait; default 500 ms.
    pub first: Duration,
    /// At least 1; default 2.
    pub factor: f64,
    /// The longest; default 1 min.
    pub max: Duration,
    /// `[0, 1]`; default 0.2.
    pub jitter: f64,
}
