//! The supervisors that are measured: how each is told to keep N copies of a program running, and how it is stopped.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::Tools;
use crate::places;

/// A supervisor, or a loop that does a supervisor's least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Peer {
    /// The floor: vfork and exec in a loop.
    LimitVfork,
    /// The floor with posix_spawn.
    LimitSpawn,
    /// The floor with fork.
    LimitFork,
    Mainstay,
    Runit,
    S6,
    Daemontools,
    Supervisord,
    /// Debian's, booted in a container; measured by [`super::systemd`].
    Systemd,
}

/// Those measured unless others are asked for, in the order of the tables.
pub(super) const DEFAULT: [Peer; 8] = [
    Peer::LimitVfork,
    Peer::LimitSpawn,
    Peer::LimitFork,
    Peer::Mainstay,
    Peer::Runit,
    Peer::S6,
    Peer::Daemontools,
    Peer::Supervisord,
];

/// A supervisor ready to be started.
#[derive(Debug)]
pub(super) struct Setup {
    /// Program and arguments; stays in the foreground.
    pub(super) command: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) stop: Stop,
}

/// How a supervisor is told to end everything and itself.
#[derive(Debug)]
pub(super) enum Stop {
    /// By a signal to it: its number (signal(7), x86).
    Signal(u8),
    /// By a command; `{pid}` stands for the supervisor's pid.
    Command(Vec<String>),
}

const SIGHUP: u8 = 1;
const SIGTERM: u8 = 15;

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LimitVfork => "limit-vfork",
            Self::LimitSpawn => "limit-spawn",
            Self::LimitFork => "limit-fork",
            Self::Mainstay => "mainstay",
            Self::Runit => "runit",
            Self::S6 => "s6",
            Self::Daemontools => "daemontools",
            Self::Supervisord => "supervisord",
            Self::Systemd => "systemd",
        }
    }

    /// Debian's package of it.
    pub(super) fn package(self) -> Option<&'static str> {
        match self {
            Self::LimitVfork | Self::LimitSpawn | Self::LimitFork | Self::Mainstay => None,
            Self::Runit => Some("runit"),
            Self::S6 => Some("s6"),
            Self::Daemontools => Some("daemontools"),
            Self::Supervisord => Some("supervisor"),
            Self::Systemd => Some("systemd"),
        }
    }

    fn program(self) -> Option<&'static str> {
        match self {
            Self::LimitVfork | Self::LimitSpawn | Self::LimitFork | Self::Mainstay => None,
            Self::Runit => Some("runsvdir"),
            Self::S6 => Some("s6-svscan"),
            Self::Daemontools => Some("svscan"),
            Self::Supervisord => Some("supervisord"),
            Self::Systemd => Some("systemd-nspawn"),
        }
    }

    /// The program that would have to be installed.
    pub(super) fn missing_program(self) -> Option<&'static str> {
        self.program().filter(|program| places::find_program(program, &[]).is_none())
    }

    /// Whether it waits a second or so before a restart, so that few samples must do.
    pub(super) fn pauses(self) -> bool {
        match self {
            Self::LimitVfork | Self::LimitSpawn | Self::LimitFork | Self::Mainstay | Self::Systemd => false,
            Self::Runit | Self::S6 | Self::Daemontools | Self::Supervisord => true,
        }
    }

    /// Writes into the empty folder `dir` what the supervisor reads, for `n` services that all run `program`.
    ///
    /// # Errors
    /// When a file cannot be written, or mainstay is wanted and was not built.
    pub(super) fn prepare(
        self,
        dir: &Path,
        program: &[String],
        n: usize,
        tools: &Tools,
    ) -> anyhow::Result<Setup> {
        let limit = |way: &str| {
            let mut command = vec![text(&tools.limit), way.to_owned(), n.to_string()];
            command.extend_from_slice(program);
            Setup { command, env: Vec::new(), stop: Stop::Signal(SIGTERM) }
        };
        match self {
            Self::LimitVfork => Ok(limit("vfork")),
            Self::LimitSpawn => Ok(limit("spawn")),
            Self::LimitFork => Ok(limit("fork")),
            Self::Mainstay => mainstay(dir, program, n, tools),
            Self::Runit => {
                let services = run_scripts(dir, program, n)?;
                // runsvdir(8): on HUP it sends TERM to each runsv, which takes its service down, and exits.
                Ok(Setup {
                    command: vec!["runsvdir".into(), "-P".into(), services],
                    env: Vec::new(),
                    stop: Stop::Signal(SIGHUP),
                })
            }
            Self::S6 => {
                let services = run_scripts(dir, program, n)?;
                // s6-svscan(8): -c raises the limit of 500 services; on TERM it ends all supervisors, then itself.
                let most = (n + 10).to_string();
                Ok(Setup {
                    command: vec!["s6-svscan".into(), "-c".into(), most, services],
                    env: Vec::new(),
                    stop: Stop::Signal(SIGTERM),
                })
            }
            Self::Daemontools => {
                let services = run_scripts(dir, program, n)?;
                // svscan has no stop of its own: end it, then take down each supervise (svc(8)).
                let stop = format!("kill -TERM {{pid}}; svc -dx '{services}'/*");
                Ok(Setup {
                    command: vec!["svscan".into(), services],
                    env: Vec::new(),
                    stop: Stop::Command(vec!["sh".into(), "-c".into(), stop]),
                })
            }
            Self::Supervisord => supervisord(dir, program, n),
            Self::Systemd => bail!("systemd is not started as a command"),
        }
    }
}

