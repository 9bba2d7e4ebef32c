//! What /proc says about processes: parentage, sessions, start times and the marker of the instance (proc(5)).
//!
//! A pid found here is only a hint until [`open_verified`] holds the process by a descriptor.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use mainstay_types::SpawnId;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};

/// The variable that marks every process of a service: `STACK/SERVICE.INDEX/SPAWN/HOST`.
pub(super) const MARKER: &str = "MAINSTAY_INSTANCE";

/// One process, as of one look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stat {
    pub pid: u32,
    pub ppid: u32,
    pub sid: u32,
    /// `Z` for one that has ended and waits for its parent.
    pub state: u8,
    /// Clock ticks of user and system mode, itself only.
    pub cpu_ticks: u64,
    /// Clock ticks from boot to its start: with the pid, its identity.
    pub start: u64,
    /// Resident pages.
    pub rss_pages: u64,
}

impl Stat {
    pub(super) const fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

/// Reads one line of /proc/PID/stat. The name in parentheses may hold anything, so the fields are counted from the
/// last one that closes.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(line.get(name_end + 1..)?).ok()?;
    let pid_end = line.iter().position(|byte| *byte == b' ')?;
    let pid = std::str::from_utf8(&line[..pid_end]).ok()?.parse().ok()?;
    // The field's number in proc(5); `state` is 3 and the first here.
    let mut fields = text.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let ppid = fields.next()?.parse().ok()?;
    let sid = fields.nth(1)?.parse().ok()?;
    let user: u64 = fields.nth(7)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let start = fields.nth(6)?.parse().ok()?;
    let rss_pages = fields.nth(1)?.parse().ok()?;
    Some(Stat { pid, ppid, sid, state, cpu_ticks: user + system, start, rss_pages })
}

/// Looks at one process; `None` when there is none.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    let proc = open_proc().ok()?;
    stat_at(&proc, pid, &mut [0; 1024])
}

/// Whether a process is on its way to its end: it has been sent SIGKILL, or is already being taken apart, which takes a
/// while for one with much memory.
pub(super) fn is_ending(pid: u32) -> bool {
    /// linux/sched.h.
    const PF_EXITING: u64 = 0x4;
    /// Of a mask of signals, in which signal 1 is the first bit.
    const SIGKILL_BIT: u64 = 1 << 8;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let is_sent = ["SigPnd:", "ShdPnd:"].iter().any(|name| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & SIGKILL_BIT != 0)
    });
    // After the look for the signal, which is taken off when the end begins.
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // `state` is field 3 in proc(5) and the first here, `flags` is 9.
    let flags =
        line.rsplit(')').next().and_then(|rest| rest.split_ascii_whitespace().nth(6)?.parse::<u64>().ok());
    is_sent || flags.is_none_or(|flags| flags & PF_EXITING != 0)
}

fn open_proc() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// 1 KiB holds every line: 52 numbers of at most 20 digits are rare extremes, the kernel's are far below.
fn stat_at(proc: &OwnedFd, pid: u32, buffer: &mut [u8; 1024]) -> Option<Stat> {
    use std::io::Write as _;
    let mut name = [0_u8; 24];
    let mut cursor = &mut name[..];
    write!(cursor, "{pid}/stat").ok()?;
    let left = cursor.len();
    let name = &name[..24 - left];
    let file = rustix::fs::openat(proc, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let length = rustix::io::read(&file, &mut buffer[..]).ok()?;
    parse_stat(&buffer[..length])
}

/// How a process ended, in waitpid(2)'s form, as long as nobody has reaped it; `None` for any other.
pub(super) fn exit_status(pid: u32) -> Option<i32> {
    let line = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(&line[name_end + 1..]).ok()?;
    // `state` is field 3 in proc(5) and the first here; exit_code is 52.
    let mut fields = text.split_ascii_whitespace();
    (fields.next()? == "Z").then(|| fields.nth(48)?.parse().ok()).flatten()
}

/// What a process's environment shows of a marker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Marked {
    /// The marker's value.
    Yes(String),
    /// It has none, or its environment may not be read.
    No,
    /// It is just becoming another program, or has just ended: its environment is not there.
    NotNow,
}

/// Looks for the marker of one process.
pub(super) fn marked(pid: u32) -> Marked {
    let before = memory(pid);
    let environ = match std::fs::read(format!("/proc/{pid}/environ")) {
        Ok(environ) => environ,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Marked::No,
        Err(_) => return Marked::NotNow,
    };
    match marker_in(&environ) {
        Some(text) => Marked::Yes(text.to_owned()),
        // Only of a process that was whole, and the same program before and after, is an empty environment one.
        None if environ.is_empty() && (before.is_none() || before != memory(pid)) => Marked::NotNow,
        None => Marked::No,
    }
}

