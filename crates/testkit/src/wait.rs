//! Waiting in tests: for a condition, with a limit, never for a time.

use std::time::{Duration, Instant};

/// Distance of two looks at a condition: short against any limit in use, long against the cost of a look.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until `condition` holds, looking every few milliseconds.
///
/// # Panics
/// After `limit`, naming `what` was waited for: a test has no use for going on.
#[track_caller]
pub fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for_some(what, limit, || condition().then_some(()));
}

/// Waits until `look` finds something, and gives that.
///
/// # Panics
/// After `limit`, as [`wait_for`].
#[track_caller]
pub fn wait_for_some<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// As [`wait_for`], for async tests: other tasks run meanwhile. Needs a tokio runtime with time.
///
/// # Panics
/// After `limit`, as [`wait_for`].
pub async fn wait_for_async(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !condition().await {
        assert!(begin.elapsed() < limit, "waited {limit:?} in vain for {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_was_found() {
        let mut looks = 0;
        let found = wait_for_some("the third look", Duration::from_secs(10), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, 3);
    }

    #[test]
    #[should_panic(expected = "in vain for the moon")]
    fn says_what_did_not_come() {
        wait_for("the moon", Duration::from_millis(20), || false);
    }
}
