//! The words every crate shares.
//!
//! Role: names, states, exits, durations, sizes, addresses, what a probe asks and is answered, what a program says of itself:
//! as types, each parsed once at the edge and printed one way.
//! May use: nothing of mainstay. May be used by: every crate.
//! Nothing here reads a clock, a file or the environment.

mod command;
mod duration;
mod exit;
mod exit_code;
mod launch;
mod level;
mod listen;
mod log_choice;
mod moment;
mod name;
mod notification;
mod probe;
mod size;
mod state;
mod stop_signal;

pub use command::CommandLine;
pub use duration::{DurationParseError, format_duration, parse_duration};
pub use exit::{Exit, signal_name};
pub use exit_code::ExitCode;
pub use launch::{LaunchFailure, LaunchStep};
pub use level::{Level, ParseLevelError};
pub use listen::{ListenAddress, ListenParseError};
pub use log_choice::{Fsync, WhenBlocked};
pub use moment::Moment;
pub use name::{NameError, ReplicaId, ServiceName, SpawnId, StackName};
pub use notification::Notification;
pub use probe::{
    CaFile, HostPort, HttpTarget, ProbeAction, ProbeFailure, ProbeKind, ProbeOutcome, ServerKind, ServerUrl,
    TargetParseError,
};
pub use size::{SizeParseError, format_size, parse_size};
pub use state::{Phase, State};
pub use stop_signal::StopSignal;

/// Wall-clock time, in UTC with nanoseconds. Only for showing and storing; decisions use [`Moment`].
pub use jiff::Timestamp;
