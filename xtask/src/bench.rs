//! `bench`: restart latency, start and stop of many services, memory and idle CPU, capture and reading of logs, of mainstay
//! and of others.
//!
//! All are measured by the same tools on the same machine in one run, in turns, and set beside a bare loop that
//! supervises nothing ([`peers`]: how each is set up; [`measure`]: what is done with it; [`report`]: what is said about
//! it; [`logs`]: the same for logs). What must be exact to the microsecond is in `xtask/bench/*.c`, compiled here.

mod facts;
mod logs;
mod measure;
mod peers;
mod processes;
mod report;
mod systemd;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::stage::{command, run as run_command};
use crate::{dist, places};
use logs::{Capturer, LogPlan, LogResults, LogTools};
use measure::{Fleet, Plan, Restart, Variant};
use peers::Peer;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench                                      everything; half an hour on two cores
  cargo xtask bench --quick                              a first impression in a few minutes
  cargo xtask bench --only restart --peers limit-vfork,mainstay
  cargo xtask bench --only logs --quick                  capture, following, finding a time
  cargo xtask bench --only logs --capturers mincap-stamp,mainstay,s6-log-stamp
  cargo xtask bench --only fleet --n 1000 --runs 5 --out target/fleet.json

Close other programs first: with two cores, whatever else runs is part of the figures.")]
pub(crate) struct Options {
    /// Fewer samples, one run, short idle time: for trying, not for quoting.
    #[arg(long)]
    quick: bool,
    /// Which supervisors, by name; one that is not installed is said and left out [default: all but systemd, which
    /// needs root and boots a container].
    #[arg(long, value_delimiter = ',', value_enum)]
    peers: Vec<Peer>,
    /// Who captures logs, by name; one that is not installed is said and left out [default: all but journald, which
    /// needs root and boots a container].
    #[arg(long, value_delimiter = ',', value_enum)]
    capturers: Vec<Capturer>,
    /// Where log files are written while they are measured; on a disk its speed is part of the figures, in /dev/shm it is not
    /// [default: in the build folder].
    #[arg(long, value_name = "DIR")]
    logs_dir: Option<PathBuf>,
    /// How many services for start, stop, memory and idle CPU.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [1, 100, 1000])]
    n: Vec<usize>,
    /// How often everything is repeated [default: 3, with --quick 1].
    #[arg(long, value_name = "K")]
    runs: Option<usize>,
    /// Measures only this.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Where the JSON goes [default: bench.json in the build folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A mainstay binary to measure instead of building the static release one.
    #[arg(long, value_name = "FILE")]
    mainstay: Option<PathBuf>,
}

/// The parts of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// From a child's death to the next child's first instruction.
    Restart,
    /// Start, stop, memory and idle CPU of N services.
    Fleet,
    /// Capture of output, a hundred services that talk, following, finding a time.
    Logs,
    /// Of these, the capture of one loud program alone.
    Capture,
}

/// The programs of the benchmark, all absolute paths.
#[derive(Debug)]
struct Tools {
    /// Statically linked: its first instruction comes soon after exec.
    child: PathBuf,
    /// Dynamically linked, so that starting it costs what starting sleep(1) costs.
    sleeper: PathBuf,
    limit: PathBuf,
    watch: PathBuf,
    loud: PathBuf,
    mincap: PathBuf,
    mainstay: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let bench_dir = places::target_dir().join("bench");
    fs::create_dir_all(&bench_dir).with_context(|| format!("cannot create {}", bench_dir.display()))?;
    let wanted: Vec<Peer> =
        if options.peers.is_empty() { peers::DEFAULT.to_vec() } else { options.peers.clone() };
    let mut tools = compile_tools(&bench_dir)?;
    let measures = |part: Part| options.only.is_none_or(|only| only == part);
    let measures_logs = measures(Part::Logs) || measures(Part::Capture);
    if wanted.contains(&Peer::Mainstay) || measures_logs {
        tools.mainstay = Some(match &options.mainstay {
            Some(path) => path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?,
            None => dist::build()?,
        });
    }
    let mut left_out = Vec::new();
    let mut measured = Vec::new();
    for peer in wanted {
        match peer.missing_program() {
            Some(program) => {
                eprintln!("bench: {} is left out: {program} is not installed", peer.name());
                left_out.push((peer, program));
            }
            None => measured.push(peer),
        }
    }
    if measured.is_empty() {
        bail!("none of the supervisors asked for is installed");
    }
    let plan = if options.quick { Plan::quick() } else { Plan::thorough() };
    let runs = options.runs.unwrap_or(if options.quick { 1 } else { 3 });

