//! Facts about users, folders and files that are the same words on every system.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a tree of processes uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// CPU time in user and system mode since each process's start.
    pub cpu: Duration,
    /// Resident memory, shared pages counted in each process.
    pub memory_bytes: u64,
}

/// What a program is told about the user it runs as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its home folder.
    pub home: PathBuf,
    /// Its shell.
    pub shell: PathBuf,
}

/// Makes a folder and its parents; those that are made are for their owner only on Unix.
///
/// # Errors
/// The system's answer; a file in the place of one of them is an error, too.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    #[cfg_attr(windows, allow(unused_mut, reason = "there are no modes to set"))]
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// The path without links and dots. On Windows without the sign `\\?\` that std puts before it, where a path is the same without:
/// programs do not take it for their working folder, and people do not know it.
///
/// # Errors
/// The system's answer when there is no such file.
pub fn canonical(path: &Path) -> io::Result<PathBuf> {
    let path = path.canonicalize()?;
    if cfg!(windows)
        && let Some(text) = path.to_str()
        && let Some(plain) = without_sign(text)
    {
        return Ok(plain.into());
    }
    Ok(path)
}

/// Longest path that is the same without the sign (`MAX_PATH` with its NUL).
const MAX_PLAIN_PATH: usize = 259;

/// `C:\x` of `\\?\C:\x`; `None` for shares and for paths that mean something else without it.
fn without_sign(path: &str) -> Option<&str> {
    let plain = path.strip_prefix(r"\\?\")?;
    let is_of_drive = matches!(plain.as_bytes(), [drive, b':', b'\\', ..] if drive.is_ascii_alphabetic());
    // Names that end so, or are those of devices, are others without the sign.
    let is_usual = plain.split('\\').all(|name| !name.ends_with([' ', '.']) && !is_device(name));
    (is_of_drive && is_usual && plain.len() <= MAX_PLAIN_PATH).then_some(plain)
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let is_numbered = |start: &str| {
        stem.get(..3).is_some_and(|head| head.eq_ignore_ascii_case(start))
            && stem.get(3..).is_some_and(|digit| digit.chars().count() == 1)
    };
    ["con", "prn", "aux", "nul"].iter().any(|device| stem.eq_ignore_ascii_case(device))
        || is_numbered("com")
        || is_numbered("lpt")
}

/// Makes a file a program that everybody may run; nothing to do where a file's name says that it is one.
///
/// # Errors
/// The system's answer.
pub fn make_executable(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    #[cfg(windows)]
    let _ = path;
    Ok(())
}

/// Why a user or group cannot be taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityError {
    /// No such user.
    #[error("there is no user {name:?} on this machine{}", nearest_words(nearest.as_deref()))]
    UnknownUser {
        /// As written.
        name: String,
        /// A known name much like it.
        nearest: Option<String>,
    },
    /// No such group.
    #[error("there is no group {name:?} on this machine{}", nearest_words(nearest.as_deref()))]
    UnknownGroup {
        /// As written.
        name: String,
        /// A known name much like it.
        nearest: Option<String>,
    },
    /// Only root may become somebody else.
    #[error(
        "cannot run as {wanted}: mainstay runs as {host}, and only root may start programs as another user"
    )]
    NotPermitted {
        /// Who was asked for.
        wanted: String,
        /// Who the host is.
        host: String,
    },
    /// The user database failed.
    #[error("cannot look up {name:?} among the users of this machine: {reason}")]
    Lookup {
        /// As written.
        name: String,
        /// The system's answer.
        reason: String,
    },
}

fn nearest_words(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
}

/// A file that only one process holds; let go when this is dropped, and by the system when the process dies.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

/// Why a file cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("held by {}", .0.map_or_else(|| "another process".to_owned(), |pid| format!("the process {pid}")))]
    HeldBy(Option<u32>),
    /// It cannot be opened, locked or written.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Locks `path`, making the file where there is none, and writes this process's pid into it. Never waits. The file stays
/// when the lock is let go: removing it would let two processes lock two files of one name.
///
/// # Errors
/// [`LockError::HeldBy`] with the pid found in the file, [`LockError::Io`].
pub fn lock_file(path: &Path) -> Result<FileLock, LockError> {
    let failed = |source| LockError::Io { path: path.to_owned(), source };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(LockError::HeldBy(read_pid(path, &mut file))),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    write_pid_beside(path);
    Ok(FileLock { file })
}

