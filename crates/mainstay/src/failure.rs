//! How a command ends when it does not end well: words for the user, an exit code for the caller.

use std::error::Error;

use mainstay_host::chain;
use mainstay_types::ExitCode;

/// A command's bad end.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For stderr; empty when everything has been said already.
    pub(crate) message: String,
    pub(crate) code: ExitCode,
    /// Whether the message begins with its own `error`.
    pub(crate) headed: bool,
}

impl Failure {
    pub(crate) fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { message: message.into(), code, headed: false }
    }

    /// The error and all its causes.
    pub(crate) fn from_error(code: ExitCode, error: &dyn Error) -> Self {
        Self { message: chain(error), code, headed: false }
    }

    /// Everything has been said already.
    pub(crate) fn silent(code: ExitCode) -> Self {
        Self { message: String::new(), code, headed: false }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(ExitCode::Failed, format!("{error:#}"))
    }
}
