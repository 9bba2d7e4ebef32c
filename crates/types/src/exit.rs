//! How a process ended, and the words for it.

use std::fmt;

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Exit {
    /// It returned this code. Linux: 0 to 255. Windows: any 32-bit value, read as signed.
    Code(i32),
    /// A signal ended it (Linux).
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel wrote a core.
        core_dumped: bool,
    },
    /// The kernel killed it because its service, or the machine, ran out of memory (SIGKILL).
    OutOfMemory,
    /// It ended, and how is not to be had: it was no child of the host, and its own parent took the answer (Linux before
    /// 6.15).
    Unknown,
}

impl Exit {
    /// Whether the program says it did its work.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }

    /// The exit code, if there is one.
    #[must_use]
    pub const fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal { .. } | Self::OutOfMemory | Self::Unknown => None,
        }
    }

    /// The signal's name, if a signal ended it.
    #[must_use]
    pub fn signal(self) -> Option<String> {
        match self {
            Self::Code(_) | Self::Unknown => None,
            Self::Signal { signal, .. } => Some(signal_name(signal)),
            Self::OutOfMemory => Some(signal_name(9)),
        }
    }
}

impl fmt::Display for Exit {
    /// Completes "it ...": `exited with code 1`, `was ended by SIGKILL`, `crashed with SIGSEGV (core dumped)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal { signal, core_dumped } => {
                let verb = if is_crash(*signal) { "crashed with" } else { "was ended by" };
                write!(f, "{verb} {}", signal_name(*signal))?;
                if *core_dumped { f.write_str(" (core dumped)") } else { Ok(()) }
            }
            Self::Unknown => f.write_str("ended, and how is not known"),
            Self::OutOfMemory => f.write_str("was killed by the kernel for lack of memory (SIGKILL)"),
        }
    }
}

/// Signals the kernel raises for a fault of the program itself (signal(7)): QUIT is left out, people send it.
const fn is_crash(signal: i32) -> bool {
    matches!(signal, 4..=8 | 11 | 31)
}

/// The name of a Linux signal number, `SIGKILL` for 9; real-time and unknown ones as `signal 42`.
/// Source: signal(7), the x86 and ARM column.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    usize::try_from(signal)
        .ok()
        .and_then(|number| NAMES.get(number.checked_sub(1)?))
        .map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_exits() {
        assert_eq!(Exit::Code(3).to_string(), "exited with code 3");
        assert_eq!(Exit::Signal { signal: 9, core_dumped: false }.to_string(), "was ended by SIGKILL");
        assert_eq!(
            Exit::Signal { signal: 11, core_dumped: true }.to_string(),
            "crashed with SIGSEGV (core dumped)"
        );
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(40), "signal 40");
        assert_eq!(signal_name(0), "signal 0");
        assert_eq!(signal_name(-1), "signal -1");
    }
}
