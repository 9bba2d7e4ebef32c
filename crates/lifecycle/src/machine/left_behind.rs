//! Trees that were left behind: the kernel holds some of their processes although they were killed (a process in an
//! uninterruptible wait ends only when that does).
//!
//! ```text
//!                      changed file without that replica
//!  held by its replica ───────────────────────────────────► held by its name alone
//!         │         ▲                                          │       │
//!         │         └──────── changed file with it again ──────┘       │
//!         └───────── the end of the tree is told, after all ───────────┴──► forgotten
//! ```
//!
//! Nothing of a replica is launched while a tree of that name and index is there. There are as many as the kernel holds:
//! a replica that has one gets no other.

use mainstay_config::Hook;
use mainstay_types::{Exit, ReplicaId, SpawnId};

use super::{At, StackMachine};
use crate::replica::{Actual, Held, Outlook, Replica, Stopping, Then};
use crate::{Effect, Purpose, Reason, Record, Wanted};

impl StackMachine {
    /// The kernel still holds some of its processes. The replica ends here, and no other of its processes is started
    /// before the end of these is reported.
    pub(super) fn leave_behind(&mut self, at: At) {
        let wanted = self.wanted_of(at);
        let replica = self.replica_mut(at);
        let Actual::Stopping(stopping) = &replica.actual else { return };
        let Stopping { spawn, launched, exit, then, .. } = (**stopping).clone();
        replica.held = Some(Box::new(Held { spawn, launched, exit, then, after_exit: None }));
        let actual = match wanted {
            Wanted::Up => Actual::Failed(Outlook::AwaitsTree),
            Wanted::Down => Actual::Stopped,
        };
        self.shift(at, actual, Reason::LeftBehind);
    }

    /// Ends a replica that has no program. An `after_exit` for the sake of what was to follow ends too; where what was
    /// left behind is still there, that is the news.
    pub(super) fn put_down(&mut self, at: At, reason: Reason) {
        let reason = match self.replica(at).held.as_deref() {
            Some(Held { after_exit: Some(task), .. }) => {
                self.end_run(*task);
                reason
            }
            Some(Held { after_exit: None, .. }) => Reason::LeftBehind,
            None => reason,
        };
        self.shift(at, Actual::Stopped, reason);
    }

    /// What was left behind has ended after all. Its `after_exit` runs if something is to come after it.
    pub(super) fn release(&mut self, at: At) {
        let hook = self.config(at).hooks.after_exit.clone().filter(|_| !self.is_out_of_time());
        let follows = match self.replica(at).actual {
            Actual::Waiting | Actual::Failed(Outlook::AwaitsTree | Outlook::WatchesGates) => true,
            Actual::Stopped
            | Actual::Completed
            | Actual::Failed(Outlook::Final | Outlook::Retries { .. })
            | Actual::Preparing { .. }
            | Actual::Launching { .. }
            | Actual::Running(_)
            | Actual::Backoff { .. }
            | Actual::Stopping(_)
            | Actual::Closing(_) => false,
        };
        let Some(held) = self.replica_mut(at).held.as_mut() else { return };
        let (spawn, launched): (SpawnId, bool) = (held.spawn, held.launched.is_some());
        self.spawns.remove(&spawn);
        match hook.filter(|_| follows && launched) {
            Some(Hook { command, timeout }) => {
                let task = self.new_task();
                if let Some(held) = &mut self.replica_mut(at).held {
                    held.after_exit = Some(task);
                }
                self.run(at, task, Purpose::AfterExit, command, timeout);
            }
            None => self.let_go(at),
        }
    }

    pub(super) fn let_go(&mut self, at: At) {
        let Some(held) = self.replica_mut(at).held.take() else { return };
        let Held { exit, then, .. } = *held;
        match &self.replica(at).actual {
            Actual::Failed(Outlook::AwaitsTree) => self.ended(at, then, exit, None),
            Actual::Waiting | Actual::Failed(Outlook::WatchesGates) => self.enqueue(at.service),
            // Nothing was to follow, but it is as it should be from here on.
            Actual::Stopped if self.replica(at).reason == Reason::LeftBehind => {
                self.note(at, Reason::Stopped(exit));
            }
            Actual::Stopped
            | Actual::Completed
            | Actual::Failed(Outlook::Final | Outlook::Retries { .. })
            | Actual::Preparing { .. }
            | Actual::Launching { .. }
            | Actual::Running(_)
            | Actual::Backoff { .. }
            | Actual::Stopping(_)
            | Actual::Closing(_) => {}
        }
    }

    // ---- without a replica ----

    /// A changed file no longer has this replica. Its `after_exit`, if that runs, is ended with it.
    pub(super) fn disown(&mut self, id: ReplicaId, replica: Replica) {
        if let Some(held) = replica.held.filter(|held| held.after_exit.is_none()) {
            self.orphans.insert(id, *held);
        }
    }

    /// A changed file has replicas again whose trees are still there.
    pub(super) fn adopt_orphans(&mut self) {
        for (id, held) in std::mem::take(&mut self.orphans) {
            let at = self.index(id.service.as_str()).map(|service| At { service, index: id.index as usize });
            match at.filter(|at| at.index < self.slots[at.service].replicas.len()) {
                Some(at) => {
                    self.spawns.insert(held.spawn, at);
                    let replica = self.replica_mut(at);
                    replica.reason = Reason::LeftBehind;
                    replica.held = Some(Box::new(Held { then: Then::Stop, ..held }));
                }
                None => {
                    self.orphans.insert(id, held);
                }
            }
        }
    }

    /// It came up after all, long after it was given up: it must not stay.
    pub(super) fn on_orphan_launched(&mut self, spawn: SpawnId, pid: u32) {
        let now = self.now;
        let Some((id, held)) = self.orphans.iter_mut().find(|(_, held)| held.spawn == spawn) else { return };
        held.launched = Some((pid, now));
        self.out.push(Effect::Record(Record::Spawned { replica: id.clone(), spawn, pid }));
        self.out.push(Effect::Kill { spawn });
    }

    pub(super) fn on_orphan_exited(&mut self, spawn: SpawnId, exit: Exit, leftovers: u32) {
        let now = self.now;
        let Some((id, held)) = self.orphans.iter_mut().find(|(_, held)| held.spawn == spawn) else { return };
        if held.exit.replace(exit).is_none() {
            let ran = held.launched.map(|(_, launched_at)| now.since(launched_at)).unwrap_or_default();
            let (replica, requested) = (id.clone(), true);
            self.out.push(Effect::Record(Record::Exited { replica, spawn, exit, ran, requested }));
        }
        if leftovers == 0 {
            self.forget_orphan(spawn);
        }
    }

    pub(super) fn on_orphan_tree_ended(&mut self, spawn: SpawnId) {
        // The end of a tree comes after the end of its main process.
        self.orphans.retain(|_, held| held.spawn != spawn || held.exit.is_none());
    }

    pub(super) fn forget_orphan(&mut self, spawn: SpawnId) {
        self.orphans.retain(|_, held| held.spawn != spawn);
    }
}
