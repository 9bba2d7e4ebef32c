//! What a dead host left behind: ended before a new host of the same stack starts anything, so that nothing runs twice.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::launcher::kill_marked;
use super::procfs::{self, HostId};
use super::{cgroup, cgroup1};
use crate::{Leftover, ProcessesOptions};

/// Rounds of looking and killing, with a pause between: 2 s in all, then what is left is left.
const ROUNDS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Ends every process of an earlier host of the same stack and state folder that no longer lives: those in its control
/// groups, those with its marker, and their descendants. Answers what was found. Processes of a host that lives, and of
/// other stacks, are left alone. Waits at most about 4 s for them to be gone.
///
/// # Errors
/// When /proc cannot be read.
pub fn end_leftovers_of_earlier_host(options: &ProcessesOptions) -> io::Result<Vec<Leftover>> {
    let state = procfs::state_hash(&options.state_dir);
    let mut found = BTreeMap::new();
    let groups = cgroup::of_dead_hosts(&options.stack, state);
    for dir in &groups {
        for pid in cgroup::members(dir).unwrap_or_default() {
            found.insert(pid, procfs::name(pid));
        }
        let _ = cgroup::kill(dir);
    }
    let mut liveness: BTreeMap<String, bool> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let killed = kill_marked(|marker| {
            if marker.stack != options.stack.as_str() {
                return false;
            }
            let Some(host) = HostId::parse(marker.host) else { return false };
            host.state == state && !*liveness.entry(marker.host.to_owned()).or_insert_with(|| host.is_alive())
        })?;
        if killed.is_empty() {
            break;
        }
        for stat in killed {
            found.entry(stat.pid).or_insert_with(|| procfs::name(stat.pid));
        }
        std::thread::sleep(PAUSE);
    }
    for dir in groups.into_iter().chain(cgroup1::of_dead_hosts(&options.stack, state)) {
        for _ in 0..ROUNDS {
            if cgroup::remove_tree(&dir).is_ok() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
    Ok(found.into_iter().map(|(pid, name)| Leftover { pid, name }).collect())
}
