//! A hundred services talk at once: memory of whoever captures, over time, and its processor time.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::super::processes;
use super::super::report::float;
use super::capturers::{Capturer, text};
use super::throughput::empty;
use super::{LogPlan, LogTools};
use crate::stage::output;

pub(super) const SERVICES: usize = 100;
pub(super) const LINES_PER_SECOND: u64 = 1000;
/// Until all have begun and buffers have grown.
const WARM_UP: Duration = Duration::from_secs(5);
/// How long all may take to begin, or to be gone.
const LIMIT: Duration = Duration::from_secs(60);
/// signal(7), x86.
const SIGHUP: &str = "HUP";

/// What one run showed.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) begin_mib: f64,
    pub(super) end_mib: f64,
    pub(super) most_mib: f64,
    pub(super) cpu_ms_per_s: f64,
    pub(super) helpers: usize,
    samples_kib: Vec<u64>,
}

impl Talk {
    pub(super) fn json(&self) -> Value {
        json!({
            "begin_mib": self.begin_mib, "end_mib": self.end_mib, "most_mib": self.most_mib,
            "cpu_ms_per_s": self.cpu_ms_per_s, "processes": self.helpers, "pss_kib": self.samples_kib,
        })
    }
}

/// # Errors
/// When not all services begin, one is gone, or they do not stop.
pub(super) fn measure(who: Capturer, tools: &LogTools, plan: &LogPlan, dir: &Path) -> anyhow::Result<Talk> {
    let dir = empty(dir)?;
    let supervisor = Supervisor(start(who, &dir, tools)?);
    let begun = Instant::now();
    let services = loop {
        let tree = processes::tree(supervisor.0.id());
        let talking: BTreeSet<u32> =
            tree.into_iter().filter(|pid| processes::name(*pid).as_deref() == Some("loud")).collect();
        if talking.len() == SERVICES {
            break talking;
        }
        if begun.elapsed() > LIMIT {
            bail!("{} of {SERVICES} services run", talking.len());
        }
        sleep(Duration::from_millis(50));
    };
    sleep(WARM_UP);
    let helpers: BTreeSet<u32> = processes::tree(supervisor.0.id()).difference(&services).copied().collect();
    let cpu_before_ns = processes::cpu_with_ended_threads_ns(&helpers);
    let mut samples_kib = vec![processes::pss_kib(&helpers)];
    for _ in 0..plan.many_s {
        sleep(Duration::from_secs(1));
        samples_kib.push(processes::pss_kib(&helpers));
    }
    let cpu_ns = processes::cpu_with_ended_threads_ns(&helpers) - cpu_before_ns;
    let alive = services.iter().filter(|pid| processes::lives(**pid)).count();
    ensure!(alive == SERVICES, "only {alive} of {SERVICES} services live");
    supervisor.end(who)?;
    fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    let mib = |kib: Option<&u64>| float(kib.copied().unwrap_or_default()) / 1024.0;
    Ok(Talk {
        begin_mib: mib(samples_kib.first()),
        end_mib: mib(samples_kib.last()),
        most_mib: mib(samples_kib.iter().max()),
        cpu_ms_per_s: float(cpu_ns) / 1e6 / float(plan.many_s),
        helpers: helpers.len(),
        samples_kib,
    })
}

/// Dropping it kills its tree.
struct Supervisor(Child);

impl Supervisor {
    fn end(mut self, who: Capturer) -> anyhow::Result<()> {
        // runsvdir(8) ends its services on HUP.
        let signal = if who == Capturer::SvlogdStamp { SIGHUP } else { "TERM" };
        let mut kill = Command::new("kill");
        kill.args(["-s", signal, &self.0.id().to_string()]);
        output(kill)?;
        let begun = Instant::now();
        while self.0.try_wait()?.is_none() {
            ensure!(begun.elapsed() < LIMIT, "it did not stop within {} s", LIMIT.as_secs());
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        let tree: Vec<String> = processes::tree(self.0.id()).iter().map(u32::to_string).collect();
        // Nobody is left to be told about an error here; the next measurement would show it.
        let _ = Command::new("kill").arg("-KILL").args(tree).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

fn start(who: Capturer, dir: &Path, tools: &LogTools) -> anyhow::Result<Child> {
    let records_path = dir.join("records");
    File::create(&records_path)?;
    // More lines than there is time for.
    let program = [
        text(&tools.loud),
        "pace".to_owned(),
        "1000000000".to_owned(),
        LINES_PER_SECOND.to_string(),
        text(&records_path),
    ];
    let said = File::create(dir.join("said"))?;
    let mut command = match who {
        Capturer::Mainstay => {
            let words = toml::Value::try_from(&program[..])?;
            let mut file = String::from("stack = \"bench\"\n");
            for index in 0..SERVICES {
                file.push_str(&format!("[service.s{index:03}]\ncommand = {words}\n"));
            }
            let path = dir.join("mainstay.toml");
            fs::write(&path, file)?;
            let mut command = Command::new(&tools.mainstay);
            command.args(["run", "-q", "-f"]).arg(&path).env("MAINSTAY_STATE_DIR", dir.join("state"));
            command
        }
        Capturer::Supervisord => {
            let at = text(dir);
            let mut file = format!(
                "[supervisord]\nnodaemon=true\nminfds=2048\nlogfile={at}/supervisord.log\npidfile={at}/supervisord.pid\n"
            );
            for index in 0..SERVICES {
                file.push_str(&format!(
                    "[program:s{index:03}]\ncommand={}\nstdout_logfile={at}/s{index:03}.log\nstdout_logfile_maxbytes=0\n",
                    program.join(" ")
                ));
            }
            let path = dir.join("supervisord.conf");
            fs::write(&path, file)?;
            let mut command = Command::new("supervisord");
            command.args(["-n", "-c"]).arg(&path);
            command
        }
        Capturer::S6LogStamp | Capturer::SvlogdStamp => {
            for index in 0..SERVICES {
                let service = dir.join(format!("services/s{index:03}"));
                let kept = service.join("kept");
                fs::create_dir_all(service.join("log"))?;
                fs::create_dir_all(&kept)?;
                write_script(&service.join("run"), &program)?;
                write_script(&service.join("log/run"), &who.logger(&kept)?)?;
            }
            let services = text(&dir.join("services"));
            let words: &[&str] =
                if who == Capturer::S6LogStamp { &["s6-svscan"] } else { &["runsvdir", "-P"] };
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).arg(services);
            command
        }
        Capturer::Direct
        | Capturer::Cat
        | Capturer::Mincap
        | Capturer::MincapStamp
        | Capturer::MainstayZstd
        | Capturer::S6Log
        | Capturer::Multilog
        | Capturer::MultilogStamp
        | Capturer::Svlogd
        | Capturer::Journald => bail!("{} does not take part", who.name()),
    };
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    command.spawn().with_context(|| format!("cannot start {}", who.name()))
}

fn write_script(path: &Path, words: &[String]) -> anyhow::Result<()> {
    fs::write(path, format!("#!/bin/sh\nexec {}\n", words.join(" ")))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let mut executable = Command::new("chmod");
    executable.arg("755").arg(path);
    output(executable).map(drop)
}
