//! Kills for lack of memory: that of a main process is its exit, that of another process of its tree is a notice.

use std::time::Duration;

use mainstay_types::{Exit, SpawnId};

use super::{Processes, Source, TreeState};
use crate::linux::oom::OomWatch;
use crate::linux::procfs::is_ending;

/// How long after an alarm the counters are looked at: the kernel counts a kill before it sends it, and version 1 gives
/// the alarm before it chooses. Kills that came together are one notice.
const SETTLING: Duration = Duration::from_millis(100);

impl Processes {
    /// Hears of kills in a tree with a limit of memory. Those without one are looked at when they end.
    pub(super) fn watch_memory(&mut self, spawn: SpawnId) {
        let Some(tree) = self.trees.get(&spawn) else { return };
        let is_limited = tree.launch.as_ref().is_some_and(|launch| launch.limits.memory_bytes.is_some());
        if is_limited && let Some(watch) = &tree.confined.memory {
            let (source, flags) = watch.source();
            // Without it a kill shows when the main process ends. The descriptor leaves the set when it is closed.
            let _ = self.watch(source, Source::Memory(spawn), flags);
        }
    }

    pub(super) fn on_memory_event(&mut self, spawn: SpawnId) {
        if let Some(watch) = self.trees.get(&spawn).and_then(|tree| tree.confined.memory.as_ref()) {
            watch.rearm();
            if self.memory_check.is_none() {
                self.memory_check = Some(Box::pin(tokio::time::sleep(SETTLING)));
            }
        }
    }

    /// Tells of kills in trees whose main process was not the one. What is just ending tells by its exit.
    pub(super) fn look_for_memory_kills(&mut self) {
        self.memory_check = None;
        for tree in self.trees.values_mut() {
            match &tree.state {
                TreeState::Running { main } if is_ending(main.pid) => continue,
                TreeState::Asked { .. } | TreeState::Starting { .. } | TreeState::Failing { .. } => continue,
                TreeState::Running { .. } | TreeState::Leftovers { .. } if tree.killing => continue,
                TreeState::Running { .. } | TreeState::Leftovers { .. } => {}
            }
            if let Some(kills @ 1..) = tree.confined.memory.as_mut().map(OomWatch::take) {
                self.notices.push(notice(&tree.replica, kills));
            }
        }
        if !self.notices.is_empty() {
            self.wake();
        }
    }

    /// A main process ended: by a kill for lack of memory, when the kernel has counted one that was not told yet, and the
    /// SIGKILL is not ours.
    pub(super) fn recognise_memory_kill(&mut self, spawn: SpawnId, exit: Exit) -> Exit {
        let Some(tree) = self.trees.get_mut(&spawn) else { return exit };
        let kills = tree.confined.memory.as_mut().map_or(0, OomWatch::take);
        if kills == 0 || tree.killing {
            return exit;
        }
        if matches!(exit, Exit::Signal { signal: libc::SIGKILL, .. }) {
            return Exit::OutOfMemory;
        }
        self.notices.push(notice(&tree.replica, kills));
        exit
    }
}

fn notice(replica: &mainstay_types::ReplicaId, kills: u64) -> String {
    let processes = if kills == 1 { "a process".to_owned() } else { format!("{kills} processes") };
    format!("the kernel killed {processes} of {replica} for lack of memory; its main process was not the one")
}
