//! What a start is handed besides its output: checked before anything is sent, and told to the program by the variables
//! of sd_listen_fds(3).

use std::collections::BTreeSet;

use mainstay_types::{LaunchFailure, LaunchStep};

use super::listener::make_blocking;
use crate::Launch;
use crate::process::MAX_HANDED;

/// The first descriptor that is handed by `LISTEN_FDS` (`SD_LISTEN_FDS_START`, sd_listen_fds(3)).
const FIRST: u32 = 3;

/// Targets above this are refused: the least soft limit of open files that Linux gives (getrlimit(2), 1024), so that any
/// program can use them.
const LAST: u32 = 1023;

/// Refuses what cannot be handed over, and completes the environment; `LISTEN_PID` is the new process's to fill in.
pub(super) fn prepare(launch: &mut Launch) -> Result<(), LaunchFailure> {
    check(launch).map_err(|message| LaunchFailure {
        step: LaunchStep::Listen,
        path: None,
        errno: 0,
        message,
        hint: None,
    })?;
    let named = FIRST..FIRST + u32::try_from(launch.listen_names.len()).unwrap_or(0);
    for handed in launch.handed.iter().filter(|handed| named.contains(&handed.target)) {
        // Fails for nothing that is open.
        let _ = make_blocking(handed.descriptor.get());
    }
    if !launch.listen_names.is_empty() {
        launch
            .env
            .retain(|(name, _)| name != "LISTEN_FDS" && name != "LISTEN_PID" && name != "LISTEN_FDNAMES");
        launch.env.push(("LISTEN_FDS".into(), launch.listen_names.len().to_string().into()));
        launch.env.push(("LISTEN_FDNAMES".into(), launch.listen_names.join(":").into()));
    }
    Ok(())
}

fn check(launch: &Launch) -> Result<(), String> {
    let Launch { handed, listen_names, .. } = launch;
    if handed.len() > MAX_HANDED {
        let count = handed.len();
        return Err(format!(
            "{count} descriptors are too many for one program: at most {MAX_HANDED} are handed over"
        ));
    }
    let mut targets = BTreeSet::new();
    for handed in handed {
        let target = handed.target;
        if !(FIRST..=LAST).contains(&target) {
            return Err(format!("descriptor {target} cannot be handed over: only {FIRST} to {LAST} can"));
        }
        if !targets.insert(target) {
            return Err(format!("two descriptors are to be handed over as {target}"));
        }
    }
    for (name, target) in listen_names.iter().zip(FIRST..) {
        if !targets.contains(&target) {
            return Err(format!(
                "{name} is to be descriptor {target}, but nothing is handed over as {target}"
            ));
        }
        if name.contains(':') || name.chars().any(char::is_control) {
            return Err(format!(
                "{name:?} cannot be a name in LISTEN_FDNAMES: it has a colon or a control character"
            ));
        }
    }
    Ok(())
}
