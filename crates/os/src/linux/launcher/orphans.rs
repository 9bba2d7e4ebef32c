//! What the launcher does when its host has died: ends every tree of that host, so that nothing runs unsupervised and
//! nothing runs twice after the host comes back.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};

use crate::linux::cgroup;
use crate::linux::procfs::{Marker, Owner, Stat, Table, marker, open_verified};

/// Rounds of looking and killing, with a pause between them: 5 s in all. A tree that still forks faster than that is
/// left to the next host, which looks again.
const ROUNDS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// Ends all of it: control groups by the kernel, everything else by its marker and by descent.
pub(super) fn end_trees(host_id: &str, cgroup_root: Option<&Path>) {
    if let Some(root) = cgroup_root {
        let _ = cgroup::kill(root);
    }
    for _ in 0..ROUNDS {
        let Ok(found) = kill_marked(|marker| marker.host == host_id) else { break };
        if found.is_empty() {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    if let Some(root) = cgroup_root {
        for _ in 0..ROUNDS {
            let _ = cgroup::kill(root);
            if cgroup::remove_tree(root).is_ok() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Sends SIGKILL to every process whose marker is `wanted`, and to all their descendants; answers which they were.
/// Never to this process itself.
pub(in crate::linux) fn kill_marked(wanted: impl Fn(&Marker<'_>) -> bool) -> std::io::Result<Vec<Stat>> {
    let own = std::process::id();
    let found = Table::sweep()?.owned(|stat| {
        if stat.pid == own || stat.pid == 1 || !stat.is_alive() {
            return Owner::Nobody;
        }
        match marker(stat.pid) {
            Some(text) if Marker::parse(&text).is_some_and(|marker| wanted(&marker)) => Owner::Is(()),
            _ => Owner::AsParent,
        }
    });
    let mut killed = Vec::new();
    for (stat, ()) in found {
        if let Some(pidfd) = open_verified(&stat)
            && pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
        {
            killed.push(stat);
        }
    }
    Ok(killed)
}
