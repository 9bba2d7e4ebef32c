//! What the host asks for: launches go to the launcher at once, signals and kills to control groups at once; for trees
//! without a group they are gathered, and one sweep through /proc serves all that came together.

use std::collections::HashMap;
use std::sync::Arc;

use mainstay_types::{LaunchStep, ReplicaId, SpawnId, StopSignal};
use rustix::process::{Signal, pidfd_send_signal};

use super::adopted::owner_of;
use super::{Processes, Source, Tree, TreeState};
use crate::linux::cgroup::{Cgroups, Group, replica_group_name};
use crate::linux::explain::failure_of;
use crate::linux::handing;
use crate::linux::procfs::{MARKER, Owner, Stat, Table, open_verified, to_pid};
use crate::linux::wire;
use crate::{Launch, ProcessEvent};

/// Sweeps made to kill one tree before it is given up with a notice: a tree that outruns this many forks on purpose.
const MAX_KILL_ROUNDS: u32 = 200;

/// The control groups of one replica. One is kept over restarts; a second one is made when a start overlaps another.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// One that nobody else holds is free.
    usable: Vec<Arc<Group>>,
    /// Killed ones. Linux 6.18 was seen to kill whatever is born into a group that was killed before (cgroup_css_set_fork
    /// compares the sequence number of the wrong group), so these are removed once they are empty.
    retired: Vec<Arc<Group>>,
    made: u64,
}

impl Groups {
    fn take(&mut self, cgroups: &Cgroups, replica: &ReplicaId) -> std::io::Result<Arc<Group>> {
        if let Some(free) = self.usable.iter().find(|group| Arc::strong_count(group) == 1) {
            return Ok(Arc::clone(free));
        }
        self.retired.retain(|group| Arc::strong_count(group) > 1 || cgroups.remove_group(group).is_err());
        let group = Arc::new(cgroups.group(&replica_group_name(replica, self.made))?);
        self.made += 1;
        self.usable.push(Arc::clone(&group));
        Ok(group)
    }

    pub(super) fn retire(&mut self, group: &Arc<Group>) {
        if let Some(place) = self.usable.iter().position(|usable| Arc::ptr_eq(usable, group)) {
            self.retired.push(self.usable.swap_remove(place));
        }
    }
}

/// Something to do to a tree without a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Request {
    Signal(SpawnId, StopSignal),
    Kill(SpawnId),
}

impl Processes {
    pub(super) fn request_launch(&mut self, replica: &ReplicaId, spawn: SpawnId, mut launch: Launch) {
        launch.env.retain(|(name, _)| name != MARKER);
        if let Err(failure) = handing::prepare(&mut launch) {
            return self.announce(ProcessEvent::LaunchFailed { spawn, failure });
        }
        let marker =
            format!("{MARKER}={}/{}.{}/{spawn}/{}", self.stack, replica.service, replica.index, self.host);
        let open_files = launch.limits.open_files.map_or(self.open_files, |limit| (limit, limit));
        let group = self.free_group(replica);
        let confined = self.confinement.prepare(
            replica,
            &launch.limits,
            launch.identity.as_ref().is_some_and(|identity| identity.uid != 0),
            self.cgroups.as_mut(),
            group.as_deref(),
        );
        let encoded = confined.and_then(|confined| {
            wire::encode_launch(spawn.0, &launch, &marker, open_files, &confined, group.is_some())
                .map(|frame| (frame, confined))
        });
        let (frame, confined) = match encoded {
            Ok(encoded) => encoded,
            Err(failure) => return self.announce(ProcessEvent::LaunchFailed { spawn, failure }),
        };
        if self.link.is_none()
            && let Err(error) = self.start_link()
        {
            let mut failure = failure_of(LaunchStep::Spawn, Some(self.launcher_exe.clone()), 0, None);
            failure.message = format!("cannot start the launcher: {error}");
            return self.announce(ProcessEvent::LaunchFailed { spawn, failure });
        }
        // Held by the message alone from here: the end of a handed pipe must show when the program closes it.
        let handed = std::mem::take(&mut launch.handed);
        let tree = Tree {
            replica: replica.clone(),
            launch: Some(Box::new(launch)),
            state: TreeState::Asked { signals: Vec::new(), killed: false },
            first: None,
            group: group.clone(),
            confined,
            killing: false,
            rounds: 0,
        };
        self.trees.insert(spawn, Box::new(tree));
        self.watch_memory(spawn);
        if let Some(link) = &mut self.link {
            link.send(frame, group, handed);
            self.watch_link();
        }
    }

    /// The group for the replica's next start: one that no live tree is in.
    fn free_group(&mut self, replica: &ReplicaId) -> Option<Arc<Group>> {
        let cgroups = self.cgroups.as_ref()?;
        let groups = self.groups.entry(replica.clone()).or_default();
        match groups.take(cgroups, replica) {
            Ok(group) => Some(group),
            Err(error) => {
                let text = format!(
                    "cannot make the control group of {replica}: {error}: its tree is kept by descent"
                );
                self.notices.push(text);
                None
            }
        }
    }

    pub(super) fn request_signal(&mut self, spawn: SpawnId, signal: StopSignal) {
        let Some(tree) = self.trees.get_mut(&spawn) else { return };
        if let TreeState::Asked { signals, .. } = &mut tree.state {
            if !signals.contains(&signal) {
                signals.push(signal);
            }
            return;
        }
        let Some(group) = &tree.group else { return self.request(Request::Signal(spawn, signal)) };
        let main = tree.state.main();
        if let Some(main) = main {
            let _ = pidfd_send_signal(&main.pidfd, to_signal(signal));
        }
        signal_members(group, main.map(|main| main.pid), to_signal(signal));
    }

