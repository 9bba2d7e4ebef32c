//! Control groups, version 2, as far as a tree of processes needs them: born inside, counted, killed at once
//! (cgroups(7), the kernel's admin-guide/cgroup-v2), and limited where there are controllers.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use mainstay_types::{ReplicaId, StackName};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::cgroup1::pids_value;
use super::controllers::{Controller, Controllers, HOST_LEAF, leave_leaf};
use super::cpu_quota::CpuQuota;
use super::procfs::HostId;

/// Deepest nesting of groups that is looked into: programs that manage groups of their own (container engines) use
/// two or three levels.
const MAX_DEPTH: u32 = 16;

/// clone(2), linux/sched.h; the library's constant is too narrow for it.
pub(super) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The folder of the group this host was given, and the group's own path, where a version 2 hierarchy is mounted: the
/// one this process is in, or the one above when it has moved into the leaf.
pub(super) fn own_group() -> Option<(PathBuf, String)> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let (mut dir, mut path) = group_dir(&mounts, &groups)?;
    if let Some(above) = path.strip_suffix(HOST_LEAF).and_then(|above| above.strip_suffix('/')) {
        path = if above.is_empty() { "/".to_owned() } else { above.to_owned() };
        dir.pop();
    }
    Some((dir, path))
}

/// The same, from the texts of /proc/self/mountinfo and /proc/self/cgroup.
fn group_dir(mounts: &str, groups: &str) -> Option<(PathBuf, String)> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    if path.starts_with("/..") {
        // Outside of this namespace's view.
        return None;
    }
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if !kind.starts_with("cgroup2 ") {
            return None;
        }
        Some((dir_below(mount, path)?, path.to_owned()))
    })
}

/// The folder of the group at `path` in the hierarchy that this beginning of a line of mountinfo mounts (proc(5)).
pub(super) fn dir_below(mount: &str, path: &str) -> Option<PathBuf> {
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let below = if root == "/" { path } else { path.strip_prefix(root)? };
    Some(Path::new(point).join(below.trim_start_matches('/')))
}

/// The name of the group of one host, in every hierarchy.
pub(super) fn host_group_name(stack: &StackName, host: &HostId) -> String {
    format!("{}{host}", prefix(stack))
}

/// The name of one of a replica's groups: the first, or one more because a start overlapped another.
pub(super) fn replica_group_name(replica: &ReplicaId, made: u64) -> String {
    match made {
        0 => format!("{}.{}", replica.service, replica.index),
        more => format!("{}.{}-{more}", replica.service, replica.index),
    }
}

/// The group of one host, parent of the groups of its replicas.
#[derive(Debug)]
pub(super) struct Cgroups {
    dir: PathBuf,
    fd: OwnedFd,
    /// As /proc/PID/cgroup names it.
    path: String,
    controllers: Controllers,
}

