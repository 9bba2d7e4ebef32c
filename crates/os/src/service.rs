//! A program as a service of its system, without a runtime: what asks it from outside, and how the service control manager
//! (SCM) of Windows starts it and is told.
//!
//! Signals and console events come by [`on_service_request`]; a program that the SCM started is found by [`serve_scm`].

use std::fmt;
use std::time::Duration;

#[cfg(target_os = "linux")]
#[path = "linux/service.rs"]
mod body;
#[cfg(not(target_os = "linux"))]
#[path = "windows/service.rs"]
mod body;

pub use body::{ScmEntry, ScmHandle, on_service_request, serve_scm};

/// Something the system asks of a program, or tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceRequest {
    /// To end.
    Stop(StopCause),
    /// To read its settings again: SIGHUP, or `SERVICE_CONTROL_PARAMCHANGE`.
    Reload,
    /// To hold still.
    Pause,
    /// To go on after that.
    Continue,
    /// A user's session changed; Windows only.
    Session {
        /// How.
        change: SessionChange,
        /// Which.
        session: u32,
    },
    /// The machine's power changed; Windows only.
    Power(PowerChange),
}

/// What asks a program to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopCause {
    /// Ctrl-C: SIGINT, `CTRL_C_EVENT`.
    CtrlC,
    /// `CTRL_BREAK_EVENT`.
    CtrlBreak,
    /// The console or terminal is gone: SIGHUP, `CTRL_CLOSE_EVENT`, `CTRL_LOGOFF_EVENT`.
    ConsoleGone,
    /// SIGTERM.
    Terminate,
    /// SIGQUIT.
    Quit,
    /// The service control manager.
    Manager,
    /// The machine goes down.
    Shutdown,
    /// The program itself.
    Program,
}

impl StopCause {
    /// For a line of a log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CtrlC => "Ctrl-C",
            Self::CtrlBreak => "Ctrl-Break",
            Self::ConsoleGone => "the loss of the console",
            Self::Terminate => "SIGTERM",
            Self::Quit => "SIGQUIT",
            Self::Manager => "the service control manager",
            Self::Shutdown => "the shutdown of the machine",
            Self::Program => "the program itself",
        }
    }
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What happened to a session
/// (<https://learn.microsoft.com/en-us/windows/win32/termserv/wm-wtssession-change>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SessionChange {
    /// A user logged on.
    Logon,
    /// A user logged off.
    Logoff,
    /// Locked.
    Lock,
    /// Unlocked.
    Unlock,
    /// Connected to the console.
    ConsoleConnect,
    /// Disconnected from the console.
    ConsoleDisconnect,
    /// Connected from another machine.
    RemoteConnect,
    /// That connection ended.
    RemoteDisconnect,
    /// Another, by its number.
    Other(u32),
}

/// What happened to the machine's power
/// (<https://learn.microsoft.com/en-us/windows/win32/power/wm-powerbroadcast-messages>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PowerChange {
    /// It is about to sleep.
    Suspend,
    /// It woke up.
    Resume,
    /// From battery to mains, or back.
    Source,
    /// Another, by its number.
    Other(u32),
}

/// The states of a service, in the SCM's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScmState {
    /// `SERVICE_START_PENDING`.
    StartPending,
    /// `SERVICE_RUNNING`.
    Running,
    /// `SERVICE_PAUSE_PENDING`.
    PausePending,
    /// `SERVICE_PAUSED`.
    Paused,
    /// `SERVICE_CONTINUE_PENDING`.
    ContinuePending,
    /// `SERVICE_STOP_PENDING`.
    StopPending,
    /// `SERVICE_STOPPED`.
    Stopped,
}

/// Which controls the SCM may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScmControls {
    /// Stop, shutdown and preshutdown.
    pub stop: bool,
    /// Pause and continue.
    pub pause_continue: bool,
    /// That parameters changed, and what happens to sessions and power.
    pub news: bool,
}

/// One status, as `SetServiceStatus` takes it
/// (<https://learn.microsoft.com/en-us/windows/win32/api/winsvc/ns-winsvc-service_status>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScmStatus {
    /// The state.
    pub state: ScmState,
    /// What it takes.
    pub accepted: ScmControls,
    /// The code it failed with, its own and not one of the system's; zero when it did not.
    pub exit_code: u32,
    /// Grows while a state that is pending goes on; zero in the others.
    pub checkpoint: u32,
    /// How long until the next word, while a state is pending; zero in the others.
    pub wait_hint: Duration,
}
