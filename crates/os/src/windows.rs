//! Windows: a body that compiles and says "not yet"; facts that need no process trees are real.

mod event_log;
mod priority;

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

pub(crate) use std::os::windows::io::OwnedHandle as OwnedDescriptor;

pub use event_log::SystemLog;
pub use priority::lower_thread_priority;

use mainstay_types::{LaunchFailure, LaunchStep, ReplicaId, SpawnId, StopSignal};
use tokio::io::AsyncRead;

use crate::{
    Enforced, Identity, IdentityError, Launch, Leftover, LimitStatus, ProcessEvent, ProcessTrees,
    ProcessesOptions, ProcessesStartError, ResourceLimits, Usage,
};

/// There is no launcher on Windows: a child is made inside its job by the host itself.
pub const fn run_launcher_if_asked() {}

/// Nothing to tell the allocator here.
pub const fn keep_memory_small() {}

/// The process heap gives pages back by itself (HeapFree).
pub const fn give_back_memory() {}

/// No limit is in force, because no service is run.
#[must_use]
pub fn limits_in_force_here(limits: &ResourceLimits, _switches_user: bool) -> Vec<LimitStatus> {
    let why = "services cannot be run on Windows yet";
    crate::limits::statuses(limits, |_| Enforced::No { why: why.to_owned() })
}

/// The account of this process.
#[must_use]
pub fn account(_identity: Option<&Identity>) -> crate::Account {
    let variable = |name: &str| std::env::var_os(name).unwrap_or_default();
    crate::Account {
        name: variable("USERNAME").to_string_lossy().into_owned(),
        home: variable("USERPROFILE").into(),
        shell: variable("ComSpec").into(),
    }
}

/// Process trees, later job objects. Cannot be made yet.
#[derive(Debug)]
pub struct Processes(Infallible);

impl Processes {
    /// Always [`ProcessesStartError::NotYet`].
    ///
    /// # Errors
    /// Always.
    pub fn start(_options: ProcessesOptions) -> Result<Self, ProcessesStartError> {
        Err(ProcessesStartError::NotYet)
    }

    /// Windows has no control groups.
    #[must_use]
    pub const fn uses_cgroups(&self) -> bool {
        match self.0 {}
    }

    /// The main process of a start.
    #[must_use]
    pub const fn main_pid(&self, _spawn: SpawnId) -> Option<u32> {
        match self.0 {}
    }

    /// Whether a process is of the tree of a start.
    #[must_use]
    pub const fn owns(&self, _spawn: SpawnId, _pid: u32) -> Option<bool> {
        match self.0 {}
    }

    /// Makes another process of the tree its main one.
    ///
    /// # Errors
    /// Never: there is no tree.
    pub const fn set_main(&mut self, _spawn: SpawnId, _pid: u32) -> Result<(), crate::SetMainError> {
        match self.0 {}
    }

    /// Every live process of a tree.
    #[must_use]
    pub const fn pids(&self, _spawn: SpawnId) -> Vec<u32> {
        match self.0 {}
    }

    /// There is no launcher.
    #[must_use]
    pub const fn launcher_pid(&self) -> Option<u32> {
        match self.0 {}
    }

    /// What went wrong without being an answer to anything.
    pub const fn take_notices(&mut self) -> Vec<String> {
        match self.0 {}
    }

    /// Whether there is something to take.
    #[must_use]
    pub const fn has_notices(&self) -> bool {
        match self.0 {}
    }

    /// Which of these limits are in force.
    #[must_use]
    pub const fn limits_in_force(&self, _limits: &ResourceLimits, _switches_user: bool) -> Vec<LimitStatus> {
        match self.0 {}
    }

    /// Ends what the host itself needed.
    #[expect(clippy::unused_async, reason = "the same signature on every system")]
    pub async fn shutdown(&mut self) {
        match self.0 {}
    }
}

impl ProcessTrees for Processes {
    type Output = Output;

