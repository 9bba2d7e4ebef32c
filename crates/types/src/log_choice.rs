//! What the file chooses about a log, and the capture acts on.

/// What happens to output while the log cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenBlocked {
    /// The pipe is not read: once it is full, the program waits at its next output. The default.
    #[default]
    Wait,
    /// The pipe is read, and whole lines are left out and counted; a record in the file says how many, where they are missing.
    Drop,
}

/// When what was written to a log is put on the disk itself (fsync(2)). Whatever is chosen, it is in the file, for every
/// reader, before an exit is told; this is about a machine that stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fsync {
    /// When the system sees fit. The default.
    #[default]
    Never,
    /// When a file is closed.
    Rotate,
    /// After each write; a write holds all lines of one read.
    Line,
}
