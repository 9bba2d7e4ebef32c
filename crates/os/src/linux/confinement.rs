//! Where each resource limit is held, chosen once: by a controller of version 2, else of version 1, else by what each
//! process carries, else not at all.
//!
//! A limit of memory ends one process of the tree, the largest, when it is passed (`memory.oom.group` stays 0): a program
//! with workers lives on and replaces the one it lost, as after any crash, and one whose main process was taken ends
//! and is started again. Swap is no way out: it counts as memory where the kernel can do that.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mainstay_types::{LaunchFailure, LaunchStep, ReplicaId, StackName};
use rustix::process::{Resource, getrlimit};

use super::cgroup::{self, Cgroups};
use super::cgroup1::{self, Hierarchy};
use super::controllers::{self, Controller};
use super::explain::failure_of;
use super::oom::OomWatch;
use super::procfs::HostId;
use crate::limits::{LimitStatus, RlimitScope, statuses};
use crate::{Enforced, ResourceLimits, UseCgroups};

/// What holds the limits of one host's services.
#[derive(Debug)]
pub(super) struct Confinement {
    /// In the order of [`Controller::ALL`].
    places: [Place; 3],
    hierarchies: Vec<Hierarchy>,
}

/// Where one limit is held.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    /// In the replica's group of version 2.
    Unified,
    /// In the hierarchy of version 1 at this place of the list.
    Hierarchy(usize),
    /// By the processes themselves, as far as that goes, because there is no group for it.
    Processes(String),
}

/// What one start needs for its limits.
#[derive(Debug, Default)]
pub(super) struct Confined {
    /// Held while the tree lives, so that nobody else gets them.
    pub groups: Vec<Arc<cgroup1::Group>>,
    /// Tells a kill for lack of memory from others.
    pub memory: Option<OomWatch>,
    pub rlimits: Rlimits,
}

/// Limits that each process carries; `None` leaves what is inherited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Rlimits {
    /// RLIMIT_DATA, bytes: private memory that can be written, since Linux 4.7. Not RLIMIT_AS: programs that set large
    /// parts of their address space aside without using them (Go, Java, Node.js) would not start.
    pub data: Option<u64>,
    /// RLIMIT_NPROC.
    pub processes: Option<u64>,
}

impl Confinement {
    pub(super) fn start(
        stack: &StackName,
        host: &HostId,
        cgroups: Option<&Cgroups>,
        wanted: UseCgroups,
    ) -> Self {
        let hierarchies = match wanted {
            UseCgroups::IfPossible => cgroup1::hierarchies(stack, host),
            UseCgroups::Never => Vec::new(),
        };
        let places = Controller::ALL.map(|controller| {
            let unified = match (cgroups, wanted) {
                (Some(cgroups), _) => cgroups.controllers().usable(controller),
                (None, UseCgroups::IfPossible) => Err("no control group can be made here".to_owned()),
                (None, UseCgroups::Never) => Err("control groups are not to be used".to_owned()),
            };
            match (unified, hierarchies.iter().position(|hierarchy| hierarchy.has(controller))) {
                (Ok(()), _) => Place::Unified,
                (Err(_), Some(place)) => Place::Hierarchy(place),
                (Err(why), None) => Place::Processes(why),
            }
        });
        Self { places, hierarchies }
    }

    /// The groups of this host in version 1, which exist only once they are needed.
    pub(super) fn roots(&self) -> impl Iterator<Item = &std::path::Path> {
        self.hierarchies.iter().map(Hierarchy::root)
    }

    pub(super) fn in_force(&self, limits: &ResourceLimits, switches_user: bool) -> Vec<LimitStatus> {
        in_force(&self.places, limits, switches_user)
    }

