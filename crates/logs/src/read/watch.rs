//! Tells a follower when to look: the system says when files change, so that an idle follower sleeps and a busy one is
//! prompt. Where the system cannot, it says so, and the follower looks a few times a second.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::Selection;
use crate::store::replica_of;

/// Between two looks where changes are not told.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// After folders came or went it is looked that long whether the system tells or not, and then watched anew: what it tells
/// of a folder that went may end the watch on the one that came in its place.
const SETTLE: Duration = Duration::from_secs(1);

/// Least time between two looks of a follower: many changes are read at once, and a line waits half of it on average.
pub const FOLLOW_PACE: Duration = Duration::from_millis(2);

/// Watches the folders of the selected replicas, also those that are not there yet.
///
/// In this order nothing is missed: [`Watch::renew`], look, wait to be woken.
pub struct Watch {
    root: PathBuf,
    selection: Selection,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// Folders came or went since the last look.
    moved: Arc<AtomicBool>,
    /// Until when folders that came or went are not sure to be watched.
    unsettled: Option<Instant>,
    trouble: Option<String>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("watched", &self.watched)
            .field("trouble", &self.trouble)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// `wake` is called from another thread after every change, often many times for one.
    #[must_use]
    pub fn new(root: &Path, selection: &Selection, wake: impl Fn() + Send + 'static) -> Self {
        let moved = Arc::new(AtomicBool::new(true));
        let (told, root_there) = (moved.clone(), root.to_owned());
        let handler = move |event: notify::Result<Event>| {
            if event.as_ref().is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                // Somebody reads, as we do.
                return;
            }
            // Files come and go within a replica's folder; everything further up is a folder that came or went.
            let deep = |path: &PathBuf| {
                path.strip_prefix(&root_there).is_ok_and(|inside| inside.components().count() > 1)
            };
            if !event.is_ok_and(|event| !event.need_rescan() && event.paths.iter().all(deep)) {
                told.store(true, Ordering::Release);
            }
            wake();
        };
        let (watcher, trouble) = match notify::recommended_watcher(handler) {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            root: root.to_owned(),
            selection: selection.clone(),
            watcher,
            watched: BTreeSet::new(),
            moved,
            unsettled: None,
            trouble,
        }
    }

    /// Watches what is there by now. `Some`: not everything can be watched, look again after this time at the latest.
    pub fn renew(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let moved = self.moved.swap(false, Ordering::AcqRel);
        let settled = self.unsettled.is_some_and(|until| now >= until);
        if moved {
            self.unsettled = Some(now + SETTLE);
        } else if settled {
            self.unsettled = None;
        }
        if let Some(watcher) = self.watcher.as_mut().filter(|_| moved || settled) {
            self.trouble = None;
            for path in std::mem::take(&mut self.watched) {
                // One that is gone is watched no more already.
                let _ = watcher.unwatch(&path);
            }
            for path in wanted(&self.root, &self.selection) {
                match watcher.watch(&path, RecursiveMode::NonRecursive) {
                    Ok(()) => {
                        self.watched.insert(path);
                    }
                    // It went meanwhile: the folder it was in tells.
                    Err(_) if !path.exists() => self.moved.store(true, Ordering::Release),
                    Err(error) => {
                        self.trouble = Some(format!("cannot watch {}: {error}", path.display()));
                    }
                }
            }
        }
        (self.trouble.is_some() || self.unsettled.is_some()).then_some(LOOK_PAUSE)
    }

    /// Why changes are not told.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

/// The folders to watch: the root and those in it, or, while there is no root, the nearest folder that is there.
fn wanted(root: &Path, selection: &Selection) -> Vec<PathBuf> {
    let Some(nearest) = root.ancestors().find(|path| path.is_dir()) else { return Vec::new() };
    let mut paths = vec![nearest.to_owned()];
    if nearest == root {
        // What cannot be listed is told by the follower.
        let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
        paths.extend(entries.map(|entry| entry.path()).filter(|path| {
            let replica = path.file_name().and_then(replica_of);
            replica.is_some_and(|replica| selection.includes(&replica)) && path.is_dir()
        }));
    }
    paths
}
