//! Controllers of version 2: given to the groups of replicas where this process may do so (cgroups(7), the kernel's
//! admin-guide/cgroup-v2, systemd's CGROUP_DELEGATION).
//!
//! A group that gives controllers to its children may hold no process itself, unless it is the root of the hierarchy. So
//! where the group of the host is its own, the host moves into a leaf below it and back at its end:
//!
//! ```text
//!  GROUP                      given to the host: by systemd (Delegate=yes), by a container, by its owner
//!  ├── mainstay-host          the host and its launcher
//!  └── mainstay-STACK-HOST    no process; one group for each replica below
//! ```
//! Nothing but this very process is ever moved.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

/// The leaf the host moves into.
pub(super) const HOST_LEAF: &str = "mainstay-host";

/// A controller that stands for one limit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    pub(super) const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    /// The kernel's name in both versions, which is the key of the limit as well.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }
}

/// What the groups of replicas get.
#[derive(Debug)]
pub(super) struct Controllers {
    /// The group of the host, parent of `root`.
    parent: PathBuf,
    /// The parent of the groups of replicas.
    root: PathBuf,
    /// In the order of [`Controller::ALL`].
    usable: [Result<(), String>; 3],
    /// The processor's is on: it divides time by group instead of by process, so it waits for the first who asks.
    cpu_on: bool,
    /// The host sits in the leaf.
    moved: bool,
}

impl Controllers {
    /// Gives `root` what its parent can give. Never fails: what is not to be had carries its reason.
    pub(super) fn start(parent: &Path, root: &Path) -> Self {
        let mut controllers = Self {
            parent: parent.to_owned(),
            root: root.to_owned(),
            usable: Controller::ALL.map(|controller| offered(parent, controller)),
            cpu_on: false,
            moved: is_in_leaf(parent),
        };
        let missing = Controller::ALL
            .into_iter()
            .filter(|controller| controllers.usable[*controller as usize].is_ok())
            .any(|controller| !lists(parent, "cgroup.subtree_control", controller));
        if missing {
            let allowed = may_give(parent).and_then(|place| match place {
                Place::HierarchyRoot => Ok(()),
                Place::Own if controllers.moved => Ok(()),
                Place::Own => move_into_leaf(parent).map(|()| controllers.moved = true).map_err(|error| {
                    format!("cannot move this host into {}: {error}", parent.join(HOST_LEAF).display())
                }),
            });
            if let Err(why) = allowed {
                for usable in controllers.usable.iter_mut().filter(|usable| usable.is_ok()) {
                    *usable = Err(why.clone());
                }
            }
        }
        for controller in Controller::ALL {
            let had = lists(parent, "cgroup.subtree_control", controller);
            if controllers.usable[controller as usize].is_err() {
                continue;
            }
            if let Err(error) = controllers.give(controller) {
                controllers.usable[controller as usize] =
                    Err(format!("cannot turn on the controller {}: {error}", controller.name()));
            } else if controller == Controller::Cpu {
                // It works; until somebody wants it, it is off.
                let _ = set(root, "-", controller);
                if !had {
                    let _ = set(parent, "-", controller);
                }
            }
        }
        controllers
    }

    /// Why this controller cannot be used, or nothing when it can.
    pub(super) fn usable(&self, controller: Controller) -> Result<(), String> {
        self.usable[controller as usize].clone()
    }

    /// Where the host came from and goes back to, when it was moved: what is to be given to [`leave_leaf`].
    pub(super) fn moved_from(&self) -> Option<&Path> {
        self.moved.then_some(self.parent.as_path())
    }

    /// Sees to it that the groups of replicas have the processor's controller.
    pub(super) fn want_cpu(&mut self) -> io::Result<()> {
        if !self.cpu_on {
            self.give(Controller::Cpu)?;
            self.cpu_on = true;
        }
        Ok(())
    }

    fn give(&self, controller: Controller) -> io::Result<()> {
        if !lists(&self.parent, "cgroup.subtree_control", controller) {
            set(&self.parent, "+", controller)?;
        }
        set(&self.root, "+", controller)
    }
}

/// What [`Controllers::start`] would answer for a host in the group at `parent`, without changing anything.
pub(super) fn usable_without_trying(parent: &Path, controller: Controller) -> Result<(), String> {
    offered(parent, controller)?;
    if lists(parent, "cgroup.subtree_control", controller) {
        return rustix::fs::access(parent, Access::WRITE_OK)
            .map_err(|_| format!("the control group {} may not be changed by this user", parent.display()));
    }
    may_give(parent).map(drop)
}

fn offered(parent: &Path, controller: Controller) -> Result<(), String> {
    if lists(parent, "cgroup.controllers", controller) {
        return Ok(());
    }
    Err(format!("the control group {} is not given the controller {}", parent.display(), controller.name()))
}

fn lists(dir: &Path, file: &str, controller: Controller) -> bool {
    let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
    text.split_ascii_whitespace().any(|word| word == controller.name())
}

fn set(dir: &Path, sign: &str, controller: Controller) -> io::Result<()> {
    write_to(&dir.join("cgroup.subtree_control"), &format!("{sign}{}", controller.name()))
}

/// Writes one value to a file of the kernel's: never created, and in one piece.
pub(super) fn write_to(file: &Path, value: &str) -> io::Result<()> {
    io::Write::write_all(&mut fs::OpenOptions::new().write(true).open(file)?, value.as_bytes())
}

/// A group whose controllers may be given on.
#[derive(PartialEq, Eq, Debug)]
enum Place {
    /// May hold processes all the same.
    HierarchyRoot,
    /// Holds this process alone, or nothing.
    Own,
}

