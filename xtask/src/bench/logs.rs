//! The logs' part of the benchmark: how fast a loud program is captured and at what cost, what a hundred talking services
//! cost in memory, how soon a follower sees a line, and how long it takes to find a time in a long history.
//!
//! All that capture are measured with the same program on the same disk in one run, in turns ([`capturers`]: how each is
//! set up). Each line is compared when it is read back: a fast capture that loses one line has failed.

mod capturers;
mod find;
mod follow;
mod journald;
mod many;
mod throughput;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::report::median;
pub(super) use capturers::{Capturer, DEFAULT};

/// What the throughput's ratios are taken to: the least that a capture with times can do.
const FLOOR: Capturer = Capturer::MincapStamp;

/// The programs of this part, all absolute paths.
#[derive(Debug)]
pub(super) struct LogTools {
    /// Writes lines and judges what came of them: `xtask/bench/loud.c`.
    pub(super) loud: PathBuf,
    /// The floor: `xtask/bench/mincap.c`.
    pub(super) mincap: PathBuf,
    pub(super) mainstay: PathBuf,
}

/// How much is measured.
#[derive(Debug)]
pub(super) struct LogPlan {
    /// Output of the loud program for a fast capturer, and for one that takes ten times as long.
    pub(super) fast_mib: u64,
    pub(super) slow_mib: u64,
    /// How long a hundred services talk.
    pub(super) many_s: u64,
    /// Lines that a follower has to show.
    pub(super) followed_lines: u64,
    /// The history in which times are looked for.
    pub(super) history_gib: u64,
}

impl LogPlan {
    pub(super) fn thorough() -> Self {
        Self { fast_mib: 2048, slow_mib: 128, many_s: 30, followed_lines: 100_000, history_gib: 10 }
    }

    pub(super) fn quick() -> Self {
        Self { fast_mib: 128, slow_mib: 16, many_s: 8, followed_lines: 20_000, history_gib: 1 }
    }
}

/// Everything that was measured, run by run.
#[derive(Debug, Default)]
pub(super) struct LogResults {
    captures: BTreeMap<Capturer, Vec<throughput::Captured>>,
    many: BTreeMap<Capturer, Vec<many::Talk>>,
    followed: BTreeMap<Capturer, Vec<follow::Latency>>,
    found: Option<find::Found>,
    failures: Vec<String>,
}

impl LogResults {
    /// Has each of `capturers` take a loud program's output once.
    pub(super) fn capture(&mut self, capturers: &[Capturer], tools: &LogTools, plan: &LogPlan, dir: &Path) {
        for &who in capturers {
            eprintln!("bench: capture: {}", who.name());
            match throughput::measure(who, tools, plan, dir) {
                Ok(captured) => self.captures.entry(who).or_default().push(captured),
                Err(error) => self.fail(format!("{}, capture: {error:#}", who.name())),
            }
        }
    }

    /// Has those that can supervise a hundred talking services, and those that can be followed be followed, once.
    pub(super) fn talk_and_follow(
        &mut self,
        capturers: &[Capturer],
        tools: &LogTools,
        plan: &LogPlan,
        dir: &Path,
    ) {
        for &who in capturers.iter().filter(|who| who.supervises()) {
            eprintln!("bench: {} services that talk: {}", many::SERVICES, who.name());
            match many::measure(who, tools, plan, dir) {
                Ok(talk) => self.many.entry(who).or_default().push(talk),
                Err(error) => self.fail(format!("{}, many services: {error:#}", who.name())),
            }
        }
        for &who in capturers.iter().filter(|who| who.can_be_followed()) {
            eprintln!("bench: following: {}", who.name());
            match follow::measure(who, tools, plan, dir) {
                Ok(latency) => self.followed.entry(who).or_default().push(latency),
                Err(error) => self.fail(format!("{}, following: {error:#}", who.name())),
            }
        }
    }

    /// Looks for times in a long history; once, as it is the same each time.
    pub(super) fn find(&mut self, tools: &LogTools, plan: &LogPlan, dir: &Path) {
        eprintln!("bench: finding a time in {} GiB", plan.history_gib);
        match find::measure(tools, plan, dir) {
            Ok(found) => self.found = Some(found),
            Err(error) => self.fail(format!("finding a time: {error:#}")),
        }
    }

