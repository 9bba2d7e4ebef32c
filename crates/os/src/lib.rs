//! The operating system: process trees and their limits, the launcher, sockets for control and for services, what programs
//! say by sd_notify, facts about processes.
//!
//! Role: the only crate with `unsafe` code and platform `cfg`. May use: `types`. May be used by: `api`, `host`,
//! `service`, `mainstay`, `testkit`.

mod control;
mod descriptor;
mod environment;
mod event_log;
mod facts;
mod limits;
mod listener;
mod manager;
mod notification;
mod options;
mod process;
mod service;
mod stop_request;

pub mod fake;

pub use control::{
    Accepted, ControlBindError, ControlConnectError, ControlListener, ControlStream, Peer,
    connect as connect_control,
};
pub use descriptor::Descriptor;
pub use environment::{account_variables, default_path, is_passed_on, variable_key};
pub use event_log::{Gravity, MAX_ENTRY_UNITS};
#[cfg(target_os = "linux")]
mod linux;
#[cfg(windows)]
mod windows;
// What these decide is tested everywhere.
#[cfg(any(windows, test))]
#[path = "windows/command_line.rs"]
mod windows_command_line;
#[cfg(any(windows, test))]
#[path = "windows/environment.rs"]
mod windows_environment;

#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(windows)]
use windows as platform;

pub use facts::{
    Account, FileLock, IdentityError, LockError, Usage, canonical, create_private_dir, lock_file,
    make_executable, runtime_base, state_base,
};
pub use limits::{Enforced, LimitStatus, RlimitScope};
pub use listener::{Holder, ListenError, ListenFailure, Listener, open_listener};
pub use manager::{MAX_SAYING_BYTES, NOTIFY_VARIABLE, manager_watchdog, notify_manager};
pub use notification::{MAX_NOTIFICATION_BYTES, Message};
pub use options::{Leftover, ProcessesOptions, ProcessesStartError, UseCgroups};
#[cfg(target_os = "linux")]
pub(crate) use platform::original_open_files_limit;
pub use platform::{
    Journal, LocalDatagram, NotifySocket, Output, OutputPipe, Processes, ReadinessReader, SystemLog, account,
    check_executable, end_leftovers_of_earlier_host, give_back_memory, host_name, is_root, keep_memory_small,
    limits_in_force_here, lower_thread_priority, monotonic_micros, pid_exists, raise_open_files_limit,
    readiness_pipe, resolve_identity, run_launcher_if_asked, tree_usage, uid, user_home,
};
pub use process::{
    Handed, Identity, Launch, MAX_HANDED, ProcessEvent, ProcessTrees, ResourceLimits, SetMainError,
};
pub use service::{
    PowerChange, ScmControls, ScmEntry, ScmHandle, ScmState, ScmStatus, ServiceRequest, SessionChange,
    StopCause, on_service_request, serve_scm,
};
pub use stop_request::{on_reload_request, on_stop_request};
