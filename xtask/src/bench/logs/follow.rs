//! How soon a follower shows a line: the program writes at a pace and says in each line when; the bench reads the
//! follower's output and looks at the clock.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::super::report::{float, quantile};
use super::capturers::{Capturer, text};
use super::throughput::empty;
use super::{LogPlan, LogTools};

pub(super) const LINES_PER_SECOND: u64 = 10_000;
/// The first part of the lines is not counted: everything is still starting.
const WARM_UP_PART: u64 = 10;
/// How much longer than the writing itself everything may take.
const GRACE: Duration = Duration::from_secs(30);
/// What follows within this before anything is written.
const FOLLOWER_START: Duration = Duration::from_millis(500);

/// What one run showed.
#[derive(Debug)]
pub(super) struct Latency {
    pub(super) median_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) most_ms: f64,
    lines: usize,
}

impl Latency {
    pub(super) fn json(&self) -> Value {
        json!({
            "lines": self.lines, "median_ms": self.median_ms, "p99_ms": self.p99_ms, "most_ms": self.most_ms,
        })
    }
}

/// # Errors
/// When something does not start, or a line is not shown, or shown twice.
pub(super) fn measure(
    who: Capturer,
    tools: &LogTools,
    plan: &LogPlan,
    dir: &Path,
) -> anyhow::Result<Latency> {
    let dir = empty(dir)?;
    let records_path = dir.join("records");
    File::create(&records_path)?;
    let lines = plan.followed_lines;
    // The follower must be there first, so the program is begun by a shell that waits for a file.
    let go_path = dir.join("go");
    let script = format!(
        "while [ ! -e '{go}' ]; do sleep 0.05; done; exec '{loud}' pace {lines} {LINES_PER_SECOND} '{records}'",
        go = text(&go_path),
        loud = text(&tools.loud),
        records = text(&records_path)
    );
    let running = who.start(&dir, &["sh".to_owned(), "-c".to_owned(), script], tools)?;
    let mut follower = Follower(
        follower(who, &dir, tools)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("cannot start the follower")?,
    );
    let output = follower.0.stdout.take().context("the follower writes a pipe")?;
    let (tell, told) = mpsc::channel();
    let reader = std::thread::spawn(move || read_chunks(output, &tell));
    std::thread::sleep(FOLLOWER_START);
    File::create(&go_path)?;

    let until = Instant::now() + Duration::from_secs(lines / LINES_PER_SECOND) + GRACE;
    let mut samples_ns = Vec::new();
    let mut seen = BTreeSet::new();
    let mut rest = Vec::new();
    while seen.len() < usize::try_from(lines)? {
        let Ok((at_ns, chunk)) = told.recv_timeout(until.saturating_duration_since(Instant::now())) else {
            bail!("{} of {lines} lines were shown", seen.len());
        };
        rest.extend_from_slice(&chunk);
        let complete = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        for line in rest[..complete].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let (number, written_ns) = parse(line)?;
            ensure!(seen.insert(number), "line {number} was shown twice");
            if number >= lines / WARM_UP_PART {
                samples_ns.push(at_ns.saturating_sub(written_ns));
            }
        }
        rest.drain(..complete);
    }
    drop(follower);
    // It ends with the follower's output.
    drop(reader.join());
    running.end()?;
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    let ms = |part: f64| float(quantile(&samples_ns, part)) / 1e6;
    Ok(Latency { median_ms: ms(0.5), p99_ms: ms(0.99), most_ms: ms(1.0), lines: samples_ns.len() })
}

/// Each chunk of output with the time at which it was there.
fn read_chunks(mut output: impl std::io::Read, tell: &mpsc::Sender<(u64, Vec<u8>)>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = output.read(&mut buffer) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        if tell.send((at_ns, buffer[..length].to_vec())).is_err() {
            return;
        }
    }
}

/// The line's number and the time of its write, which end it, whatever stands in front (`loud.c`).
fn parse(line: &[u8]) -> anyhow::Result<(u64, u64)> {
    let line = std::str::from_utf8(line)?;
    let parts: Option<(u64, u64)> = line.split_once('@').and_then(|(front, time)| {
        let number = front.trim_end().rsplit(' ').next()?;
        Some((number.parse().ok()?, time.split_once('@')?.0.parse().ok()?))
    });
    parts.with_context(|| format!("cannot read the line {line:?}"))
}

fn follower(who: Capturer, dir: &Path, tools: &LogTools) -> anyhow::Result<Command> {
    if who == Capturer::Mainstay {
        let mut command = Command::new(&tools.mainstay);
        command.arg("--file").arg(dir.join("mainstay.toml")).args(["logs", "loud", "-f", "-n", "0"]);
        command.env("MAINSTAY_STATE_DIR", dir.join("kept"));
        return Ok(command);
    }
    let name = if who == Capturer::MincapStamp { "out.log" } else { "current" };
    let mut command = Command::new("tail");
    command.args(["-q", "-n", "+1", "-F"]).arg(dir.join("kept").join(name));
    Ok(command)
}

/// Dropping it ends it.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paced_line_is_read_behind_any_stamp() {
        let line = b"2026-11-28T10:00:00.000000001Z 000000000042 @00000000000000001234@ 000";
        assert_eq!(parse(line).unwrap(), (42, 1234));
        assert_eq!(parse(b"000000000000 @01795862646500330879@ 0").unwrap(), (0, 1_795_862_646_500_330_879));
        assert!(parse(b"something else").is_err());
    }
}
