//! `suite systemd`: a small stack under a booted systemd, in a container of its own with a real cgroup v2 tree.
//!
//! Shown here and nowhere else: the static release binary runs on a system that has nothing but systemd, becomes ready
//! under a unit, and a stop ends every process of a service's tree, also those that left its session. The unit is told
//! not to clean up (`KillMode=process`), so that whatever mainstay leaves behind is seen.

mod boot;
mod service;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::container::{self, Container};
use crate::stage::{Stages, command, output, run as run_command};
use crate::{dist, places};

/// The machine's name; a run ends an earlier one of the same name.
const MACHINE: &str = "mainstay-suite";

/// The transient unit.
const UNIT: &str = "mainstay-suite.service";

/// How long a condition may take; a slow machine is no failure.
const LIMIT: Duration = Duration::from_secs(30);

/// What the service's processes are found by: `sleep` with a length nobody else uses.
const MARK: &str = "sleep 86400123";

/// One process that stays, and four descendants: plain, in a session of its own, and a pair orphaned to the subreaper.
const TREE_SCRIPT: &str = "#!/bin/sh
sleep 86400123 &
setsid sleep 86400123 &
(setsid sh -c 'sleep 86400123 & exec sleep 86400123' &)
exec sleep 86400123
";

/// How many processes [`TREE_SCRIPT`] comes to.
const TREE_SIZE: usize = 5;

const STACK: &str = "stack = \"suite\"