/// Where the code and the environment of a process lie, by which one program is told from the next; `None` when they
/// are not there: after its end, and within execve, which gives the new memory its environment, at first with an end
/// that is its beginning, and its code after that (`load_elf_binary` in fs/binfmt_elf.c).
fn memory(pid: u32) -> Option<[u64; 3]> {
    let line = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let name_end = line.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(&line[name_end + 1..]).ok()?;
    // `state` is field 3 in proc(5) and the first here.
    let mut fields = text.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    // startcode (26), env_start (50), env_end (51).
    let start_code: u64 = fields.nth(22)?.parse().ok()?;
    let env_start: u64 = fields.nth(23)?.parse().ok()?;
    let env_end: u64 = fields.next()?.parse().ok()?;
    (start_code != 0 && env_end != 0).then_some([start_code, env_start, env_end])
}

fn marker_in(environ: &[u8]) -> Option<&str> {
    environ.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"=")?;
        std::str::from_utf8(value).ok()
    })
}

/// The parts of a marker that decide whose a process is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Marker<'a> {
    pub stack: &'a str,
    pub spawn: SpawnId,
    pub host: &'a str,
}

impl<'a> Marker<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split('/');
        let stack = parts.next()?;
        let _replica = parts.next()?;
        let spawn = SpawnId(parts.next()?.parse().ok()?);
        let host = parts.next()?;
        parts.next().is_none().then_some(Self { stack, spawn, host })
    }
}

/// Who a host is: its pid, when that pid began, and which state folder it keeps. Two hosts of stacks with the same
/// name and different state folders differ in the last part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HostId {
    pub pid: u32,
    pub start: u64,
    pub state: u64,
}

impl HostId {
    pub(super) fn of_this_process(state_dir: &Path) -> Option<Self> {
        let own = stat(std::process::id())?;
        Some(Self { pid: own.pid, start: own.start, state: state_hash(state_dir) })
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let pid = parts.next()?.parse().ok()?;
        let start = parts.next()?.parse().ok()?;
        let state = u64::from_str_radix(parts.next()?, 16).ok()?;
        parts.next().is_none().then_some(Self { pid, start, state })
    }

    /// Whether that host still runs.
    pub(super) fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|found| found.start == self.start && found.is_alive())
    }
}

impl std::fmt::Display for HostId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{:016x}", self.pid, self.start, self.state)
    }
}

/// FNV-1a (Fowler, Noll, Vo) over the path as it stands after links are followed where that is possible: short,
/// and the same in every build, which the standard library's hasher does not promise.
pub(super) fn state_hash(state_dir: &Path) -> u64 {
    use std::os::unix::ffi::OsStrExt;
    let path = std::fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    path.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// Whose a process is, as far as it shows by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner<T> {
    /// It, and every descendant that has no other owner of its own.
    Is(T),
    /// Nobody's that matters, and so are its descendants.
    Nobody,
    /// Its parent's.
    AsParent,
}

/// All processes of the machine, as of one sweep through /proc.
pub(super) struct Table {
    stats: Vec<Stat>,
    places: HashMap<u32, usize>,
}

impl Table {
    /// One sweep: about 10 µs for each process of the machine. Processes that come or go meanwhile may be missed.
    pub(super) fn sweep() -> io::Result<Self> {
        Self::sweep_with(|_| {})
    }

    /// [`Self::sweep`] that shows each process as soon as it is seen: for acts that cannot wait for the end.
    pub(super) fn sweep_with(mut seen: impl FnMut(&Stat)) -> io::Result<Self> {
        let proc = open_proc()?;
        let mut buffer = [0; 1024];
        let mut stats = Vec::with_capacity(256);
        for entry in rustix::fs::Dir::read_from(proc.as_fd())? {
            let Some(pid) = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Some(stat) = stat_at(&proc, pid, &mut buffer) {
                seen(&stat);
                stats.push(stat);
            }
        }
        Ok(Self::new(stats))
    }

    fn new(stats: Vec<Stat>) -> Self {
        let places = stats.iter().enumerate().map(|(place, stat)| (stat.pid, place)).collect();
        Self { stats, places }
    }

