//! Looks at the file system that may never come back: each on a thread of its own, their number bounded.
//!
//! A dead network mount holds whoever touches it, for as long as it likes, and nothing can wake the thread. So a look
//! is left to its fate when its time is over. A file is looked at by one thread at a time: who asks for it again
//! meanwhile waits for the look that is under way, and so one dead mount holds one thread for each file asked for, and
//! no more than [`MAX_LOOKS`] of each kind. When all of them hang, further looks time out too.
//!
//! These are not the runtime's threads for blocking work: the runtime would wait for them when it ends.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout_at;

use crate::tcp::Limit;

/// Looks of one kind that may be under way, and so the threads that can hang for ever.
pub(crate) const MAX_LOOKS: usize = 16;

/// Why a look gave nothing.
#[derive(Debug)]
pub(crate) enum NoLook {
    /// It has not come back in time.
    TimedOut,
    /// The system gives no thread.
    NoThread(io::Error),
}

/// The looks of one kind.
pub(crate) struct Looks<T> {
    free: Semaphore,
    under_way: Mutex<BTreeMap<PathBuf, watch::Receiver<Option<T>>>>,
}

impl<T: Clone + Send + Sync + 'static> Looks<T> {
    pub(crate) const fn new() -> Self {
        Self { free: Semaphore::const_new(MAX_LOOKS), under_way: Mutex::new(BTreeMap::new()) }
    }

    /// What `look` finds at `path`, or what a look at it finds that is under way already.
    pub(crate) async fn look(
        &'static self,
        path: &Path,
        limit: &Limit,
        look: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Result<T, NoLook> {
        let found = async {
            let mut answer = self.begin(path, look).await.map_err(NoLook::NoThread)?;
            // An error: the look panicked, and told nobody.
            let found = answer.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
            found.ok_or_else(|| NoLook::NoThread(io::Error::other("the thread has panicked")))
        };
        timeout_at(limit.deadline, found).await.unwrap_or(Err(NoLook::TimedOut))
    }

    async fn begin(
        &'static self,
        path: &Path,
        look: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> io::Result<watch::Receiver<Option<T>>> {
        if let Some(answer) = self.under_way().get(path) {
            return Ok(answer.clone());
        }
        let permit = self.free.acquire().await.map_err(io::Error::other)?;
        let mut under_way = self.under_way();
        // Another may have begun while this one waited.
        if let Some(answer) = under_way.get(path) {
            return Ok(answer.clone());
        }
        let (tell, answer) = watch::channel(None);
        let owned = path.to_owned();
        thread::Builder::new().name("look".to_owned()).spawn(move || {
            let _permit = permit;
            let entry = Entry { looks: self, path: owned };
            let found = look(&entry.path);
            // First the entry: who comes now gets a look of his own.
            drop(entry);
            tell.send_replace(Some(found));
        })?;
        under_way.insert(path.to_owned(), answer.clone());
        Ok(answer)
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<PathBuf, watch::Receiver<Option<T>>>> {
        // Nothing panics while holding it.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes from the list when the look ends, however it ends.
struct Entry<T: Clone + Send + Sync + 'static> {
    looks: &'static Looks<T>,
    path: PathBuf,
}

impl<T: Clone + Send + Sync + 'static> Drop for Entry<T> {
    fn drop(&mut self) {
        self.looks.under_way().remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const AMPLE: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(30);

    /// Waits until so many have begun; more than that is a failure.
    async fn settled(begun: &AtomicUsize, wanted: usize) {
        let reached = async {
            while begun.load(Ordering::SeqCst) < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(AMPLE, reached).await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), wanted);
    }

    #[tokio::test]
    async fn what_hangs_is_bounded_and_shared_and_given_back() {
        static LOOKS: Looks<u32> = Looks::new();
        let begun = Arc::new(AtomicUsize::new(0));
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let hanging = || {
            let (begun, released) = (Arc::clone(&begun), Arc::clone(&released));
            move |_: &Path| {
                begun.fetch_add(1, Ordering::SeqCst);
                // Ends when the test drops the sender.
                let _ = released.lock().unwrap().recv();
                7
            }
        };
        // The same file again and again holds one thread.
        for _ in 0..3 {
            let answer = LOOKS.look(Path::new("0"), &Limit::from_now(SHORT), hanging()).await;
            assert!(matches!(answer, Err(NoLook::TimedOut)), "{answer:?}");
        }
        settled(&begun, 1).await;
        // Others hold theirs, up to the bound.
        for path in 1..MAX_LOOKS + 3 {
            let path = PathBuf::from(path.to_string());
            let answer = LOOKS.look(&path, &Limit::from_now(SHORT), hanging()).await;
            assert!(matches!(answer, Err(NoLook::TimedOut)), "{answer:?}");
        }
        settled(&begun, MAX_LOOKS).await;
        // Who waits for a hanging look has its answer when it comes; who waits for a thread gets one.
        let limit = Limit::from_now(AMPLE);
        let shared = LOOKS.look(Path::new("0"), &limit, |_| 1);
        let queued = LOOKS.look(Path::new("new"), &limit, |_| 2);
        let end = async { drop(release) };
        let (shared, queued, ()) = tokio::join!(shared, queued, end);
        assert_eq!((shared.unwrap(), queued.unwrap()), (7, 2));
        let again = LOOKS.look(Path::new("0"), &Limit::from_now(AMPLE), |_| 3).await;
        assert_eq!(again.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_look_that_panics_is_told_and_forgotten() {
        static LOOKS: Looks<u32> = Looks::new();
        let path = Path::new("x");
        let limit = Limit::from_now(AMPLE);
        let answer = LOOKS.look(path, &limit, |_| panic!("as a test")).await;
        assert!(matches!(answer, Err(NoLook::NoThread(_))), "{answer:?}");
        assert_eq!(LOOKS.look(path, &limit, |_| 1).await.unwrap(), 1);
    }
}
