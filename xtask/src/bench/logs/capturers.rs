//! Who captures output: how each is told to keep the output of a program, and which files it leaves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::super::measure::LIMIT;
use super::super::processes;
use super::LogTools;
use crate::places;
use crate::stage::output;

/// Size at which files are closed by those that can: what the defaults of mainstay say.
const ROTATE_BYTES: u64 = 64 << 20;
/// The most that multilog(8) takes.
const MULTILOG_BYTES: u64 = 16_777_215;

/// Something that takes a program's output and keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(in super::super) enum Capturer {
    /// Nobody: the program writes into the file itself.
    Direct,
    Cat,
    /// The floor: read and write.
    Mincap,
    /// The floor of whoever puts times in front of lines.
    MincapStamp,
    /// With closed files as they are.
    Mainstay,
    /// With closed files compressed, which is the default.
    MainstayZstd,
    Supervisord,
    S6Log,
    S6LogStamp,
    Multilog,
    MultilogStamp,
    Svlogd,
    SvlogdStamp,
    /// Debian's, in a booted container, which needs root; measured by [`super::journald`].
    Journald,
}

/// Those measured unless others are asked for, in the order of the tables.
pub(in super::super) const DEFAULT: [Capturer; 13] = [
    Capturer::Direct,
    Capturer::Cat,
    Capturer::Mincap,
    Capturer::MincapStamp,
    Capturer::Mainstay,
    Capturer::MainstayZstd,
    Capturer::Supervisord,
    Capturer::S6Log,
    Capturer::S6LogStamp,
    Capturer::Multilog,
    Capturer::MultilogStamp,
    Capturer::Svlogd,
    Capturer::SvlogdStamp,
];