    /// Sets the limits of one start in its groups. A limit that cannot be set, though it could be when the host began,
    /// makes the start fail: what is said to be in force is.
    pub(super) fn prepare(
        &mut self,
        replica: &ReplicaId,
        limits: &ResourceLimits,
        switches_user: bool,
        cgroups: Option<&mut Cgroups>,
        group: Option<&cgroup::Group>,
    ) -> Result<Confined, LaunchFailure> {
        let mut confined = Confined::default();
        let mut joined: Vec<(usize, Arc<cgroup1::Group>)> = Vec::new();
        let values = [limits.memory_bytes, limits.pids, limits.cpu_millis];
        if limits.cpu_millis.is_some()
            && self.places[Controller::Cpu as usize] == Place::Unified
            && let Some(cgroups) = cgroups
        {
            let dir = cgroups.dir().to_owned();
            cgroups.controllers_mut().want_cpu().map_err(|error| refused((dir, error)))?;
        }
        for (controller, value) in Controller::ALL.into_iter().zip(values) {
            match (&self.places[controller as usize], value) {
                (Place::Unified, _) => match group {
                    Some(group) => {
                        group.limit(controller, value).map_err(refused)?;
                        if controller == Controller::Memory {
                            confined.memory = OomWatch::of_group(group);
                        }
                    }
                    None if value.is_some() => {
                        let missing = io::Error::from(rustix::io::Errno::NOENT);
                        return Err(refused((
                            PathBuf::from(cgroup::replica_group_name(replica, 0)),
                            missing,
                        )));
                    }
                    None => {}
                },
                (_, None) => {}
                (Place::Hierarchy(place), Some(value)) => {
                    let group = match joined.iter().find(|(of, _)| of == place) {
                        Some((_, group)) => Arc::clone(group),
                        None => {
                            let group = self.hierarchies[*place].take(replica).map_err(refused)?;
                            joined.push((*place, Arc::clone(&group)));
                            group
                        }
                    };
                    group.limit(controller, value).map_err(refused)?;
                    if controller == Controller::Memory {
                        confined.memory = OomWatch::of_group1(group.dir());
                    }
                }
                (Place::Processes(_), Some(value)) => match controller {
                    Controller::Memory => confined.rlimits.data = Some(within_hard(Resource::Data, value)),
                    Controller::Pids if switches_user => {
                        confined.rlimits.processes = Some(within_hard(Resource::Nproc, value));
                    }
                    Controller::Pids | Controller::Cpu => {}
                },
            }
        }
        confined.groups = joined.into_iter().map(|(_, group)| group).collect();
        Ok(confined)
    }

    /// Removes the groups of version 1. An error names one that is still there.
    pub(super) fn remove(&mut self) -> Result<(), (PathBuf, io::Error)> {
        let mut outcome = Ok(());
        for hierarchy in &mut self.hierarchies {
            if let Err(error) = hierarchy.remove() {
                outcome = Err((hierarchy.root().to_owned(), error));
            }
        }
        outcome
    }
}

fn refused((path, error): (PathBuf, io::Error)) -> LaunchFailure {
    let hint = "the control group was there when this host began: see who changes it, or restart the host";
    failure_of(LaunchStep::Limits, Some(path), error.raw_os_error().unwrap_or(0), Some(hint.to_owned()))
}

/// Only root goes above the hard limit, and a lower one holds the wanted one as well.
fn within_hard(resource: Resource, value: u64) -> u64 {
    getrlimit(resource).maximum.map_or(value, |hard| value.min(hard))
}

fn in_force(places: &[Place; 3], limits: &ResourceLimits, switches_user: bool) -> Vec<LimitStatus> {
    statuses(limits, |name| {
        let Some(controller) = Controller::ALL.into_iter().find(|controller| controller.name() == name)
        else {
            return Enforced::Rlimit { per: RlimitScope::Process };
        };
        match (&places[controller as usize], controller) {
            (Place::Unified | Place::Hierarchy(_), _) => Enforced::Cgroup,
            (Place::Processes(_), Controller::Memory) => Enforced::Rlimit { per: RlimitScope::Process },
            (Place::Processes(_), Controller::Pids) if switches_user => {
                Enforced::Rlimit { per: RlimitScope::User }
            }
            (Place::Processes(why), Controller::Pids) => {
                let why =
                    format!("{why}; without a control group only services with a user of their own have it");
                Enforced::No { why }
            }
            (Place::Processes(why), Controller::Cpu) => {
                Enforced::No { why: format!("{why}; processor time is limited by control groups alone") }
            }
        }
    })
}

/// What a host that was started from where this process is would say about these limits; nothing is changed to find out.
/// `switches_user`: the service runs as another user than the host, and not as root.
///
/// For a file that is checked before its host runs. Under another unit, or as another user, the answer may differ.
#[must_use]
pub fn limits_in_force_here(limits: &ResourceLimits, switches_user: bool) -> Vec<LimitStatus> {
    let parent = cgroup::own_group().map(|(dir, _)| dir);
    let places = Controller::ALL.map(|controller| {
        let unified = match &parent {
            Some(dir) => controllers::usable_without_trying(dir, controller),
            None => Err("there is no version 2 hierarchy of control groups here".to_owned()),
        };
        match (unified, cgroup1::usable_without_trying(controller)) {
            (Ok(()), _) => Place::Unified,
            (Err(_), Some(Ok(()))) => Place::Hierarchy(0),
            (Err(_), Some(Err(why))) | (Err(why), None) => Place::Processes(why),
        }
    });
    in_force(&places, limits, switches_user)
}
