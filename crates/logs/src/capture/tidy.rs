//! Closed files: removed beyond the bounds (see `retention`), compressed one after the other, put in order after a crash.
//!
//! One thread, `logs-tidy`, does it for all replicas, at the lowest priority the platform has for it, and ends when there is
//! nothing left to do. A file is compressed
//! in these steps, and a crash after any of them neither loses nor doubles a line:
//!
//! | done | left behind | readers use | the next tidying |
//! |---|---|---|---|
//! | 0. closed | `T.log` | `T.log` | compresses it |
//! | 1. compressing | `T.log`, `T.log.zst.tmp` | `T.log` | removes the `tmp`, compresses again |
//! | 2. renamed, on disk (fsync) | `T.log`, `T.log.zst` | `T.log` | compares; removes the one not needed |
//! | 3. removed | `T.log.zst` | `T.log.zst` | - |

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mainstay_types::{ReplicaId, ServiceName, Timestamp};
use tokio::sync::Notify;

use super::counters::{self, Registry};
use super::retention::{Bounds, Keep, Ledger, remove};
use super::{CaptureOptions, CapturePolicy, Clock, Notice};
use crate::packed::{self, pack};
use crate::store::{Closed, PACKED, PACKING, PLAIN, closed_files, closed_path, replica_dir, replicas};

/// No closed file becomes too old.
const NEVER: i64 = i64::MAX;

/// Orders the work and holds what is left of it.
pub(super) struct Tidier {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    state: Mutex<State>,
    /// What is on the disk. Only the thread locks it, and not while it compresses.
    ledger: Mutex<Ledger>,
    /// When the next closed file becomes too old, in microseconds since 1970; [`NEVER`] when that is not known. Apart from
    /// the state, so that the capture thread does not wait for a thread of lower priority to learn it.
    next_expiry: AtomicI64,
    /// Signalled when the thread ends.
    ended: Condvar,
    notices: Arc<dyn Fn(Notice) + Send + Sync>,
    lower_priority: fn(),
    clock: Clock,
    counters: Registry,
    /// Told when the next expiry is known.
    look_again: Arc<Notify>,
}

struct State {
    /// Folders to tidy: at most one entry a replica.
    folders: BTreeMap<ReplicaId, Folder>,
    bounds: Bounds,
    /// Closed files of these services are compressed.
    compress: BTreeMap<ServiceName, bool>,
    /// A capture that has just begun.
    recover: bool,
    /// The bounds have to be held, whatever the folders.
    hold: bool,
    running: bool,
    /// The capture ends: leave things as they are.
    stop: bool,
}

#[derive(Clone, Copy, Default)]
struct Folder {
    /// The bounds were held since the order was given.
    held: bool,
}

impl Tidier {
    pub(super) fn new(options: &CaptureOptions, counters: Registry, look_again: Arc<Notify>) -> Self {
        let bounds = Bounds { services: BTreeMap::new(), max_total_bytes: options.max_total_bytes };
        let state = State {
            folders: BTreeMap::new(),
            bounds,
            compress: BTreeMap::new(),
            recover: false,
            hold: false,
            running: false,
            stop: false,
        };
        let shared = Shared {
            root: options.dir.clone(),
            state: Mutex::new(state),
            ledger: Mutex::default(),
            next_expiry: AtomicI64::new(NEVER),
            ended: Condvar::new(),
            notices: Arc::clone(&options.notices),
            lower_priority: options.lower_priority,
            clock: Arc::clone(&options.clock),
            counters,
            look_again,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Puts every replica's folder in order after a crash.
    pub(super) fn recover(&self) {
        self.shared.lock().recover = true;
        self.wake(None);
    }

    /// Holds the bounds on a folder's closed files and compresses them.
    pub(super) fn tidy(&self, replica: &ReplicaId, policy: &CapturePolicy) {
        let mut state = self.shared.lock();
        state.bounds.services.insert(replica.service.clone(), Keep::of(policy));
        state.compress.insert(replica.service.clone(), policy.compress);
        state.folders.insert(replica.clone(), Folder::default());
        drop(state);
        self.wake(Some(replica));
    }

    /// From now on this bounds the files of all services together.
    pub(super) fn set_max_total(&self, bytes: u64) {
        let mut state = self.shared.lock();
        let is_new = std::mem::replace(&mut state.bounds.max_total_bytes, bytes) != bytes;
        state.hold |= is_new;
        drop(state);
        if is_new {
            self.wake(None);
        }
    }

    /// When the next closed file becomes too old.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        match self.shared.next_expiry.load(Ordering::Relaxed) {
            NEVER => None,
            micros => Some(Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)),
        }
    }

    /// Removes what is too old by now.
    pub(super) fn expire(&self) {
        // Known again when that is done.
        self.shared.next_expiry.store(NEVER, Ordering::Relaxed);
        self.shared.lock().hold = true;
        self.wake(None);
    }

    fn wake(&self, replica: Option<&ReplicaId>) {
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
                drop(state);
                if let Some(replica) = replica {
                    self.shared.failed(replica, &replica_dir(&self.shared.root, replica), &error);
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

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // What it holds is looked up again folder by folder.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, replica: &ReplicaId, path: &Path, error: &io::Error) {
        (self.notices)(Notice::CompressionFailed {
            replica: replica.clone(),
            path: path.to_owned(),
            error: error.to_string(),
        });
    }

    /// Tells of a trouble once, until the folder is in order again.
    fn tell(&self, replica: &ReplicaId, trouble: Result<(), (PathBuf, io::Error)>) {
        let dir = replica_dir(&self.root, replica);
        match trouble {
            Ok(()) => {
                self.ledger().failing.remove(&dir);
            }
            Err((path, error)) => {
                if self.ledger().failing.insert(dir) {
                    self.failed(replica, &path, &error);
                }
            }
        }
    }

    /// Looks at these folders again, and removes what exceeds the bounds anywhere. What cannot be removed from other
    /// folders is told; of the first of these, it is the answer.
    fn hold_bounds(&self, look_at: &[ReplicaId]) -> Result<(), (PathBuf, io::Error)> {
        let bounds = self.lock().bounds.clone();
        let mut answer = Ok(());
        let mut outcome = {
            let mut ledger = self.ledger();
            for (place, replica) in look_at.iter().enumerate() {
                match ledger.look(&self.root, replica) {
                    Err(error) if place == 0 => answer = Err((replica_dir(&self.root, replica), error)),
                    // The turn of the others comes.
                    Ok(()) | Err(_) => {}
                }
            }
            let outcome = ledger.hold(&self.root, &bounds, (self.clock)());
            // Rounded up: looked at a moment later, it is too old by then.
            let next = ledger.next_expiry(&bounds).map_or(NEVER, |expiry| expiry.as_microsecond() + 1);
            self.next_expiry.store(next, Ordering::Relaxed);
            outcome
        };
        for ((replica, bound), removed) in outcome.removed {
            counters::of(&self.counters, &replica).removed(removed.files, removed.bytes);
            let (files, bytes) = (removed.files, removed.bytes);
            (self.notices)(Notice::FilesRemoved { replica, files, bytes, bound });
        }
        if let Some(failed) = look_at.first().and_then(|first| outcome.failed.remove(first)) {
            answer = answer.and(Err(failed));
        }
        for (replica, failed) in outcome.failed {
            self.tell(&replica, Err(failed));
        }
        answer
    }
}

