//! The variables of programs on Linux.

use std::ffi::{OsStr, OsString};

use super::wire::DEFAULT_PATH;
use crate::Account;

/// The default of Debian's login(1) for root.
pub(crate) fn default_path() -> OsString {
    DEFAULT_PATH.into()
}

pub(crate) fn is_passed_on(name: &str) -> bool {
    matches!(name, "PATH" | "LANG" | "TZ") || name.starts_with("LC_")
}

pub(crate) fn account_variables(account: &Account) -> Vec<(&'static str, OsString)> {
    vec![
        ("HOME", account.home.clone().into()),
        ("USER", account.name.clone().into()),
        ("LOGNAME", account.name.clone().into()),
        ("SHELL", account.shell.clone().into()),
    ]
}

/// Case counts.
pub(crate) fn variable_key(name: &OsStr) -> OsString {
    name.to_owned()
}
