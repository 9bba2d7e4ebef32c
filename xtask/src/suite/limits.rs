//! `suite limits`: resource limits under a kernel with every controller of cgroup v2, in a virtual machine.
//!
//! Shown here and nowhere else: memory, processes and processor time held by version 2, with the host at the root of the
//! hierarchy, in a delegated service, scope and user manager, and in a group given to an ordinary user; what a service
//! without delegation says; and that a unit whose host was killed holds its limits again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::places;
use crate::stage::{Stages, cargo, command, output, run as run_command};

/// What runs inside.
const SCRIPT: &str = include_str!("limits.sh");

/// The places it tries, by the lines it prints: one that is missing has not run.
const PLACES: [&str; 8] = [
    "root of the hierarchy",
    "delegated service",
    "delegated scope",
    "service of an ordinary user",
    "group given to an ordinary user",
    "manager of an ordinary user",
    "service without delegation",
    "service whose host is killed",
];

/// The tests that run inside.
const TESTS: [&str; 2] = ["limits", "contract"];

/// The longest the machine may take, in seconds; five minutes are usual on two cores without KVM.
const LIMIT_SECONDS: u32 = 1200;

/// Arguments of `suite limits`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  cargo xtask suite limits

Needs root and Debian's debootstrap, qemu-system-x86, cpio and e2fsprogs. The kernel is downloaded once, not installed.")]
pub(crate) struct Options {}

pub(crate) fn run(_options: &Options) -> anyhow::Result<()> {
    preflight()?;
    let machine_script = places::root_dir().join(".ci/virtual-machine");
    let machine_dir = places::cache_dir().join("virtual-machine");
    let shared_dir = places::target_dir().join("limits-suite");
    prepare(&shared_dir)?;
    make_machine(&machine_script, &machine_dir)?;
    let mut machine = command(&machine_script);
    machine.arg("run").arg(&machine_dir).arg(&shared_dir).arg(LIMIT_SECONDS.to_string());
    let answer = machine.output().context("cannot start the virtual machine")?;
    let text = String::from_utf8_lossy(&answer.stdout);
    eprint!("{text}{}", String::from_utf8_lossy(&answer.stderr));
    let mut stages = Stages::default();
    for place in PLACES {
        stages.run(&format!("limits: {place}"), || {
            let line = text.lines().find_map(|line| line.strip_prefix("place ")?.strip_prefix(place));
            match line {
                Some(": passed") => Ok(()),
                Some(_) => bail!("its tests failed, see above"),
                None => bail!("it did not run"),
            }
        });
    }
    stages.finish()
}

/// Says what is missing before any time is spent.
fn preflight() -> anyhow::Result<()> {
    let mut id = command("id");
    id.arg("-u");
    ensure!(output(id)?.trim() == "0", "the machine's disk can be filled only by root");
    let more_dirs = [Path::new("/usr/sbin"), Path::new("/sbin")];
    for (program, package) in [
        ("debootstrap", "debootstrap"),
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("cpio", "cpio"),
        ("mke2fs", "e2fsprogs"),
    ] {
        if places::find_program(program, &more_dirs).is_none() {
            bail!("{program} is not installed: apt-get install --no-install-recommends {package}");
        }
    }
    Ok(())
}

fn make_machine(machine_script: &Path, machine_dir: &Path) -> anyhow::Result<()> {
    let root_dir = places::cache_dir().join("debian-bookworm");
    let mut root = command(places::root_dir().join(".ci/systemd-machine"));
    root.arg("root").arg(&root_dir);
    run_command(root)?;
    let mut build = command(machine_script);
    build.arg("build").arg(root_dir).arg(machine_dir);
    run_command(build)
}

/// Fills the folder that the machine sees as /shared, as cargo lays it out: tests look for their programs beside them.
fn prepare(shared_dir: &Path) -> anyhow::Result<()> {
    let tests_dir = shared_dir.join("debug/deps");
    fs::create_dir_all(&tests_dir).with_context(|| format!("cannot create {}", tests_dir.display()))?;
    let main_path = shared_dir.join("main");
    fs::write(&main_path, SCRIPT).context("cannot write the script")?;
    for name in TESTS {
        let mut build = cargo();
        build.args(["test", "--package", "mainstay-os", "--no-run", "--message-format=json", "--test", name]);
        copy(&executable(&output(build)?, name)?, &tests_dir.join(name))?;
    }
    let mut build = cargo();
    build.args(["build", "--package", "mainstay-testkit", "--message-format=json", "--bin", "misbehave"]);
    copy(&executable(&output(build)?, "misbehave")?, &shared_dir.join("debug/misbehave"))?;
    let mut executable = command("chmod");
    executable.arg("755").arg(main_path);
    run_command(executable)
}

/// Where cargo says the program `name` is.
fn executable(messages: &str, name: &str) -> anyhow::Result<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .with_context(|| format!("cargo does not say where {name} is"))
}

/// Without what is only for a debugger, which is most of it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut strip = command("strip");
    strip.arg("-o").arg(to).arg(from);
    run_command(strip)
}