impl Capturer {
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "limit-direct",
            Self::Cat => "limit-cat",
            Self::Mincap => "limit-mincap",
            Self::MincapStamp => "limit-mincap-stamp",
            Self::Mainstay => "mainstay",
            Self::MainstayZstd => "mainstay, zstd",
            Self::Supervisord => "supervisord",
            Self::S6Log => "s6-log",
            Self::S6LogStamp => "s6-log, times",
            Self::Multilog => "multilog",
            Self::MultilogStamp => "multilog, times",
            Self::Svlogd => "svlogd",
            Self::SvlogdStamp => "svlogd, times",
            Self::Journald => "journald",
        }
    }

    /// The program that would have to be installed, and is not.
    pub(in super::super) fn missing_program(self) -> Option<&'static str> {
        let program = match self {
            Self::Direct | Self::Cat | Self::Mincap | Self::MincapStamp | Self::Mainstay => return None,
            Self::MainstayZstd => "zstd",
            Self::Supervisord => "supervisord",
            Self::S6Log | Self::S6LogStamp => "s6-log",
            Self::Multilog | Self::MultilogStamp => "multilog",
            Self::Svlogd | Self::SvlogdStamp => "svlogd",
            Self::Journald => "systemd-nspawn",
        };
        places::find_program(program, &[]).is_none().then_some(program)
    }

    /// Whether it gets as much to do as the fast ones, in the time that is there.
    pub(super) fn is_fast(self) -> bool {
        match self {
            Self::Direct
            | Self::Cat
            | Self::Mincap
            | Self::MincapStamp
            | Self::Mainstay
            | Self::MainstayZstd
            | Self::Supervisord => true,
            Self::S6Log
            | Self::S6LogStamp
            | Self::Multilog
            | Self::MultilogStamp
            | Self::Svlogd
            | Self::SvlogdStamp
            | Self::Journald => false,
        }
    }

    /// Whether it starts the program itself; the others read a pipe.
    fn is_supervisor(self) -> bool {
        matches!(self, Self::Mainstay | Self::MainstayZstd | Self::Supervisord)
    }

    /// Whether it takes part where a hundred services talk: once for each supervisor, with times where it can.
    pub(super) fn supervises(self) -> bool {
        matches!(self, Self::Mainstay | Self::Supervisord | Self::S6LogStamp | Self::SvlogdStamp)
    }

    /// Whether its output is followed: mainstay by itself, and plain files by `tail -F`.
    pub(super) fn can_be_followed(self) -> bool {
        matches!(self, Self::Mainstay | Self::MincapStamp | Self::S6LogStamp)
    }

    /// Starts it with `program`, whose output it keeps below the empty folder `dir`.
    ///
    /// # Errors
    /// When a file cannot be written or a program not started.
    pub(super) fn start(self, dir: &Path, program: &[String], tools: &LogTools) -> anyhow::Result<Running> {
        let kept = dir.join("kept");
        fs::create_dir_all(&kept).with_context(|| format!("cannot create {}", kept.display()))?;
        let at = text(&kept);
        let filter = match self {
            Self::Direct => {
                let file = fs::File::create(kept.join("out.log"))?;
                let writer = spawn(Command::new(&program[0]).args(&program[1..]).stdout(file))?;
                return Ok(Running { who: self, writer: Some(writer), keeper: None });
            }
            Self::Mainstay | Self::MainstayZstd | Self::Supervisord => {
                let keeper = self.start_supervisor(dir, program, tools)?;
                return Ok(Running { who: self, writer: None, keeper: Some(keeper) });
            }
            Self::Journald => bail!("journald is not started as a command"),
            Self::Cat => vec!["sh".to_owned(), "-c".to_owned(), format!("exec cat >'{at}/out.log'")],
            Self::Mincap => vec![text(&tools.mincap), format!("{at}/out.log")],
            Self::MincapStamp => vec![text(&tools.mincap), "stamp".to_owned(), format!("{at}/out.log")],
            Self::S6Log
            | Self::S6LogStamp
            | Self::Multilog
            | Self::MultilogStamp
            | Self::Svlogd
            | Self::SvlogdStamp => self.logger(&kept)?,
        };
        let mut keeper = spawn(Command::new(&filter[0]).args(&filter[1..]).stdin(Stdio::piped()))?;
        let pipe = keeper.stdin.take().context("the logger reads a pipe")?;
        let writer = spawn(Command::new(&program[0]).args(&program[1..]).stdout(pipe))?;
        Ok(Running { who: self, writer: Some(writer), keeper: Some(keeper) })
    }

    /// The command of a logger that keeps what it reads in the folder `kept`, and closes files by size as mainstay does.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub(super) fn logger(self, kept: &Path) -> anyhow::Result<Vec<String>> {
        let at = text(kept);
        let words: Vec<String> = match self {
            // s6-log(8): T puts the time in front in ISO 8601 with nanoseconds.
            Self::S6Log => vec!["s6-log".into(), "n1000".into(), format!("s{ROTATE_BYTES}"), at],
            Self::S6LogStamp => {
                vec!["s6-log".into(), "n1000".into(), format!("s{ROTATE_BYTES}"), "T".into(), at]
            }
            Self::Multilog => vec!["multilog".into(), "n1000".into(), format!("s{MULTILOG_BYTES}"), at],
            Self::MultilogStamp => {
                vec!["multilog".into(), "t".into(), "n1000".into(), format!("s{MULTILOG_BYTES}"), at]
            }
            Self::Svlogd | Self::SvlogdStamp => {
                // svlogd(8): n0 removes none.
                fs::write(kept.join("config"), format!("s{ROTATE_BYTES}\nn0\n"))?;
                let stamp = (self == Self::SvlogdStamp).then(|| "-tt".to_owned());
                ["svlogd".to_owned()].into_iter().chain(stamp).chain([at]).collect()
            }
            Self::Direct
            | Self::Cat
            | Self::Mincap
            | Self::MincapStamp
            | Self::Mainstay
            | Self::MainstayZstd
            | Self::Supervisord
            | Self::Journald => bail!("{} is no logger of a supervisor", self.name()),
        };
        Ok(words)
    }

    fn start_supervisor(self, dir: &Path, program: &[String], tools: &LogTools) -> anyhow::Result<Child> {
        let said = fs::File::create(dir.join("said"))?;
        if self == Self::Supervisord {
            let (at, path) = (text(dir), dir.join("supervisord.conf"));
            // maxbytes=0: one file; rotation would remove what is to be compared.
            let file = format!(
                "[supervisord]\nnodaemon=true\nlogfile={at}/supervisord.log\npidfile={at}/supervisord.pid\n\
                 [program:loud]\ncommand={}\nautorestart=false\nstdout_logfile={at}/kept/out.log\nstdout_logfile_maxbytes=0\n",
                program.join(" ")
            );
            fs::write(&path, file)?;
            return spawn(
                Command::new("supervisord")
                    .args(["-n", "-c"])
                    .arg(&path)
                    .stdout(said.try_clone()?)
                    .stderr(said),
            );
        }
        let compress = self == Self::MainstayZstd;
        let file = format!(
            "stack = \"bench\"\n[service.loud]\ncommand = {}\nrestart = {{ when = \"never\" }}\n\
             [service.loud.log]\n\
             rotate = {{ size = \"{ROTATE_BYTES}B\", keep = 1000, keep_total = \"64GiB\", compress = {compress} }}\n",
            toml::Value::try_from(program)?
        );
        let path = dir.join("mainstay.toml");
        fs::write(&path, file)?;
        spawn(
            Command::new(&tools.mainstay)
                .args(["run", "-q", "-f"])
                .arg(&path)
                .env("MAINSTAY_STATE_DIR", dir.join("kept"))
                .stdout(said.try_clone()?)
                .stderr(said),
        )
    }

    /// The files it left below `dir`, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(super) fn files(self, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let kept = match self {
            Self::Mainstay | Self::MainstayZstd => dir.join("kept/logs/loud"),
            Self::Direct
            | Self::Cat
            | Self::Mincap
            | Self::MincapStamp
            | Self::Supervisord
            | Self::S6Log
            | Self::S6LogStamp
            | Self::Multilog
            | Self::MultilogStamp
            | Self::Svlogd
            | Self::SvlogdStamp
            | Self::Journald => dir.join("kept"),
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(&kept).with_context(|| format!("cannot read {}", kept.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Closed files begin with their time, in each one's own way; the one that is written has a name.
            let is_open = ["current", "current.log", "out.log"].contains(&&*name);
            if is_open || name.starts_with('@') || name.ends_with(".log") || name.ends_with(".log.zst") {
                files.push((is_open, name, path));
            }
        }
        files.sort();
        Ok(files.into_iter().map(|(_, _, path)| path).collect())
    }
}