impl Cgroups {
    /// Makes the group under the one this process is in, tries once whether a process can be born into a group and
    /// killed by it, and gives it the controllers that are to be had. An error means that trees are to be kept without
    /// groups here.
    pub(super) fn start(stack: &StackName, host: &HostId) -> io::Result<Self> {
        let (own_dir, own_path) = own_group().ok_or(Errno::NOSYS)?;
        let name = host_group_name(stack, host);
        let dir = own_dir.join(&name);
        std::fs::create_dir(&dir)?;
        let made = open_dir(rustix::fs::CWD, &dir).map_err(io::Error::from).and_then(|fd| {
            try_birth(&fd)?;
            rustix::fs::accessat(&fd, c"cgroup.kill", rustix::fs::Access::WRITE_OK, AtFlags::empty())?;
            Ok(fd)
        });
        match made {
            Ok(fd) => {
                let path = format!("{}/{name}", own_path.trim_end_matches('/'));
                let controllers = Controllers::start(&own_dir, &dir);
                Ok(Self { dir, fd, path, controllers })
            }
            Err(error) => {
                let _ = std::fs::remove_dir(&dir);
                Err(error)
            }
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn controllers(&self) -> &Controllers {
        &self.controllers
    }

    pub(super) fn controllers_mut(&mut self) -> &mut Controllers {
        &mut self.controllers
    }

    /// Makes the group `name`, or takes the one that is there.
    pub(super) fn group(&self, name: &str) -> io::Result<Group> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let fd = open_dir(&self.fd, Path::new(name))?;
        let path = format!("{}/{name}", self.path);
        Ok(Group { fd, name: name.to_owned(), path, applied: Mutex::default() })
    }

    /// Removes one group when it is empty, with the empty ones below it.
    pub(super) fn remove_group(&self, group: &Group) -> io::Result<()> {
        remove_below(&group.fd, 0);
        Ok(rustix::fs::unlinkat(&self.fd, &group.name, AtFlags::REMOVEDIR)?)
    }

    /// Removes all groups of this host that are empty, the host's own last, and goes back to where it came from.
    pub(super) fn remove(&self) -> io::Result<()> {
        let removed = match remove_tree(&self.dir) {
            // The launcher was first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        if removed.is_ok()
            && let Some(parent) = self.controllers.moved_from()
        {
            leave_leaf(parent);
        }
        removed
    }
}

/// The group of one replica.
#[derive(Debug)]
pub(super) struct Group {
    fd: OwnedFd,
    name: String,
    path: String,
    /// The limits written last, in the order of [`Controller::ALL`].
    applied: Mutex<[Option<u64>; 3]>,
}

impl Group {
    /// For `CLONE_INTO_CGROUP`.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Every live process in the group and the groups below it; an ended one that waits for its parent is not listed.
    pub(super) fn members(&self) -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        members_below(&self.fd, 0, &mut pids)?;
        Ok(pids)
    }

    /// Kills everything in it, what is being forked included.
    pub(super) fn kill(&self) -> io::Result<()> {
        let file =
            rustix::fs::openat(&self.fd, c"cgroup.kill", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(file, b"1")?;
        Ok(())
    }

    /// A descriptor that reports a change of "populated" as `EPOLLPRI`, until it is read again.
    pub(super) fn events(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.fd, c"cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Sets the limit of one controller, or takes it away. An error names the file.
    pub(super) fn limit(
        &self,
        controller: Controller,
        value: Option<u64>,
    ) -> Result<(), (PathBuf, io::Error)> {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = &mut applied[controller as usize];
        if *applied == value {
            return Ok(());
        }
        match controller {
            Controller::Memory => {
                // A limit of memory that only pushes it into swap slows down the whole machine and limits nothing. There
                // is no such file on a kernel without swap.
                match self.set("memory.swap.max", value.map_or("max", |_| "0")) {
                    Err((_, error)) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
                self.set("memory.max", &value.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string()))?;
            }
            Controller::Pids => self.set("pids.max", &value.map_or_else(|| "max".to_owned(), pids_value))?,
            Controller::Cpu => {
                let share = value.map_or_else(
                    || "max 100000".to_owned(),
                    |millis| {
                        let CpuQuota { quota_us, period_us } = CpuQuota::of_millis(millis);
                        format!("{quota_us} {period_us}")
                    },
                );
                self.set("cpu.max", &share)?;
            }
        }
        *applied = value;
        Ok(())
    }

    fn set(&self, file: &'static str, value: &str) -> Result<(), (PathBuf, io::Error)> {
        let write = || {
            let file = rustix::fs::openat(&self.fd, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(file, value.as_bytes())
        };
        write().map(drop).map_err(|errno| (Path::new(&self.path).join(file), errno.into()))
    }

    /// A descriptor of the counters of memory; a change of one shows as `EPOLLPRI`, until they are read again.
    pub(super) fn memory_events(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.fd, c"memory.events", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Whether that process is in it now.
    pub(super) fn holds(&self, pid: u32) -> bool {
        self.membership(pid) == Some(true)
    }

    /// [`Self::holds`], or `None` when there is no such process.
    pub(super) fn membership(&self, pid: u32) -> Option<bool> {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
        let rest = own.and_then(|path| path.strip_prefix(&self.path));
        Some(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

/// Reads, and so arms again, what [`Group::events`] opened: whether anything lives in the group or below.
pub(super) fn is_populated(events: &OwnedFd) -> io::Result<bool> {
    let mut buffer = [0; 256];
    let length = rustix::io::pread(events, &mut buffer, 0)?;
    Ok(!buffer[..length].starts_with(b"populated 0"))
}

fn members_below(dir: &OwnedFd, depth: u32, pids: &mut Vec<u32>) -> io::Result<()> {
    let file = rustix::fs::openat(dir, c"cgroup.procs", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = rustix::io::read(&file, &mut buffer)?;
        if length == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..length]);
    }
    let lines =
        text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()?.parse().ok());
    // 0 stands for a process outside of this pid namespace: nothing here can name it.
    pids.extend(lines.filter(|pid: &u32| *pid != 0));
    // A folder's link count is two and one for each folder in it (kernfs).
    if depth < MAX_DEPTH && rustix::fs::fstat(dir)?.st_nlink > 2 {
        for name in subdirs(dir)? {
            if let Ok(below) = open_dir(dir, &name) {
                members_below(&below, depth + 1, pids)?;
            }
        }
    }
    Ok(())
}

/// Kills everything in the group at `dir` and below.
pub(super) fn kill(dir: &Path) -> io::Result<()> {
    // Not created when it is missing: a folder elsewhere must never get such a file.
    Write::write_all(&mut std::fs::OpenOptions::new().write(true).open(dir.join("cgroup.kill"))?, b"1")
}

/// Every live process in the group at `dir` and below.
pub(super) fn members(dir: &Path) -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    members_below(&open_dir(rustix::fs::CWD, dir)?, 0, &mut pids)?;
    Ok(pids)
}

/// Removes the empty group at `dir` with the empty ones below it.
pub(super) fn remove_tree(dir: &Path) -> io::Result<()> {
    remove_below(&open_dir(rustix::fs::CWD, dir)?, 0);
    std::fs::remove_dir(dir)
}

fn remove_below(dir: &OwnedFd, depth: u32) {
    for name in subdirs(dir).unwrap_or_default() {
        if depth < MAX_DEPTH
            && rustix::fs::unlinkat(dir, &name, AtFlags::REMOVEDIR).is_err()
            && let Ok(below) = open_dir(dir, &name)
        {
            remove_below(&below, depth + 1);
            let _ = rustix::fs::unlinkat(dir, &name, AtFlags::REMOVEDIR);
        }
    }
}

/// Groups that a dead host of this stack and state folder left under the group this process is in.
pub(super) fn of_dead_hosts(stack: &StackName, state: u64) -> Vec<PathBuf> {
    own_group().map(|(own_dir, _)| dead_hosts_below(&own_dir, stack, state)).unwrap_or_default()
}

/// Groups of dead hosts in the folder of one group, of any version.
pub(super) fn dead_hosts_below(own_dir: &Path, stack: &StackName, state: u64) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(own_dir) else { return Vec::new() };
    let prefix = prefix(stack);
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let host = HostId::parse(name.to_str()?.strip_prefix(&prefix)?)?;
            (host.state == state && !host.is_alive()).then(|| own_dir.join(name))
        })
        .collect()
}

fn prefix(stack: &StackName) -> String {
    format!("mainstay-{stack}-")
}

fn open_dir(at: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(at, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn subdirs(dir: &OwnedFd) -> Result<Vec<PathBuf>, Errno> {
    // A descriptor of kind O_PATH cannot be listed itself.
    let readable =
        rustix::fs::openat(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&readable)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type() == rustix::fs::FileType::Directory && name != "." && name != ".." {
            names.push(PathBuf::from(name));
        }
    }
    Ok(names)
}

/// Lets one process be born into the group, which ends at once: older kernels and some sandboxes refuse that.
fn try_birth(group: &OwnedFd) -> io::Result<()> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain numbers; zero means "not given" for each of them (clone(2)).
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_PIDFD as u64 | CLONE_INTO_CGROUP;
    args.pidfd = &raw mut pidfd as u64;
    args.cgroup = group.as_raw_fd().cast_unsigned().into();
    // SAFETY: without CLONE_VM this is a fork; the child of this possibly threaded process only exits.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) } {
        // SAFETY: _exit(2) runs nothing of this process.
        0 => unsafe { libc::_exit(0) },
        1.. => {
            // SAFETY: the kernel stored a new descriptor that nobody owns yet.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            // A child without a signal for its end, so that nobody else notices it, is waited for with __WALL.
            // SAFETY: waitid(2) may be given a null pointer for the answer.
            let waited = unsafe {
                let id = pidfd.as_raw_fd().cast_unsigned();
                libc::waitid(libc::P_PIDFD, id, std::ptr::null_mut(), libc::WEXITED | libc::__WALL)
            };
            if waited == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        }
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found() {
        let hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:3 - cgroup2 cgroup2 rw\n";
        let pure = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let bind = "30 23 0:26 /lxc/a /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let unit = "0::/system.slice/x.service\n";
        let dir = |mounts, groups| group_dir(mounts, groups).map(|(dir, _)| dir.display().to_string());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(dir(hybrid, "9:name=systemd:/\n0::/\n"), some("/sys/fs/cgroup/unified/"));
        assert_eq!(dir(pure, unit), some("/sys/fs/cgroup/system.slice/x.service"));
        assert_eq!(dir(bind, "0::/lxc/a/b\n"), some("/sys/fs/cgroup/b"));
        assert_eq!(dir(bind, "0::/other\n"), None);
        assert_eq!(dir(pure, "0::/../x\n"), None);
        assert_eq!(dir("", unit), None);
        assert_eq!(dir(pure, "9:name=systemd:/\n"), None);
    }
}
