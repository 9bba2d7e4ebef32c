//! The nine states of a service and the four phases they belong to, as the contract names them.
//!
//! ```text
//! initializing: waiting, starting, backoff   running: ready, unready
//! shutting-down: stopping                    terminated: stopped, completed, failed
//! ```

use std::fmt;
use std::str::FromStr;

/// What a service or replica is doing, in the contract's words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// Its gates are not met.
    Waiting,
    /// Spawned, not ready.
    Starting,
    /// Running, and ready.
    Ready,
    /// Running, readiness failing.
    Unready,
    /// Waiting to restart.
    Backoff,
    /// Asked to stop, not yet gone.
    Stopping,
    /// Stopped on request.
    Stopped,
    /// A oneshot that succeeded.
    Completed,
    /// Gave up.
    Failed,
}

impl State {
    /// All states, in the contract's order.
    pub const ALL: [Self; 9] = [
        Self::Waiting,
        Self::Starting,
        Self::Ready,
        Self::Unready,
        Self::Backoff,
        Self::Stopping,
        Self::Stopped,
        Self::Completed,
        Self::Failed,
    ];

    /// The phase this state belongs to.
    #[must_use]
    pub const fn phase(self) -> Phase {
        match self {
            Self::Waiting | Self::Starting | Self::Backoff => Phase::Initializing,
            Self::Ready | Self::Unready => Phase::Running,
            Self::Stopping => Phase::ShuttingDown,
            Self::Stopped | Self::Completed | Self::Failed => Phase::Terminated,
        }
    }

    /// The word users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unready => "unready",
            Self::Backoff => "backoff",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// The coarse course of a service and of the host: forward only, save that a restart begins anew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    /// Not running yet.
    Initializing,
    /// Running.
    Running,
    /// On the way down.
    ShuttingDown,
    /// Nothing runs.
    Terminated,
}

impl Phase {
    /// The word users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_back_as_itself() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
    }
}
