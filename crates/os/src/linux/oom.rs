//! Kills for lack of memory: the kernel counts them by group, and a count that rose tells them from other kills.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::EventfdFlags;
use rustix::fs::{Mode, OFlags};

use super::cgroup::Group;
use super::controllers::write_to;

/// The counter of one tree's group, from its start on.
#[derive(Debug)]
pub(super) struct OomWatch {
    /// `memory.events` of version 2, `memory.oom_control` of version 1: both have a line `oom_kill COUNT`.
    counters: OwnedFd,
    /// Version 1 tells of a group that is out of memory by an eventfd.
    alarm: Option<OwnedFd>,
    /// Kills that this start did not have, or that were told already.
    told: u64,
}

impl OomWatch {
    /// Of a group of version 2 that has the memory controller.
    pub(super) fn of_group(group: &Group) -> Option<Self> {
        Self::new(group.memory_events().ok()?, None)
    }

    /// Of the folder of a group of version 1.
    pub(super) fn of_group1(dir: &Path) -> Option<Self> {
        use std::os::fd::AsRawFd as _;
        let file = dir.join("memory.oom_control");
        let counters = rustix::fs::open(&file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        // Without the alarm a kill is seen when the main process ends.
        let alarm =
            rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok().filter(|alarm| {
                let line = format!("{} {}", alarm.as_raw_fd(), counters.as_raw_fd());
                write_to(&dir.join("cgroup.event_control"), &line).is_ok()
            });
        Self::new(counters, alarm)
    }

    fn new(counters: OwnedFd, alarm: Option<OwnedFd>) -> Option<Self> {
        let told = count(&counters)?;
        Some(Self { counters, alarm, told })
    }

    /// What becomes ready when the counter may have risen: an eventfd for reading, or the counters for `EPOLLPRI`.
    pub(super) fn source(&self) -> (BorrowedFd<'_>, rustix::event::epoll::EventFlags) {
        use rustix::event::epoll::EventFlags;
        match &self.alarm {
            Some(alarm) => (alarm.as_fd(), EventFlags::IN),
            None => (self.counters.as_fd(), EventFlags::PRI),
        }
    }

    /// Reads what became ready, so that it is quiet until the next time.
    pub(super) fn rearm(&self) {
        if let Some(alarm) = &self.alarm {
            let _ = rustix::io::read(alarm, &mut [0_u8; 8]);
        }
        let _ = count(&self.counters);
    }

    /// Kills since the start or the last call.
    pub(super) fn take(&mut self) -> u64 {
        let now = count(&self.counters).unwrap_or(self.told);
        let new = now.saturating_sub(self.told);
        self.told = now;
        new
    }
}

fn count(counters: &OwnedFd) -> Option<u64> {
    let mut buffer = [0; 512];
    let length = rustix::io::pread(counters, &mut buffer, 0).ok()?;
    oom_kills(&buffer[..length])
}

fn oom_kills(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text)
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_both_versions() {
        let unified = b"low 0\nhigh 0\nmax 25\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(oom_kills(unified), Some(2));
        assert_eq!(oom_kills(b"oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        // Before Linux 4.13.
        assert_eq!(oom_kills(b"oom_kill_disable 0\nunder_oom 0\n"), None);
    }
}
