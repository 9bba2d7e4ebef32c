//! Control groups, version 1, where a system still has its controllers there: one group for each replica in each
//! hierarchy that a limit needs, entered by the new process itself before it executes (the kernel's
//! admin-guide/cgroup-v1).
//!
//! They hold limits only: who belongs to a tree is known by version 2 or by descent, and these groups empty with it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_types::{ReplicaId, StackName};
use rustix::fs::Access;

use super::cgroup;
use super::controllers::{Controller, write_to};
use super::cpu_quota::CpuQuota;
use super::procfs::HostId;

/// The hierarchies that have a controller of ours, each with the folder of the group this process is in.
fn own_groups() -> Vec<(Vec<Controller>, PathBuf)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    group_dirs(&mounts, &groups)
}

/// The same, from the texts of /proc/self/mountinfo and /proc/self/cgroup.
fn group_dirs(mounts: &str, groups: &str) -> Vec<(Vec<Controller>, PathBuf)> {
    let hierarchy = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        let controllers: Vec<Controller> = Controller::ALL
            .into_iter()
            .filter(|controller| names.split(',').any(|name| name == controller.name()))
            .collect();
        let first = controllers.first()?.name();
        let dir = mounts.lines().find_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let options = kind.strip_prefix("cgroup ")?.rsplit(' ').next()?;
            if !options.split(',').any(|option| option == first) {
                return None;
            }
            cgroup::dir_below(mount, path)
        })?;
        Some((controllers, dir))
    };
    groups.lines().filter_map(hierarchy).collect()
}

/// One hierarchy, as far as this host uses it.
#[derive(Debug)]
pub(super) struct Hierarchy {
    controllers: Vec<Controller>,
    /// The group of this host, made with the first group of a replica.
    root: PathBuf,
    groups: HashMap<ReplicaId, Vec<Arc<Group>>>,
}

/// The hierarchies in which this process may make groups.
pub(super) fn hierarchies(stack: &StackName, host: &HostId) -> Vec<Hierarchy> {
    own_groups()
        .into_iter()
        .filter(|(_, dir)| rustix::fs::access(dir, Access::WRITE_OK).is_ok())
        .map(|(controllers, dir)| Hierarchy {
            controllers,
            root: dir.join(cgroup::host_group_name(stack, host)),
            groups: HashMap::new(),
        })
        .collect()
}

/// Whether [`hierarchies`] would have one with this controller: `None` when there is none, else whether it may be used.
pub(super) fn usable_without_trying(controller: Controller) -> Option<Result<(), String>> {
    let (_, dir) = own_groups().into_iter().find(|(controllers, _)| controllers.contains(&controller))?;
    let why = |_| format!("the control group {} may not be changed by this user", dir.display());
    Some(rustix::fs::access(&dir, Access::WRITE_OK).map_err(why))
}

/// Groups that a dead host of this stack and state folder left behind.
pub(super) fn of_dead_hosts(stack: &StackName, state: u64) -> Vec<PathBuf> {
    own_groups().into_iter().flat_map(|(_, dir)| cgroup::dead_hosts_below(&dir, stack, state)).collect()
}

impl Hierarchy {
    pub(super) fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The replica's group that no live tree is in, made when there is none. An error names its place.
    pub(super) fn take(&mut self, replica: &ReplicaId) -> Result<Arc<Group>, (PathBuf, io::Error)> {
        let groups = self.groups.entry(replica.clone()).or_default();
        let free = groups.iter().find(|group| Arc::strong_count(group) == 1).cloned();
        let group = free.unwrap_or_else(|| {
            let dir = self.root.join(cgroup::replica_group_name(replica, groups.len() as u64));
            let group = Arc::new(Group { dir, applied: Mutex::default() });
            groups.push(Arc::clone(&group));
            group
        });
        match fs::create_dir_all(&group.dir) {
            Ok(()) => Ok(group),
            Err(error) => Err((group.dir.clone(), error)),
        }
    }