/// The thread: one folder after the other until none is left.
fn work(shared: &Shared) {
    (shared.lower_priority)();
    loop {
        let mut state = shared.lock();
        if state.stop {
            state.folders.clear();
            (state.recover, state.hold) = (false, false);
        }
        if std::mem::take(&mut state.recover) {
            drop(state);
            for replica in replicas(&shared.root).unwrap_or_default() {
                // What cannot be put in order now is left; readers cope with every state of it.
                let _ = recover_folder(&replica_dir(&shared.root, &replica));
            }
            shared.ledger().look_at_all(&shared.root);
            shared.lock().hold = true;
            continue;
        }
        if std::mem::take(&mut state.hold) {
            drop(state);
            // Without a folder of its own to look at, there is no trouble left to tell.
            let _ = shared.hold_bounds(&[]);
            continue;
        }
        let Some((replica, _)) = state.folders.pop_first() else {
            state.running = false;
            shared.ended.notify_all();
            drop(state);
            shared.look_again.notify_one();
            return;
        };
        drop(state);
        let outcome = tidy_folder(shared, &replica);
        shared.tell(&replica, outcome);
    }
}

/// Removes what exceeds the bounds, then compresses the newest plain file until there is none: under a flood the oldest
/// are about to be removed anyway.
fn tidy_folder(shared: &Shared, replica: &ReplicaId) -> Result<(), (PathBuf, io::Error)> {
    let dir = replica_dir(&shared.root, replica);
    if dir.is_dir() {
        recover_folder(&dir).map_err(|error| (dir.clone(), error))?;
    }
    loop {
        let held = shared.hold_bounds(std::slice::from_ref(replica));
        let plain = shared.ledger().newest_plain(replica);
        let compress = {
            let state = shared.lock();
            !state.stop && state.compress.get(&replica.service).copied().unwrap_or(false)
        };
        let Some(file) = plain.filter(|_| compress) else { return held };
        let path = closed_path(&dir, file.first_at, PLAIN);
        match pack_file(shared, &dir, file) {
            // Removed meanwhile, because of the bounds.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => {}
            Err(error) => return Err((path, error)),
            Ok(()) => {}
        }
    }
}

/// Compresses one closed file. Leaves nothing half-done when it fails or when the capture ends.
fn pack_file(shared: &Shared, dir: &Path, file: Closed) -> io::Result<()> {
    let plain_path = closed_path(dir, file.first_at, PLAIN);
    let packing_path = closed_path(dir, file.first_at, PACKING);
    let outcome = write_packed(shared, &plain_path, &packing_path).and_then(|complete| {
        if complete && plain_path.exists() {
            std::fs::rename(&packing_path, closed_path(dir, file.first_at, PACKED))?;
            // The new name reaches the disk before the old file goes. Where folders cannot be opened, their order on the
            // disk is the file system's affair.
            let _ = File::open(dir).and_then(|dir| dir.sync_all());
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
    // Between blocks, files beyond the bounds are removed and the end of the capture is noticed.
    let complete = pack(&mut plain, &mut packed, || {
        let mut state = shared.lock();
        if state.stop {
            return false;
        }
        let mut waiting = Vec::new();
        for (replica, folder) in &mut state.folders {
            if !std::mem::replace(&mut folder.held, true) {
                waiting.push(replica.clone());
            }
        }
        drop(state);
        if !waiting.is_empty() {
            // The turn of each comes and reports what fails.
            let _ = shared.hold_bounds(&waiting);
        }
        true
    })?;
    if complete {
        // It is as old as what it holds, to whoever looks: its age decides when it goes.
        if let Ok(written_at) = plain.metadata().and_then(|metadata| metadata.modified()) {
            let _ = packed.set_modified(written_at);
        }
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