    /// Every live process that has an owner, with it. `own` is asked at most once for each process.
    pub(super) fn owned<T: Copy>(&self, mut own: impl FnMut(&Stat) -> Owner<T>) -> Vec<(Stat, T)> {
        #[derive(Clone, Copy)]
        enum Known<T> {
            Not,
            /// On the path being climbed: meeting it again means that pids were reused during the sweep.
            Climbing,
            Yes(Option<T>),
        }
        let mut known = vec![Known::Not; self.stats.len()];
        let mut path = Vec::new();
        for first in 0..self.stats.len() {
            let mut place = first;
            let owner = loop {
                match known[place] {
                    Known::Yes(owner) => break owner,
                    Known::Climbing => break None,
                    Known::Not => {}
                }
                known[place] = Known::Climbing;
                path.push(place);
                match own(&self.stats[place]) {
                    Owner::Is(owner) => break Some(owner),
                    Owner::Nobody => break None,
                    Owner::AsParent => match self.places.get(&self.stats[place].ppid) {
                        Some(parent) => place = *parent,
                        None => break None,
                    },
                }
            };
            for place in path.drain(..) {
                known[place] = Known::Yes(owner);
            }
        }
        let owned = self.stats.iter().zip(known).filter_map(|(stat, known)| match known {
            Known::Yes(Some(owner)) if stat.is_alive() => Some((*stat, owner)),
            Known::Yes(_) | Known::Not | Known::Climbing => None,
        });
        owned.collect()
    }

    /// Every process, ended ones included.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Stat> {
        self.stats.iter()
    }
}

/// Holds the process that was seen, or nothing: the pid may have gone to another since, which its start time shows.
pub(super) fn open_verified(seen: &Stat) -> Option<OwnedFd> {
    let pidfd = rustix::process::pidfd_open(to_pid(seen.pid)?, PidfdFlags::empty()).ok()?;
    (stat(seen.pid)?.start == seen.start).then_some(pidfd)
}

/// A pid as the kernel counts: positive.
pub(super) fn to_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// A process's own name, at most 15 bytes.
pub(super) fn name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "?".to_owned(), |name| name.trim_end().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_a_hostile_name() {
        let line = b"42 (a) R 1 (b) S 7 42 43 0 -1 4194560 1 2 3 4 11 22 5 6 20 0 1 0 987654 1000 33 18446744073709551615";
        let expected =
            Stat { pid: 42, ppid: 7, sid: 43, state: b'S', cpu_ticks: 33, start: 987_654, rss_pages: 33 };
        assert_eq!(parse_stat(line), Some(expected));
        for cut in [&b""[..], b"42", b"42 (a", b"42 (a) S 7"] {
            assert_eq!(parse_stat(cut), None);
        }
    }

    #[test]
    fn this_process_is_seen() {
        let own = stat(std::process::id()).unwrap();
        assert!(own.is_alive() && own.start > 0);
        assert!(Table::sweep().unwrap().iter().any(|stat| stat.pid == own.pid && stat.start == own.start));
        assert!(open_verified(&own).is_some());
        assert!(open_verified(&Stat { start: own.start + 1, ..own }).is_none());
    }

    #[test]
    fn owners_are_inherited_and_cycles_end() {
        let stat = |pid, ppid| Stat { pid, ppid, sid: 0, state: b'S', cpu_ticks: 0, start: 0, rss_pages: 0 };
        let table = Table::new(vec![
            stat(5, 4),
            stat(4, 2),
            stat(2, 1),
            stat(3, 1),
            stat(1, 0),
            stat(8, 9),
            stat(9, 8),
        ]);
        let owned = table.owned(|stat| match stat.pid {
            2 => Owner::Is('a'),
            1 => Owner::Nobody,
            _ => Owner::AsParent,
        });
        let mut pids: Vec<u32> = owned.iter().map(|(stat, _)| stat.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [2, 4, 5]);
    }

    #[test]
    fn a_chain_of_programs_keeps_its_marker() {
        let chain = r#"n=$1; [ "$n" -eq 0 ] || exec /bin/sh -c "$0" "$0" $((n - 1))"#;
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", chain, chain, "3000"])
            .env_clear()
            .env(MARKER, "shop/web.0/17/12-34-00000000000000ff")
            .spawn()
            .unwrap();
        let mut seen = 0_u32;
        while child.try_wait().unwrap().is_none() {
            match marked(child.id()) {
                Marked::Yes(_) => seen += 1,
                Marked::NotNow => {}
                Marked::No => panic!("it is marked, but was not seen to be after {seen} looks"),
            }
        }
        assert!(seen > 0);
    }

    #[test]
    fn markers_and_host_ids() {
        let environ = b"PATH=/bin\0MAINSTAY_INSTANCE=shop/web.0/17/12-34-00000000000000ff\0X=1\0";
        let text = marker_in(environ).unwrap();
        let marker = Marker::parse(text).unwrap();
        assert_eq!((marker.stack, marker.spawn), ("shop", SpawnId(17)));
        let host = HostId::parse(marker.host).unwrap();
        assert_eq!(host, HostId { pid: 12, start: 34, state: 255 });
        assert_eq!(host.to_string(), marker.host);
        assert_eq!(Marker::parse("a/b/c/d"), None);
        assert_eq!(marker_in(b"XMAINSTAY_INSTANCE=a\0"), None);
        let own = HostId::of_this_process(Path::new("/")).unwrap();
        assert!(own.is_alive());
        assert!(!HostId { start: own.start + 1, ..own }.is_alive());
    }
}
