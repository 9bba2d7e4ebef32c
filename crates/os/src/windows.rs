//! Windows: the body of this crate's promises. A tree is a job object, and each has a console of its own without a window.
//! Needs Windows 10; what Wine lacks is told in docs/windows.md.

mod console;
pub(crate) mod control;
mod event_log;
mod job;
mod limits;
mod listener;
mod output;
mod port;
mod priority;
mod process;
mod processes;
mod program;
mod security;
mod spawn;
mod start;
mod system;
mod usage;
mod variables;

use std::convert::Infallible;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::os::windows::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Only sockets are handed over here.
pub(crate) use std::os::windows::io::OwnedSocket as OwnedDescriptor;

pub use event_log::SystemLog;
pub use limits::limits_in_force_here;
pub(crate) use listener::{SocketFile, open_socket};
pub use output::{Output, OutputPipe};
pub use priority::lower_thread_priority;
pub use processes::Processes;
pub use program::check_executable;
pub use usage::{pid_exists, tree_usage};
pub(crate) use variables::{account_variables, default_path, is_passed_on, variable_key};
use windows_sys::Win32::System::SystemInformation::GetSystemDirectoryW;

use crate::{Identity, IdentityError, Leftover, ProcessesOptions};
use crate::{windows_command_line as command_line, windows_environment as environment};

/// The exit code of what mainstay ends: what the system itself gives processes that it ends from outside
/// (`DBG_TERMINATE_PROCESS`), so that it is told apart from every code of a program's own.
const KILLED: u32 = 0x4001_0004;

/// Turns this process into the sender of Ctrl events and never returns, when it was executed as one. Else does nothing. To be
/// called first in `main`.
pub fn run_launcher_if_asked() {
    console::send_if_asked();
}

/// Nothing to tell the allocator here.
pub const fn keep_memory_small() {}

/// The process heap gives pages back by itself (HeapFree).
pub const fn give_back_memory() {}

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

/// The folder of the system's own programs.
fn system_dir() -> PathBuf {
    let mut path = vec![0_u16; 260];
    // SAFETY: the buffer has as many units as is said; when they do not suffice, nothing is written.
    // https://learn.microsoft.com/en-us/windows/win32/api/sysinfoapi/nf-sysinfoapi-getsystemdirectoryw
    let length = unsafe { GetSystemDirectoryW(path.as_mut_ptr(), path.len() as u32) } as usize;
    path.get(..length)
        .filter(|path| !path.is_empty())
        .map_or_else(|| r"C:\Windows\System32".into(), |path| OsString::from_wide(path).into())
}

/// What runs batch files.
fn command_interpreter() -> PathBuf {
    system_dir().join("cmd.exe")
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

/// Nothing is left of a dead host: its jobs ended with it, and their processes with them.
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