/// On Windows a locked file cannot be read by others, so the pid also stands in a file beside it.
fn write_pid_beside(path: &Path) {
    if cfg!(windows) {
        let _ = std::fs::write(path.with_extension("pid"), format!("{}\n", std::process::id()));
    }
}

fn read_pid(path: &Path, file: &mut File) -> Option<u32> {
    let mut text = String::new();
    if cfg!(windows) {
        text = std::fs::read_to_string(path.with_extension("pid")).ok()?;
    } else {
        // The holder may be between locking and writing: then nobody knows its pid yet.
        file.take(32).read_to_string(&mut text).ok()?;
    }
    text.trim().parse().ok()
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing lets go as well; saying so keeps the lock from living on in a descriptor somebody inherited.
        let _ = self.file.unlock();
    }
}

/// The folder that holds the state folders of all stacks: `MAINSTAY_STATE_DIR` is one stack's and is not read here.
/// `env` answers variables of the environment. `None` when there is no home to put it in.
///
/// Root: /var/lib/mainstay. User: $XDG_STATE_HOME/mainstay, else ~/.local/state/mainstay (XDG base directories 0.8).
/// Windows: %ProgramData%\mainstay.
#[must_use]
pub fn state_base(is_root: bool, env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if cfg!(windows) {
        return Some(
            absolute(env("ProgramData")).unwrap_or_else(|| r"C:\ProgramData".into()).join("mainstay"),
        );
    }
    if is_root {
        return Some("/var/lib/mainstay".into());
    }
    let state = absolute(env("XDG_STATE_HOME"))
        .or_else(|| Some(absolute(env("HOME")).or_else(crate::user_home)?.join(".local/state")))?;
    Some(state.join("mainstay"))
}

/// The folder for control sockets. Root: /run/mainstay. User: $XDG_RUNTIME_DIR/mainstay, else [`state_base`], which is
/// on disk but private as well. Windows has pipes instead and gets the state folder.
#[must_use]
pub fn runtime_base(is_root: bool, env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if cfg!(windows) {
        return state_base(is_root, env);
    }
    if is_root {
        return Some("/run/mainstay".into());
    }
    match absolute(env("XDG_RUNTIME_DIR")) {
        Some(dir) => Some(dir.join("mainstay")),
        None => state_base(is_root, env),
    }
}

/// XDG: a path that is not absolute counts as not given.
fn absolute(value: Option<OsString>) -> Option<PathBuf> {
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(windows))]
    fn folders_of_the_contract() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
            }
        };
        let path = |text: &str| Some(PathBuf::from(text));
        let xdg = env(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/r")]);
        let bare = env(&[("HOME", "/h"), ("XDG_STATE_HOME", "relative")]);
        assert_eq!(state_base(true, xdg), path("/var/lib/mainstay"));
        assert_eq!(state_base(false, xdg), path("/s/mainstay"));
        assert_eq!(state_base(false, bare), path("/h/.local/state/mainstay"));
        assert_eq!(runtime_base(true, xdg), path("/run/mainstay"));
        assert_eq!(runtime_base(false, xdg), path("/r/mainstay"));
        assert_eq!(runtime_base(false, bare), path("/h/.local/state/mainstay"));
    }

    #[test]
    fn paths_without_the_sign() {
        for (path, plain) in [
            (r"\\?\C:\a\b", Some(r"C:\a\b")),
            (r"\\?\C:\", Some(r"C:\")),
            (r"\\?\UNC\server\share", None),
            (r"\\?\C:\a.\b", None),
            (r"\\?\C:\a\nul.txt", None),
            (r"\\?\C:\a\COM1", None),
            (r"\\?\C:\a\common", Some(r"C:\a\common")),
            (r"C:\a", None),
        ] {
            assert_eq!(without_sign(path), plain, "{path}");
        }
        let long = format!(r"\\?\C:\{}", "x".repeat(300));
        assert_eq!(without_sign(&long), None);
        let own = std::env::current_exe().unwrap();
        assert!(canonical(&own).unwrap().is_absolute());
        assert!(canonical(Path::new("no/such/file")).is_err());
    }

    #[test]
    fn a_second_lock_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.lock");
        let lock = lock_file(&path).unwrap();
        match lock_file(&path) {
            Err(LockError::HeldBy(pid)) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(lock);
        drop(lock_file(&path).unwrap());
        assert!(matches!(lock_file(&dir.path().join("no/such")), Err(LockError::Io { .. })));
    }
}
