//! A Debian with systemd as its first process, for the systemd suite and the benchmark; `.ci/systemd-machine` does the work.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::places;
use crate::stage::{command, output, run as run_command};

/// A booted container; dropping it powers it off.
#[derive(Debug)]
pub(crate) struct Container {
    script_path: PathBuf,
    name: &'static str,
}

/// Says what is missing before any time is spent.
///
/// # Errors
/// When this is not root, or a program is not installed.
pub(crate) fn preflight() -> anyhow::Result<()> {
    let mut id = command("id");
    id.arg("-u");
    if output(id)?.trim() != "0" {
        bail!("a container with systemd can be booted only by root");
    }
    for (program, package) in [("systemd-nspawn", "systemd-container"), ("debootstrap", "debootstrap")] {
        if places::find_program(program, &[Path::new("/usr/sbin")]).is_none() {
            bail!("{program} is not installed: apt-get install --no-install-recommends {package}");
        }
    }
    Ok(())
}

impl Container {
    /// Boots a container of that name, ending one that an interrupted run left, with `shared_dir` at `/shared`.
    ///
    /// # Errors
    /// When its root cannot be made or it is not up after a minute.
    pub(crate) fn boot(name: &'static str, shared_dir: &Path) -> anyhow::Result<Self> {
        let script_path = places::root_dir().join(".ci/systemd-machine");
        let root_dir = places::cache_dir().join("debian-bookworm");
        let mut make_root = command(&script_path);
        make_root.arg("root").arg(&root_dir);
        run_command(make_root)?;
        let container = Self { script_path, name };
        let mut up = command(&container.script_path);
        up.arg("up").arg(&root_dir).arg(name).arg(shared_dir);
        run_command(up)?;
        Ok(container)
    }

    /// A command inside; in the container's namespaces, but not in a cgroup of its units.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut run = command(&self.script_path);
        run.args(["run", self.name, program]);
        run
    }

    /// Boots it again, with its disk as it is, and waits until it is up.
    ///
    /// # Errors
    /// When it is not up after a minute.
    pub(crate) fn reboot(&self) -> anyhow::Result<()> {
        let mut reboot = command(&self.script_path);
        reboot.args(["reboot", self.name]);
        run_command(reboot)
    }

    /// The pid, outside, of its first process.
    ///
    /// # Errors
    /// When it does not run any more.
    pub(crate) fn leader(&self) -> anyhow::Result<u32> {
        let mut leader = command(&self.script_path);
        leader.args(["leader", self.name]);
        Ok(output(leader)?.trim().parse()?)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let mut down = command(&self.script_path);
        down.args(["down", self.name]);
        if let Err(error) = run_command(down) {
            eprintln!("cannot power off the container {}: {error:#}", self.name);
        }
    }
}
