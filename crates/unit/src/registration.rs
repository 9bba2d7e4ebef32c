//! What is to be registered: a stack's file, the program that runs it, and when it starts.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_types::StackName;

/// Whose service manager.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The machine's, as root.
    System,
    /// The user's own.
    User,
}

/// When it starts by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// At boot; a user's with the user's service manager.
    Auto,
    /// At boot, once everything else of the boot is up.
    Delayed,
    /// Only when somebody starts it.
    Manual,
}

/// When the host calls itself ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadyWhen {
    /// With its services.
    Services,
    /// As soon as it supervises.
    Host,
}

/// All that the text of a registration depends on. Paths are absolute and UTF-8: whoever makes this has seen to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The stack.
    pub stack: StackName,
    /// Its file.
    pub file: PathBuf,
    /// The folder of the file.
    pub dir: PathBuf,
    /// The mainstay program.
    pub program: PathBuf,
    /// Whose service manager.
    pub scope: Scope,
    /// When it starts by itself.
    pub start: Start,
    /// When it is ready.
    pub ready: ReadyWhen,
    /// Variables the host is given.
    pub env: Vec<(String, String)>,
    /// The time an orderly stop of the whole stack may take.
    pub stop_budget: Duration,
    /// Whether a network that is up is worth waiting for.
    pub needs_network: bool,
    /// Whether the state is where the stack's name says, so that the service manager can be told of it.
    pub default_state_dir: bool,
}

impl Registration {
    /// The unit's name, without what a service manager appends to it.
    #[must_use]
    pub fn name(&self) -> String {
        unit_name(&self.stack)
    }
}

/// The name a stack is registered by.
#[must_use]
pub fn unit_name(stack: &StackName) -> String {
    format!("mainstay-{stack}")
}
