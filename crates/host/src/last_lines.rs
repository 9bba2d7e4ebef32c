//! The last lines a replica wrote before it failed: carried by every event that tells of the failure, and shown by
//! `status` until the replica has recovered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_logs::LogLine;
use mainstay_types::{ReplicaId, SpawnId, Timestamp};

/// Lines of output carried by a failure.
pub const LAST_LINES: usize = 10;
/// Characters of one of them.
const MAX_LINE_CHARS: usize = 1000;

/// What each failing replica wrote last: at most one entry a replica, dropped when it has recovered. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct LastLines(Arc<Mutex<BTreeMap<ReplicaId, Failure>>>);

struct Failure {
    lines: Vec<String>,
    /// It has been started again since: what comes next is another failure.
    over: bool,
}

impl LastLines {
    /// The replica fails now, and this is what it wrote before.
    pub(crate) fn fails(&self, replica: &ReplicaId, lines: Vec<String>) {
        self.with(|failures| failures.insert(replica.clone(), Failure { lines, over: false }));
    }

    /// The lines of the failure the replica is in; `None` when it is in none.
    pub(crate) fn of_failure(&self, replica: &ReplicaId) -> Option<Vec<String>> {
        self.with(|failures| {
            failures.get(replica).filter(|failure| !failure.over).map(|failure| failure.lines.clone())
        })
    }

    /// It is started again: the lines still say why it was, and belong to no later failure.
    pub(crate) fn starts(&self, replica: &ReplicaId) {
        self.with(|failures| {
            if let Some(failure) = failures.get_mut(replica) {
                failure.over = true;
            }
        });
    }

    /// It failed without having written anything: lines of an earlier failure would tell of another cause.
    pub(crate) fn fails_silently(&self, replica: &ReplicaId) {
        self.with(|failures| {
            if failures.get(replica).is_some_and(|failure| failure.over) {
                failures.remove(replica);
            }
        });
    }

    /// There is nothing wrong with it any more.
    pub(crate) fn recovered(&self, replica: &ReplicaId) {
        self.with(|failures| failures.remove(replica));
    }

    /// What `status` shows: the lines of its last failure, as long as it has not recovered; `None` without any.
    pub(crate) fn shown(&self, replica: &ReplicaId) -> Option<Vec<String>> {
        self.with(|failures| failures.get(replica).map(|failure| failure.lines.clone()))
            .filter(|lines| !lines.is_empty())
    }

    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<ReplicaId, Failure>) -> T) -> T {
        // Nothing that holds the lock can panic half-way: it only moves entries.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Since when which output is read, so that a failure is told with its own lines only.
#[derive(Default)]
pub(crate) struct Begun {
    /// By start, until its tree is gone.
    of_start: BTreeMap<SpawnId, Timestamp>,
    /// The newest program and the newest command of each replica that is not at rest.
    program: BTreeMap<ReplicaId, Timestamp>,
    command: BTreeMap<ReplicaId, Timestamp>,
}

impl Begun {
    pub(crate) fn begin(&mut self, replica: ReplicaId, spawn: SpawnId, at: Timestamp) {
        self.of_start.insert(spawn, at);
        if crate::runner::Runs::is_command(spawn) {
            self.command.insert(replica, at);
        } else {
            self.program.insert(replica, at);
        }
    }

    pub(crate) fn gone(&mut self, spawn: SpawnId) {
        self.of_start.remove(&spawn);
    }

    /// The replica is at rest: nothing of it is read any more.
    pub(crate) fn rests(&mut self, replica: &ReplicaId) {
        self.program.remove(replica);
        self.command.remove(replica);
    }

    /// What this start wrote, of these lines of its replica.
    pub(crate) fn lines_of_start(&self, spawn: SpawnId, lines: &[LogLine]) -> Vec<String> {
        since(self.of_start.get(&spawn), lines)
    }

    /// What the replica's program wrote since its newest start.
    pub(crate) fn lines_of_program(&self, replica: &ReplicaId, lines: &[LogLine]) -> Vec<String> {
        since(self.program.get(replica), lines)
    }

    /// What was written since the newest command around the replica's life began.
    pub(crate) fn lines_of_command(&self, replica: &ReplicaId, lines: &[LogLine]) -> Vec<String> {
        since(self.command.get(replica), lines)
    }
}

fn since(begun: Option<&Timestamp>, lines: &[LogLine]) -> Vec<String> {
    let wanted = |line: &&LogLine| begun.is_some_and(|begun| line.at >= *begun);
    lines.iter().filter(wanted).map(printable).collect()
}

/// A line for an event: text, without what would move the cursor, at most [`MAX_LINE_CHARS`].
fn printable(line: &LogLine) -> String {
    let text = String::from_utf8_lossy(&line.text);
    text.chars().filter(|c| *c == '\t' || !c.is_control()).take(MAX_LINE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use mainstay_logs::Stream;
    use mainstay_types::ServiceName;

    use super::*;

    fn web() -> ReplicaId {
        ReplicaId { service: ServiceName::parse("web").unwrap(), index: 0 }
    }

    fn line(second: i64, text: &str) -> LogLine {
        LogLine {
            at: Timestamp::from_second(second).unwrap(),
            replica: web(),
            stream: Stream::Stdout,
            partial: false,
            text: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn lines_belong_to_one_failure_and_are_shown_until_it_has_recovered() {
        let last = LastLines::default();
        assert_eq!((last.of_failure(&web()), last.shown(&web())), (None, None));
        last.fails(&web(), vec!["no database".to_owned()]);
        let lines = Some(vec!["no database".to_owned()]);
        assert_eq!((last.of_failure(&web()), last.shown(&web())), (lines.clone(), lines.clone()));
        last.starts(&web());
        assert_eq!((last.of_failure(&web()), last.shown(&web())), (None, lines), "it starts again");
        last.fails_silently(&web());
        assert_eq!(last.shown(&web()), None, "it failed for another reason");
        last.fails(&web(), vec!["again".to_owned()]);
        last.recovered(&web());
        assert_eq!(last.shown(&web()), None);
    }

    #[test]
    fn lines_from_before_the_start_are_left_out() {
        let mut begun = Begun::default();
        let lines = [line(1, "old"), line(5, "hook\x1b[2J"), line(7, "new")];
        assert_eq!(begun.lines_of_start(SpawnId(1), &lines), [""; 0]);
        begun.begin(web(), SpawnId(1 << 48), Timestamp::from_second(5).unwrap());
        begun.begin(web(), SpawnId(1), Timestamp::from_second(6).unwrap());
        assert_eq!(begun.lines_of_start(SpawnId(1), &lines), ["new"]);
        assert_eq!(begun.lines_of_program(&web(), &lines), ["new"]);
        assert_eq!(begun.lines_of_command(&web(), &lines), ["hook[2J", "new"]);
        begun.gone(SpawnId(1));
        assert_eq!(begun.lines_of_start(SpawnId(1), &lines), [""; 0]);
        begun.rests(&web());
        assert_eq!(begun.lines_of_program(&web(), &lines), [""; 0]);
    }
}
