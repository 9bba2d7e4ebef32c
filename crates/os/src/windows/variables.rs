//! The variables of programs on Windows.

use std::ffi::{OsStr, OsString};
use std::os::windows::ffi::OsStringExt;

use super::system::units;
use super::{environment, system_dir};
use crate::Account;

/// Where the system, its programs and the account's folders are, and what the machine is.
const PASSED_ON: [&str; 27] = [
    "ALLUSERSPROFILE",
    "APPDATA",
    "CommonProgramFiles",
    "CommonProgramFiles(x86)",
    "CommonProgramW6432",
    "COMPUTERNAME",
    "ComSpec",
    "HOMEDRIVE",
    "HOMEPATH",
    "LANG",
    "LOCALAPPDATA",
    "NUMBER_OF_PROCESSORS",
    "OS",
    "PATH",
    "PATHEXT",
    "PROCESSOR_ARCHITECTURE",
    "ProgramData",
    "ProgramFiles",
    "ProgramFiles(x86)",
    "ProgramW6432",
    "PUBLIC",
    "SystemDrive",
    "SystemRoot",
    "TEMP",
    "TMP",
    "TZ",
    "windir",
];

/// The system's own folders.
pub(crate) fn default_path() -> OsString {
    let system = system_dir();
    let above = system.parent().map(std::path::Path::to_owned);
    std::env::join_paths(std::iter::once(system).chain(above)).unwrap_or_default()
}

pub(crate) fn is_passed_on(name: &str) -> bool {
    PASSED_ON.iter().any(|known| name.eq_ignore_ascii_case(known))
        || name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("LC_"))
}

pub(crate) fn account_variables(account: &Account) -> Vec<(&'static str, OsString)> {
    vec![("USERNAME", account.name.clone().into()), ("USERPROFILE", account.home.clone().into())]
}

/// Case does not count.
pub(crate) fn variable_key(name: &OsStr) -> OsString {
    OsString::from_wide(&environment::folded(&units(name)))
}