    fn launch(&mut self, _replica: &ReplicaId, _spawn: SpawnId, _launch: Launch) {
        match self.0 {}
    }

    fn signal(&mut self, _spawn: SpawnId, _signal: StopSignal) {
        match self.0 {}
    }

    fn signal_main(&mut self, _spawn: SpawnId, _signal: StopSignal) {
        match self.0 {}
    }

    fn kill(&mut self, _spawn: SpawnId) {
        match self.0 {}
    }

    fn poll_event(&mut self, _cx: &mut Context<'_>) -> Poll<ProcessEvent<Output>> {
        match self.0 {}
    }
}

/// Standard output and error of one start.
#[derive(Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: OutputPipe,
    /// Standard error.
    pub stderr: OutputPipe,
}

/// One reading end. Cannot be made yet.
#[derive(Debug)]
pub struct OutputPipe(Infallible);

impl OutputPipe {
    /// Becomes a reader of the runtime this is called in.
    ///
    /// # Errors
    /// Never: there is none to be read.
    pub fn into_reader(self) -> io::Result<impl AsyncRead + Send + Unpin + 'static> {
        match self.0 {}
        #[expect(unreachable_code, reason = "names the type that comes later")]
        Ok(tokio::io::empty())
    }
}

/// A way into systemd's journal, which this system does not have.
#[derive(Debug)]
pub struct Journal(Infallible);

impl Journal {
    /// None here.
    #[must_use]
    pub const fn of_stderr(_journal_stream: Option<&str>) -> Option<Self> {
        None
    }

    /// Writes one entry.
    ///
    /// # Errors
    /// Never: there is none to write to.
    pub fn send<'a>(&self, _fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> io::Result<()> {
        match self.0 {}
    }
}

/// Datagrams to a socket in the file system, which this system does not have.
#[derive(Debug)]
pub struct LocalDatagram(Infallible);

impl LocalDatagram {
    /// Whether this system has such sockets.
    pub const IS_HERE: bool = false;

    /// Always fails.
    ///
    /// # Errors
    /// Always.
    pub fn connect(_path: Option<&Path>, _patience: std::time::Duration) -> io::Result<Self> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this system has no sockets for datagrams in the file system",
        ))
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// Never: there is none to send by.
    pub fn send(&self, _bytes: &[u8]) -> io::Result<()> {
        match self.0 {}
    }

    /// Sends one datagram, of any size.
    ///
    /// # Errors
    /// Never: there is none to send by.
    pub fn send_or_hand_over(&self, _bytes: &[u8]) -> io::Result<()> {
        match self.0 {}
    }
}

/// The name of this machine; `None` when it has none that is text.
#[must_use]
pub fn host_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok().filter(|name| !name.is_empty())
}

/// What a program says about itself. Cannot be made yet.
#[derive(Debug)]
pub struct NotifySocket(Infallible);

impl NotifySocket {
    /// Always fails.
    ///
    /// # Errors
    /// Always.
    pub fn open(_label: &str) -> io::Result<Self> {
        Err(not_yet("sd_notify"))
    }

    /// The value of `NOTIFY_SOCKET`.
    #[must_use]
    pub const fn env_value(&self) -> String {
        match self.0 {}
    }

    /// The next message.
    ///
    /// # Errors
    /// Never: there is none to be read.
    #[expect(clippy::unused_async, reason = "the same signature on every system")]
    pub async fn recv(&self) -> io::Result<crate::Message> {
        match self.0 {}
    }

    /// The next message that is there already.
    ///
    /// # Errors
    /// Never: there is none to be read.
    pub const fn try_recv(&self) -> io::Result<Option<crate::Message>> {
        match self.0 {}
    }
}

/// Waits for a newline. Cannot be made yet.
#[derive(Debug)]
pub struct ReadinessReader(Infallible);

