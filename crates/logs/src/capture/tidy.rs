//! Closed files: removed beyond the number kept, compressed one after the other, put in order after a crash.
//!
//! One thread, `logs-tidy`, does it for all replicas and ends when there is nothing left to do. A file is compressed
//! in these steps, and a crash after any of them neither loses nor doubles a line:
//!
//! | done | left behind | readers use | the next tidying |
//! |---|---|---|---|
//! | 0. closed | `T.log` | `T.log` | compresses it |
//! | 1. compressing | `T.log`, `T.log.zst.tmp` | `T.log` | removes the `tmp`, compresses again |
//! | 2. renamed, on disk (fsync) | `T.log`, `T.log.zst` | `T.log` | compares; removes the one not needed |
//! | 3. removed | `T.log.zst` | `T.log.zst` | - |

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mainstay_types::ReplicaId;

use super::{CapturePolicy, Notice};
use crate::packed::{self, pack};
use crate::store::{Closed, PACKED, PACKING, PLAIN, closed_files, closed_path, replica_dir, replicas};

/// Orders the work and holds what is left of it.
pub(super) struct Tidier {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when the thread ends.
    ended: Condvar,
    notices: Arc<dyn Fn(Notice) + Send + Sync>,
    lower_priority: fn(),
}

#[derive(Default)]
struct State {
    /// Folders to tidy: at most one entry a replica.
    folders: BTreeMap<PathBuf, Folder>,
    /// The root of a capture that has just begun.
    recover: Option<PathBuf>,
    running: bool,
    /// The capture ends: leave things as they are.
    stop: bool,
}

#[derive(Clone)]
struct Folder {
    replica: ReplicaId,
    keep: usize,
    compress: bool,
    /// Files beyond the number kept were removed since the order was given.
    pruned: bool,
}

impl Tidier {
    pub(super) fn new(notices: Arc<dyn Fn(Notice) + Send + Sync>, lower_priority: fn()) -> Self {
        let shared = Shared { state: Mutex::default(), ended: Condvar::new(), notices, lower_priority };
        Self { shared: Arc::new(shared) }
    }

    /// Puts every replica's folder in order after a crash.
    pub(super) fn recover(&self, root: &Path) {
        self.shared.lock().recover = Some(root.to_owned());
        self.wake(Path::new(""));
    }

    /// Prunes and compresses a folder's closed files.
    pub(super) fn tidy(&self, dir: &Path, replica: &ReplicaId, policy: &CapturePolicy) {
        let folder = Folder {
            replica: replica.clone(),
            keep: usize::try_from(policy.keep).unwrap_or(usize::MAX),
            compress: policy.compress,
            pruned: false,
        };
        self.shared.lock().folders.insert(dir.to_owned(), folder);
        self.wake(dir);
    }

    fn wake(&self, dir: &Path) {
        let mut state = self.shared.lock();
        if state.running || state.stop {
            return;
        }
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("logs-tidy".to_owned()).spawn(move || work(&shared));
        match thread {
            // The thread ends by itself; `finish` waits for it by the condition.
            Ok(_) => state.running = true,
            Err(error) => {
                // The order stays; the next rotation tries again.
                let replica = state.folders.get(dir).map(|folder| folder.replica.clone());
                drop(state);
                if let Some(replica) = replica {
                    self.shared.failed(&replica, dir, &error);
                }
            }
        }
    }

    /// Waits until all is done, at most this long, then has the thread leave what it is at.
    pub(super) fn finish(&self, wait: Duration) {
        let state = self.wait_for_end(wait);
        if state.running {
            let mut state = state;
            state.stop = true;
            drop(state);
            // It looks between blocks; a disk that hangs must not hold the host.
            drop(self.wait_for_end(Duration::from_secs(1)));
        }
    }

    fn wait_for_end(&self, wait: Duration) -> MutexGuard<'_, State> {
        let until = Instant::now() + wait;
        let mut state = self.shared.lock();
        while state.running {
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            state = self.shared.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; the state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, replica: &ReplicaId, path: &Path, error: &io::Error) {
        (self.notices)(Notice::CompressionFailed {
            replica: replica.clone(),
            path: path.to_owned(),
            error: error.to_string(),
        });
    }
}

/// The thread: one folder after the other until none is left.
fn work(shared: &Shared) {
    (shared.lower_priority)();
    let mut failing: BTreeSet<PathBuf> = BTreeSet::new();
    loop {
        let mut state = shared.lock();
        if state.stop {
            state.folders.clear();
            state.recover = None;
        }
        if let Some(root) = state.recover.take() {
            drop(state);
            for replica in replicas(&root).unwrap_or_default() {
                // What cannot be put in order now is left; readers cope with every state of it.
                let _ = recover_folder(&replica_dir(&root, &replica));
            }
            continue;
        }
        let Some((dir, folder)) = state.folders.pop_first() else {
            state.running = false;
            shared.ended.notify_all();
            return;
        };
        drop(state);
        let outcome = tidy_folder(shared, &dir, &folder);
        match outcome {
            Ok(()) => {
                failing.remove(&dir);
            }
            Err((path, error)) => {
                if failing.insert(dir) {
                    shared.failed(&folder.replica, &path, &error);
                }
            }
        }
    }
}

