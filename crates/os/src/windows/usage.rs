//! What trees use, by their jobs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::job::Job;
use super::process::{cpu, has_ended, memory_bytes, open};
use crate::Usage;

/// The jobs of trees whose main process runs, by its number: as many as there are such trees in this process.
static JOBS: Mutex<BTreeMap<u32, Weak<Job>>> = Mutex::new(BTreeMap::new());

fn jobs() -> MutexGuard<'static, BTreeMap<u32, Weak<Job>>> {
    // Each change is one call: a map that a panic left behind is whole.
    JOBS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on the job tells what the tree of `pid` uses.
pub(super) fn remember(pid: u32, job: &Arc<Job>) {
    jobs().insert(pid, Arc::downgrade(job));
}

pub(super) fn forget(pid: u32) {
    jobs().remove(&pid);
}

/// Processor time and memory of each main process in `roots` with all its tree, in that order; `None` for one that is gone.
/// The time of processes that have ended counts as long as their tree lives.
#[must_use]
pub fn tree_usage(roots: &[u32]) -> Vec<Option<Usage>> {
    roots
        .iter()
        .map(|root| {
            let job = jobs().get(root).and_then(Weak::upgrade);
            let pids = job.as_ref().map_or_else(|| vec![*root], |job| job.pids().unwrap_or_default());
            let mut sum: Option<Usage> = None;
            for pid in pids {
                let Ok(process) = open(pid) else { continue };
                if has_ended(&process) {
                    continue;
                }
                let sum = sum.get_or_insert(Usage { cpu: Duration::ZERO, memory_bytes: 0 });
                sum.cpu += cpu(&process).unwrap_or_default();
                sum.memory_bytes += memory_bytes(&process).unwrap_or_default();
            }
            // The job's account holds what ended processes used, too. Wine keeps none.
            if let (Some(sum), Some(job)) = (&mut sum, job) {
                sum.cpu = sum.cpu.max(job.cpu().unwrap_or_default());
            }
            sum
        })
        .collect()
}

/// Whether there is a process with this number that has not ended. For people and for stale files only: by the time
/// the answer arrives the number may be another's.
#[must_use]
pub fn pid_exists(pid: u32) -> bool {
    open(pid).is_ok_and(|process| !has_ended(&process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let own = std::process::id();
        let usage = tree_usage(&[own, u32::MAX - 3]);
        assert!(usage[0].is_some_and(|usage| usage.memory_bytes > 100_000), "{usage:?}");
        assert_eq!(usage[1], None);
        assert!(pid_exists(own) && !pid_exists(u32::MAX - 3));
    }
}
