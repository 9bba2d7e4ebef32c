//! Why a program failed, as it says so itself: any error, with an exit code.

use std::error::Error;
use std::fmt;

/// What a failure without a code of its own ends with.
pub(crate) const FAILED: u8 = 1;

/// Why a program failed, and the code it ends with. Any error becomes one by `?`; its causes are shown in the log.
pub struct Failure {
    code: u8,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// With words and no error behind them; the code is 1.
    #[must_use]
    pub fn new(words: impl Into<String>) -> Self {
        Self { code: FAILED, error: words.into().into() }
    }

    /// With this exit code. Zero stands for success and becomes 1.
    ///
    /// ```
    /// use mainstay_service::Failure;
    /// let failure = Failure::new("no licence").with_code(7);
    /// assert_eq!((failure.code(), failure.to_string().as_str()), (7, "no licence"));
    /// ```
    #[must_use]
    pub fn with_code(self, code: u8) -> Self {
        Self { code: if code == 0 { FAILED } else { code }, ..self }
    }

    /// The exit code; under the SCM the service-specific one.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.code
    }
}

// A failure is no `Error` itself: so every error can become one.
impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: FAILED, error: Box::new(error) }
    }
}

/// The error and its causes, on one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let mut cause = self.error.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} (exit code {})", self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the list")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn an_error_comes_with_its_causes() {
        let fails = || -> Result<(), Failure> { Err(Outer("x".parse::<u8>().unwrap_err()))? };
        let failure = fails().unwrap_err();
        assert_eq!(failure.to_string(), "cannot read the list: invalid digit found in string");
        assert_eq!((failure.code(), failure.with_code(0).code()), (1, 1));
    }
}
