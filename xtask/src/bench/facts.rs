//! What the figures were taken on and with.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::Tools;
use super::peers::Peer;

/// CPU, kernel, memory and the versions of all that was measured; `null` where the system does not say.
pub(super) fn gather(peers: &[Peer], tools: &Tools) -> Value {
    let versions: serde_json::Map<String, Value> =
        peers.iter().map(|peer| (peer.name().to_owned(), version(*peer, tools).into())).collect();
    json!({
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map(std::num::NonZero::get).ok(),
        "memory": field("/proc/meminfo", "MemTotal"),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
        "load_at_end": fs::read_to_string("/proc/loadavg").ok().map(|text| text.trim().to_owned()),
        "system": field("/etc/os-release", "PRETTY_NAME"),
        "versions": versions,
    })
}

/// The value of the first line `key: value` or `key=value`.
fn field(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    let value = line.split_once([':', '='])?.1;
    Some(value.trim().trim_matches('"').to_owned())
}

fn version(peer: Peer, tools: &Tools) -> Option<String> {
    match (peer.package(), &tools.mainstay) {
        (Some(package), _) => {
            first_line(Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]))
        }
        (None, Some(mainstay)) if peer == Peer::Mainstay => {
            first_line(Command::new(mainstay).arg("--version"))
        }
        (None, _) => first_line(Command::new("cc").arg("--version")),
    }
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned())
}