    pub(super) fn request_kill(&mut self, spawn: SpawnId) {
        let Some(tree) = self.trees.get_mut(&spawn) else { return };
        if let TreeState::Asked { killed, .. } = &mut tree.state {
            *killed = true;
            return;
        }
        tree.killing = true;
        tree.rounds = 0;
        match &tree.group {
            Some(group) => {
                kill_group(group);
                if let Some(groups) = self.groups.get_mut(&tree.replica) {
                    groups.retire(group);
                }
            }
            None => self.request(Request::Kill(spawn)),
        }
    }

    pub(super) fn request(&mut self, request: Request) {
        if !self.requests.contains(&request) {
            self.requests.push(request);
        }
        self.wake();
    }

    /// One sweep for everything that was asked for since the last one.
    pub(super) fn perform_requests(&mut self) {
        let mut wanted: HashMap<SpawnId, Vec<Signal>> = HashMap::new();
        for request in std::mem::take(&mut self.requests) {
            let (spawn, signal) = match request {
                Request::Signal(spawn, signal) => (spawn, to_signal(signal)),
                Request::Kill(spawn) => (spawn, Signal::KILL),
            };
            wanted.entry(spawn).or_default().push(signal);
        }
        self.refresh_adopted();
        // All are held before the first is signalled: what ends takes its descendants' parentage with it.
        let held: Vec<_> = self
            .members_by_sweep(|owner| wanted.contains_key(&owner))
            .into_iter()
            .filter(|(stat, _)| !self.mains.contains_key(&stat.pid))
            .filter_map(|(stat, owner)| Some((open_verified(&stat)?, owner)))
            .collect();
        for (spawn, signals) in &wanted {
            let Some(tree) = self.trees.get_mut(spawn) else { continue };
            for main in tree.state.main().into_iter().chain(&tree.first) {
                for signal in signals {
                    let _ = pidfd_send_signal(&main.pidfd, *signal);
                }
            }
            if signals.contains(&Signal::KILL) {
                tree.rounds += 1;
            }
        }
        for (pidfd, owner) in held {
            for signal in wanted.get(&owner).into_iter().flatten() {
                let _ = pidfd_send_signal(&pidfd, *signal);
            }
        }
    }

    /// Kills again what is left of a tree whose main process has ended: the adopted ones at once, which outruns a chain
    /// of processes that start each other, their descendants by a sweep, unless that was done too often.
    pub(super) fn kill_again(&mut self, spawn: SpawnId) {
        self.adopted.kill_those_of(spawn);
        let Some(tree) = self.trees.get_mut(&spawn) else { return };
        if tree.rounds < MAX_KILL_ROUNDS {
            return self.request(Request::Kill(spawn));
        }
        if tree.rounds == MAX_KILL_ROUNDS {
            tree.rounds += 1;
            let name = &tree.replica;
            self.notices
                .push(format!("{name} still makes new processes after being killed {MAX_KILL_ROUNDS} times"));
        }
    }

    /// Every live process whose tree is `wanted`, by one sweep: those of a main process's session, their descendants,
    /// and adopted children with theirs.
    pub(super) fn members_by_sweep(&self, wanted: impl Fn(SpawnId) -> bool) -> Vec<(Stat, SpawnId)> {
        let Ok(table) = Table::sweep() else { return Vec::new() };
        let own = std::process::id();
        let launcher = self.launcher_pid();
        let owned = table.owned(|stat| {
            if let Some(spawn) = self.mains.get(&stat.pid).or_else(|| self.mains.get(&stat.sid)) {
                Owner::Is(*spawn)
            } else if stat.pid == own || Some(stat.pid) == launcher {
                Owner::Nobody
            } else if stat.ppid == own {
                let owner = self.adopted.owner(stat.pid).or_else(|| owner_of(stat, &self.mains, &self.host));
                owner.map_or(Owner::Nobody, Owner::Is)
            } else {
                Owner::AsParent
            }
        });
        owned.into_iter().filter(|(_, owner)| wanted(*owner)).collect()
    }

    /// Sees to it that the launcher's socket is watched for room exactly while something waits to be sent.
    pub(super) fn watch_link(&mut self) {
        let Some(link) = &self.link else { return };
        let wants = link.is_waiting_to_send();
        if wants != self.link_wants_room {
            let flags = if wants {
                rustix::event::epoll::EventFlags::IN | rustix::event::epoll::EventFlags::OUT
            } else {
                rustix::event::epoll::EventFlags::IN
            };
            let socket = link.socket();
            if rustix::event::epoll::modify(self.epoll.get_ref(), socket, Source::Launcher.data(), flags)
                .is_ok()
            {
                self.link_wants_room = wants;
            }
        }
    }
}

/// Kills a group by the kernel; where that fails, its members one by one.
pub(super) fn kill_group(group: &Group) {
    if group.kill().is_err() {
        signal_members(group, None, Signal::KILL);
    }
}

/// Signals everything in the group but `except`: each is held first and then looked for in the group again.
fn signal_members(group: &Group, except: Option<u32>, signal: Signal) {
    for pid in group.members().unwrap_or_default() {
        if Some(pid) == except {
            continue;
        }
        let Some(id) = to_pid(pid) else { continue };
        if let Ok(pidfd) = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty())
            && group.holds(pid)
        {
            let _ = pidfd_send_signal(pidfd, signal);
        }
    }
}

pub(super) fn to_signal(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Term => Signal::TERM,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
        StopSignal::Hup => Signal::HUP,
        StopSignal::Usr1 => Signal::USR1,
        StopSignal::Usr2 => Signal::USR2,
        StopSignal::Kill => Signal::KILL,
    }
}
