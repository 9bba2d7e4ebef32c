//! The event record: what happened to the stack, in SQLite, so that it survives the host.
//!
//! One thread owns the database. Appending never waits: entries queue in memory, at most [`MAX_QUEUED`] of them, and
//! are written in one transaction per batch. When the database cannot be written (a full disk, say), the queue
//! holds what it can, counts what it cannot, and the count becomes an event of its own once writing works again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use mainstay_api::Event;
use rusqlite::{Connection, OpenFlags, params};

/// Entries waiting to be written, at most. One is about 300 bytes.
pub(crate) const MAX_QUEUED: usize = 50_000;
/// Entries kept in the database, at most; the oldest go first.
pub(crate) const MAX_KEPT: i64 = 100_000;
/// Inserts between two prunings.
const PRUNE_EVERY: usize = 1000;
/// Entries written in one transaction.
const BATCH: usize = 1000;
/// Room for entries that is kept from one transaction to the next.
const KEPT_ROOM: usize = 16;
/// How long the thread lets entries gather after the first one: a change of a stack comes as many entries at once, and
/// a transaction for each would cost more than all of them together. Nobody waits for it but a reader of the record.
const GATHER: Duration = Duration::from_millis(2);
/// Wait before the database is tried again after it failed.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// The layout this program writes (`PRAGMA user_version`). A higher one was written by a newer mainstay.
const LAYOUT: i64 = 1;

/// Why the record cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum EventStoreError {
    /// SQLite refused.
    #[error("cannot open the event record {}", .path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A newer mainstay wrote it.
    #[error("the event record {} was written by a newer mainstay (layout {found}, known {LAYOUT})", .path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// A query failed.
    #[error("cannot read the event record")]
    Query(#[source] rusqlite::Error),
    /// The writing thread could not be started.
    #[error("cannot start the thread of the event record")]
    Thread(#[source] std::io::Error),
    /// The writing thread is gone.
    #[error("the event record is closed")]
    Closed,
}

/// Which events to read, oldest first.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only events after this id.
    pub after_id: Option<i64>,
    /// Only the last so many.
    pub last: Option<u32>,
    /// Only of this service.
    pub service: Option<String>,
}

enum Job {
    Append(Box<Event>),
    Read(EventFilter, tokio::sync::oneshot::Sender<Result<Vec<Event>, EventStoreError>>),
    Close(mpsc::Sender<()>),
}

/// The record, open for writing. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EventStore {
    jobs: mpsc::Sender<Job>,
    queued: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
}

impl EventStore {
    /// Opens or creates the record and starts its thread; also gives the id of the newest event. A damaged database is
    /// put aside as `events.db.damaged-<id of this process>` and a new one begun; the third value names the old one.
    pub(crate) fn open(path: &Path) -> Result<(Self, i64, Option<PathBuf>), EventStoreError> {
        let (connection, put_aside) = match open_for_writing(path) {
            Ok(connection) => (connection, None),
            Err(error) if is_damaged(&error) => {
                let aside = path.with_extension(format!("db.damaged-{}", std::process::id()));
                let renamed = std::fs::rename(path, &aside).is_ok();
                for suffix in ["-wal", "-shm"] {
                    let mut beside = path.as_os_str().to_owned();
                    beside.push(suffix);
                    // Belongs to the damaged file; left in place it would be applied to the new one.
                    let _ = std::fs::remove_file(PathBuf::from(beside));
                }
                (open_for_writing(path)?, renamed.then_some(aside))
            }
            Err(error) => return Err(error),
        };
        let newest = connection
            .query_row("SELECT coalesce(max(id), 0) FROM event", [], |row| row.get(0))
            .map_err(EventStoreError::Query)?;
        let (jobs, inbox) = mpsc::channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let lost = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            connection,
            queued: Arc::clone(&queued),
            lost: Arc::clone(&lost),
            since_prune: 0,
            waiting: Vec::new(),
        };
        std::thread::Builder::new()
            .name("events".into())
            .stack_size(512 * 1024)
            .spawn(move || writer.run(&inbox))
            .map_err(EventStoreError::Thread)?;
        Ok((Self { jobs, queued, lost }, newest, put_aside))
    }

    /// Queues one event. Never waits; past [`MAX_QUEUED`] the event is counted as lost instead.
    pub(crate) fn append(&self, event: Event) {
        if self.queued.load(Ordering::Relaxed) >= MAX_QUEUED {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.queued.fetch_add(1, Ordering::Relaxed);
        // The thread ends only after `close`, when nothing is appended any more.
        let _ = self.jobs.send(Job::Append(Box::new(event)));
    }

    /// Events lost so far that nobody was told of; told means taken. Zero while the record cannot take the news.
    #[must_use]
    pub(crate) fn take_lost(&self) -> usize {
        if self.queued.load(Ordering::Relaxed) > MAX_QUEUED / 2 {
            return 0;
        }
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// Reads events, oldest first, everything appended before included.
    pub(crate) async fn read(&self, filter: EventFilter) -> Result<Vec<Event>, EventStoreError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.jobs.send(Job::Read(filter, reply)).map_err(|_| EventStoreError::Closed)?;
        answer.await.map_err(|_| EventStoreError::Closed)?
    }

    /// Writes what is queued and ends the thread; waits at most `limit`.
    pub(crate) fn close(&self, limit: Duration) {
        let (done, closed) = mpsc::channel();
        if self.jobs.send(Job::Close(done)).is_ok() {
            let _ = closed.recv_timeout(limit);
        }
    }
}