impl ReadinessReader {
    /// True at the first newline.
    ///
    /// # Errors
    /// Never: there is none to be read.
    #[expect(clippy::unused_async, reason = "the same signature on every system")]
    pub async fn wait(self) -> io::Result<bool> {
        match self.0 {}
    }
}

/// Always fails.
///
/// # Errors
/// Always.
pub fn readiness_pipe() -> io::Result<(ReadinessReader, crate::Descriptor)> {
    Err(not_yet("a readiness descriptor"))
}

fn not_yet(what: &str) -> io::Error {
    let text = format!("{what} is not supported on Windows yet: use a probe over the network instead");
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// Always fails: no service manager of Windows listens on a socket.
pub(crate) fn send_notification(_address: &OsStr, _saying: &[u8]) -> io::Result<()> {
    Err(not_yet("NOTIFY_SOCKET"))
}

/// Nobody here asks for a monotonic time.
#[must_use]
pub const fn monotonic_micros() -> u64 {
    0
}

/// No socket files are made yet.
#[derive(Debug)]
pub(crate) struct SocketFile(Infallible);

/// Nothing can be handed over yet.
pub(crate) fn open_socket(
    _address: &mainstay_types::ListenAddress,
) -> Result<(OwnedDescriptor, Option<SocketFile>), crate::ListenFailure> {
    let message =
        "mainstay cannot hand sockets to programs on Windows yet: let the program open its own".to_owned();
    Err(crate::ListenFailure::System { errno: 0, message })
}

/// Nothing was left: nothing can be started yet.
///
/// # Errors
/// Never.
pub fn end_leftovers_of_earlier_host(_options: &ProcessesOptions) -> io::Result<Vec<Leftover>> {
    Ok(Vec::new())
}

/// Services run as the host until accounts come.
///
/// # Errors
/// [`IdentityError::NotPermitted`] for any user or group.
pub fn resolve_identity(user: Option<&str>, group: Option<&str>) -> Result<Option<Identity>, IdentityError> {
    match user.or(group) {
        None => Ok(None),
        Some(wanted) => {
            Err(IdentityError::NotPermitted { wanted: wanted.to_owned(), host: "a Windows user".to_owned() })
        }
    }
}

/// Windows has no root; folders are those of the machine.
#[must_use]
pub const fn is_root() -> bool {
    false
}

/// Windows has no user numbers.
#[must_use]
pub const fn uid() -> u32 {
    0
}

/// The user's profile.
#[must_use]
pub fn user_home() -> Option<PathBuf> {
    std::env::var_os("USERPROFILE").map(PathBuf::from)
}

/// Windows has no such limit.
///
/// # Errors
/// Never.
pub const fn raise_open_files_limit() -> io::Result<(u64, u64)> {
    Ok((u64::MAX, u64::MAX))
}

/// Nothing runs yet, so nothing is known.
#[must_use]
pub fn tree_usage(roots: &[u32]) -> Vec<Option<Usage>> {
    vec![None; roots.len()]
}

/// Not known yet.
#[must_use]
pub const fn pid_exists(_pid: u32) -> bool {
    false
}

/// Whether a file of that name is there; PATHEXT and formats come with Windows services.
///
/// # Errors
/// When no such file is found.
pub fn check_executable(
    program: &OsStr,
    path: Option<&OsStr>,
    workdir: &Path,
    _identity: Option<&Identity>,
) -> Result<PathBuf, LaunchFailure> {
    let folders = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>()).unwrap_or_default();
    let names = [PathBuf::from(program), PathBuf::from(program).with_extension("exe")];
    let found = std::iter::once(workdir.to_owned())
        .chain(folders)
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)).collect::<Vec<_>>())
        .find(|file| file.is_file());
    found.ok_or_else(|| LaunchFailure {
        step: LaunchStep::Exec,
        path: Some(program.into()),
        errno: 2,
        message: "The system cannot find the file specified.".to_owned(),
        hint: None,
    })
}
