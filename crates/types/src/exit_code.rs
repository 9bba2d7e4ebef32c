//! The exit codes of the `mainstay` command, as the contract fixes them.

/// How a `mainstay` command ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// It failed: a service did not start, a check found errors.
    Failed = 1,
    /// Wrong usage or an invalid file.
    Usage = 2,
    /// No running host, or no such service.
    NotFound = 3,
    /// The time allowed ran out.
    TimedOut = 4,
    /// The command needs more rights.
    NotPermitted = 5,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
