//! One line of output, as `logs --json` prints it and `GET /v1/logs` answers.

use std::fmt;
use std::str::FromStr;

use mainstay_types::{Level, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::words;

/// One line a service wrote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogEntry {
    /// When it was read from the program, to the nanosecond.
    pub at: Timestamp,
    /// Who wrote it.
    pub service: String,
    /// Which replica, counted from 0.
    pub replica: u32,
    /// Where to.
    pub stream: OutputStream,
    /// Whether the line goes on in the next entry of the same stream.
    pub partial: bool,
    /// How serious it is, by what the line says of itself; `null` if it does not.
    #[serde(with = "words::maybe_level")]
    #[schema(schema_with = words::maybe_level::schema, required)]
    pub level: Option<Level>,
    /// When the program says it wrote it; `null` if it does not, or without a time zone.
    #[schema(required)]
    pub time: Option<Timestamp>,
    /// The line without its end; bytes that are no UTF-8 are replaced by U+FFFD.
    pub line: String,
}

/// The answer to a request to close the current log files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RotateReply {
    /// One entry for each replica of the services asked for, in the order of the file.
    pub replicas: Vec<RotatedLog>,
}

/// What became of one replica's current log file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RotatedLog {
    /// Whose.
    pub service: String,
    /// Which replica, counted from 0.
    pub replica: u32,
    /// What became of it.
    pub outcome: RotateOutcome,
    /// The name it has now, in the folder of the replica; soon with `.zst` behind it where closed files are compressed.
    /// `null` unless it was closed.
    #[schema(required)]
    pub file: Option<String>,
    /// Why it was not closed; `null` if it was.
    #[schema(required)]
    pub reason: Option<String>,
}

/// What becomes of a log file that is to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RotateOutcome {
    /// It is closed; the next line begins a new one.
    Rotated,
    /// It has no line, and stays.
    Empty,
    /// It is closed as soon as the line that is being written ends.
    Waiting,
    /// It could not be closed.
    Failed,
}

/// What the host's own log tells.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogLevel {
    /// A level, or levels by part of the host, as `MAINSTAY_LOG` takes them.
    pub level: String,
    /// What it was before it was changed; null when it was only asked for.
    #[schema(required)]
    pub before: Option<String>,
}

/// Where a program writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputStream {
    /// The word of the CRI format, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl fmt::Display for OutputStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for OutputStream {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Stdout, Self::Stderr].into_iter().find(|stream| stream.as_str() == text).ok_or(())
    }
}
