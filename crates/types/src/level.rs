//! How serious a line of a log is.

use std::fmt;
use std::str::FromStr;

/// How serious a line of a log is, from the least to the most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// Every step of a program.
    Trace,
    /// For whoever looks for an error in the program.
    Debug,
    /// What happens as it should.
    Info,
    /// What may become an error.
    Warn,
    /// Something was not done.
    Error,
    /// The program, or a part of it, cannot go on.
    Fatal,
}

impl Level {
    /// All, from the least serious.
    pub const ALL: [Self; 6] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Fatal];

    /// The word on the command line and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no level.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseLevelError(pub String);

impl fmt::Display for ParseLevelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is none of trace, debug, info, warn, error, fatal", self.0)
    }
}

impl std::error::Error for ParseLevelError {}

impl FromStr for Level {
    type Err = ParseLevelError;

    /// Takes upper case, and `warning`, too.
    fn from_str(text: &str) -> Result<Self, ParseLevelError> {
        let word = text.to_ascii_lowercase();
        let word = if word == "warning" { "warn" } else { &word };
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == word)
            .ok_or_else(|| ParseLevelError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_and_order_is_by_weight() {
        for level in Level::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("WARNING".parse(), Ok(Level::Warn));
        assert!(Level::ALL.is_sorted());
        assert_eq!("loud".parse::<Level>(), Err(ParseLevelError("loud".to_owned())));
    }
}
