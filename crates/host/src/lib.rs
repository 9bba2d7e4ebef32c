//! The running host: one loop that owns a stack's state and performs its effects.
//!
//! Role: joins the decisions of `lifecycle` with the world of `os`, `probes`, `logs` and `forward`, serves the control API, keeps
//! the event record. May use: every library crate. May be used by: `mainstay`.
//!
//! Tasks and threads, and what runs between them:
//!
//! | who | does | is told by | ends |
//! |---|---|---|---|
//! | the loop ([`Host::run`]) | owns the state, performs effects | process news, messages, sayings, deadlines | when the stack is over |
//! | publisher (task) | turns records into events: record, followers, terminal | a channel from the loop | told to close |
//! | API (task, one a connection) | asks the loop, reads record and logs | the control socket | with the runtime |
//! | one task a probe or gate check under way | performs it, answers once | – | with its answer or time limit |
//! | one task a start with a `notify` probe | hands on what the program says, at most `QUEUED` untaken | its notify socket | when the start's tree is gone |
//! | one task a start with a `notify_fd` | waits for the line break, tells once | its pipe | with that, or with the tree |
//! | one task a command's output, one its time limit | keeps the end of it; tells that time is up | its pipes; the clock | with the command |
//! | `events` (thread) | writes and reads SQLite | a queue of at most `MAX_QUEUED` | told to close |
//! | `system-log` (thread, Windows) | writes the notable events into the Event Log | a queue of at most `QUEUED` | with the publisher |
//! | `logs` (thread) | captures output; `log` probes look at each line there | pipes, a channel from the loop | told to close |
//! | `forward-NAME` (thread, one a target) | sends lines on, from the log files | changes of files, the clock, answers | told to end; within `FLUSH_LIMIT` |
//! | panics (task) | records an incident for each panic of the process; tells the loop when capture has died | the hook | with the runtime |
//! | `host-log` (thread) | writes the host's own log | a queue of at most `MAX_QUEUED`, what is beyond is counted | told to end |
//! | blocking calls (threads of the runtime, at most 4) | read the stack's file, logs and `/proc` for the API; look names up and prove passwords for checks | a request | with the answer |
//!
//! What the host is made of:
//!
//! | module | holds |
//! |---|---|
//! | `host` | the loop itself |
//! | `process_news` | what becomes of news of processes, and how output is captured |
//! | `perform` | one effect after the other: a request to `os`, a task, or a line of the record |
//! | `launch_spec` | from a declaration to the one request that starts its program |
//! | `preflight` | what `check` and a reload look at before anything is started |
//! | `last_lines` | what failing replicas wrote last |
//! | `sockets` | the sockets of `listen`, open from the first start of a service on |
//! | `said` | who listens to which start by sd_notify and readiness descriptors, and who is believed |
//! | `log_watch` | which lines of output somebody waits for |
//! | `manager` | what the service manager that started the host is told: readiness, progress, signs of life |
//! | `runner` | commands of probes, hooks, stops and reloads |
//! | `own_log` | the host's own log: levels, queue, writer |
//! | `panics` | what becomes of a panic |
//! | `reload`, `plan` | a changed file: read, validated, compared; the difference in words |
//! | `shared_stack` | the stack that counts now, for those who answer without asking the loop |
//! | `metrics` | what is counted, in the Prometheus text format |
//! | `forwards` | the targets that output is sent to: which there are, and their numbers |
//! | `waiters` | who waits for the outcome of a command |
//! | `system_log` | which events go into the operating system's log of services, and under which number |

mod control;
mod error;
mod event_store;
mod forwards;
mod host;
mod last_lines;
mod launch_spec;
mod load;
mod log_watch;
mod manager;
mod message;
mod metrics;
mod notice;
mod own_log;
mod panics;
mod paths;
mod perform;
mod plan;
mod preflight;
mod process_news;
mod publish;
mod reload;
mod runner;
mod said;
mod shared_stack;
mod sockets;
mod status;
mod system_log;
mod waiters;

pub use control::{HostHandle, StopBlocker, log_entry};
pub use error::{HostError, chain};
pub use event_store::{EventFilter, EventStoreError, events_between, read_events};
pub use host::{Host, HostOptions, HostOutcome};
pub use last_lines::LAST_LINES;
pub use launch_spec::PrepareError;
pub use load::{LoadError, load, stack_name};
pub use mainstay_lifecycle::stop_budget;
pub use manager::ReadyWhen;
pub use own_log::{LEVELS, LogControl, LogFilter, LogFilterError, OwnLog, OwnLogOptions, log_start_failure};
pub use panics::{guard, report_panics};
pub use paths::{Paths, RUNTIME_DIR_VARIABLE, STATE_DIR_VARIABLE};
pub use preflight::{Warning, preflight, preflight_forward, warnings};
pub use publish::Observer;
pub use reload::Loader;
