//! The one schema of `mainstay.toml`: text in, a validated [`Stack`] out.
//!
//! Role: declares every key once; reads, checks and resolves the file; says what differs between two versions of it and
//! what that asks for; JSON Schema and the reference page come from the same declaration. May use: `types`. May be used by: `lifecycle`, `host`, `mainstay`, `xtask`.
//! Opens nothing and looks nothing up: the text and the environment are arguments.
//!
//! ```text
//! bytes ─ decode ─► text ─ syntax ─► TOML with places ─ read, by declare + keys ─► Options ─ resolve, graph ─► Stack
//!                                                                    └─► json_schema, reference
//! ```

#![forbid(unsafe_code)]

mod stack;

mod command;
mod declare;
mod decode;
mod diagnostic;
mod diff;
mod env_file;
mod expand;
mod forward;
mod graph;
mod json_schema;
mod keys;
mod nearest;
mod nested;
mod parse;
mod quote;
mod read;
mod reference;
mod remark;
mod render;
mod resolve;
mod syntax;
mod target;
mod template;
mod value;

pub use decode::{MAX_FILE_BYTES, decode};
pub use diagnostic::{ConfigCause, Diagnostic, Diagnostics, MAX_DIAGNOSTICS};
pub use diff::{ChangeEffect, KeyChange, ServiceChange, StackDiff, diff};
pub use env_file::{EnvFileError, parse_env_file};
pub use json_schema::json_schema;
pub use parse::{Input, parse, stack_name};
pub use reference::reference_markdown;
pub use remark::{Remark, Severity};
pub use stack::{
    Backoff, Check, Condition, Destination, Forward, ForwardBackoff, ForwardBatch, Gate, GiveUp, Headers,
    Hook, Hooks, Kind, Limits, Listen, LogPolicy, Lose, Need, Probe, ReloadPolicy, RestartPolicy,
    RestartWhen, Rotation, Service, Stack, StopAction, StopPolicy, StopStep,
};
pub use template::template;

pub use mainstay_types::{Fsync, WhenBlocked};
