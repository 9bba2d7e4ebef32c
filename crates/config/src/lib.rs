//! The one schema of `mainstay.toml`: text in, a validated [`Stack`] out.
//!
//! Role: declares every key once; reads, checks and resolves the file; JSON Schema and the reference page come from
//! the same declaration. May use: `types`. May be used by: `lifecycle`, `host`, `mainstay`, `xtask`.
//! Opens nothing and looks nothing up: the text and the environment are arguments.

mod stack;

pub use stack::{
    Backoff, Condition, Gate, GiveUp, Kind, Limits, LogPolicy, Need, Probe, RestartPolicy, RestartWhen,
    Rotation, Service, Stack, StopPolicy,
};
