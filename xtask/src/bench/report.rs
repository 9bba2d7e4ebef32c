//! Collects measurements, and says them as tables and as JSON: medians of the runs, and ratios to the floor.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::bail;
use serde_json::{Value, json};

use super::measure::{Fleet, Restart, Variant};
use super::peers::Peer;

/// What the ratios are taken to.
const FLOOR: Peer = Peer::LimitVfork;

/// Everything that was measured, run by run.
#[derive(Debug, Default)]
pub(super) struct Results {
    restarts: BTreeMap<(Variant, Peer), Vec<Restart>>,
    fleets: BTreeMap<(usize, Peer), Vec<Fleet>>,
    failures: Vec<String>,
}

/// The figures of one supervisor over its runs.
struct RestartFigures {
    median_us: f64,
    p99_us: f64,
}

struct FleetFigures {
    start_ms: f64,
    stop_ms: f64,
    pss_mib: f64,
    idle_cpu_ms: f64,
    helpers: usize,
}

impl Results {
    pub(super) fn add_restart(&mut self, peer: Peer, variant: Variant, outcome: anyhow::Result<Restart>) {
        match outcome {
            Ok(restart) => self.restarts.entry((variant, peer)).or_default().push(restart),
            Err(error) => self.fail(format!("{}, restart after {}: {error:#}", peer.name(), variant.name())),
        }
    }

    pub(super) fn add_fleet(&mut self, peer: Peer, n: usize, outcome: anyhow::Result<Fleet>) {
        match outcome {
            Ok(fleet) => self.fleets.entry((n, peer)).or_default().push(fleet),
            Err(error) => self.fail(format!("{}, {n} services: {error:#}", peer.name())),
        }
    }

    fn fail(&mut self, text: String) {
        eprintln!("bench: FAILED: {text}");
        self.failures.push(text);
    }

    /// # Errors
    /// When a measurement failed; the text names all of them.
    pub(super) fn failures(&self) -> anyhow::Result<()> {
        if !self.failures.is_empty() {
            bail!("{} measurements failed: {}", self.failures.len(), self.failures.join("; "));
        }
        Ok(())
    }

    /// The figures for people.
    pub(super) fn tables(&self) -> String {
        let mut text = String::new();
        for variant in [Variant::Exit, Variant::Kill] {
            let rows: Vec<(Peer, RestartFigures)> = self.restart_figures(variant);
            if rows.is_empty() {
                continue;
            }
            let floor = rows.iter().find(|(peer, _)| *peer == FLOOR).map(|(_, figures)| figures.median_us);
            let _ = writeln!(
                text,
                "\nRestart after {}, microseconds from death to first instruction",
                variant.name()
            );
            let _ = writeln!(text, "{:<14}{:>12}{:>12}{:>10}", "", "median", "p99", "ratio");
            for (peer, RestartFigures { median_us, p99_us }) in &rows {
                let ratio = ratio(*median_us, floor);
                let _ = writeln!(text, "{:<14}{median_us:>12.0}{p99_us:>12.0}{ratio:>10}", peer.name());
            }
        }
        for n in self.counts() {
            let rows = self.fleet_figures(n);
            let floor = rows.iter().find(|(peer, _)| *peer == FLOOR).map(|(_, figures)| figures.start_ms);
            let _ = writeln!(text, "\n{n} services that sleep");
            let _ = writeln!(
                text,
                "{:<14}{:>10}{:>8}{:>10}{:>10}{:>14}{:>11}",
                "", "start ms", "ratio", "stop ms", "PSS MiB", "idle ms/30 s", "processes"
            );
            for (peer, figures) in &rows {
                let FleetFigures { start_ms, stop_ms, pss_mib, idle_cpu_ms, helpers } = figures;
                let ratio = ratio(*start_ms, floor);
                let _ = writeln!(
                    text,
                    "{:<14}{start_ms:>10.1}{ratio:>8}{stop_ms:>10.1}{pss_mib:>10.1}{idle_cpu_ms:>14.2}{helpers:>11}",
                    peer.name()
                );
            }
        }
        text
    }

