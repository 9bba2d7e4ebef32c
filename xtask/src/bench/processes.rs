//! Reads /proc: the tree under a supervisor, its memory and its CPU time. Empty on systems without /proc.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The process and all its descendants.
pub(super) fn tree(root: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in all() {
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        if found.insert(pid) {
            open.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

/// The process's own short name.
pub(super) fn name(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

/// Whether the process is there and not a zombie.
pub(super) fn lives(pid: u32) -> bool {
    stat_after_name(pid).is_some_and(|rest| !rest.starts_with('Z'))
}

/// The proportional set size in KiB (proc(5), smaps_rollup), over all the processes.
pub(super) fn pss_kib(pids: &BTreeSet<u32>) -> u64 {
    let of_one = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    pids.iter().filter_map(of_one).sum()
}

/// The time on a CPU in ns over all threads of all the processes (the scheduler's sched-stats, first field).
pub(super) fn cpu_ns(pids: &BTreeSet<u32>) -> u64 {
    let of_one = |pid: &u32| -> u64 {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
        threads
            .flatten()
            .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
            .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
            .sum()
    };
    pids.iter().map(of_one).sum()
}

/// The same with the threads that have ended, which a compressor's do; counted in ticks of 10 ms (proc(5), stat: utime and
/// stime; USER_HZ is 100 on Linux).
pub(super) fn cpu_with_ended_threads_ns(pids: &BTreeSet<u32>) -> u64 {
    const TICK_NS: u64 = 10_000_000;
    let of_one = |pid: &u32| {
        let rest = stat_after_name(*pid)?;
        // The state is the third field of the line and the first here; utime is the 14th, stime the 15th.
        let ticks: u64 =
            rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Some(ticks * TICK_NS)
    };
    pids.iter().filter_map(of_one).sum()
}

fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn parent(pid: u32) -> Option<u32> {
    stat_after_name(pid)?.split_whitespace().nth(1)?.parse().ok()
}

/// The fields of /proc/PID/stat from the state on; the name before them may hold anything, so the last `)` counts.
fn stat_after_name(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.trim_start().to_owned())
}
