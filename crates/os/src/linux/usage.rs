//! What trees use, by one sweep through /proc.

use std::collections::HashMap;
use std::time::Duration;

use super::procfs::{Owner, Table, stat};
use crate::Usage;

/// CPU time and memory of each main process in `roots` with all its live descendants, in that order; `None` for one that
/// is gone. CPU time of descendants that have ended is not counted. Costs about 10 µs for each process of the machine.
#[must_use]
pub fn tree_usage(roots: &[u32]) -> Vec<Option<Usage>> {
    let mut usage = vec![None; roots.len()];
    let Ok(table) = Table::sweep() else { return usage };
    let places: HashMap<u32, usize> = roots.iter().enumerate().map(|(place, pid)| (*pid, place)).collect();
    let owned = table.owned(|stat| places.get(&stat.pid).map_or(Owner::AsParent, |place| Owner::Is(*place)));
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    let page_bytes = rustix::param::page_size() as u64;
    for (stat, place) in owned {
        let Some(place) = usage.get_mut(place) else { continue };
        let sum = place.get_or_insert(Usage { cpu: Duration::ZERO, memory_bytes: 0 });
        let (seconds, ticks) = (stat.cpu_ticks / ticks_per_second, stat.cpu_ticks % ticks_per_second);
        sum.cpu +=
            Duration::from_secs(seconds) + Duration::from_nanos(ticks * 1_000_000_000 / ticks_per_second);
        sum.memory_bytes += stat.rss_pages * page_bytes;
    }
    usage
}

/// Whether there is a process with this number that has not ended. For people and for stale files only: by the time
/// the answer arrives the number may be another's.
#[must_use]
pub fn pid_exists(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.is_alive())
}

/// The name of this machine; `None` when it has none that is text.
#[must_use]
pub fn host_name() -> Option<String> {
    let name = rustix::system::uname();
    name.nodename().to_str().ok().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let own = std::process::id();
        let usage = tree_usage(&[own, u32::MAX]);
        assert!(usage[0].is_some_and(|usage| usage.memory_bytes > 100_000), "{usage:?}");
        assert_eq!(usage[1], None);
        assert!(pid_exists(own) && !pid_exists(u32::MAX));
    }
}
