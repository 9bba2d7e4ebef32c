//! What the launcher does when its host has died: ends every tree of that host, so that nothing runs unsupervised and
//! nothing runs twice after the host comes back.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};

use crate::linux::cgroup;
use crate::linux::controllers::leave_leaf;
use crate::linux::procfs::{Marked, Marker, Owner, Stat, Table, marked, open_verified};

/// Rounds of looking and killing, with a pause between them: 5 s in all. A tree that still forks faster than that is
/// left to the next host, which looks again.
const ROUNDS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// The control groups that a host made.
pub(super) struct HostGroups {
    /// The parent of those of version 2.
    pub unified: Option<PathBuf>,
    /// The group that the host, and this launcher with it, left for a leaf below.
    pub back_to: Option<PathBuf>,
    /// The parents of those of version 1.
    pub limits: Vec<PathBuf>,
}

/// Ends all of it: control groups by the kernel, everything else by its marker and by descent. Leaves no group behind.
pub(super) fn end_trees(host_id: &str, groups: &HostGroups) {
    let cgroup_root = groups.unified.as_ref();
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
    for root in cgroup_root.into_iter().chain(groups.limits.iter().filter(|root| root.exists())) {
        for _ in 0..ROUNDS {
            // Version 1 has nothing to kill by, and what was in its groups has been killed above.
            let _ = cgroup::kill(root);
            if cgroup::remove_tree(root).is_ok() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
    if let Some(group) = &groups.back_to {
        leave_leaf(group);
    }
}

/// Sends SIGKILL to every process whose marker is `wanted`, and to all their descendants; answers which they were.
/// Never to this process itself.
///
/// A marked one is killed the moment it is seen: /proc is read in the order of pids, so a chain of processes that each
/// start the next one and end is met at its newest link.
pub(in crate::linux) fn kill_marked(
    mut wanted: impl FnMut(&Marker<'_>) -> bool,
) -> std::io::Result<Vec<Stat>> {
    let own = std::process::id();
    let mut killed = Vec::new();
    let mut marked_pids = HashSet::new();
    let mut kill = |stat: &Stat| {
        if let Some(pidfd) = open_verified(stat)
            && pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
        {
            killed.push(*stat);
        }
    };
    let table = Table::sweep_with(|stat| {
        if stat.pid == own || stat.pid == 1 || !stat.is_alive() {
            return;
        }
        if let Marked::Yes(text) = marked(stat.pid)
            && Marker::parse(&text).is_some_and(|marker| wanted(&marker))
        {
            kill(stat);
            marked_pids.insert(stat.pid);
        }
    })?;
    let family = table.owned(|stat| {
        if stat.pid == own || stat.pid == 1 {
            Owner::Nobody
        } else if marked_pids.contains(&stat.pid) {
            Owner::Is(())
        } else {
            Owner::AsParent
        }
    });
    for (stat, ()) in family.iter().filter(|(stat, ())| !marked_pids.contains(&stat.pid)) {
        kill(stat);
    }
    Ok(killed)
}
