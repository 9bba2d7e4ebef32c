//! Which closed files go: the ledger of what a stack's logs take on the disk, and the bounds on it.
//!
//! | bound | over | what goes |
//! |---|---|---|
//! | count | a replica | the oldest beyond the number kept |
//! | age | a service | what was last written too long ago |
//! | total of a service | its replicas | the oldest, until the rest with the current files fits |
//! | total of the stack | every folder, those of services that are gone included | the oldest, whoever's they are |
//!
//! A current file is counted and never goes. The files of a folder are known from the last look at it; it is looked at again
//! when a file of it was closed or compressed, and when the time of the folder itself has changed, by whatever hand. So one
//! closed file costs one look at its folder, and two questions to the system for each other one, however many files they
//! hold.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mainstay_types::{ReplicaId, ServiceName, Timestamp};

use super::{Bound, CapturePolicy};
use crate::store::{CURRENT, Closed, PACKED, PLAIN, closed_files, closed_path, replica_dir, replicas};

/// What a service asks to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Keep {
    pub(super) count: usize,
    pub(super) age: Option<Duration>,
    pub(super) total_bytes: u64,
}

impl Keep {
    pub(super) fn of(policy: &CapturePolicy) -> Self {
        Self {
            count: usize::try_from(policy.keep).unwrap_or(usize::MAX),
            age: policy.keep_age,
            total_bytes: policy.keep_total_bytes,
        }
    }
}

/// The bounds that hold.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    /// Of the services that were seen in this capture's life; of others only the stack's total holds.
    pub(super) services: BTreeMap<ServiceName, Keep>,
    pub(super) max_total_bytes: u64,
}

/// A closed file on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Kept {
    file: Closed,
    /// In all its forms.
    bytes: u64,
    /// When its last line was written.
    written_at: Timestamp,
    /// It could not be removed: left until its folder is looked at again.
    stuck: bool,
}

/// The closed files of every replica that has a folder, oldest first, as they were at the last look.
#[derive(Default, Debug)]
pub(super) struct Ledger {
    folders: BTreeMap<ReplicaId, Vec<Kept>>,
    /// The time of each folder at that look.
    seen: BTreeMap<ReplicaId, SystemTime>,
    /// Folders whose trouble was told, until they are in order again.
    pub(super) failing: BTreeSet<PathBuf>,
}

/// Files that went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Removed {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// What came of holding the bounds.
#[derive(Default, Debug)]
pub(super) struct Outcome {
    pub(super) removed: BTreeMap<(ReplicaId, Bound), Removed>,
    /// At most one for each replica.
    pub(super) failed: BTreeMap<ReplicaId, (PathBuf, io::Error)>,
    /// How many files could not be removed.
    failures: usize,
}

impl Ledger {
    /// Looks at every folder there is.
    pub(super) fn look_at_all(&mut self, root: &Path) {
        for replica in replicas(root).unwrap_or_default() {
            // One that cannot be read is as if it were empty; its own turn says why.
            let _ = self.look(root, &replica);
        }
    }

    /// Looks at one folder again.
    pub(super) fn look(&mut self, root: &Path, replica: &ReplicaId) -> io::Result<()> {
        let dir = replica_dir(root, replica);
        // Asked before the folder is read: what changes meanwhile is seen at the next look.
        let seen = std::fs::metadata(&dir).and_then(|metadata| metadata.modified());
        match seen {
            Ok(seen) => self.seen.insert(replica.clone(), seen),
            Err(_) => self.seen.remove(replica),
        };
        let mut kept = Vec::new();
        for file in closed_files(&dir)? {
            kept.extend(measure(&dir, file));
        }
        self.folders.insert(replica.clone(), kept);
        Ok(())
    }

    /// Looks again at the folders that somebody changed.
    fn look_at_changed(&mut self, root: &Path) {
        for replica in self.folders.keys().cloned().collect::<Vec<_>>() {
            let now = std::fs::metadata(replica_dir(root, &replica)).and_then(|metadata| metadata.modified());
            if now.ok().as_ref() != self.seen.get(&replica) {
                // One that cannot be read keeps what is known of it; its own turn says why.
                let _ = self.look(root, &replica);
            }
        }
    }

