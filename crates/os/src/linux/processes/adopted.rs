//! Children of the host that it did not ask for: orphans of services, which come to it as the nearest reaper. They are
//! reaped when they end, and known by the start they belong to while they live.
//!
//! A living descendant of a service whose ancestors have ended always hangs below such a child. So "no adopted child
//! belongs to this start" means that nothing of it is left, without looking at any other process.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mainstay_types::SpawnId;
use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitId, WaitIdOptions};

use crate::linux::procfs::{HostId, Marker, Stat, Table, marker, stat, to_pid};

/// An ended child in the host's own session was made by code in this process, which waits for it itself. One that
/// nobody has waited for this long never will be.
const OWN_CHILD_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Adopted {
    /// The children of the main thread: where the kernel hangs orphans (find_new_reaper in kernel/exit.c). `None` on a
    /// kernel without that file (CONFIG_PROC_CHILDREN).
    children: Option<OwnedFd>,
    own_session: u32,
    /// Live ones, with their start where it is known. As long as one is unreaped its pid is its own.
    owners: HashMap<u32, Option<SpawnId>>,
    /// Ended ones that somebody else should wait for, since when.
    left_to_others: HashMap<u32, Instant>,
}

impl Adopted {
    pub(super) fn new() -> Self {
        let own = std::process::id();
        let path = format!("/proc/self/task/{own}/children");
        Self {
            children: rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok(),
            own_session: stat(own).map_or(0, |stat| stat.sid),
            owners: HashMap::new(),
            left_to_others: HashMap::new(),
        }
    }

    /// Looks at all of them: reaps those that ended, finds out whose the others are. `mains` are the main processes;
    /// `in_flight` says that a process may exist that is not among them yet.
    pub(super) fn refresh(
        &mut self,
        mains: &HashMap<u32, SpawnId>,
        launcher: u32,
        in_flight: bool,
        host: &HostId,
    ) {
        let pids = self.list();
        self.owners.retain(|pid, _| pids.contains(pid));
        self.left_to_others.retain(|pid, _| pids.contains(pid));
        for pid in pids {
            if mains.contains_key(&pid) || pid == launcher {
                continue;
            }
            let Some(id) = to_pid(pid) else { continue };
            let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            match rustix::process::waitid(WaitId::Pid(id), peek) {
                Ok(Some(_)) => {
                    self.owners.remove(&pid);
                    // Without the list of one thread, a process whose pid has not been told yet looks like a stray.
                    let may_be_new = in_flight && self.children.is_none();
                    if !may_be_new && !self.is_left_to_others(pid) {
                        let _ = rustix::process::waitid(
                            WaitId::Pid(id),
                            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
                        );
                    }
                }
                Ok(None) => {
                    let known = self.owners.entry(pid).or_insert(None);
                    if known.is_none() {
                        *known = stat(pid).and_then(|stat| owner_of(&stat, mains, host));
                    }
                }
                Err(_) => {
                    self.owners.remove(&pid);
                }
            }
        }
    }

    pub(super) fn any_of(&self, spawn: SpawnId) -> bool {
        self.owners.values().any(|owner| *owner == Some(spawn))
    }

    pub(super) fn owner(&self, pid: u32) -> Option<SpawnId> {
        self.owners.get(&pid).copied().flatten()
    }

    fn is_left_to_others(&mut self, pid: u32) -> bool {
        if stat(pid).is_none_or(|stat| stat.sid != self.own_session) {
            return false;
        }
        let since = *self.left_to_others.entry(pid).or_insert_with(Instant::now);
        since.elapsed() < OWN_CHILD_PATIENCE
    }

    fn list(&self) -> Vec<u32> {
        let Some(file) = &self.children else {
            let own = std::process::id();
            let Ok(table) = Table::sweep() else { return Vec::new() };
            return table.iter().filter(|stat| stat.ppid == own).map(|stat| stat.pid).collect();
        };
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = rustix::io::pread(file, &mut buffer, text.len() as u64)
            && length > 0
        {
            text.extend_from_slice(&buffer[..length]);
        }
        text.split(|byte| *byte == b' ')
            .filter_map(|pid| std::str::from_utf8(pid).ok()?.parse().ok())
            .collect()
    }
}

/// The start a child belongs to: by its session, which a main process that is not reaped keeps for its own tree, or by
/// the marker in its environment.
pub(super) fn owner_of(stat: &Stat, mains: &HashMap<u32, SpawnId>, host: &HostId) -> Option<SpawnId> {
    if let Some(spawn) = mains.get(&stat.sid) {
        return Some(*spawn);
    }
    let text = marker(stat.pid)?;
    let marker = Marker::parse(&text)?;
    (HostId::parse(marker.host)? == *host).then_some(marker.spawn)
}