    /// Removes what is empty.
    pub(super) fn remove(&mut self) -> io::Result<()> {
        self.groups.clear();
        match cgroup::remove_tree(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// The group of one replica in one hierarchy.
#[derive(Debug)]
pub(super) struct Group {
    dir: PathBuf,
    /// What was written last, and for which folder: one that was removed by others and made again has nothing.
    applied: Mutex<Applied>,
}

#[derive(Default, Debug)]
struct Applied {
    inode: u64,
    values: HashMap<&'static str, u64>,
}

impl Group {
    /// What a process writes `0` to in order to enter.
    pub(super) fn entrance(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sets the limit of one controller. An error names the file.
    pub(super) fn limit(&self, controller: Controller, value: u64) -> Result<(), (PathBuf, io::Error)> {
        use std::os::unix::fs::MetadataExt as _;
        let inode =
            fs::metadata(&self.dir).map_err(|error| (self.dir.clone(), error)).map(|meta| meta.ino())?;
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        if applied.inode != inode {
            *applied = Applied { inode, values: HashMap::new() };
        }
        if applied.values.get(controller.name()) == Some(&value) {
            return Ok(());
        }
        let set = |file: &str, value: &str| {
            let path = self.dir.join(file);
            write_to(&path, value).map_err(|error| (path, error))
        };
        match controller {
            Controller::Memory => self.limit_memory(value)?,
            Controller::Pids => set("pids.max", &pids_value(value))?,
            Controller::Cpu => {
                let CpuQuota { quota_us, period_us } = CpuQuota::of_millis(value);
                set("cpu.cfs_period_us", &period_us.to_string())?;
                set("cpu.cfs_quota_us", &quota_us.to_string())?;
            }
        }
        applied.values.insert(controller.name(), value);
        Ok(())
    }

    /// Memory, and memory with swap where the kernel counts it: both to the same, so that nothing is left for swap. The
    /// one may never be above the other, so the order depends on the direction.
    fn limit_memory(&self, bytes: u64) -> Result<(), (PathBuf, io::Error)> {
        // Before 5.11 groups that the program makes below would else escape; later kernels take nothing but 1.
        let _ = write_to(&self.dir.join("memory.use_hierarchy"), "1");
        let (memory, both) =
            (self.dir.join("memory.limit_in_bytes"), self.dir.join("memory.memsw.limit_in_bytes"));
        let bytes = bytes.to_string();
        let has_swap = both.exists();
        if has_swap && write_to(&memory, &bytes).is_err() {
            let _ = write_to(&both, &bytes);
        }
        write_to(&memory, &bytes).map_err(|error| (memory, error))?;
        if has_swap {
            write_to(&both, &bytes).map_err(|error| (both, error))?;
        }
        Ok(())
    }
}

/// The kernel's PIDS_MAX is `PID_MAX_LIMIT + 1` (kernel/cgroup/pids.c); more processes cannot be.
pub(super) fn pids_value(pids: u64) -> String {
    const PID_MAX_LIMIT: u64 = 4 * 1024 * 1024;
    if pids > PID_MAX_LIMIT { "max".to_owned() } else { pids.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchies_are_found() {
        let mounts = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      36 31 0:33 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw shared:3 - cgroup2 cgroup2 rw\n";
        let groups = "9:name=systemd:/\n8:pids:/\n4:memory:/box/a\n3:cpuset:/\n1:cpu,cpuacct:/x\n0::/\n";
        let found = group_dirs(mounts, groups);
        let expected = [
            (vec![Controller::Memory], PathBuf::from("/sys/fs/cgroup/memory/a")),
            (vec![Controller::Cpu], PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/x")),
        ];
        assert_eq!(found, expected, "pids is not mounted, cpuset is no limit of ours");
        assert_eq!(pids_value(7), "7");
        assert_eq!(pids_value(u64::MAX), "max");
    }
}