impl Setup {
    /// The command with its environment, run by the stopwatch so that its start is on record in `start_path`.
    pub(super) fn timed_command(&self, tools: &Tools, start_path: &Path) -> Command {
        let mut command = Command::new(&tools.watch);
        command.arg("start").arg(start_path).args(&self.command);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn service_name(index: usize) -> String {
    format!("s{index:04}")
}

fn mainstay(dir: &Path, program: &[String], n: usize, tools: &Tools) -> anyhow::Result<Setup> {
    let Some(binary) = &tools.mainstay else { bail!("mainstay was not built") };
    let command = toml::Value::try_from(program)?;
    let mut file = String::from("stack = \"bench\"\n");
    for index in 0..n {
        file.push_str(&format!(
            "\n[service.{name}]\ncommand = {command}\n[service.{name}.restart]\nwhen = \"always\"\n\
             backoff = {{ first = \"0ms\" }}\ngive_up = {{ failures = 0 }}\n",
            name = service_name(index)
        ));
    }
    let path = dir.join("mainstay.toml");
    fs::write(&path, file).with_context(|| format!("cannot write {}", path.display()))?;
    let state_dir = dir.join("state");
    Ok(Setup {
        command: vec![text(binary), "run".into(), "-f".into(), text(&path)],
        env: vec![("MAINSTAY_STATE_DIR".into(), text(&state_dir))],
        stop: Stop::Signal(SIGTERM),
    })
}

/// A folder a service with an executable `run`, as runit, s6 and daemontools share it; returns the folder of folders.
fn run_scripts(dir: &Path, program: &[String], n: usize) -> anyhow::Result<String> {
    let services = dir.join("services");
    let script = format!("#!/bin/sh\nexec {}\n", program.join(" "));
    let model = dir.join("run");
    fs::write(&model, script).with_context(|| format!("cannot write {}", model.display()))?;
    let mut executable = Command::new("chmod");
    executable.arg("755").arg(&model);
    crate::stage::output(executable)?;
    for index in 0..n {
        let service = services.join(service_name(index));
        fs::create_dir_all(&service).with_context(|| format!("cannot create {}", service.display()))?;
        // A copy keeps the permissions.
        fs::copy(&model, service.join("run"))
            .with_context(|| format!("cannot write {}/run", service.display()))?;
    }
    Ok(text(&services))
}

fn supervisord(dir: &Path, program: &[String], n: usize) -> anyhow::Result<Setup> {
    let at = text(dir);
    // minfds: three pipes a service and some; startsecs=0: no second of probation, the least pause it can be asked for.
    let mut file = format!(
        "[supervisord]\nnodaemon=true\nminfds={}\nlogfile={at}/supervisord.log\npidfile={at}/supervisord.pid\nchildlogdir={at}\n",
        n * 4 + 1024
    );
    for index in 0..n {
        file.push_str(&format!(
            "[program:{}]\ncommand={}\nautorestart=true\nstartsecs=0\nstartretries=1000000\n",
            service_name(index),
            program.join(" ")
        ));
    }
    let path = dir.join("supervisord.conf");
    fs::write(&path, file).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Setup {
        command: vec!["supervisord".into(), "-n".into(), "-c".into(), text(&path)],
        env: Vec::new(),
        stop: Stop::Signal(SIGTERM),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn tools() -> Tools {
        let path = PathBuf::from("/tools/x");
        Tools {
            child: path.clone(),
            sleeper: path.clone(),
            limit: path.clone(),
            watch: path.clone(),
            loud: path.clone(),
            mincap: path.clone(),
            mainstay: Some(path),
        }
    }

    #[test]
    fn only_systemd_has_to_be_asked_for() {
        use clap::ValueEnum as _;
        let (last, others) = Peer::value_variants().split_last().unwrap();
        assert_eq!(others, DEFAULT);
        assert_eq!(*last, Peer::Systemd);
    }

    #[test]
    fn mainstay_gets_a_file_it_can_read_with_no_pause_and_no_giving_up() {
        let dir = tempfile::tempdir().unwrap();
        let program = ["/a b".to_owned(), "hold".to_owned()];
        let setup = Peer::Mainstay.prepare(dir.path(), &program, 2, &tools()).unwrap();
        let file: toml::Table =
            fs::read_to_string(dir.path().join("mainstay.toml")).unwrap().parse().unwrap();
        let service = &file["service"]["s0001"];
        assert_eq!(service["command"][0].as_str(), Some("/a b"));
        assert_eq!(service["restart"]["backoff"]["first"].as_str(), Some("0ms"));
        assert_eq!(service["restart"]["give_up"]["failures"].as_integer(), Some(0));
        assert_eq!(setup.env[0].0, "MAINSTAY_STATE_DIR");
    }

    #[test]
    fn every_peer_can_be_prepared() {
        for peer in DEFAULT {
            let dir = tempfile::tempdir().unwrap();
            let setup = peer.prepare(dir.path(), &["/x".to_owned()], 3, &tools()).unwrap();
            assert!(!setup.command.is_empty(), "{}", peer.name());
        }
    }
}