/// Removes what exceeds the number kept, then compresses the newest plain file until there is none: under a flood the
/// oldest are about to be removed anyway.
fn tidy_folder(shared: &Shared, dir: &Path, folder: &Folder) -> Result<(), (PathBuf, io::Error)> {
    let at_dir = |error| (dir.to_owned(), error);
    if dir.is_dir() {
        recover_folder(dir).map_err(at_dir)?;
    }
    loop {
        let kept = prune(dir, folder.keep).map_err(at_dir)?;
        let plain = kept.iter().rev().find(|file| file.plain);
        let Some(file) = plain.filter(|_| folder.compress && !shared.lock().stop) else { return Ok(()) };
        let path = closed_path(dir, file.first_at, PLAIN);
        match pack_file(shared, dir, *file) {
            // Removed meanwhile, because too many newer ones came.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => {}
            Err(error) => return Err((path, error)),
            Ok(()) => {}
        }
    }
}

/// Removes the oldest closed files beyond the number kept, in all their forms; returns the others.
fn prune(dir: &Path, keep: usize) -> io::Result<Vec<Closed>> {
    let mut files = closed_files(dir)?;
    let excess = files.len().saturating_sub(keep);
    for file in files.drain(..excess) {
        // The compressed form first: should the second removal fail, the plain one is the whole.
        if file.packed {
            remove(&closed_path(dir, file.first_at, PACKED))?;
        }
        if file.plain {
            remove(&closed_path(dir, file.first_at, PLAIN))?;
        }
    }
    Ok(files)
}

/// Removes a file; that it is gone already is as good.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Compresses one closed file. Leaves nothing half-done when it fails or when the capture ends.
fn pack_file(shared: &Shared, dir: &Path, file: Closed) -> io::Result<()> {
    let plain_path = closed_path(dir, file.first_at, PLAIN);
    let packing_path = closed_path(dir, file.first_at, PACKING);
    let outcome = write_packed(shared, &plain_path, &packing_path).and_then(|complete| {
        if complete && plain_path.exists() {
            std::fs::rename(&packing_path, closed_path(dir, file.first_at, PACKED))?;
            std::fs::remove_file(&plain_path)
        } else {
            remove(&packing_path)
        }
    });
    if outcome.is_err() {
        // The plain file is still there, and the error says more than a second one would.
        let _ = remove(&packing_path);
    }
    outcome
}

/// Writes the compressed form under its temporary name and to the disk. False when the capture ended first.
fn write_packed(shared: &Shared, plain_path: &Path, packing_path: &Path) -> io::Result<bool> {
    let mut plain = File::open(plain_path)?;
    let mut packed = File::create(packing_path)?;
    // Between blocks, files beyond the number kept are removed and the end of the capture is noticed.
    let complete = pack(&mut plain, &mut packed, || {
        let mut state = shared.lock();
        if state.stop {
            return false;
        }
        let mut waiting = Vec::new();
        for (dir, folder) in &mut state.folders {
            if !std::mem::replace(&mut folder.pruned, true) {
                waiting.push((dir.clone(), folder.keep));
            }
        }
        drop(state);
        for (dir, keep) in waiting {
            // Its own turn comes and reports what fails.
            let _ = prune(&dir, keep);
        }
        true
    })?;
    if complete {
        packed.sync_all()?;
    }
    Ok(complete)
}

/// Finishes or undoes what a crash interrupted: see the table above.
fn recover_folder(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(PACKING)) {
            remove(&entry.path())?;
        }
    }
    for file in closed_files(dir)? {
        if file.plain && file.packed {
            let plain_path = closed_path(dir, file.first_at, PLAIN);
            let packed_path = closed_path(dir, file.first_at, PACKED);
            if holds_the_same(&plain_path, &packed_path) {
                remove(&plain_path)?;
            } else {
                remove(&packed_path)?;
            }
        }
    }
    Ok(())
}

/// Whether a compressed file unpacks to exactly the plain one; any doubt is a no.
fn holds_the_same(plain_path: &Path, packed_path: &Path) -> bool {
    let files = File::open(plain_path).and_then(|plain| Ok((plain, File::open(packed_path)?)));
    files.is_ok_and(|(plain, packed)| packed::holds_the_same(plain, packed))
}
