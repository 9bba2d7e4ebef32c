//! How a command ends when it does not end well: words for the user, an exit code for the caller.

use std::error::Error;

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

/// An error with its causes, `outer: inner: innermost`. A hint on a line of its own (`next: ...`) stays last.
pub(crate) fn chain(error: &dyn Error) -> String {
    let text = error.to_string();
    let (head, hint) = match text.split_once("\n  next:") {
        Some((head, hint)) => (head.to_owned(), Some(hint.to_owned())),
        None => (text, None),
    };
    let mut words = head;
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !words.ends_with(&cause_text) {
            words.push_str(": ");
            words.push_str(&cause_text);
        }
        source = cause.source();
    }
    if let Some(hint) = hint {
        words.push_str("\n  next:");
        words.push_str(&hint);
    }
    words
}
