//! How long it takes to find a time in a long compressed history: by a new reader of the library, which is an example of
//! `mainstay-logs` that also makes the history, and by the command a person types.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::super::report::{float, quantile};
use super::{LogPlan, LogTools};
use crate::stage::{cargo, output};

/// Times looked for by the command.
const SEARCHES: u64 = 100;

/// What was seen.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) gib: u64,
    lines: u64,
    pub(super) reader_median_ms: f64,
    pub(super) reader_p99_ms: f64,
    pub(super) command_median_ms: f64,
    pub(super) command_p99_ms: f64,
}

impl Found {
    pub(super) fn json(&self) -> Value {
        json!({
            "gib": self.gib, "lines": self.lines,
            "reader_median_ms": self.reader_median_ms, "reader_p99_ms": self.reader_p99_ms,
            "command_median_ms": self.command_median_ms, "command_p99_ms": self.command_p99_ms,
        })
    }
}

/// # Errors
/// When the history cannot be made, or a line is not found.
pub(super) fn measure(tools: &LogTools, plan: &LogPlan, dir: &Path) -> anyhow::Result<Found> {
    let state_dir = dir.join(format!("history-{}", plan.history_gib));
    let logs_dir = state_dir.join("logs");
    std::fs::create_dir_all(&logs_dir).with_context(|| format!("cannot create {}", logs_dir.display()))?;
    let mut example = cargo();
    example.args(["run", "--release", "-q", "-p", "mainstay-logs", "--example", "find_time", "--"]);
    example.arg(&logs_dir).arg(plan.history_gib.to_string());
    let answer: Value = serde_json::from_str(output(example)?.trim()).context("find_time answers in JSON")?;
    let number = |name: &str| answer[name].as_f64().with_context(|| format!("find_time says no {name}"));
    let lines = answer["lines"].as_u64().context("find_time says no lines")?;

    std::fs::write(
        state_dir.join("mainstay.toml"),
        "stack = \"bench\"\n[service.web]\ncommand = \"true\"\n",
    )?;
    let mut samples_ns = Vec::new();
    for search in 0..SEARCHES {
        // A line a millisecond, from 2026-01-01 on (find_time.rs); steps that never come in order.
        let ms = (search * 7919 + 13) % SEARCHES * (lines / SEARCHES);
        let since = time(ms);
        let mut command = Command::new(&tools.mainstay);
        command.arg("--file").arg(state_dir.join("mainstay.toml"));
        command.args(["logs", "web", "--json", "--since", &since, "--until", &time(ms + 9)]);
        command.env("MAINSTAY_STATE_DIR", &state_dir).stdin(Stdio::null());
        let begun = Instant::now();
        let text = output(command)?;
        samples_ns.push(u64::try_from(begun.elapsed().as_nanos())?);
        let first: Value = serde_json::from_str(text.lines().next().unwrap_or_default())
            .with_context(|| format!("no line was found at {since}"))?;
        let line = first["line"].as_str().unwrap_or_default();
        ensure!(line.ends_with(&format!("{ms:020}")), "looked for {since} and found {first}");
    }
    let ms = |part: f64| float(quantile(&samples_ns, part)) / 1e6;
    Ok(Found {
        gib: plan.history_gib,
        lines,
        reader_median_ms: number("median_ms")?,
        reader_p99_ms: number("p99_ms")?,
        command_median_ms: ms(0.5),
        command_p99_ms: ms(0.99),
    })
}

/// That many ms after 2026-01-01T00:00:00Z, in RFC 3339; 26 days are enough for any history here.
fn time(ms: u64) -> String {
    let (second, ms) = (ms / 1000, ms % 1000);
    let (minute, hour, day) = (second / 60, second / 3600, second / 86_400);
    format!("2026-01-{:02}T{:02}:{:02}:{:02}.{ms:03}Z", day + 1, hour % 24, minute % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_the_first_of_january() {
        assert_eq!(time(0), "2026-01-01T00:00:00.000Z");
        assert_eq!(time(86_400_000 * 2 + 3_661_042), "2026-01-03T01:01:01.042Z");
    }
}