/// Reads the record of a stack whose host does not run.
pub fn read_events(path: &Path, filter: &EventFilter) -> Result<Vec<Event>, EventStoreError> {
    let open = |source| EventStoreError::Open { path: path.to_owned(), source };
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(open)?;
    check_layout(&connection, path)?;
    query(&connection, filter)
}

/// The events of the record with ids from `first` to `last`, oldest first; whether or not a host runs.
pub fn events_between(path: &Path, first: i64, last: i64) -> Result<Vec<Event>, EventStoreError> {
    let open = |source| EventStoreError::Open { path: path.to_owned(), source };
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(open)?;
    check_layout(&connection, path)?;
    let mut statement = connection
        .prepare("SELECT json FROM event WHERE id BETWEEN ?1 AND ?2 ORDER BY id")
        .map_err(EventStoreError::Query)?;
    rows_to_events(&mut statement, params![first, last])
}

fn is_damaged(error: &EventStoreError) -> bool {
    match error {
        EventStoreError::Open { source, .. } => matches!(
            source.sqlite_error_code(),
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt)
        ),
        EventStoreError::Newer { .. }
        | EventStoreError::Query(_)
        | EventStoreError::Thread(_)
        | EventStoreError::Closed => false,
    }
}

fn open_for_writing(path: &Path) -> Result<Connection, EventStoreError> {
    let open = |source| EventStoreError::Open { path: path.to_owned(), source };
    let connection = Connection::open(path).map_err(open)?;
    // WAL with NORMAL loses at most the last transactions at a power cut and never corrupts (sqlite.org/pragma.html#pragma_synchronous).
    // The cache is cut to 256 KiB: the record is written in order and rarely read.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -256; PRAGMA busy_timeout = 5000;",
        )
        .map_err(open)?;
    check_layout(&connection, path)?;
    connection
        .execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY, service TEXT, json TEXT NOT NULL);
             PRAGMA user_version = {LAYOUT};"
        ))
        .map_err(open)?;
    Ok(connection)
}

fn check_layout(connection: &Connection, path: &Path) -> Result<(), EventStoreError> {
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|source| EventStoreError::Open { path: path.to_owned(), source })?;
    if found > LAYOUT { Err(EventStoreError::Newer { path: path.to_owned(), found }) } else { Ok(()) }
}

fn query(connection: &Connection, filter: &EventFilter) -> Result<Vec<Event>, EventStoreError> {
    // The newest `last` of those that match, turned back into the order of time.
    let mut statement = connection
        .prepare_cached(
            "SELECT json FROM event WHERE id > ?1 AND (?2 IS NULL OR service = ?2) ORDER BY id DESC LIMIT ?3",
        )
        .map_err(EventStoreError::Query)?;
    let limit = filter.last.map_or(MAX_KEPT, i64::from);
    let mut events =
        rows_to_events(&mut statement, params![filter.after_id.unwrap_or(0), filter.service, limit])?;
    events.reverse();
    Ok(events)
}

fn rows_to_events(
    statement: &mut rusqlite::Statement<'_>,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Event>, EventStoreError> {
    let rows =
        statement.query_map(parameters, |row| row.get::<_, String>(0)).map_err(EventStoreError::Query)?;
    let mut events = Vec::new();
    for json in rows {
        let json = json.map_err(EventStoreError::Query)?;
        let event = serde_json::from_str(&json).map_err(|error| {
            EventStoreError::Query(rusqlite::Error::FromSqlConversionFailure(
                0,
                rusqlite::types::Type::Text,
                Box::new(error),
            ))
        })?;
        events.push(event);
    }
    Ok(events)
}

struct Writer {
    connection: Connection,
    queued: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
    since_prune: usize,
    waiting: Vec<Event>,
}

