//! What a forwarder counts, and what it has to tell.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_logs::read::Missing;
use mainstay_types::{ServiceName, Timestamp};

use crate::record::missing_words;

/// Since the host began.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Lines the target has taken.
    pub sent: u64,
    /// Lines it will never have: removed before they were sent, beyond the bound, or refused.
    pub lost: u64,
    /// There are more lost ones, which could not be counted.
    pub lost_more: bool,
    /// Attempts that failed.
    pub failures: u64,
    /// Bytes of log files that it has not taken yet.
    pub behind_bytes: u64,
    /// Why it takes nothing at present.
    pub failing: Option<String>,
    /// Since when.
    pub failing_since: Option<Timestamp>,
    /// When it last took something.
    pub sent_at: Option<Timestamp>,
}

/// The counts of a running forwarder.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<Counts>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing panics while holding it; even then every number is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something to tell about a target; each once, not once an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// It has begun to fail.
    Failing {
        /// Why.
        words: String,
    },
    /// It takes lines again.
    Recovered {
        /// How long it did not.
        after: Duration,
        /// Attempts that failed meanwhile.
        failures: u32,
    },
    /// Lines were removed before they were sent, or skipped because too many waited.
    Missing {
        /// Of this service.
        service: ServiceName,
        /// How much.
        missing: Missing,
    },
    /// The target refused lines for good.
    Refused {
        /// How many.
        lines: u64,
        /// What it said.
        words: String,
    },
    /// The place cannot be kept, or a log file cannot be read.
    Trouble {
        /// What, and the system's answer.
        words: String,
    },
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failing { words } => write!(
                f,
                "takes no lines: {words}; they wait in the log files, and are sent when it takes them again"
            ),
            Self::Recovered { after, failures } => {
                let plural = if *failures == 1 { "attempt" } else { "attempts" };
                let after = mainstay_types::format_duration(*after);
                write!(f, "takes lines again, after {after} and {failures} failed {plural}")
            }
            Self::Missing { service, missing } => {
                write!(
                    f,
                    "{} of {service} were not sent: removed by rotation, or beyond `spool`",
                    missing_words(missing)
                )
            }
            Self::Refused { lines, words } => {
                let plural = if *lines == 1 { "line is" } else { "lines are" };
                write!(f, "{lines} {plural} refused for good, and not sent: {words}")
            }
            Self::Trouble { words } => f.write_str(words),
        }
    }
}