[service.tree]
command = [\"/shared/tree\"]

[service.after]
command = [\"sh\", \"-c\", \"echo WARN nearly full; head -c 250000 /dev/zero | tr '\\\\0' x; echo; exec sleep 86400124\"]
needs = [{ service = \"tree\" }]

[forward.journal]
to = \"journald\"
labels = { env = \"suite\" }
";

/// Arguments of `suite systemd`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  cargo xtask suite systemd

Needs root and Debian's systemd-container and debootstrap.")]
pub(crate) struct Options {
    /// A mainstay binary to test instead of building the static release one.
    #[arg(long, value_name = "FILE")]
    mainstay: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    container::preflight()?;
    let binary = match &options.mainstay {
        Some(path) => path.clone(),
        None => dist::build()?,
    };
    let shared_dir = places::target_dir().join("systemd-suite");
    prepare(&shared_dir, &binary)?;
    service::prepare(&shared_dir)?;
    let mut machine = Machine::boot(&shared_dir)?;
    let mut stages = Stages::default();
    stages.run("systemd: every service is ready under a unit", || {
        let mut start = machine.command("systemd-run");
        start.args(["--quiet", "--unit", UNIT, "--property=Type=exec", "--property=KillMode=process"]);
        start.args([
            "--property=Delegate=yes",
            "--property=TimeoutStopSec=60",
            "--setenv=MAINSTAY_STATE_DIR=/var/lib/mainstay/suite",
        ]);
        start.args(["/shared/mainstay", "run", "--file", "/shared/mainstay.toml"]);
        run_command(start)?;
        machine.wait_for("both services ready", || {
            let states = machine.states()?;
            Ok((states == ["after=ready", "tree=ready"], format!("{states:?}")))
        })?;
        machine.wait_for_tree(TREE_SIZE)
    });
    stages.run("systemd: what a service says is in the journal, with its fields", || {
        machine.wait_for("two entries of the service", || {
            let mut journal = machine.command("journalctl");
            journal.args(["--no-pager", "--all", "--output=json", "SERVICE_NAME=after", "LABEL_ENV=suite"]);
            let text = output(journal)?;
            Ok((text.lines().count() == 2 && said_in_journal(&text)?, format!("{text:.400}")))
        })
    });
    stages.run("systemd: the tree lies in the unit's cgroup", || {
        let mut cgroups = machine.command("sh");
        cgroups.args(["-c", "for pid in $(pgrep -fx \"$0\"); do grep ^0:: /proc/$pid/cgroup; done", MARK]);
        let cgroups = output(cgroups)?;
        ensure!(cgroups.lines().count() == TREE_SIZE, "not one cgroup a process: {cgroups}");
        for line in cgroups.lines() {
            ensure!(line.contains(UNIT), "a process is outside the unit: {line}");
        }
        let distinct: std::collections::BTreeSet<&str> = cgroups.lines().collect();
        eprintln!("the tree's cgroups: {distinct:?}");
        Ok(())
    });
    stages.run("systemd: stopping one service ends its whole tree and leaves the host", || {
        run_command(machine.mainstay(&["stop", "after", "tree"]))?;
        machine.wait_for_tree(0)?;
        run_command(machine.mainstay(&["start", "tree", "after"]))?;
        machine.wait_for_tree(TREE_SIZE)
    });
    stages.run("systemd: `systemctl stop` ends everything and the unit is content", || {
        let mut stop = machine.command("systemctl");
        stop.args(["stop", UNIT]);
        run_command(stop)?;
        machine.wait_for_tree(0)?;
        let mut journal = machine.command("journalctl");
        journal.args(["--unit", UNIT, "--no-pager", "--output=cat"]);
        let journal = output(journal)?;
        ensure!(
            !journal.contains("Failed with result") && !journal.contains("Main process exited, code=killed"),
            "the unit did not end well: {journal}"
        );
        Ok(())
    });
    service::run(&machine, &mut stages);
    boot::run(&mut machine, &mut stages);
    if let Err(error) = stages.finish() {
        machine.show_journal();
        return Err(error);
    }
    Ok(())
}

/// Fills the folder that the machine sees as /shared.
fn prepare(shared_dir: &Path, binary: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(shared_dir).with_context(|| format!("cannot create {}", shared_dir.display()))?;
    fs::copy(binary, shared_dir.join("mainstay")).context("cannot copy the binary")?;
    fs::write(shared_dir.join("mainstay.toml"), STACK).context("cannot write the stack")?;
    let script_path = shared_dir.join("tree");
    fs::write(&script_path, TREE_SCRIPT).context("cannot write the service")?;
    let mut executable = command("chmod");
    executable.arg("755").arg(script_path);
    run_command(executable)
}

/// The booted container with what this suite asks of it.
struct Machine {
    container: Container,
}

impl Machine {
    fn boot(shared_dir: &Path) -> anyhow::Result<Self> {
        Container::boot(MACHINE, shared_dir).map(|container| Self { container })
    }

    /// A command inside the machine.
    fn command(&self, program: &str) -> Command {
        self.container.command(program)
    }

    fn mainstay(&self, arguments: &[&str]) -> Command {
        let mut mainstay = self.command("/usr/bin/env");
        mainstay.args(["MAINSTAY_STATE_DIR=/var/lib/mainstay/suite", "/shared/mainstay"]);
        mainstay.args(arguments).args(["--file", "/shared/mainstay.toml"]);
        mainstay
    }

    /// `NAME=STATE` of every service, sorted; empty while the host does not answer.
    fn states(&self) -> anyhow::Result<Vec<String>> {
        let answer = self.mainstay(&["status", "--json"]).output().context("cannot ask for the status")?;
        states_of(&answer.stdout)
    }

    /// Writes a file inside.
    fn put(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let mut write = self.command("sh");
        write.args(["-c", "printf %s \"$2\" > \"$1\"", "sh", path, text]);
        output(write).map(drop)
    }

    /// Waits until that many processes of the tree live.
    fn wait_for_tree(&self, wanted: usize) -> anyhow::Result<()> {
        self.wait_for(&format!("{wanted} processes of the tree"), || {
            let mut list = self.command("pgrep");
            list.args(["-fxa", MARK]);
            // pgrep ends with 1 when nothing matches, so its status says nothing more than its lines.
            let text =
                String::from_utf8_lossy(&list.output().context("cannot list processes")?.stdout).into_owned();
            Ok((text.lines().count() == wanted, text.trim().replace('\n', ", ")))
        })
    }

    /// Waits for a condition, which also says what it saw last.
    fn wait_for(
        &self,
        what: &str,
        mut look: impl FnMut() -> anyhow::Result<(bool, String)>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let (holds, seen) = look()?;
            if holds {
                return Ok(());
            }
            if begun.elapsed() > LIMIT {
                bail!("waited {} s for {what}; last seen: {seen}", LIMIT.as_secs());
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// After a failure: what the unit wrote.
    fn show_journal(&self) {
        let mut journal = self.command("journalctl");
        journal.args(["--unit", "mainstay-*", "--no-pager", "--lines=60"]);
        match output(journal) {
            Ok(text) => eprintln!("{text}"),
            Err(error) => eprintln!("the unit's journal cannot be read: {error:#}"),
        }
    }
}

/// Whether the two entries are what the service said: a line with a level, and one too large for a datagram.
fn said_in_journal(text: &str) -> anyhow::Result<bool> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).context("journalctl prints JSON")?;
        for (field, wanted) in [("STACK", "suite"), ("SYSLOG_IDENTIFIER", "after"), ("STREAM", "stdout")] {
            ensure!(entry[field] == wanted, "{field} is {}", entry[field]);
        }
        let message = entry["MESSAGE"].as_str().context("the message is text")?.to_owned();
        entries.push((entry["PRIORITY"].as_str().unwrap_or_default().to_owned(), message));
    }
    Ok(entries == [("4".to_owned(), "WARN nearly full".to_owned()), ("6".to_owned(), "x".repeat(250_000))])
}

/// `NAME=STATE` of every service, sorted; empty when that is no status.
fn states_of(answer: &[u8]) -> anyhow::Result<Vec<String>> {
    let Ok(status) = serde_json::from_slice::<Value>(answer) else { return Ok(Vec::new()) };
    let services = status["services"].as_array().context("the status lists services")?;
    let word = |service: &Value, key: &str| service[key].as_str().unwrap_or("?").to_owned();
    let mut states: Vec<String> = services
        .iter()
        .map(|service| format!("{}={}", word(service, "name"), word(service, "state")))
        .collect();
    states.sort();
    Ok(states)
}
