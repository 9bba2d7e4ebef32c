//! The words every crate shares.
//!
//! Role: names, states, exits, durations and sizes as types, each parsed once at the edge and printed one way.
//! May use: nothing of mainstay. May be used by: every crate.
//! Nothing here reads a clock, a file or the environment.

mod command;
mod duration;
mod exit;
mod exit_code;
mod launch;
mod moment;
mod name;
mod probe;
mod size;
mod state;
mod stop_signal;

pub use command::CommandLine;
pub use duration::{DurationParseError, format_duration, parse_duration};
pub use exit::{Exit, signal_name};
pub use exit_code::ExitCode;
pub use launch::{LaunchFailure, LaunchStep};
pub use moment::Moment;
pub use name::{NameError, ReplicaId, ServiceName, SpawnId, StackName};
pub use probe::{HostPort, HttpTarget, ProbeAction, ProbeFailure, ProbeKind, ProbeOutcome, TargetParseError};
pub use size::{SizeParseError, format_size, parse_size};
pub use state::{Phase, State};
pub use stop_signal::StopSignal;

/// Wall-clock time, in UTC with nanoseconds. Only for showing and storing; decisions use [`Moment`].
pub use jiff::Timestamp;
