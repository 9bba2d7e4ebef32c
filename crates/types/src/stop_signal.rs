//! What may be sent to a program to ask it to stop.

use std::fmt;
use std::str::FromStr;

/// A request to stop, by the names of the file. Windows has ways of its own for four of them: Ctrl-C for TERM and INT,
/// Ctrl-Break for QUIT, closing windows for HUP.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StopSignal {
    /// The usual request to end.
    Term,
    /// What Ctrl-C sends.
    Int,
    /// nginx: finish what is in flight, then end.
    Quit,
    /// Hang-up.
    Hup,
    /// Free for the program's own meaning.
    Usr1,
    /// Free for the program's own meaning.
    Usr2,
    /// Cannot be caught.
    Kill,
}

impl StopSignal {
    /// Every accepted signal.
    pub const ALL: [Self; 7] =
        [Self::Term, Self::Int, Self::Quit, Self::Hup, Self::Usr1, Self::Usr2, Self::Kill];

    /// The name in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Hup => "SIGHUP",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Kill => "SIGKILL",
        }
    }

    /// The number on Linux, x86 and ARM (signal(7)).
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Term => 15,
            Self::Int => 2,
            Self::Quit => 3,
            Self::Hup => 1,
            Self::Usr1 => 10,
            Self::Usr2 => 12,
            Self::Kill => 9,
        }
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StopSignal {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|signal| signal.as_str() == text).ok_or(())
    }
}