/// Whether the group at `dir` is this host's to divide. The reason otherwise.
fn may_give(dir: &Path) -> Result<Place, String> {
    let name = dir.display();
    if rustix::fs::access(dir.join("cgroup.subtree_control"), Access::WRITE_OK).is_err() {
        return Err(format!("the control group {name} may not be changed by this user"));
    }
    // The root of the whole hierarchy, and only it, has no type.
    if !dir.join("cgroup.type").exists() {
        return Ok(Place::HierarchyRoot);
    }
    if is_unit(dir) && !is_delegated(dir) && !is_of_users_manager(dir) {
        return Err(format!("the control group {name} is managed by systemd: set Delegate=yes in its unit"));
    }
    let text = fs::read_to_string(dir.join("cgroup.procs"))
        .map_err(|error| format!("cannot see who is in the control group {name}: {error}"))?;
    let own = std::process::id().to_string();
    if text.lines().any(|pid| pid != own) {
        return Err(format!("the control group {name} holds other processes than this host"));
    }
    Ok(Place::Own)
}

/// Groups made by systemd are named after their units (systemd.unit(5)).
fn is_unit(dir: &Path) -> bool {
    let name = dir.file_name().map(|name| name.as_bytes().to_owned()).unwrap_or_default();
    [&b".service"[..], b".scope", b".slice", b".socket", b".mount", b".swap"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// systemd marks what it has given away with an attribute (CGROUP_DELEGATION); the one that users can read since 251.
fn is_delegated(dir: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].into_iter().any(|attribute| {
        let mut value = [0; 8];
        rustix::fs::getxattr(dir, attribute, &mut value).is_ok_and(|length| value[..length] == *b"1")
    })
}

/// Managers of users mark nothing, so below one a unit that holds nothing but this host, and belongs to its user, counts as
/// given away: it divides nobody else's.
fn is_of_users_manager(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let is_manager = |part: &std::ffi::OsStr| {
        let name = part.as_bytes();
        name.starts_with(b"user@") && name.ends_with(b".service")
    };
    dir.ancestors().skip(1).filter_map(Path::file_name).any(is_manager)
        && fs::metadata(dir).is_ok_and(|group| group.uid() == rustix::process::geteuid().as_raw())
}

fn is_in_leaf(parent: &Path) -> bool {
    let own = std::process::id().to_string();
    fs::read_to_string(parent.join(HOST_LEAF).join("cgroup.procs"))
        .is_ok_and(|text| text.lines().any(|pid| pid == own))
}

fn move_into_leaf(parent: &Path) -> io::Result<()> {
    let leaf = parent.join(HOST_LEAF);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // 0 is the writer, with all its threads.
    write_to(&leaf.join("cgroup.procs"), "0").inspect_err(|_| {
        let _ = fs::remove_dir(&leaf);
    })
}

/// Takes the controllers back and this process out of the leaf, so that `parent` is as it was. For the end of a host, and
/// for the launcher when the host has died. What does not work stays: somebody else is in the leaf.
pub(super) fn leave_leaf(parent: &Path) {
    for controller in Controller::ALL {
        let _ = set(parent, "-", controller);
    }
    let _ = write_to(&parent.join("cgroup.procs"), "0");
    let _ = fs::remove_dir(parent.join(HOST_LEAF));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a group.
    fn group(name: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join(name);
        fs::create_dir_all(&group).unwrap();
        for (file, text) in files {
            fs::write(group.join(file), text).unwrap();
        }
        (dir, group)
    }

    #[test]
    fn only_what_is_ours_is_divided() {
        let own = std::process::id().to_string();
        let controllers = ("cgroup.controllers", "cpuset cpu memory\n");
        let control = ("cgroup.subtree_control", "");
        let kind = ("cgroup.type", "domain\n");
        type Case = (&'static str, Vec<(&'static str, &'static str)>, Result<Place, &'static str>);
        let own: &'static str = own.leak();
        let cases: [Case; 7] = [
            ("root", vec![controllers, control], Ok(Place::HierarchyRoot)),
            ("box", vec![controllers, control, kind, ("cgroup.procs", own)], Ok(Place::Own)),
            ("box", vec![controllers, control, kind, ("cgroup.procs", "")], Ok(Place::Own)),
            ("box", vec![controllers, control, kind, ("cgroup.procs", "1\n")], Err("other processes")),
            ("a.service", vec![controllers, control, kind, ("cgroup.procs", own)], Err("Delegate=yes")),
            (
                "user@7.service/app.slice/a.service",
                vec![controllers, control, kind, ("cgroup.procs", own)],
                Ok(Place::Own),
            ),
            ("none", vec![controllers, kind], Err("may not be changed")),
        ];
        for (name, files, expected) in cases {
            let (_dir, group) = group(name, &files);
            match (may_give(&group), expected) {
                (Ok(place), Ok(expected)) => assert_eq!(place, expected, "{name} {files:?}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (got, _) => panic!("{name} {files:?}: {got:?}"),
            }
            assert!(offered(&group, Controller::Memory).is_ok());
            assert!(offered(&group, Controller::Pids).unwrap_err().contains("controller pids"));
        }
    }

    #[test]
    fn what_is_on_already_needs_no_delegation() {
        let files = [
            ("cgroup.controllers", "memory"),
            ("cgroup.subtree_control", "memory"),
            ("cgroup.type", "domain"),
        ];
        let (_dir, group) = group("x.slice", &files);
        assert_eq!(usable_without_trying(&group, Controller::Memory), Ok(()));
    }
}