    /// The newest file of a replica that is not compressed.
    pub(super) fn newest_plain(&self, replica: &ReplicaId) -> Option<Closed> {
        self.folders.get(replica)?.iter().rev().map(|kept| kept.file).find(|file| file.plain)
    }

    /// When the next file becomes too old.
    pub(super) fn next_expiry(&self, bounds: &Bounds) -> Option<Timestamp> {
        let of_folder = |(replica, kept): (&ReplicaId, &Vec<Kept>)| {
            let age = bounds.services.get(&replica.service)?.age?;
            let written = kept.iter().filter(|kept| !kept.stuck).map(|kept| kept.written_at).min()?;
            Some(written.checked_add(age).unwrap_or(Timestamp::MAX))
        };
        self.folders.iter().filter_map(of_folder).min()
    }

    /// Removes what exceeds the bounds.
    pub(super) fn hold(&mut self, root: &Path, bounds: &Bounds, now: Timestamp) -> Outcome {
        self.look_at_changed(root);
        let current = |replica: &ReplicaId| {
            let path = replica_dir(root, replica).join(CURRENT);
            std::fs::metadata(path).map_or(0, |metadata| metadata.len())
        };
        let current: BTreeMap<ReplicaId, u64> =
            self.folders.keys().map(|replica| (replica.clone(), current(replica))).collect();
        let mut outcome = Outcome::default();
        // Once more for each time that something could not be removed, which is left out then: another goes in its place.
        loop {
            let failed_before = outcome.failures;
            for (replica, file, bound) in excess(&self.folders, &current, bounds, now) {
                self.remove(root, replica, file, bound, &mut outcome);
            }
            if outcome.failures == failed_before {
                return outcome;
            }
        }
    }

    fn remove(&mut self, root: &Path, replica: ReplicaId, file: Closed, bound: Bound, outcome: &mut Outcome) {
        let Some(kept) = self.folders.get_mut(&replica) else { return };
        let Some(place) = kept.iter().position(|kept| kept.file.first_at == file.first_at) else { return };
        match remove_closed(&replica_dir(root, &replica), file) {
            Ok(()) => {
                let sum = outcome.removed.entry((replica, bound)).or_default();
                sum.files += 1;
                sum.bytes += kept.remove(place).bytes;
            }
            Err(error) => {
                kept[place].stuck = true;
                outcome.failures += 1;
                outcome.failed.entry(replica).or_insert(error);
            }
        }
    }
}

/// What exceeds the bounds, the oldest first within each of them; pure. A file that is stuck counts and is passed over.
fn excess(
    folders: &BTreeMap<ReplicaId, Vec<Kept>>,
    current: &BTreeMap<ReplicaId, u64>,
    bounds: &Bounds,
    now: Timestamp,
) -> Vec<(ReplicaId, Closed, Bound)> {
    let mut gone = Vec::new();
    let mut left: BTreeMap<&ReplicaId, Vec<Kept>> = BTreeMap::new();
    for (replica, kept) in folders {
        let keep = bounds.services.get(&replica.service);
        let beyond = keep.map_or(0, |keep| kept.len().saturating_sub(keep.count));
        let eldest = keep.and_then(|keep| now.checked_sub(keep.age?).ok());
        let left = left.entry(replica).or_default();
        for (place, kept) in kept.iter().enumerate() {
            let bound = if place < beyond {
                Some(Bound::Count)
            } else if eldest.is_some_and(|eldest| kept.written_at <= eldest) {
                Some(Bound::Age)
            } else {
                None
            };
            match bound.filter(|_| !kept.stuck) {
                Some(bound) => gone.push((replica.clone(), kept.file, bound)),
                None => left.push(*kept),
            }
        }
    }
    for (service, keep) in &bounds.services {
        let mut its: Vec<(&ReplicaId, &mut Vec<Kept>)> = left
            .iter_mut()
            .filter(|(replica, _)| replica.service == *service)
            .map(|(replica, kept)| (*replica, kept))
            .collect();
        take_oldest(&mut its, current, keep.total_bytes, Bound::ServiceTotal, &mut gone);
    }
    let mut all: Vec<(&ReplicaId, &mut Vec<Kept>)> =
        left.iter_mut().map(|(replica, kept)| (*replica, kept)).collect();
    take_oldest(&mut all, current, bounds.max_total_bytes, Bound::StackTotal, &mut gone);
    gone
}

