//! The operating system: process trees, the launcher, control sockets, facts about processes.
//!
//! Role: the only crate with `unsafe` code and platform `cfg`. May use: `types`. May be used by: `api`, `host`,
//! `mainstay`, `testkit`.

mod control;
mod process;

pub mod fake;

pub use control::{
    Accepted, ControlBindError, ControlConnectError, ControlListener, ControlStream, Peer,
    connect as connect_control,
};
pub use process::{Identity, Launch, ProcessEvent, ProcessTrees};
