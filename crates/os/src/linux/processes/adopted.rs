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
use rustix::process::{Signal, WaitId, WaitIdOptions};

use crate::linux::procfs::{self, HostId, Marked, Marker, Stat, Table, marked, stat, to_pid};

/// An ended child in the host's own session was made by code in this process, which waits for it itself. One that
/// nobody has waited for this long never will be.
const OWN_CHILD_PATIENCE: Duration = Duration::from_secs(10);

/// Looks at the list in one refresh, before what is still unclear is left to the next one. Each is needed only when
/// some child ended or became another program during the one before.
const MAX_PASSES: u32 = 20;

/// Whose a living adopted child is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whose {
    Of(SpawnId),
    Nobodys,
    /// It was within execve, or ending, when it was looked at.
    Unclear,
}

#[derive(Debug)]
pub(super) struct Adopted {
    /// The children of the main thread: where the kernel hangs orphans (find_new_reaper in kernel/exit.c). `None` on a
    /// kernel without that file (CONFIG_PROC_CHILDREN).
    children: Option<OwnedFd>,
    own_session: u32,
    /// Live ones. As long as one is unreaped its pid is its own.
    owners: HashMap<u32, Whose>,
    /// Ended ones that somebody else should wait for, since when.
    left_to_others: HashMap<u32, Instant>,
    /// The last refresh could not get a steady view.
    is_unsteady: bool,
}

/// What a refresh must know of the host's other children.
pub(super) struct Known<'a> {
    /// Main processes by pid.
    pub mains: &'a HashMap<u32, SpawnId>,
    /// The launcher's pid, or 0.
    pub launcher: u32,
    /// A process may exist that is not among the mains yet.
    pub in_flight: bool,
    pub host: &'a HostId,
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
            is_unsteady: false,
        }
    }

    /// Looks at all of them: reaps those that ended, finds out whose the others are.
    ///
    /// The children of one that ended came to this process before its end could be seen, but perhaps after the list
    /// was read: so the list is read again until a pass has met no end.
    pub(super) fn refresh(&mut self, known: &Known<'_>) {
        for _ in 0..MAX_PASSES {
            self.is_unsteady = self.pass(known);
            if !self.is_unsteady {
                return;
            }
        }
    }

    /// One look; true when another one is needed.
    fn pass(&mut self, known: &Known<'_>) -> bool {
        let pids = self.list();
        if pids.is_empty() {
            self.owners.clear();
            self.left_to_others.clear();
            return false;
        }
        self.owners.retain(|pid, _| pids.contains(pid));
        self.left_to_others.retain(|pid, _| pids.contains(pid));
        let mut look_again = false;
        for pid in pids {
            if known.mains.contains_key(&pid) || pid == known.launcher {
                continue;
            }
            let Some(id) = to_pid(pid) else { continue };
            let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            match rustix::process::waitid(WaitId::Pid(id), peek) {
                Ok(Some(_)) => {
                    self.owners.remove(&pid);
                    // Without the list of one thread, a process whose pid has not been told yet looks like a stray.
                    let may_be_new = known.in_flight && self.children.is_none();
                    if !may_be_new && !self.is_left_to_others(pid) {
                        let take = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                        let _ = rustix::process::waitid(WaitId::Pid(id), take);
                        look_again = true;
                    }
                }
                Ok(None) => {
                    let whose = self.owners.entry(pid).or_insert(Whose::Unclear);
                    if *whose == Whose::Unclear {
                        *whose =
                            stat(pid).map_or(Whose::Unclear, |stat| whose_is(&stat, known.mains, known.host));
                        look_again |= *whose == Whose::Unclear;
                    }
                }
                Err(_) => {
                    self.owners.remove(&pid);
                }
            }
        }
        look_again
    }

    /// Whether a refresh has to be told of processes in flight.
    pub(super) const fn lacks_list(&self) -> bool {
        self.children.is_none()
    }

    /// Whether the last refresh left something unclear, which no signal may come to clear up.
    pub(super) const fn is_unsteady(&self) -> bool {
        self.is_unsteady
    }

    /// Whether something of this start may live: it does, or it cannot be said yet.
    pub(super) fn any_of(&self, spawn: SpawnId) -> bool {
        self.is_unsteady || self.owners.values().any(|whose| *whose == Whose::Of(spawn))
    }

    /// Kills those of this start at once, without looking for their descendants.
    pub(super) fn kill_those_of(&self, spawn: SpawnId) {
        for (pid, _) in self.owners.iter().filter(|(_, whose)| **whose == Whose::Of(spawn)) {
            // Unreaped children: their numbers are their own.
            if let Some(id) = to_pid(*pid) {
                let _ = rustix::process::kill_process(id, Signal::KILL);
            }
        }
    }

    pub(super) fn owner(&self, pid: u32) -> Option<SpawnId> {
        match self.owners.get(&pid)? {
            Whose::Of(spawn) => Some(*spawn),
            Whose::Nobodys | Whose::Unclear => None,
        }
    }

    /// It is a main process from here on, which is not this list's matter.
    pub(super) fn forget(&mut self, pid: u32) {
        self.owners.remove(&pid);
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
fn whose_is(stat: &Stat, mains: &HashMap<u32, SpawnId>, host: &HostId) -> Whose {
    if let Some(spawn) = mains.get(&stat.sid) {
        return Whose::Of(*spawn);
    }
    match marked(stat.pid) {
        Marked::NotNow => Whose::Unclear,
        Marked::No => Whose::Nobodys,
        Marked::Yes(text) => match Marker::parse(&text) {
            Some(marker) if HostId::parse(marker.host) == Some(*host) => Whose::Of(marker.spawn),
            Some(_) | None => Whose::Nobodys,
        },
    }
}

/// [`whose_is`] for a sweep, which needs an answer: waits up to 2 ms for a process to get through execve.
pub(super) fn owner_of(stat: &Stat, mains: &HashMap<u32, SpawnId>, host: &HostId) -> Option<SpawnId> {
    for _ in 0..20 {
        match whose_is(stat, mains, host) {
            Whose::Of(spawn) => return Some(spawn),
            Whose::Nobodys => return None,
            Whose::Unclear if procfs::stat(stat.pid).is_none_or(|now| !now.is_alive()) => return None,
            Whose::Unclear => std::thread::sleep(Duration::from_micros(100)),
        }
    }
    None
}
