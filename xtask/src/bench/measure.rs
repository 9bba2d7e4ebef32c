//! Performs one measurement of one supervisor: starts it, lets it work, reads the clock's records, stops it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::Tools;
use super::peers::{Peer, Setup, Stop};
use super::processes;

/// The first samples of a run are not counted: caches are cold and the supervisor is still starting.
pub(super) const WARM_UP: usize = 2;

/// How long a supervisor may take to start N services, or to stop, before the measurement has failed.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// A supervisor that pauses does so only when the child lived less than a second; the kill spares it that.
const SETTLE_BEYOND_PAUSE: Duration = Duration::from_millis(1200);

/// How much is measured.
#[derive(Debug)]
pub(super) struct Plan {
    /// Restarts of a supervisor that does not pause.
    pub(super) samples: usize,
    /// Restarts of one that pauses about a second each.
    samples_with_pause: usize,
    /// How long a child lives before it is killed, under a supervisor that does not pause.
    pub(super) settle: Duration,
    /// Rest between the start of all services and the look at memory and CPU.
    pub(super) rest: Duration,
    pub(super) idle: Duration,
}

impl Plan {
    pub(super) fn thorough() -> Self {
        Self {
            samples: 500,
            samples_with_pause: 12,
            settle: Duration::from_millis(20),
            rest: Duration::from_secs(3),
            idle: Duration::from_secs(30),
        }
    }

    pub(super) fn quick() -> Self {
        Self {
            samples: 100,
            samples_with_pause: 4,
            settle: Duration::from_millis(10),
            rest: Duration::from_secs(1),
            idle: Duration::from_secs(5),
        }
    }

    fn samples(&self, peer: Peer) -> usize {
        if peer.pauses() { self.samples_with_pause } else { self.samples }
    }

    fn settle(&self, peer: Peer) -> Duration {
        if peer.pauses() { SETTLE_BEYOND_PAUSE } else { self.settle }
    }
}

/// How the child dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variant {
    /// It ends with 1 at once.
    Exit,
    /// It lives and is killed with SIGKILL.
    Kill,
}

impl Variant {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Kill => "kill",
        }
    }
}

/// The latencies of one run, in ns.
#[derive(Debug)]
pub(super) struct Restart {
    pub(super) samples_ns: Vec<u64>,
}

/// What one run with N services showed.
#[derive(Debug)]
pub(super) struct Fleet {
    /// From the supervisor's exec to the first instruction of the last service.
    pub(super) start_ns: u64,
    /// From the request to stop until the supervisor, its helpers and all services are gone.
    pub(super) stop_ns: u64,
    /// Of the supervisor and its helpers, without the services.
    pub(super) pss_kib: u64,
    pub(super) helpers: usize,
    /// CPU time of the supervisor and its helpers while nothing happens, over 30 s.
    pub(super) idle_cpu_ns: u64,
}

impl Restart {
    /// Lets the child die again and again.
    ///
    /// # Errors
    /// When the supervisor does not start, does not restart the child, or does not stop.
    pub(super) fn measure(
        peer: Peer,
        variant: Variant,
        tools: &Tools,
        plan: &Plan,
        bench_dir: &Path,
    ) -> anyhow::Result<Self> {
        let mode = match variant {
            Variant::Exit => "exit",
            Variant::Kill => "hold",
        };
        let mut running = Running::start(peer, &tools.child, mode, 1, tools, bench_dir)?;
        let samples = plan.samples(peer) + WARM_UP;
        let samples_ns = match variant {
            Variant::Exit => {
                running.wait_for_records(samples + 1)?;
                let records = running.records()?;
                records
                    .windows(2)
                    .map(|pair| pair[1].first_ns.saturating_sub(pair[0].last_ns))
                    .collect::<Vec<_>>()
            }
            Variant::Kill => {
                running.wait_for_records(1)?;
                let mut watch = Command::new(&tools.watch);
                watch
                    .arg("kill")
                    .arg(&running.records_path)
                    .arg(samples.to_string())
                    .arg(plan.settle(peer).as_micros().to_string())
                    .arg(LIMIT.as_secs().to_string());
                let text = crate::stage::output(watch).context("the child was not started again")?;
                text.lines().map(str::parse).collect::<Result<_, _>>()?
            }
        };
        running.stop(tools)?;
        ensure!(samples_ns.len() >= samples, "only {} of {samples} restarts were seen", samples_ns.len());
        Ok(Self { samples_ns: samples_ns[WARM_UP..samples].to_vec() })
    }
}