    let mut results = report::Results::default();
    for run in 1..=runs {
        // In turns, so that a slow minute of the machine falls on all alike.
        for &peer in &measured {
            if measures(Part::Restart) {
                for variant in [Variant::Exit, Variant::Kill] {
                    eprintln!(
                        "bench: run {run} of {runs}: restart after {}: {}",
                        variant.name(),
                        peer.name()
                    );
                    let outcome = if peer == Peer::Systemd {
                        systemd::restart(variant, &tools, &plan, &bench_dir)
                    } else {
                        Restart::measure(peer, variant, &tools, &plan, &bench_dir)
                    };
                    results.add_restart(peer, variant, outcome);
                }
            }
            if measures(Part::Fleet) {
                for &n in &options.n {
                    eprintln!("bench: run {run} of {runs}: {n} services: {}", peer.name());
                    let outcome = if peer == Peer::Systemd {
                        systemd::fleet(n, &tools, &plan, &bench_dir)
                    } else {
                        Fleet::measure(peer, n, &tools, &plan, &bench_dir)
                    };
                    results.add_fleet(peer, n, outcome);
                }
            }
        }
    }
    let logs =
        if measures_logs { measure_logs(options, &tools, runs, &bench_dir)? } else { LogResults::default() };
    println!("{}{}", results.tables(), logs.tables());
    for (peer, program) in &left_out {
        println!("{}: not measured, {program} is not installed", peer.name());
    }
    let out_path = options.out.clone().unwrap_or_else(|| places::target_dir().join("bench.json"));
    let mut json = results.json(&facts::gather(&measured, &tools), runs, options.quick);
    json["logs"] = logs.json();
    fs::write(&out_path, format!("{json:#}\n"))
        .with_context(|| format!("cannot write {}", out_path.display()))?;
    println!("written to {}", out_path.display());
    results.failures()?;
    if !logs.failures().is_empty() {
        bail!("{} measurements failed: {}", logs.failures().len(), logs.failures().join("; "));
    }
    Ok(())
}

/// The logs' part; who is not installed is said.
fn measure_logs(
    options: &Options,
    tools: &Tools,
    runs: usize,
    bench_dir: &Path,
) -> anyhow::Result<LogResults> {
    let log_tools = LogTools {
        loud: tools.loud.clone(),
        mincap: tools.mincap.clone(),
        mainstay: tools.mainstay.clone().context("mainstay was not built")?,
    };
    let wanted = if options.capturers.is_empty() { &logs::DEFAULT[..] } else { &options.capturers };
    let mut capturers = Vec::new();
    for &who in wanted {
        match who.missing_program() {
            Some(program) => println!("{}: not measured, {program} is not installed", who.name()),
            None => capturers.push(who),
        }
    }
    let plan = if options.quick { LogPlan::quick() } else { LogPlan::thorough() };
    let mut results = LogResults::default();
    let dir = options.logs_dir.as_deref().unwrap_or(bench_dir);
    for run in 1..=runs {
        eprintln!("bench: run {run} of {runs}: logs");
        results.capture(&capturers, &log_tools, &plan, dir);
        if options.only != Some(Part::Capture) {
            results.talk_and_follow(&capturers, &log_tools, &plan, dir);
        }
    }
    if options.only != Some(Part::Capture) {
        results.find(&log_tools, &plan, bench_dir);
    }
    Ok(results)
}

/// Compiles `xtask/bench/*.c` with the system's C compiler.
fn compile_tools(bench_dir: &Path) -> anyhow::Result<Tools> {
    let compile = |source: &str, name: &str, is_static: bool| {
        let program = bench_dir.join(name);
        let mut compiler = command("cc");
        compiler.args(["-O2", "-Wall", "-Wextra", "-Werror"]);
        compiler.args(is_static.then_some("-static"));
        compiler.arg("-o").arg(&program).arg(places::root_dir().join("xtask/bench").join(source));
        run_command(compiler).map(|()| program)
    };
    Ok(Tools {
        child: compile("child.c", "child", true)?,
        sleeper: compile("child.c", "sleeper", false)?,
        limit: compile("limit.c", "limit", true)?,
        watch: compile("watch.c", "watch", true)?,
        loud: compile("loud.c", "loud", true)?,
        mincap: compile("mincap.c", "mincap", true)?,
        mainstay: None,
    })
}
