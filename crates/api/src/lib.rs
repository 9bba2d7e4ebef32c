//! The control API of a running host: HTTP/1.1 with JSON on the control socket.
//!
//! Role: the routes, the JSON shapes behind `--json`, the OpenAPI document, the server's connections and the client.
//! May use: `types`, `os` (its control sockets). May be used by: `host` (serves it), `mainstay` (its first client).
//!
//! The host implements [`ControlPlane`]; everything about HTTP stays on this side of it.

mod client;
mod control;
mod follow;
mod openapi;
mod problem;
mod query;
mod route;
mod router;
mod server;
mod shapes;

pub use client::{Client, ClientError, Followed};
pub use control::{
    CommandOptions, ControlPlane, EventStream, EventsQuery, LogStream, LogsQuery, ParseVerbError,
    ReloadOptions, Verb,
};
pub use openapi::openapi;
pub use problem::{Problem, ProblemKind};
pub use router::router;
pub use server::{MAX_CONNECTIONS, Notice, serve, serve_with_notices};
pub use shapes::{
    CommandOutcome, CommandReply, Event, EventKind, ExitInfo, FileStatus, ForwardStatus, HostStatus,
    LastExit, LimitStatus, ListenStatus, LogEntry, LogLevel, OutputStream, Plan, PlanAction, PlanKey,
    PlanService, ReloadReply, ReplicaStatus, RotateOutcome, RotateReply, RotatedLog, ServiceKind,
    ServiceStatus, Status,
};