/// Takes the oldest files out, whoever's they are, until the rest with the current files fits.
fn take_oldest(
    folders: &mut [(&ReplicaId, &mut Vec<Kept>)],
    current: &BTreeMap<ReplicaId, u64>,
    limit_bytes: u64,
    bound: Bound,
    gone: &mut Vec<(ReplicaId, Closed, Bound)>,
) {
    let total: u64 = folders
        .iter()
        .map(|(replica, kept)| {
            let closed: u64 = kept.iter().map(|kept| kept.bytes).sum();
            closed + current.get(replica).copied().unwrap_or(0)
        })
        .sum();
    let Some(mut over) = total.checked_sub(limit_bytes).filter(|over| *over > 0) else { return };
    let mut oldest: Vec<(Timestamp, usize)> = Vec::new();
    for (folder, (_, kept)) in folders.iter().enumerate() {
        oldest.extend(kept.iter().filter(|kept| !kept.stuck).map(|kept| (kept.file.first_at, folder)));
    }
    oldest.sort_unstable();
    for (first_at, folder) in oldest {
        if over == 0 {
            return;
        }
        let (replica, kept) = &mut folders[folder];
        let Some(place) = kept.iter().position(|kept| kept.file.first_at == first_at) else { continue };
        let taken = kept.remove(place);
        over = over.saturating_sub(taken.bytes);
        gone.push(((*replica).clone(), taken.file, bound));
    }
}

/// A closed file with its size and age; `None` when it has gone meanwhile.
fn measure(dir: &Path, file: Closed) -> Option<Kept> {
    let mut kept: Option<Kept> = None;
    for (there, extension) in [(file.packed, PACKED), (file.plain, PLAIN)] {
        let metadata = there.then(|| std::fs::metadata(closed_path(dir, file.first_at, extension)).ok());
        let Some(metadata) = metadata.flatten() else { continue };
        let written_at = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
        // No file is older than its first line, whatever somebody has set its time to.
        let written_at = written_at.unwrap_or(file.first_at).max(file.first_at);
        let kept = kept.get_or_insert(Kept { file, bytes: 0, written_at, stuck: false });
        kept.bytes += metadata.len();
        kept.written_at = kept.written_at.max(written_at);
    }
    kept
}

/// Removes a closed file in all its forms.
fn remove_closed(dir: &Path, file: Closed) -> Result<(), (PathBuf, io::Error)> {
    // The compressed form first: should the second removal fail, the plain one is the whole.
    for (there, extension) in [(file.packed, PACKED), (file.plain, PLAIN)] {
        if there {
            let path = closed_path(dir, file.first_at, extension);
            remove(&path).map_err(|error| (path, error))?;
        }
    }
    Ok(())
}

