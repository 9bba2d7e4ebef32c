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
    /// Completes "it ...": `exited with code 1`, `was ended by SIGKILL`, `crashed with SIGSEGV (core dumped)`, `crashed: it used
    /// memory that is not its own (0xC0000005)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => match status_words(code.cast_unsigned()) {
                Some(words) => write!(f, "{words} ({:#010X})", code.cast_unsigned()),
                // Errors of the system, which are always written like this.
                None if (0xC000_0000..0xD000_0000).contains(&code.cast_unsigned()) => {
                    write!(f, "exited with status {:#010X}", code.cast_unsigned())
                }
                None => write!(f, "exited with code {code}"),
            },
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

/// What the codes say with which Windows itself ends a process, or keeps it from beginning. No program of Linux has one of
/// them, for its codes end at 255. Source: MS-ERREF 2.3.1, NTSTATUS Values.
const fn status_words(status: u32) -> Option<&'static str> {
    Some(match status {
        0x4001_0004 => "was ended from outside",
        0x4001_0005 | 0xC000_013A => "was ended by Ctrl-C",
        0x4001_0008 => "was ended by Ctrl-Break",
        0x8000_0003 => "crashed: it met a breakpoint",
        0xC000_0005 => "crashed: it used memory that is not its own",
        0xC000_0006 => "crashed: a page of it could not be read from disk or network",
        0xC000_0017 => "crashed: there was not enough memory",
        0xC000_001D => "crashed: it met an instruction that this processor does not have",
        0xC000_0025 => "crashed: it could not go on after an exception",
        0xC000_0094 => "crashed: it divided by zero",
        0xC000_0095 => "crashed: a sum did not fit",
        0xC000_0096 => "crashed: it used an instruction that is for the system alone",
        0xC000_00FD => "crashed: its stack is full",
        0xC000_0135 => "did not begin: a DLL it needs was not found",
        0xC000_0138 | 0xC000_0139 => "did not begin: a DLL it needs lacks a function",
        0xC000_0142 => "did not begin: a DLL it needs could not be initialised",
        0xC000_007B => "did not begin: it or a DLL it needs is for another kind of processor",
        0xC000_0374 => "crashed: its heap was damaged",
        0xC000_0409 => "crashed: it found itself damaged and ended at once",
        0xC000_0417 => "crashed: it gave a function of the C runtime something invalid",
        0xC000_0420 => "crashed: an assertion of it failed",
        0xE06D_7363 => "crashed: nobody caught a C++ exception",
        0xE043_4352 => "crashed: nobody caught a .NET exception",
        _ => return None,
    })
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
    fn words_for_the_codes_of_windows() {
        for (status, words) in [
            (0xC000_0005_u32, "crashed: it used memory that is not its own (0xC0000005)"),
            (0xC000_0135, "did not begin: a DLL it needs was not found (0xC0000135)"),
            (0xC000_013A, "was ended by Ctrl-C (0xC000013A)"),
            (0x4001_0004, "was ended from outside (0x40010004)"),
            (0xC000_0001, "exited with status 0xC0000001"),
            (0xFFFF_FFFF, "exited with code -1"),
            (1, "exited with code 1"),
        ] {
            let exit = Exit::Code(status.cast_signed());
            assert_eq!(exit.to_string(), words);
            assert!(!exit.is_success());
        }
    }

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