    /// The figures for programs, with every run.
    pub(super) fn json(&self, machine: &Value, runs: usize, quick: bool) -> Value {
        let mut restarts = Vec::new();
        for variant in [Variant::Exit, Variant::Kill] {
            let rows = self.restart_figures(variant);
            let floor = rows.iter().find(|(peer, _)| *peer == FLOOR).map(|(_, figures)| figures.median_us);
            for (peer, figures) in rows {
                let of_runs: Vec<Value> = self.restarts[&(variant, peer)]
                    .iter()
                    .map(|run| {
                        json!({
                            "samples": run.samples_ns.len(),
                            "median_us": micros(quantile(&run.samples_ns, 0.5)),
                            "p99_us": micros(quantile(&run.samples_ns, 0.99)),
                        })
                    })
                    .collect();
                restarts.push(json!({
                    "who": peer.name(), "after": variant.name(), "runs": of_runs,
                    "median_us": figures.median_us, "p99_us": figures.p99_us,
                    "ratio_to_limit": floor.map(|floor| figures.median_us / floor),
                }));
            }
        }
        let mut fleets = Vec::new();
        for n in self.counts() {
            for (peer, figures) in self.fleet_figures(n) {
                let of_runs: Vec<Value> = self.fleets[&(n, peer)]
                    .iter()
                    .map(|run| {
                        json!({
                            "start_ms": millis(run.start_ns), "stop_ms": millis(run.stop_ns), "pss_kib": run.pss_kib,
                            "idle_cpu_ms_per_30_s": millis(run.idle_cpu_ns), "processes": run.helpers,
                        })
                    })
                    .collect();
                fleets.push(json!({
                    "who": peer.name(), "services": n, "runs": of_runs,
                    "start_ms": figures.start_ms, "stop_ms": figures.stop_ms, "pss_mib": figures.pss_mib,
                    "idle_cpu_ms_per_30_s": figures.idle_cpu_ms, "processes": figures.helpers,
                }));
            }
        }
        json!({
            "machine": machine, "runs": runs, "quick": quick,
            "restart": restarts, "fleet": fleets, "failures": self.failures,
        })
    }

    fn counts(&self) -> Vec<usize> {
        let mut counts: Vec<usize> = self.fleets.keys().map(|(n, _)| *n).collect();
        counts.dedup();
        counts
    }

    fn restart_figures(&self, wanted: Variant) -> Vec<(Peer, RestartFigures)> {
        let rows = self.restarts.iter().filter(|((variant, _), _)| *variant == wanted);
        rows.map(|((_, peer), runs)| {
            let over_runs =
                |part: f64| median(runs.iter().map(|run| micros(quantile(&run.samples_ns, part))));
            (*peer, RestartFigures { median_us: over_runs(0.5), p99_us: over_runs(0.99) })
        })
        .collect()
    }

    fn fleet_figures(&self, wanted: usize) -> Vec<(Peer, FleetFigures)> {
        let rows = self.fleets.iter().filter(|((n, _), _)| *n == wanted);
        rows.map(|((_, peer), runs)| {
            let figures = FleetFigures {
                start_ms: median(runs.iter().map(|run| millis(run.start_ns))),
                stop_ms: median(runs.iter().map(|run| millis(run.stop_ns))),
                pss_mib: median(runs.iter().map(|run| float(run.pss_kib) / 1024.0)),
                idle_cpu_ms: median(runs.iter().map(|run| millis(run.idle_cpu_ns))),
                helpers: runs.last().map_or(0, |run| run.helpers),
            };
            (*peer, figures)
        })
        .collect()
    }
}

fn ratio(value: f64, floor: Option<f64>) -> String {
    floor.map_or_else(|| "–".to_owned(), |floor| format!("{:.1}", value / floor))
}

/// The smallest sample that at least `part` of all samples do not exceed (nearest rank); 0 without samples.
pub(super) fn quantile(samples: &[u64], part: f64) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank between 0 and the length"
    )]
    let rank = (part * float(sorted.len() as u64)).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The middle value, or the mean of the two middle ones; 0 without values.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures are far below 2^53")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

fn micros(ns: u64) -> f64 {
    float(ns) / 1e3
}

fn millis(ns: u64) -> f64 {
    float(ns) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_and_medians_are_in_the_middle() {
        let samples: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(quantile(&samples, 0.5), 50);
        assert_eq!(quantile(&samples, 0.99), 99);
        assert_eq!(quantile(&[7], 0.99), 7);
        assert_eq!(quantile(&[], 0.5), 0);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0].into_iter()), 2.5);
    }

    #[test]
    fn a_failed_measurement_fails_the_verb_and_is_in_the_json() {
        let mut results = Results::default();
        results.add_restart(Peer::Runit, Variant::Kill, Err(anyhow::anyhow!("no answer")));
        assert!(results.failures().is_err());
        let json = results.json(&Value::Null, 1, true);
        assert_eq!(json["failures"][0], "runit, restart after kill: no answer");
    }

    #[test]
    fn ratios_are_taken_to_the_floor() {
        let mut results = Results::default();
        for (peer, ns) in [(FLOOR, 100_000), (Peer::Mainstay, 250_000)] {
            results.add_restart(peer, Variant::Exit, Ok(Restart { samples_ns: vec![ns; 5] }));
        }
        let json = results.json(&Value::Null, 1, true);
        assert_eq!(json["restart"][1]["ratio_to_limit"], 2.5);
        assert!(results.tables().contains("2.5"));
    }
}