/// Removes a file; that it is gone already is as good.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn replica(name: &str, index: u32) -> ReplicaId {
        ReplicaId { service: ServiceName::parse(name).unwrap(), index }
    }

    fn kept(second: i64, bytes: u64) -> Kept {
        let file = Closed { first_at: at(second), plain: true, packed: false };
        Kept { file, bytes, written_at: at(second + 5), stuck: false }
    }

    fn bounds(services: &[(&str, usize, Option<u64>, u64)], max_total_bytes: u64) -> Bounds {
        let services = services
            .iter()
            .map(|(name, count, age, total_bytes)| {
                let keep =
                    Keep { count: *count, age: age.map(Duration::from_secs), total_bytes: *total_bytes };
                (ServiceName::parse(name).unwrap(), keep)
            })
            .collect();
        Bounds { services, max_total_bytes }
    }

    /// What goes, as `web.1@30 by Age`.
    fn gone(bounds: &Bounds, now: i64, current: u64, stuck: &[i64]) -> Vec<String> {
        let mut folders: BTreeMap<ReplicaId, Vec<Kept>> = BTreeMap::from([
            (replica("web", 0), vec![kept(10, 100), kept(20, 100), kept(40, 100)]),
            (replica("web", 1), vec![kept(15, 100), kept(30, 100)]),
            (replica("gone", 0), vec![kept(12, 100), kept(35, 100)]),
        ]);
        for kept in folders.values_mut().flatten() {
            kept.stuck = stuck.contains(&kept.file.first_at.as_second());
        }
        let current = folders.keys().map(|replica| (replica.clone(), current)).collect();
        excess(&folders, &current, bounds, at(now))
            .into_iter()
            .map(|(replica, file, bound)| format!("{replica}@{} by {bound:?}", file.first_at.as_second()))
            .collect()
    }

    #[test]
    fn the_oldest_go_and_each_bound_has_its_range() {
        let roomy = 10_000;
        for (name, bounds, now, current, want) in [
            ("nothing", bounds(&[("web", 9, None, roomy)], roomy), 1000, 100, vec![]),
            ("of each replica", bounds(&[("web", 2, None, roomy)], roomy), 1000, 0, vec!["web@10 by Count"]),
            (
                "none kept",
                bounds(&[("gone", 0, None, roomy)], roomy),
                0,
                0,
                vec!["gone@12 by Count", "gone@35 by Count"],
            ),
            // Written at 15, 20, 25: the last two are not old enough at 124.
            (
                "by age",
                bounds(&[("web", 9, Some(104), roomy)], roomy),
                124,
                0,
                vec!["web@10 by Age", "web.1@15 by Age"],
            ),
            (
                "total of the replicas",
                bounds(&[("web", 9, None, 300)], roomy),
                1000,
                0,
                vec!["web@10 by ServiceTotal", "web.1@15 by ServiceTotal"],
            ),
            (
                "with the current files",
                bounds(&[("web", 9, None, 400)], roomy),
                1000,
                50,
                vec!["web@10 by ServiceTotal", "web.1@15 by ServiceTotal"],
            ),
            (
                "of the stack, gone ones too",
                bounds(&[("web", 9, None, roomy)], 450),
                1000,
                0,
                vec!["web@10 by StackTotal", "gone@12 by StackTotal", "web.1@15 by StackTotal"],
            ),
            (
                "one after the other",
                bounds(&[("web", 2, None, 300)], 400),
                1000,
                0,
                vec!["web@10 by Count", "web.1@15 by ServiceTotal", "gone@12 by StackTotal"],
            ),
            (
                "current files never go",
                bounds(&[("web", 9, None, 10)], 10),
                1000,
                700,
                vec![
                    "web@10 by ServiceTotal",
                    "web.1@15 by ServiceTotal",
                    "web@20 by ServiceTotal",
                    "web.1@30 by ServiceTotal",
                    "web@40 by ServiceTotal",
                    "gone@12 by StackTotal",
                    "gone@35 by StackTotal",
                ],
            ),
        ] {
            assert_eq!(gone(&bounds, now, current, &[]), want, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_removed_counts_and_the_next_goes() {
        let bounds = bounds(&[("web", 9, None, 400)], 10_000);
        assert_eq!(gone(&bounds, 1000, 0, &[10]), ["web.1@15 by ServiceTotal"]);
    }

    #[test]
    fn the_next_expiry_is_that_of_the_oldest_with_an_age() {
        let folders = BTreeMap::from([
            (replica("web", 0), vec![kept(10, 1), kept(20, 1)]),
            (replica("db", 0), vec![kept(0, 1)]),
        ]);
        let ledger = Ledger { folders, ..Ledger::default() };
        let with = bounds(&[("web", 9, Some(60), 1), ("db", 9, None, 1)], 1);
        assert_eq!(ledger.next_expiry(&with), Some(at(75)));
        assert_eq!(ledger.next_expiry(&bounds(&[], 1)), None);
    }
}
