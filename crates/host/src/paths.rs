//! Where a stack's state, socket and logs live, as the contract's "Files and folders" fixes it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mainstay_types::StackName;

/// Overrides the state folder of the stack.
pub const STATE_DIR_VARIABLE: &str = "MAINSTAY_STATE_DIR";
/// Overrides the folder of the control socket.
pub const RUNTIME_DIR_VARIABLE: &str = "MAINSTAY_RUNTIME_DIR";

/// The places of one stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paths {
    /// Everything that must survive the host.
    pub state_dir: PathBuf,
    /// Where a running host answers.
    pub socket_path: PathBuf,
}

impl Paths {
    /// The places of `stack` for this user, `env` being the environment of the command.
    #[must_use]
    pub fn of(stack: &StackName, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let variable = |name: &str| env(name).map(OsString::from);
        let is_root = mainstay_os::is_root();
        // A user without any home has only the folder for things that may go.
        let nowhere = || std::env::temp_dir().join("mainstay");
        let state_dir = set(STATE_DIR_VARIABLE).unwrap_or_else(|| {
            mainstay_os::state_base(is_root, variable).unwrap_or_else(nowhere).join(stack.as_str())
        });
        let runtime_dir = set(RUNTIME_DIR_VARIABLE)
            .unwrap_or_else(|| mainstay_os::runtime_base(is_root, variable).unwrap_or_else(nowhere));
        Self {
            state_dir: absolute(state_dir),
            socket_path: absolute(runtime_dir).join(format!("{stack}.sock")),
        }
    }

    /// The captured output: a folder a replica.
    #[must_use]
    pub fn logs_dir(&self) -> PathBuf {
        self.state_dir.join("logs")
    }

    /// The host's own log: a folder of logs like [`Self::logs_dir`], with one in it.
    #[must_use]
    pub fn own_log_dir(&self) -> PathBuf {
        self.state_dir.join("host-log")
    }

    /// How far each target of forwarding has come.
    pub(crate) fn forward_dir(&self) -> PathBuf {
        self.state_dir.join("forward")
    }

    /// Reports of panics whose incident is recorded.
    pub(crate) fn panics_dir(&self) -> PathBuf {
        self.state_dir.join("panics")
    }

    /// The event record.
    #[must_use]
    pub fn events_path(&self) -> PathBuf {
        self.state_dir.join("events.db")
    }

    /// Held by the running host, and holding its pid.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.state_dir.join("host.lock")
    }

    /// Whose state it is: the name of the stack of the host that took the folder last.
    pub(crate) fn holder_path(&self) -> PathBuf {
        self.state_dir.join("host.stack")
    }

    /// The stack that the state folder was taken for last; `None` when that cannot be told.
    pub(crate) fn holder(&self) -> Option<String> {
        let name = std::fs::read_to_string(self.holder_path()).ok()?;
        StackName::parse(name.trim()).ok().map(|name| name.to_string())
    }
}

/// A relative override is relative to the working folder of the command; it must not change its meaning later.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// The folder a file lies in; for a bare file name, the current one.
#[must_use]
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_win() {
        let env = |name: &str| match name {
            STATE_DIR_VARIABLE => Some("/x/state".to_owned()),
            RUNTIME_DIR_VARIABLE => Some("/x/run".to_owned()),
            _ => None,
        };
        let paths = Paths::of(&StackName::parse("shop").unwrap(), &env);
        assert_eq!(paths.logs_dir(), Path::new("/x/state/logs"));
        assert_eq!(paths.socket_path, Path::new("/x/run/shop.sock"));
    }
}
