//! A program written on `mainstay-service` under a booted systemd: it installs itself, is ready when it says so, reloads, writes
//! its fields into the journal, stops in order, and leaves nothing behind when it uninstalls itself.
//!
//! The example is the one the tests run, built for this machine: the container's C library has to be as new as this one's.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::Machine;
use crate::stage::{Stages, output};

const UNIT: &str = "clock.service";
const UNIT_PATH: &str = "/etc/systemd/system/clock.service";
const SETTINGS_PATH: &str = "/srv/clock.words";

/// Puts the example where the machine sees it.
pub(super) fn prepare(shared_dir: &Path) -> anyhow::Result<()> {
    let example = mainstay_testkit::child::example_path("clock");
    fs::copy(&example, shared_dir.join("clock"))
        .map(drop)
        .with_context(|| format!("cannot copy {}", example.display()))
}

/// Runs every step in `machine`.
pub(super) fn run(machine: &Machine, stages: &mut Stages) {
    stages.run("library: a program installs itself, and is up when it is ready", || {
        machine.put(SETTINGS_PATH, "one")?;
        let refused = shell(
            machine,
            "setpriv --reuid=65534 --clear-groups /shared/clock install 2>&1; echo code $?; true",
        )?;
        ensure!(
            refused.contains("next: sudo /shared/clock install\n") && refused.contains("code 1"),
            "{refused}"
        );
        ensure!(property(machine, "LoadState")? == "not-found", "it was changed without the right to");
        let done = shell(machine, &format!("/shared/clock install --prepare 3 --settings {SETTINGS_PATH}"))?;
        ensure!(done.contains(UNIT_PATH) && done.contains("enabled"), "{done}");
        ensure!(property(machine, "ActiveState")? == "active", "it is not up when the start has returned");
        wait_for_status(machine, "says one")?;
        shell(machine, &format!("systemd-analyze verify {UNIT_PATH}"))?;
        let again = shell(machine, &format!("/shared/clock install --prepare 3 --settings {SETTINGS_PATH}"))?;
        ensure!(again.trim().is_empty(), "it was installed already: {again}");
        Ok(())
    });
    stages.run("library: its fields are in the journal", || {
        machine.wait_for("an entry found by its field", || {
            let found = shell(machine, "journalctl WORDS=one --lines=1 --no-pager --output=json")?;
            let has = |part: &str| found.contains(part);
            let whole = has("\"MESSAGE\":\"tick\"") && has("\"PRIORITY\":\"6\"") && has("\"TICKS\":");
            Ok((whole && has("\"_SYSTEMD_UNIT\":\"clock.service\""), found))
        })
    });
    stages.run("library: a reload is heard, and `systemctl stop` ends it in order", || {
        machine.put(SETTINGS_PATH, "two")?;
        shell(machine, &format!("systemctl reload {UNIT}"))?;
        wait_for_status(machine, "says two")?;
        ensure!(property(machine, "ActiveState")? == "active", "it went down");
        shell(machine, &format!("systemctl stop {UNIT}"))?;
        ensure!(property(machine, "Result")? == "success", "it did not end well");
        let journal = shell(machine, &format!("journalctl --unit {UNIT} --no-pager --output=cat"))?;
        for words in ["stopping: SIGTERM", "wound down", "ended"] {
            ensure!(journal.contains(words), "{words} is not in the journal: {journal}");
        }
        shell(machine, &format!("systemctl start {UNIT}"))?;
        wait_for_status(machine, "says two")
    });
    stages.run("library: one that ticks is left alone by the watchdog, and one that hangs is started again", || {
        shell(
            machine,
            &format!(
                "mkdir -p {UNIT_PATH}.d; printf '[Service]\\nWatchdogSec=1\\n' > {UNIT_PATH}.d/quick.conf; \
                 systemctl daemon-reload; systemctl restart {UNIT}"
            ),
        )?;
        let pid = property(machine, "MainPID")?;
        // A tick is a second: it outlives the watchdog's time three times over.
        machine.wait_for("its third tick", || {
            let found = shell(machine, &format!("journalctl _PID={pid} TICKS=3 --lines=1 --no-pager --output=cat"))?;
            Ok((found.contains("tick"), found))
        })?;
        ensure!(property(machine, "NRestarts")? == "0", "the watchdog took it for hung");
        shell(machine, &format!("kill -STOP {pid}"))?;
        machine.wait_for("another process", || {
            let (now, state) = (property(machine, "MainPID")?, property(machine, "ActiveState")?);
            Ok((now != pid && state == "active", format!("{now} {state}")))
        })?;
        let journal = shell(machine, &format!("journalctl --unit {UNIT} --no-pager --output=cat"))?;
        ensure!(journal.contains("Watchdog timeout"), "not by the watchdog: {journal}");
        shell(machine, &format!("rm -r {UNIT_PATH}.d; systemctl daemon-reload")).map(drop)
    });
    stages.run("library: a user installs it without root", || {
        shell(machine, "useradd --create-home --shell /bin/sh clockmaker; loginctl enable-linger clockmaker")?;
        machine.wait_for("the user's service manager", || {
            let up = as_user(machine, "systemctl --user is-system-running --wait").is_ok();
            Ok((up, String::new()))
        })?;
        as_user(machine, "/shared/clock install --user")?;
        let state = as_user(machine, "systemctl --user show --property=ActiveState,UnitFileState clock")?;
        ensure!(state == "ActiveState=active\nUnitFileState=enabled\n", "{state}");
        as_user(machine, "/shared/clock uninstall --user")?;
        let left = as_user(machine, "systemctl --user show --property=LoadState --value clock; find ~ -name 'clock.service*'")?;
        ensure!(left.trim() == "not-found", "{left}");
        shell(
            machine,
            "loginctl disable-linger clockmaker; loginctl terminate-user clockmaker; \
             for try in $(seq 100); do userdel --remove clockmaker 2>/dev/null && exit 0; sleep 0.1; done; exit 1",
        )
        .map(drop)
    });
    stages.run("library: a program that uninstalls itself leaves nothing behind", || {
        shell(machine, "/shared/clock uninstall")?;
        ensure!(property(machine, "LoadState")? == "not-found", "systemd still knows it");
        let left = shell(
            machine,
            "find /etc/systemd /run/systemd/system -name '*clock*'; pgrep -fxa '/shared/clock.*'; \
             find /sys/fs/cgroup -type d -name '*clock*'; true",
        )?;
        ensure!(left.trim().is_empty(), "left behind: {left}");
        shell(machine, &format!("rm {SETTINGS_PATH}")).map(drop)
    });
}

fn wait_for_status(machine: &Machine, words: &str) -> anyhow::Result<()> {
    machine.wait_for(&format!("its status to be {words:?}"), || {
        let status = property(machine, "StatusText")?;
        Ok((status == words, status))
    })
}

fn property(machine: &Machine, name: &str) -> anyhow::Result<String> {
    let text = shell(machine, &format!("systemctl show --property={name} --value {UNIT}"))?;
    Ok(text.trim().to_owned())
}

/// As the user, with the user's own service manager.
fn as_user(machine: &Machine, script: &str) -> anyhow::Result<String> {
    let mut command = machine.command("sh");
    let script = format!("export XDG_RUNTIME_DIR=/run/user/$(id -u); {script}");
    command.args(["-c", "exec runuser --login clockmaker --command \"$1\"", "sh", &script]);
    output(command)
}

fn shell(machine: &Machine, script: &str) -> anyhow::Result<String> {
    let mut command = machine.command("sh");
    command.args(["-c", script]);
    output(command)
}
