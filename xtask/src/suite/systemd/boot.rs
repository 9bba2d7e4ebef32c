//! A stack that is registered with systemd: it comes up at boot, is stopped in order, restarted when its host hangs or dies,
//! reloaded, and leaves nothing behind when it is uninstalled. Each boot here is a real one.

use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Machine, TREE_SIZE};
use crate::stage::{Stages, describe, output};

/// A folder that every step has to write down right: a blank, a letter beyond ASCII, and a sign of systemd's own.
const DIR: &str = "/srv/Läden 100%";
const UNIT: &str = "mainstay-laden.service";
const UNIT_PATH: &str = "/etc/systemd/system/mainstay-laden.service";

/// `first` says that it ends, and when, so that the order of the stop is seen.
const STACK: &str = "stack = \"laden\"

[service.tree]
command = [\"/shared/tree\"]

[service.first]
command = [\"sh\", \"-c\", \"trap 'sleep 1; pgrep -fxc \\\"sleep 86400123\\\" > /run/order; exit 0' TERM; while :; do sleep 0.1; done\"]
needs = [{ service = \"tree\" }]
";

/// What an installation may change: files, accounts, and the control groups of systemd's units.
const TRACES: &str = "find /etc /srv /run/mainstay /usr/local /var/lib/mainstay /var/lib/systemd/linger /root /home \
                      -newer /var/lib/begun 2>/dev/null | grep -v /run/credentials | sort; getent passwd; \
                      find /sys/fs/cgroup -type d -name '*mainstay*' | sort; ls /var/lib | sort";

/// Runs every step in `machine`.
pub(super) fn run(machine: &mut Machine, stages: &mut Stages) {
    let mut before = String::new();
    stages.run("boot: an installed stack is ready, and the unit is one that systemd likes", || {
        shell(machine, "touch /var/lib/begun; sleep 0.05")?;
        before = shell(machine, TRACES)?;
        prepare(machine)?;
        let dry = mainstay(machine, &["install", "--dry-run"])?;
        ensure!(
            stdout(&dry).contains("Type=notify") && shell(machine, TRACES)? == with_files(machine, &before)?,
            "{dry:?}"
        );
        succeeds(machine, &["install", "--now"])?;
        is_ready(machine)?;
        shell(machine, &format!("systemd-analyze verify {UNIT_PATH}"))?;
        let security = shell(machine, &format!("systemd-analyze security --no-pager {UNIT} | tail -1"))?;
        eprintln!("{}", security.trim());
        let status = status(machine)?;
        ensure!(status["host"]["unit"] == UNIT, "{status}");
        let registration = &status["host"]["registration"];
        ensure!(registration["start"] == "auto" && registration["drift"] == Value::Array(vec![]), "{status}");
        let again = mainstay(machine, &["install"])?;
        ensure!(again.status.success() && stderr(&again).contains("nothing was changed"), "{again:?}");
        Ok(())
    });
    stages.run("boot: after a boot it is up by itself with its services ready", || {
        machine.container.reboot()?;
        is_ready(machine)
    });
    stages.run("boot: `systemctl stop` ends the tree in order, within its time", || {
        let begun = Instant::now();
        shell(machine, &format!("systemctl stop {UNIT}"))?;
        machine.wait_for_tree(0)?;
        // The five of the tree were there while what needs it still ended.
        let seen = shell(machine, "cat /run/order")?;
        ensure!(seen.trim() == TREE_SIZE.to_string(), "not stopped in order: {seen}");
        let result = property(machine, "Result")?;
        ensure!(result == "success", "the unit ended with {result}");
        eprintln!("stopped in {:.1} s", begun.elapsed().as_secs_f64());
        shell(machine, &format!("systemctl start {UNIT}"))?;
        is_ready(machine)
    });
    stages.run("boot: a host that was killed is started again, and nothing runs twice", || {
        let pid = property(machine, "MainPID")?;
        shell(machine, &format!("kill -KILL {pid}"))?;
        is_another_host(machine, &pid)
    });
    stages.run("boot: a host that hangs is ended by the watchdog and started again", || {
        shell(
            machine,
            &format!(
                "mkdir -p {UNIT_PATH}.d; printf '[Service]\\nWatchdogSec=2\\n' > {UNIT_PATH}.d/quick.conf; \
                 systemctl daemon-reload; systemctl restart {UNIT}"
            ),
        )?;
        is_ready(machine)?;
        let told = status(machine)?["host"]["registration"]["drift"].to_string();
        ensure!(told.contains("quick.conf adds to it"), "{told}");
        let pid = property(machine, "MainPID")?;
        shell(machine, &format!("kill -STOP {pid}"))?;
        is_another_host(machine, &pid)?;
        let journal = shell(machine, &format!("journalctl --unit {UNIT} --no-pager --output=cat"))?;
        ensure!(journal.contains("Watchdog timeout"), "not by the watchdog: {journal}");
        shell(machine, &format!("rm -r {UNIT_PATH}.d; systemctl daemon-reload")).map(drop)
    });
    stages.run("boot: a reload applies the file, and fails when the file is wrong", || {
        let pid = property(machine, "MainPID")?;
        let more = "[service.more]\\ncommand = [\\\"sleep\\\", \\\"86400125\\\"]\\n";
        shell(machine, &format!("printf \"{more}\" >> '{DIR}/mainstay.toml'; systemctl reload {UNIT}"))?;
        let states = states(machine)?;
        ensure!(states == ["first=ready", "more=ready", "tree=ready"], "{states:?}");
        let wrong = format!("echo nonsense >> '{DIR}/mainstay.toml'; systemctl reload {UNIT}");
        ensure!(shell(machine, &wrong).is_err(), "a wrong file was reloaded");
        ensure!(
            property(machine, "MainPID")? == pid && property(machine, "ActiveState")? == "active",
            "it went down"
        );
        machine.put(&format!("{DIR}/mainstay.toml"), STACK)?;
        shell(machine, &format!("systemctl reload {UNIT}")).map(drop)
    });
    stages.run(
        "boot: what others wrote or changed is not overwritten, and rights are asked for first",
        || {
            shell(machine, &format!("echo '# mine' >> {UNIT_PATH}; systemctl daemon-reload"))?;
            let refused = mainstay(machine, &["install"])?;
            ensure!(
                refused.status.code() == Some(1) && stderr(&refused).contains("changed by hand"),
                "{refused:?}"
            );
            let drift = status(machine)?["host"]["registration"]["drift"].to_string();
            ensure!(drift.contains("changed by hand"), "{drift}");
            succeeds(machine, &["install", "--force"])?;
            shell(machine, "echo '[Service]' > /etc/systemd/system/mainstay-other.service")?;
            machine
                .put("/srv/other.toml", "stack = \"other\"\n[service.a]\ncommand = [\"sleep\", \"1\"]\n")?;
            let foreign = mainstay(machine, &["--file", "/srv/other.toml", "install"])?;
            ensure!(
                foreign.status.code() == Some(1) && stderr(&foreign).contains("not written by mainstay"),
                "{foreign:?}"
            );
            shell(machine, "rm /etc/systemd/system/mainstay-other.service")?;
            let mut nobody = machine.command("setpriv");
            nobody.args([
                "--reuid=65534",
                "--clear-groups",
                "/shared/mainstay",
                "--file",
                "/srv/other.toml",
                "install",
            ]);
            let nobody = nobody.output().context("cannot run setpriv")?;
            ensure!(
                nobody.status.code() == Some(5) && stderr(&nobody).contains("sudo /shared/mainstay"),
                "{nobody:?}"
            );
            shell(machine, "test ! -e /etc/systemd/system/mainstay-other.service").map(drop)
        },
    );
    stages.run("boot: a disk that fills up during the installation leaves nothing", || {
        let script = "set -e; mount -t tmpfs -o size=16k full /etc/systemd/system; \
                      head -c 16000 /dev/zero > /etc/systemd/system/filler 2>/dev/null || true; \
                      code=0; /shared/mainstay --file /srv/other.toml install >/run/said 2>&1 || code=$?; \
                      ls -A /etc/systemd/system | tr '\\n' ' '; umount /etc/systemd/system; echo $code; cat /run/said; rm /run/said";
        let said = shell(machine, script)?;
        ensure!(said.starts_with("filler 1\n") && said.contains("No space left"), "{said}");
        shell(machine, "systemctl daemon-reload; rm /srv/other.toml").map(drop)
    });
    stages.run("boot: disable and enable count at the next boot", || {
        succeeds(machine, &["disable"])?;
        machine.container.reboot()?;
        let state = property(machine, "ActiveState")?;
        ensure!(state == "inactive", "it is {state}");
        let idle = mainstay(machine, &["status"])?;
        ensure!(
            idle.status.code() == Some(3)
                && stderr(&idle).contains("registered as mainstay-laden.service, does not start by itself"),
            "{idle:?}"
        );
        succeeds(machine, &["enable"])?;
        succeeds(machine, &["install", "--start", "delayed", "--now"])?;
        machine.container.reboot()?;
        is_ready(machine)?;
        let registered = status(machine)?["host"]["registration"]["start"].to_string();
        ensure!(registered == "\"delayed\"", "{registered}");
        Ok(())
    });
    stages.run("boot: a user's unit is up after a boot when the user lingers", || {
        shell(
            machine,
            "useradd --create-home --shell /bin/sh shopkeeper; loginctl enable-linger shopkeeper; \
             printf 'stack = \"stall\"\\n[service.a]\\ncommand = [\"sleep\", \"86400126\"]\\n' > /home/shopkeeper/mainstay.toml; \
             chown shopkeeper: /home/shopkeeper/mainstay.toml",
        )?;
        machine.wait_for("the user's service manager", || {
            let up = as_user(machine, "systemctl --user is-system-running --wait").is_ok();
            Ok((up, String::new()))
        })?;
        as_user(machine, "cd; /shared/mainstay install --user --now")?;
        machine.container.reboot()?;
        machine.wait_for("the user's stack", || {
            let state = as_user(machine, "systemctl --user is-active mainstay-stall.service");
            Ok((state.is_ok(), format!("{state:?}")))
        })?;
        let said = as_user(machine, "cd; /shared/mainstay status")?;
        ensure!(said.contains("registered as mainstay-stall.service of this user, starts at boot"), "{said}");
        as_user(machine, "cd; /shared/mainstay uninstall --user --purge")?;
        shell(machine, "loginctl disable-linger shopkeeper; loginctl terminate-user shopkeeper; sleep 0.5; userdel --remove shopkeeper 2>&1")
            .map(drop)
    });
    stages.run("boot: nothing is left of what is uninstalled", || {
        succeeds(machine, &["uninstall", "--purge"])?;
        machine.wait_for_tree(0)?;
        shell(machine, &format!("rm -r '{DIR}'; rm -f /run/order"))?;
        let after = shell(machine, TRACES)?;
        let new: Vec<&str> = after
            .lines()
            .filter(|line| !before.lines().any(|old| old == *line) && !is_the_systems(line))
            .collect();
        ensure!(new.is_empty(), "left behind: {new:#?}");
        let unknown = property(machine, "LoadState")?;
        ensure!(unknown == "not-found", "systemd still knows it: {unknown}");
        Ok(())
    });
}

/// What adding and removing an account changes, and the folders a file was in for a while.
fn is_the_systems(line: &str) -> bool {
    const CHANGED: [&str; 16] = [
        "/etc",
        "/etc/passwd",
        "/etc/passwd-",
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/group",
        "/etc/group-",
        "/etc/gshadow",
        "/etc/gshadow-",
        "/etc/subuid",
        "/etc/subuid-",
        "/etc/subgid",
        "/etc/subgid-",
        "/srv",
        "/home",
        "/var/lib/systemd/linger",
    ];
    CHANGED.contains(&line)
        || [
            "/etc/systemd/system",
            "/etc/systemd/system/multi-user.target.wants",
            "/run/mainstay",
            "/var/lib/mainstay",
        ]
        .contains(&line)
        || line == "mainstay"
        || line == "begun"
}

fn prepare(machine: &Machine) -> anyhow::Result<()> {
    shell(machine, &format!("mkdir -p '{DIR}'"))?;
    machine.put(&format!("{DIR}/mainstay.toml"), STACK)
}

/// `before` with what the suite itself made.
fn with_files(machine: &Machine, before: &str) -> anyhow::Result<String> {
    let made = shell(machine, "find /srv -newer /var/lib/begun | sort")?;
    let (files, rest): (Vec<&str>, Vec<&str>) =
        before.lines().partition(|line| line.starts_with('/') && !line.contains(':'));
    let (files, groups): (Vec<&str>, Vec<&str>) =
        files.into_iter().partition(|line| !line.starts_with("/sys"));
    let mut files: Vec<&str> = files.into_iter().chain(made.lines()).collect();
    files.sort_unstable();
    let all: Vec<&str> = files.into_iter().chain(rest).chain(groups).collect();
    Ok(all.join("\n") + "\n")
}

/// Active, all services ready, and the tree there once.
fn is_ready(machine: &Machine) -> anyhow::Result<()> {
    machine.wait_for("the unit to be active and its services ready", || {
        let (active, states) = (property(machine, "ActiveState")?, states(machine)?);
        let ready = states.len() >= 2 && states.iter().all(|state| state.ends_with("=ready"));
        Ok((active == "active" && ready, format!("{active} {states:?}")))
    })?;
    machine.wait_for_tree(TREE_SIZE)
}

fn is_another_host(machine: &Machine, before: &str) -> anyhow::Result<()> {
    machine.wait_for("another host", || {
        let (pid, restarts) = (property(machine, "MainPID")?, property(machine, "NRestarts")?);
        Ok((pid != before && pid != "0" && restarts != "0", format!("{pid}, {restarts} restarts")))
    })?;
    is_ready(machine)
}

fn property(machine: &Machine, name: &str) -> anyhow::Result<String> {
    let text = shell(machine, &format!("systemctl show --property={name} --value {UNIT}"))?;
    Ok(text.trim().to_owned())
}

fn states(machine: &Machine) -> anyhow::Result<Vec<String>> {
    let answer = mainstay(machine, &["status", "--json"])?;
    super::states_of(&answer.stdout)
}

fn status(machine: &Machine) -> anyhow::Result<Value> {
    let answer = mainstay(machine, &["status", "--json"])?;
    serde_json::from_slice(&answer.stdout).with_context(|| format!("no status: {answer:?}"))
}

/// `mainstay` as root in the folder of the stack.
fn mainstay(machine: &Machine, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = machine.command("/usr/bin/env");
    command.args(["--chdir", DIR, "NO_COLOR=1", "/shared/mainstay"]).args(arguments);
    command.output().with_context(|| format!("cannot run {}", describe(&command)))
}

fn succeeds(machine: &Machine, arguments: &[&str]) -> anyhow::Result<()> {
    let output = mainstay(machine, arguments)?;
    ensure!(output.status.success(), "mainstay {arguments:?}: {output:?}");
    Ok(())
}

fn shell(machine: &Machine, script: &str) -> anyhow::Result<String> {
    let mut command = machine.command("sh");
    command.args(["-c", script]);
    output(command)
}

/// As the user, with the user's own service manager.
fn as_user(machine: &Machine, script: &str) -> anyhow::Result<String> {
    let mut command: Command = machine.command("sh");
    let script = format!("export XDG_RUNTIME_DIR=/run/user/$(id -u) NO_COLOR=1; {script}");
    command.args(["-c", "exec runuser --login shopkeeper --command \"$1\"", "sh", &script]);
    output(command)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