impl Writer {
    fn run(mut self, inbox: &mpsc::Receiver<Job>) {
        loop {
            let first = if self.waiting.is_empty() {
                match inbox.recv() {
                    Ok(job) => Some(job),
                    Err(mpsc::RecvError) => return,
                }
            } else {
                // The database failed: try again after a while, or when there is more to write.
                inbox.recv_timeout(RETRY_AFTER).ok()
            };
            if matches!(first, Some(Job::Append(_))) {
                std::thread::sleep(GATHER);
            }
            let mut after: Option<Job> = None;
            let mut next = first;
            while let Some(job) = next.take() {
                match job {
                    Job::Append(event) => {
                        self.waiting.push(*event);
                        if self.waiting.len() < BATCH {
                            next = inbox.try_recv().ok();
                        }
                    }
                    other @ (Job::Read(..) | Job::Close(_)) => after = Some(other),
                }
            }
            // A panic costs the batch, which is counted; the record goes on. The hook reports it.
            if crate::panics::guard(|| self.write()).is_err() {
                let count = self.waiting.len();
                self.waiting.clear();
                self.queued.fetch_sub(count, Ordering::Relaxed);
                self.lost.fetch_add(count, Ordering::Relaxed);
            }
            match after {
                Some(Job::Read(filter, reply)) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(query(&self.connection, &filter));
                }
                Some(Job::Close(done)) => {
                    let _ = done.send(());
                    return;
                }
                Some(Job::Append(_)) | None => {}
            }
        }
    }

    fn write(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        if self.insert().is_ok() {
            self.queued.fetch_sub(self.waiting.len(), Ordering::Relaxed);
            self.since_prune += self.waiting.len();
            self.waiting.clear();
            // A start of a large stack fills a batch; after it a few at a time come.
            self.waiting.shrink_to(KEPT_ROOM);
        }
        if self.since_prune >= PRUNE_EVERY {
            self.since_prune = 0;
            // Failing to prune costs space only, and is tried again after the next thousand.
            let _ = self
                .connection
                .execute("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?1", [MAX_KEPT]);
        }
    }

    fn insert(&mut self) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        {
            let mut statement = transaction
                .prepare_cached("INSERT OR REPLACE INTO event (id, service, json) VALUES (?1, ?2, ?3)")?;
            for event in &self.waiting {
                // The event is made of strings and numbers only; such a value always becomes JSON.
                let json = serde_json::to_string(event)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
                statement.execute(params![event.id, event.service, json])?;
            }
        }
        transaction.commit()
    }
}

#[cfg(test)]
mod tests {
    use mainstay_api::EventKind;
    use mainstay_types::Timestamp;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn event(id: i64, service: &str) -> Event {
        Event { id, service: Some(service.to_owned()), ..Event::new(EventKind::State, Timestamp::UNIX_EPOCH) }
    }

    fn ids(events: &[Event]) -> Vec<i64> {
        events.iter().map(|event| event.id).collect()
    }

    #[tokio::test]
    async fn what_is_appended_is_read_back_in_order_and_by_filter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.db");
        let (store, newest, put_aside) = EventStore::open(&path).unwrap();
        assert_eq!((newest, put_aside), (0, None));
        for id in 1..=2500 {
            store.append(event(id, if id % 2 == 0 { "even" } else { "odd" }));
        }
        let all = store.read(EventFilter::default()).await.unwrap();
        assert_eq!(ids(&all), (1..=2500).collect::<Vec<_>>());
        let filter = EventFilter { after_id: Some(2000), last: Some(3), service: Some("odd".into()) };
        assert_eq!(ids(&store.read(filter).await.unwrap()), [2495, 2497, 2499]);
        store.close(LIMIT);

        // Another host goes on where this one ended; and without a host the record can be read as well.
        let (store, newest, _) = EventStore::open(&path).unwrap();
        assert_eq!(newest, 2500);
        store.close(LIMIT);
        let filter = EventFilter { last: Some(1), ..EventFilter::default() };
        assert_eq!(ids(&read_events(&path, &filter).unwrap()), [2500]);
        assert_eq!(ids(&events_between(&path, 2499, 9000).unwrap()), [2499, 2500]);
        assert_eq!(ids(&events_between(&path, 0, 1).unwrap()), [1]);
    }

    #[test]
    fn a_record_of_a_newer_mainstay_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA user_version = 99;").unwrap();
        drop(connection);
        assert!(matches!(EventStore::open(&path), Err(EventStoreError::Newer { found: 99, .. })));
        assert!(matches!(
            read_events(&path, &EventFilter::default()),
            Err(EventStoreError::Newer { found: 99, .. })
        ));
    }

    #[test]
    fn a_full_queue_counts_what_it_cannot_take_and_tells_once() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _, _) = EventStore::open(&dir.path().join("events.db")).unwrap();
        store.queued.store(MAX_QUEUED, Ordering::Relaxed);
        store.append(event(1, "web"));
        store.append(event(2, "web"));
        assert_eq!(store.take_lost(), 0, "the record cannot take the news yet");
        store.queued.store(0, Ordering::Relaxed);
        assert_eq!(store.take_lost(), 2);
        assert_eq!(store.take_lost(), 0);
        store.close(LIMIT);
    }
}
