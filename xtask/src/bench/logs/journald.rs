//! systemd-journald, in a booted container: the same loud program as a unit whose output goes to the journal.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::super::processes;
use super::throughput::{Captured, LINE_BYTES, empty, settled_cpu, wait_for_record};
use super::{LogPlan, LogTools};
use crate::container::{self, Container};
use crate::stage::run;

/// Its process (at most 15 letters of a name are kept, proc(5)).
const NAME: &str = "systemd-journal";

/// journald.conf(5): no limit of rate, on the disk, room for everything.
const CONFIGURATION: &str = "[Journal]\nStorage=persistent\nSystemMaxUse=4G\nSystemKeepFree=0\nRateLimitIntervalSec=0\nForwardToSyslog=no\n";

/// # Errors
/// When the container does not boot, something does not end, or a line is not there as it was written.
pub(super) fn measure(tools: &LogTools, plan: &LogPlan, dir: &Path) -> anyhow::Result<Captured> {
    container::preflight()?;
    let dir = empty(dir)?;
    let lines = (plan.slow_mib << 20) / LINE_BYTES;
    fs::copy(&tools.loud, dir.join("loud")).context("cannot copy the program")?;
    File::create(dir.join("records"))?;
    fs::write(dir.join("bench.conf"), CONFIGURATION)?;
    let unit = format!(
        "[Service]\nExecStart=/shared/loud write {lines} /shared/records\nStandardOutput=journal\nLogRateLimitIntervalSec=0\n"
    );
    fs::write(dir.join("loud.service"), unit)?;
    let container = Container::boot("mainstay-bench", &dir)?;
    let mut set_up = container.command("sh");
    set_up.args([
        "-ec",
        "mkdir -p /run/systemd/journald.conf.d /run/systemd/system /var/log/journal\n\
         cp /shared/bench.conf /run/systemd/journald.conf.d/\n\
         cp /shared/loud.service /run/systemd/system/\n\
         systemctl restart systemd-journald\n\
         systemctl daemon-reload",
    ]);
    run(set_up)?;
    let journald: BTreeSet<u32> = processes::tree(container.leader()?)
        .into_iter()
        .filter(|pid| processes::name(*pid).as_deref() == Some(NAME))
        .collect();
    ensure!(journald.len() == 1, "{} journals run in the container", journald.len());
    let before_ns = processes::cpu_with_ended_threads_ns(&journald);
    let mut start = container.command("systemctl");
    start.args(["start", "--no-block", "loud.service"]);
    run(start)?;
    let record = wait_for_record(&dir.join("records"), lines)?;
    let cpu_ns = settled_cpu(&journald)? - before_ns;
    let mut check = container.command("sh");
    check.args([
        "-c",
        &format!("journalctl --sync && journalctl -q -o cat _SYSTEMD_UNIT=loud.service | /shared/loud check {lines}"),
    ]);
    run(check)?;
    drop(container);
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    Ok(Captured { bytes: lines * LINE_BYTES, ns: record.last_ns - record.first_ns, cpu_ns })
}
