//! Measures systemd, booted in a container, with the child, the stopwatch and the records of all the others.
//!
//! What differs: it is not started for the measurement but is there; its units come from files; it is asked by
//! `systemctl`, whose own start is part of the time, as it is for a user. Pids in the records are those inside.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::Tools;
use super::measure::{Fleet, LIMIT, Plan, Restart, Variant, WARM_UP, after_exit, read_records};
use super::processes;
use crate::container::{self, Container};
use crate::stage::{output, run as run_command};

/// What belongs to systemd's supervision: the manager, and the journal that takes the output.
const HELPERS: [&str; 2] = ["systemd", "systemd-journal"];

/// A booted systemd with N units of the child.
struct Bed {
    container: Container,
    shared_dir: PathBuf,
}

impl Bed {
    fn set_up(mode: &str, program: &Path, tools: &Tools, bench_dir: &Path) -> anyhow::Result<Self> {
        container::preflight()?;
        let shared_dir = bench_dir.join("run");
        if shared_dir.exists() {
            fs::remove_dir_all(&shared_dir)
                .with_context(|| format!("cannot empty {}", shared_dir.display()))?;
        }
        fs::create_dir_all(&shared_dir).with_context(|| format!("cannot create {}", shared_dir.display()))?;
        fs::copy(program, shared_dir.join("child")).context("cannot copy the child")?;
        fs::copy(&tools.watch, shared_dir.join("watch")).context("cannot copy the stopwatch")?;
        File::create(shared_dir.join("records"))?;
        // The least pause and no limit of restarts (systemd.service(5), systemd.unit(5)).
        let unit = format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/shared/child {mode} /shared/records\n\
             Restart=always\nRestartSec=0\n"
        );
        fs::write(shared_dir.join("bench@.service"), unit).context("cannot write the unit")?;
        let container = Container::boot("mainstay-bench", &shared_dir)?;
        let mut copy = container.command("cp");
        copy.args(["/shared/bench@.service", "/run/systemd/system/"]);
        run_command(copy)?;
        Ok(Self { container, shared_dir })
    }

    fn records_path(&self) -> PathBuf {
        self.shared_dir.join("records")
    }

    /// Asks for units 1 to `n`, on record in `start`.
    fn start(&self, n: usize) -> anyhow::Result<()> {
        let wants = "/run/systemd/system/bench.target.wants";
        let mut target = self.container.command("sh");
        target.args(["-c", &format!(
            "mkdir -p {wants} && echo '[Unit]' >/run/systemd/system/bench.target && \
             for i in $(seq {n}); do ln -s ../bench@.service {wants}/bench@$i.service; done && systemctl daemon-reload"
        )]);
        run_command(target)?;
        let mut start = self.container.command("/shared/watch");
        start.args(["start", "/shared/start", "systemctl", "start", "--no-block", "bench.target"]);
        run_command(start)
    }

    fn wait_for_records(&self, count: u64) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let seen = fs::metadata(self.records_path())?.len() / 24;
            if seen >= count {
                return Ok(());
            }
            if begun.elapsed() > LIMIT {
                bail!("{seen} of {count} starts after {} s", LIMIT.as_secs());
            }
            sleep(Duration::from_millis(5));
        }
    }
}

/// As [`Restart::measure`].
pub(super) fn restart(
    variant: Variant,
    tools: &Tools,
    plan: &Plan,
    bench_dir: &Path,
) -> anyhow::Result<Restart> {
    let samples = plan.samples + WARM_UP;
    let mode = match variant {
        Variant::Exit => "exit",
        Variant::Kill => "hold",
    };
    let bed = Bed::set_up(mode, &tools.child, tools, bench_dir)?;
    bed.start(1)?;
    let samples_ns = match variant {
        Variant::Exit => {
            bed.wait_for_records(samples as u64 + 1)?;
            after_exit(&read_records(&bed.records_path())?)
        }
        Variant::Kill => {
            bed.wait_for_records(1)?;
            let mut watch = bed.container.command("/shared/watch");
            watch.args(["kill", "/shared/records", &samples.to_string()]);
            watch.args([plan.settle.as_micros().to_string(), LIMIT.as_secs().to_string()]);
            let text = output(watch).context("the child was not started again")?;
            text.lines().map(str::parse).collect::<Result<_, _>>()?
        }
    };
    ensure!(samples_ns.len() >= samples, "only {} of {samples} restarts were seen", samples_ns.len());
    Ok(Restart { samples_ns: samples_ns[WARM_UP..samples].to_vec() })
}

/// As [`Fleet::measure`]; `stop_ns` ends with the last service, because systemd itself stays.
pub(super) fn fleet(n: usize, tools: &Tools, plan: &Plan, bench_dir: &Path) -> anyhow::Result<Fleet> {
    let bed = Bed::set_up("hold", &tools.sleeper, tools, bench_dir)?;
    bed.start(n)?;
    bed.wait_for_records(n as u64)?;
    let begun_ns =
        read_records(&bed.shared_dir.join("start"))?.first().context("the start was not recorded")?.first_ns;
    let records = read_records(&bed.records_path())?;
    let last_ns = records.iter().map(|record| record.first_ns).max().unwrap_or(begun_ns);
    sleep(plan.rest);
    let helpers: BTreeSet<u32> = processes::tree(bed.container.leader()?)
        .into_iter()
        .filter(|pid| processes::name(*pid).is_some_and(|name| HELPERS.contains(&&*name)))
        .collect();
    let pss_kib = processes::pss_kib(&helpers);
    let cpu_before_ns = processes::cpu_ns(&helpers);
    sleep(plan.idle);
    let idle_ns = processes::cpu_ns(&helpers).saturating_sub(cpu_before_ns);
    let records = read_records(&bed.records_path())?;
    ensure!(records.len() == n, "{} starts were seen for {n} services", records.len());
    let pids: String = records.iter().map(|record| format!("{}\n", record.pid)).collect();
    let mut watch = bed.container.command("/shared/watch");
    watch.args(["stop", &LIMIT.as_secs().to_string(), "run", "systemctl", "stop", "bench@*.service"]);
    let mut watch =
        watch.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start the stopwatch")?;
    watch.stdin.take().context("the stopwatch reads pids")?.write_all(pids.as_bytes())?;
    let answer = watch.wait_with_output()?;
    ensure!(answer.status.success(), "the services did not stop (stopwatch: {})", answer.status);
    Ok(Fleet {
        start_ns: last_ns.saturating_sub(begun_ns),
        stop_ns: String::from_utf8_lossy(&answer.stdout).trim().parse()?,
        pss_kib,
        helpers: helpers.len(),
        idle_cpu_ns: idle_ns * 30 / plan.idle.as_secs().max(1),
    })
}
