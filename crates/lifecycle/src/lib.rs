//! Decides what a stack of services does next: events and the time go in, effects come out.
//!
//! Role: the state machines of replica, service and stack. May use: `types`, `config`. May be used by: `host`, `testkit`.
//! Nothing is read, written, waited for or drawn at random: time and seed are arguments.

mod effect;
mod event;
mod graph;
mod machine;
mod probe;
mod random;
mod reason;
mod record;
mod replica;
mod retry;
mod view;

pub use effect::{Effect, GateCheckId, Purpose, TaskId};
pub use event::{Command, Event};
pub use graph::stop_budget;
pub use machine::{DeadlineReason, KILL_WAIT, ReloadId, StackMachine};
pub use random::SplitMix64;
pub use reason::Reason;
pub use record::Record;
pub use view::{Blocker, ReloadView, ReplicaView, ServiceView, Wanted};

#[cfg(test)]
mod tests;