impl Fleet {
    /// Starts `n` services, looks at them, stops them.
    ///
    /// # Errors
    /// When the supervisor does not start all of them in time, loses one, or does not stop.
    pub(super) fn measure(
        peer: Peer,
        n: usize,
        tools: &Tools,
        plan: &Plan,
        bench_dir: &Path,
    ) -> anyhow::Result<Self> {
        let mut running = Running::start(peer, &tools.sleeper, "hold", n, tools, bench_dir)?;
        running.wait_for_records(n)?;
        let records = running.records()?;
        let begun_ns =
            read_records(&running.start_path)?.first().context("the start was not recorded")?.first_ns;
        let last_ns = records.iter().map(|record| record.first_ns).max().unwrap_or(begun_ns);
        sleep(plan.rest);
        let services: BTreeSet<u32> = running.records()?.iter().map(|record| record.pid).collect();
        ensure!(services.len() == n, "{} starts were seen for {n} services", services.len());
        let tree = processes::tree(running.child.id());
        let alive = services.iter().filter(|pid| processes::lives(**pid)).count();
        ensure!(alive == n, "only {alive} of {n} services live");
        let helpers: BTreeSet<u32> = tree.difference(&services).copied().collect();
        let pss_kib = processes::pss_kib(&helpers);
        let cpu_before_ns = processes::cpu_ns(&helpers);
        sleep(plan.idle);
        let idle_ns = processes::cpu_ns(&helpers).saturating_sub(cpu_before_ns);
        let stop_ns = running.stop(tools)?;
        Ok(Self {
            start_ns: last_ns.saturating_sub(begun_ns),
            stop_ns,
            pss_kib,
            helpers: helpers.len(),
            idle_cpu_ns: idle_ns * 30 / plan.idle.as_secs().max(1),
        })
    }
}

/// One record of `child.c` or `watch.c`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) pid: u32,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
}

const RECORD_BYTES: usize = 24;

/// A supervisor that runs. Dropping it kills what is left of its tree.
struct Running {
    child: Child,
    setup: Setup,
    /// Where the services write their records.
    records_path: PathBuf,
    /// Where the supervisor's start is recorded.
    start_path: PathBuf,
    output_path: PathBuf,
}

impl Running {
    fn start(
        peer: Peer,
        program: &Path,
        mode: &str,
        n: usize,
        tools: &Tools,
        bench_dir: &Path,
    ) -> anyhow::Result<Self> {
        let dir = bench_dir.join("run");
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let records_path = dir.join("records");
        File::create(&records_path)?;
        let command =
            [program, Path::new(mode), &records_path].map(|part| part.to_string_lossy().into_owned());
        let setup = peer.prepare(&dir, &command, n, tools)?;
        let start_path = dir.join("start");
        let output_path = dir.join("output");
        let output = File::create(&output_path)?;
        let child = setup
            .timed_command(tools, &start_path)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", peer.name()))?;
        Ok(Self { child, setup, records_path, start_path, output_path })
    }

    /// Waits until the services have written that many records, looking only at the file's size.
    fn wait_for_records(&mut self, count: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let seen = usize::try_from(fs::metadata(&self.records_path)?.len())? / RECORD_BYTES;
            if seen >= count {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "it ended with {status} after {seen} of {count} starts; it said: {}",
                    self.last_output()
                );
            }
            if begun.elapsed() > LIMIT {
                bail!(
                    "{seen} of {count} starts after {} s; it said: {}",
                    LIMIT.as_secs(),
                    self.last_output()
                );
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn records(&self) -> anyhow::Result<Vec<Record>> {
        read_records(&self.records_path)
    }

    /// Asks it to stop and returns the ns until its whole tree is gone.
    fn stop(&mut self, tools: &Tools) -> anyhow::Result<u64> {
        let supervisor = self.child.id();
        let mut watch = Command::new(&tools.watch);
        watch.arg("stop").arg(LIMIT.as_secs().to_string());
        match &self.setup.stop {
            Stop::Signal(number) => watch.args(["signal", &number.to_string(), &supervisor.to_string()]),
            Stop::Command(command) => watch
                .arg("run")
                .args(command.iter().map(|part| part.replace("{pid}", &supervisor.to_string()))),
        };
        let pids: String = processes::tree(supervisor).iter().map(|pid| format!("{pid}\n")).collect();
        let mut watch = watch
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the stopwatch")?;
        watch.stdin.take().context("the stopwatch reads pids")?.write_all(pids.as_bytes())?;
        let output = watch.wait_with_output()?;
        if !output.status.success() {
            bail!("it did not stop within {} s (stopwatch: {})", LIMIT.as_secs(), output.status);
        }
        self.child.wait()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    }

    /// The end of what it wrote, for an error.
    fn last_output(&self) -> String {
        let text = fs::read(&self.output_path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(3)..].join(" / ")
    }
}

impl Drop for Running {
    /// After a failed measurement the tree would disturb the next one.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let tree: Vec<String> = processes::tree(self.child.id()).iter().map(u32::to_string).collect();
        // Nobody is left to be told about an error here; the next measurement would show it.
        let _ = Command::new("kill").arg("-KILL").args(tree).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// From each record's last instruction to the next one's first.
pub(super) fn after_exit(records: &[Record]) -> Vec<u64> {
    records.windows(2).map(|pair| pair[1].first_ns.saturating_sub(pair[0].last_ns)).collect()
}

pub(super) fn read_records(path: &Path) -> anyhow::Result<Vec<Record>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default();
    let records = bytes.chunks_exact(RECORD_BYTES).map(|record| Record {
        pid: u32::try_from(number(&record[..8])).unwrap_or_default(),
        first_ns: number(&record[8..16]),
        last_ns: number(&record[16..]),
    });
    Ok(records.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_a_torn_one_is_left() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes: Vec<u8> = [7_u64, 100, 200].iter().flat_map(|number| number.to_ne_bytes()).collect();
        bytes.push(1);
        fs::write(file.path(), bytes).unwrap();
        let records = read_records(file.path()).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!((records[0].pid, records[0].first_ns, records[0].last_ns), (7, 100, 200));
    }
}
