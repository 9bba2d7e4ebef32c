//! The variables of programs: which of the host's own every program gets, and when two names are one.

use std::ffi::{OsStr, OsString};

use crate::{Account, platform};

/// The search path of a program whose host has none itself.
#[must_use]
pub fn default_path() -> OsString {
    platform::default_path()
}

/// Whether a variable of the host is handed on to every program, whatever its file says.
///
/// Linux: `PATH`, `LANG`, `LC_*` and `TZ`. Windows: also those that tell where the system, its programs and the account's
/// folders are, without which libraries of the system do not work.
#[must_use]
pub fn is_passed_on(name: &str) -> bool {
    platform::is_passed_on(name)
}

/// What programs are told of the account they run as.
///
/// Linux: `HOME`, `USER`, `LOGNAME`, `SHELL`. Windows: `USERNAME`, `USERPROFILE`.
#[must_use]
pub fn account_variables(account: &Account) -> Vec<(&'static str, OsString)> {
    platform::account_variables(account)
}

/// The same for names of one variable, and for no others: on Windows case does not count.
#[must_use]
pub fn variable_key(name: &OsStr) -> OsString {
    platform::variable_key(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_where_the_system_takes_them_for_one() {
        assert!(is_passed_on("PATH") && is_passed_on("LC_TIME") && !is_passed_on("CARGO_HOME"));
        assert_eq!(variable_key("Path".as_ref()) == variable_key("PATH".as_ref()), cfg!(windows));
        assert_ne!(variable_key("PATH".as_ref()), variable_key("PATHS".as_ref()));
        assert!(std::env::split_paths(&default_path()).all(|folder| folder.is_absolute()));
    }
}