    fn fail(&mut self, text: String) {
        eprintln!("bench: FAILED: {text}");
        self.failures.push(text);
    }

    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The figures for people.
    pub(super) fn tables(&self) -> String {
        let mut text = String::new();
        let floor = self.captures.get(&FLOOR).map(|runs| throughput::Figures::of(runs));
        if !self.captures.is_empty() {
            let _ = writeln!(
                text,
                "\nCapture of 100-byte lines written as fast as possible; every line compared"
            );
            let _ = writeln!(
                text,
                "{:<18}{:>8}{:>8}{:>12}{:>8}{:>9}",
                "", "MB/s", "ratio", "CPU s/GiB", "ratio", "MiB"
            );
        }
        for (who, runs) in &self.captures {
            let figures = throughput::Figures::of(runs);
            let _ = writeln!(
                text,
                "{:<18}{:>8.0}{:>8}{:>12.2}{:>8}{:>9}",
                who.name(),
                figures.mb_per_s,
                of_floor(figures.mb_per_s, floor.as_ref().map(|floor| floor.mb_per_s)),
                figures.cpu_s_per_gib,
                of_floor(figures.cpu_s_per_gib, floor.as_ref().map(|floor| floor.cpu_s_per_gib)),
                runs.last().map_or(0, |run| run.bytes >> 20),
            );
        }
        if !self.many.is_empty() {
            let _ = writeln!(
                text,
                "\n{} services that write {} lines a second each, PSS of the supervisor and its helpers, MiB",
                many::SERVICES,
                many::LINES_PER_SECOND
            );
            let _ = writeln!(
                text,
                "{:<18}{:>8}{:>8}{:>8}{:>14}{:>11}",
                "", "begin", "end", "most", "CPU ms/s", "processes"
            );
        }
        for (who, runs) in &self.many {
            let over = |figure: fn(&many::Talk) -> f64| median(runs.iter().map(figure));
            let _ = writeln!(
                text,
                "{:<18}{:>8.1}{:>8.1}{:>8.1}{:>14.1}{:>11}",
                who.name(),
                over(|run| run.begin_mib),
                over(|run| run.end_mib),
                over(|run| run.most_mib),
                over(|run| run.cpu_ms_per_s),
                runs.last().map_or(0, |run| run.helpers),
            );
        }
        if !self.followed.is_empty() {
            let _ = writeln!(
                text,
                "\nFollowing a program that writes {} lines a second, ms from its write to the follower's output",
                follow::LINES_PER_SECOND
            );
            let _ = writeln!(text, "{:<18}{:>8}{:>8}{:>8}", "", "median", "p99", "most");
        }
        for (who, runs) in &self.followed {
            let over = |figure: fn(&follow::Latency) -> f64| median(runs.iter().map(figure));
            let _ = writeln!(
                text,
                "{:<18}{:>8.2}{:>8.2}{:>8.2}",
                who.name(),
                over(|run| run.median_ms),
                over(|run| run.p99_ms),
                over(|run| run.most_ms),
            );
        }
        if let Some(found) = &self.found {
            let _ = writeln!(
                text,
                "\nFinding a time in {} GiB of compressed history, ms\n\
                 the first line of a new reader: median {:.1}, p99 {:.1}; `mainstay logs --since`, whole: median {:.1}, p99 {:.1}",
                found.gib,
                found.reader_median_ms,
                found.reader_p99_ms,
                found.command_median_ms,
                found.command_p99_ms
            );
        }
        text
    }

    /// The figures for programs, with every run.
    pub(super) fn json(&self) -> Value {
        let captures: Vec<Value> = self
            .captures
            .iter()
            .map(|(who, runs)| {
                let runs: Vec<Value> = runs.iter().map(throughput::Captured::json).collect();
                json!({ "who": who.name(), "runs": runs })
            })
            .collect();
        let many: Vec<Value> = self
            .many
            .iter()
            .map(|(who, runs)| {
                let runs: Vec<Value> = runs.iter().map(many::Talk::json).collect();
                json!({ "who": who.name(), "services": many::SERVICES, "runs": runs })
            })
            .collect();
        let followed: Vec<Value> = self
            .followed
            .iter()
            .map(|(who, runs)| {
                let runs: Vec<Value> = runs.iter().map(follow::Latency::json).collect();
                json!({ "who": who.name(), "runs": runs })
            })
            .collect();
        json!({
            "capture": captures, "many": many, "follow": followed,
            "find": self.found.as_ref().map(find::Found::json), "failures": self.failures,
        })
    }
}

/// The share of the floor's figure.
fn of_floor(value: f64, floor: Option<f64>) -> String {
    floor.map_or_else(|| "–".to_owned(), |floor| format!("{:.2}", value / floor))
}