/// A capturer at work. Dropping it kills what is left of it.
#[derive(Debug)]
pub(super) struct Running {
    who: Capturer,
    /// The program whose output is kept, where it is not the keeper's child.
    writer: Option<Child>,
    keeper: Option<Child>,
}

impl Running {
    /// The pids of whoever captures, without the program.
    pub(super) fn keepers(&self, program: u32) -> BTreeSet<u32> {
        let mut pids = self.keeper.as_ref().map(|keeper| processes::tree(keeper.id())).unwrap_or_default();
        pids.remove(&program);
        pids
    }

    /// Ends the program and whoever captures, and waits for them.
    ///
    /// # Errors
    /// When something does not end in time.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        if let Some(mut writer) = self.writer.take() {
            writer.kill().context("cannot end the program")?;
            writer.wait()?;
        }
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        // A logger ends with its input, a supervisor when it is told to.
        if self.who.is_supervisor() {
            let mut kill = Command::new("kill");
            kill.arg(keeper.id().to_string());
            output(kill)?;
        }
        let begun = Instant::now();
        while keeper.try_wait()?.is_none() {
            if begun.elapsed() > LIMIT {
                bail!("{} did not end within {} s", self.who.name(), LIMIT.as_secs());
            }
            sleep(Duration::from_millis(5));
        }
        self.keeper = None;
        Ok(())
    }
}

impl Drop for Running {
    /// After a failed measurement the tree would disturb the next one.
    fn drop(&mut self) {
        for child in [self.writer.as_mut(), self.keeper.as_mut()].into_iter().flatten() {
            let tree: Vec<String> = processes::tree(child.id()).iter().map(u32::to_string).collect();
            // Nobody is left to be told about an error here; the next measurement would show it.
            let _ = Command::new("kill").arg("-KILL").args(tree).stderr(Stdio::null()).status();
            let _ = child.wait();
        }
    }
}

fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.spawn().with_context(|| format!("cannot start {name}"))
}

pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_in_the_order_of_their_lines() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        fs::create_dir_all(&kept).unwrap();
        for name in ["current", "@4002.s", "@4001.s", "lock", "state", "config"] {
            fs::write(kept.join(name), "").unwrap();
        }
        let names = |who: Capturer| -> Vec<String> {
            let files = who.files(dir.path()).unwrap();
            files.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(Capturer::S6Log), ["@4001.s", "@4002.s", "current"]);
        let logs = kept.join("logs/loud");
        fs::create_dir_all(&logs).unwrap();
        for name in ["current.log", "2026-01-02.log", "2026-01-01.log.zst"] {
            fs::write(logs.join(name), "").unwrap();
        }
        assert_eq!(names(Capturer::Mainstay), ["2026-01-01.log.zst", "2026-01-02.log", "current.log"]);
    }

    #[test]
    fn only_loggers_have_a_loggers_command() {
        let dir = tempfile::tempdir().unwrap();
        for who in [Capturer::S6Log, Capturer::Multilog, Capturer::SvlogdStamp] {
            assert!(who.logger(dir.path()).unwrap().contains(&text(dir.path())));
        }
        assert!(Capturer::Mainstay.logger(dir.path()).is_err());
    }
}
