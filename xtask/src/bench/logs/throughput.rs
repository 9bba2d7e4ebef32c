//! One program writes numbered lines as fast as it can; who captures them is timed, its processor time is taken, and what
//! it kept is compared with what was written.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::super::measure::{LIMIT, Record, read_records};
use super::super::processes;
use super::super::report::{float, median};
use super::capturers::{Capturer, text};
use super::{LogPlan, LogTools, journald};

/// Bytes of a line, with its end (`loud.c`).
pub(super) const LINE_BYTES: u64 = 100;
/// Captured, when the keepers use less than this in [`QUIET`]: not one tick.
const QUIET_CPU_NS: u64 = 1;
const QUIET: Duration = Duration::from_millis(200);

/// What one run showed.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) bytes: u64,
    /// From before the program's first write to after its last, by its own clock.
    pub(super) ns: u64,
    /// Of whoever captures, all its work included (compression, for one), without the program.
    pub(super) cpu_ns: u64,
}

/// The figures of one capturer over its runs.
pub(super) struct Figures {
    pub(super) mb_per_s: f64,
    pub(super) cpu_s_per_gib: f64,
}

impl Figures {
    pub(super) fn of(runs: &[Captured]) -> Self {
        Self {
            mb_per_s: median(runs.iter().map(Captured::mb_per_s)),
            cpu_s_per_gib: median(runs.iter().map(Captured::cpu_s_per_gib)),
        }
    }
}

impl Captured {
    fn mb_per_s(&self) -> f64 {
        float(self.bytes) / 1e6 / (float(self.ns) / 1e9)
    }

    fn cpu_s_per_gib(&self) -> f64 {
        float(self.cpu_ns) / 1e9 / (float(self.bytes) / float(1 << 30))
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "bytes": self.bytes, "seconds": float(self.ns) / 1e9, "cpu_seconds": float(self.cpu_ns) / 1e9,
            "mb_per_s": self.mb_per_s(), "cpu_s_per_gib": self.cpu_s_per_gib(),
        })
    }
}

/// # Errors
/// When something does not start, does not end, or a line is not there as it was written.
pub(super) fn measure(
    who: Capturer,
    tools: &LogTools,
    plan: &LogPlan,
    dir: &Path,
) -> anyhow::Result<Captured> {
    if who == Capturer::Journald {
        return journald::measure(tools, plan, dir);
    }
    let dir = empty(dir)?;
    let lines = (if who.is_fast() { plan.fast_mib } else { plan.slow_mib } << 20) / LINE_BYTES;
    let records_path = dir.join("records");
    File::create(&records_path)?;
    let program = [text(&tools.loud), "write".to_owned(), lines.to_string(), text(&records_path)];
    let running = who.start(&dir, &program, tools)?;
    let record = wait_for_record(&records_path, lines)?;
    let keepers = running.keepers(record.pid);
    let cpu_ns = settled_cpu(&keepers)?;
    running.end()?;
    compare(who, &dir, lines, tools)?;
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    Ok(Captured { bytes: lines * LINE_BYTES, ns: record.last_ns - record.first_ns, cpu_ns })
}

/// What the program recorded when all its lines had been taken.
pub(super) fn wait_for_record(path: &Path, lines: u64) -> anyhow::Result<Record> {
    let begun = Instant::now();
    loop {
        if let Some(record) = read_records(path)?.first() {
            return Ok(*record);
        }
        if begun.elapsed() > LIMIT {
            bail!("{lines} lines were not taken within {} s", LIMIT.as_secs());
        }
        sleep(Duration::from_millis(5));
    }
}

/// The processor time of these once they have come to rest.
pub(super) fn settled_cpu(keepers: &BTreeSet<u32>) -> anyhow::Result<u64> {
    let begun = Instant::now();
    let mut cpu_ns = processes::cpu_with_ended_threads_ns(keepers);
    loop {
        sleep(QUIET);
        let before_ns = std::mem::replace(&mut cpu_ns, processes::cpu_with_ended_threads_ns(keepers));
        if cpu_ns.saturating_sub(before_ns) < QUIET_CPU_NS {
            return Ok(cpu_ns);
        }
        ensure!(begun.elapsed() < LIMIT, "it still works {} s after the last line", LIMIT.as_secs());
    }
}

/// A new folder for one measurement.
pub(super) fn empty(dir: &Path) -> anyhow::Result<std::path::PathBuf> {
    let dir = dir.join("run");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// Every line is there once, in order and as it was written.
fn compare(who: Capturer, dir: &Path, lines: u64, tools: &LogTools) -> anyhow::Result<()> {
    let mut check = Command::new(&tools.loud)
        .args(["check", &lines.to_string()])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the check")?;
    let mut pipe = check.stdin.take().context("the check reads a pipe")?;
    let mut told = Ok(());
    for path in who.files(dir)? {
        told = if path.extension().is_some_and(|extension| extension == "zst") {
            let mut zstd = Command::new("zstd");
            zstd.args(["-dcq"]).arg(&path).stdin(Stdio::null()).stdout(Stdio::piped());
            let mut zstd = zstd.spawn().context("cannot start zstd")?;
            let mut plain = zstd.stdout.take().context("zstd writes a pipe")?;
            let copied = std::io::copy(&mut plain, &mut pipe);
            drop(plain);
            let status = zstd.wait()?;
            copied.map_err(Into::into).and_then(|_| {
                ensure!(status.success(), "zstd cannot read {}: {status}", path.display());
                Ok(())
            })
        } else {
            File::open(&path)
                .and_then(|mut file| std::io::copy(&mut file, &mut pipe))
                .map(drop)
                .map_err(Into::into)
        };
        if told.is_err() {
            break;
        }
    }
    drop(pipe);
    let answer = check.wait_with_output()?;
    // A check that found a wrong line has gone, and that is what its pipe's error says.
    ensure!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr).trim());
    told
}
