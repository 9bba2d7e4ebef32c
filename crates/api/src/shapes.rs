//! The JSON shapes, as the contract's "JSON" section fixes them: what `--json` prints and the API answers.
//!
//! Times are RFC 3339 in UTC. A value that is absent is `null`, never left out; reading accepts both, so that an
//! event stored by an older mainstay still reads after a field is added here.

mod event;
mod log;
mod status;
mod words;

pub use event::{Event, EventKind, ExitInfo};
pub use log::{LogEntry, OutputStream};
pub use status::{
    CommandOutcome, CommandReply, HostStatus, LastExit, ReplicaStatus, ServiceKind, ServiceStatus, Status,
};
