//! The running host: one loop that owns a stack's state and performs its effects.
//!
//! Role: joins the decisions of `lifecycle` with the world of `os`, `probes` and `logs`, serves the control API, keeps
//! the event record. May use: every library crate. May be used by: `mainstay`.
//!
//! Tasks and threads, and what runs between them:
//!
//! | who | does | is told by | ends |
//! |---|---|---|---|
//! | the loop ([`Host::run`]) | owns the state, performs effects | process news, messages, deadlines | when the stack is over |
//! | publisher (task) | turns records into events: record, followers, terminal | a channel from the loop | told to close |
//! | API (task, one a connection) | asks the loop, reads record and logs | the control socket | with the runtime |
//! | one task a probe or gate check under way | performs it, answers once | – | with its answer or time limit |
//! | `events` (thread) | writes and reads SQLite | a queue of at most `MAX_QUEUED` | told to close |
//! | `logs` (thread) | captures output | pipes, a channel from the loop | told to close |

mod control;
mod error;
mod event_store;
mod host;
mod launch_spec;
mod load;
mod log_watch;
mod message;
mod notice;
mod paths;
mod perform;
mod plan;
mod preflight;
mod publish;
mod reload;
mod runner;
mod said;
mod shared_stack;
mod sockets;
mod status;
mod waiters;

pub use control::{HostHandle, StopBlocker, log_entry};
pub use error::{HostError, chain};
pub use event_store::{EventFilter, EventStoreError, read_events};
pub use host::{Host, HostOptions, HostOutcome};
pub use launch_spec::PrepareError;
pub use load::{LoadError, load, stack_name};
pub use paths::{Paths, RUNTIME_DIR_VARIABLE, STATE_DIR_VARIABLE};
pub use preflight::{Warning, preflight, warnings};
pub use publish::{LAST_LINES, Observer};
pub use reload::Loader;
