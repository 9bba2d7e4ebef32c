//! What is asked of a service manager.

use std::time::Duration;

use mainstay_unit::Shown;

/// Something a service manager does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Reads all units anew.
    Reread,
    /// Lets it start at boot.
    Enable,
    /// Does not.
    Disable,
    /// Starts it.
    Start,
    /// Stops it.
    Stop,
    /// Forgets that it failed.
    ResetFailed,
}

impl Verb {
    /// systemctl's word.
    #[must_use]
    pub const fn as_word(self) -> &'static str {
        match self {
            Self::Reread => "daemon-reload",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::ResetFailed => "reset-failed",
        }
    }
}

/// The service manager that something is registered with.
pub trait ServiceManager {
    /// The number of its version.
    ///
    /// # Errors
    /// [`ManagerError`]
    fn version(&self) -> Result<u32, ManagerError>;
    /// What it says about a unit; one it does not know is `not-found`.
    ///
    /// # Errors
    /// [`ManagerError`]
    fn show(&self, unit: &str) -> Result<Shown, ManagerError>;
    /// Does it, and waits for the end of it at most that long.
    ///
    /// # Errors
    /// [`ManagerError`]
    fn act(&self, verb: Verb, unit: &str, limit: Duration) -> Result<(), ManagerError>;
}

/// Why it did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// It is not what runs this system, or not installed.
    #[error("{0}")]
    NotHere(String),
    /// It was asked, and refused.
    #[error("`{command}` failed: {said}")]
    Refused {
        /// As one would type it.
        command: String,
        /// What it wrote.
        said: String,
    },
    /// It was not done in time; it goes on with it.
    #[error("`{command}` was not done within {} s", limit.as_secs())]
    TimedOut {
        /// As one would type it.
        command: String,
        /// The time it had.
        limit: Duration,
    },
}
