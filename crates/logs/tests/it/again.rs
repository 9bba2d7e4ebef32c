//! This test program once more, as a child: to be killed, or to have a disk of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names the folder that a child is to work in.
const FOLDER: &str = "MAINSTAY_TEST_FOLDER";

/// The folder, in a child; `None` in the parent.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// The command that runs one test of this program, ignored ones included, in this folder.
pub(crate) fn child(test: &str, dir: &Path) -> Command {
    in_words(Command::new(std::env::current_exe().unwrap()), test, dir)
}

fn in_words(mut command: Command, test: &str, dir: &Path) -> Command {
    command
        .args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads", "1"])
        .env(FOLDER, dir)
        .stdin(Stdio::null());
    command
}

/// Runs `body` in a child that has a file system of its own, in memory, of this size (`1m`), which nobody else sees. Where
/// that cannot be made the test says so and passes; in CI it fails.
pub(crate) fn on_a_disk_of_its_own(test: &str, size: &str, body: impl FnOnce(&Path)) {
    if let Some(dir) = folder() {
        body(&dir);
        return;
    }
    let can = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !can.as_ref().is_ok_and(|output| output.status.success()) {
        let why = can
            .map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stderr).into());
        let words =
            format!("skipped {test}: no file system can be mounted here (as root it can): {}\n", why.trim());
        assert!(std::env::var_os("CI").is_none(), "{words}");
        // Past the test harness, which keeps what a passing test prints to itself.
        std::io::stderr().write_all(words.as_bytes()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    let script = r#"mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@""#;
    command.args(["--mount", "sh", "-c", script, "sh", size]).arg(dir.path());
    command.arg(std::env::current_exe().unwrap());
    let output = in_words(command, test, dir.path()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("1 passed"), "{test} is no test of this program: {out}");
}
