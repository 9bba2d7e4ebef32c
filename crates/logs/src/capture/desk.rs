//! The capture thread: what all its tasks share, and the task that takes the commands.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mainstay_types::{ReplicaId, SpawnId, Timestamp};
use tokio::io::AsyncRead;
use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc, oneshot};

use super::batch::Batch;
use super::counters::Registry;
use super::program::{Mailbox, Program, Request};
use super::replica_log::ReplicaLog;
use super::tidy::Tidier;
use super::{CaptureOptions, CapturePolicy, Clock, Notice, Rotated, Tap};
use crate::record::parse;
use crate::store::replica_dir;
use crate::{LogLine, read};

/// A pipe, whatever it is made of.
pub(super) type Reader = Box<dyn AsyncRead + Unpin>;

/// Opens a program's pipes on the capture thread.
pub(super) type OpenPipes = Box<dyn FnOnce() -> io::Result<[Reader; 2]> + Send>;

/// How much one read takes at most: several pipes' worth (64 KiB each unless enlarged to 1 MiB, pipe(7)), and still
/// small enough to stay in the cache until it is copied. Memory is touched only as far as reads fill it.
const READ_BYTES: usize = 256 * 1024;

/// How long `close` lets compression go on.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Readiness news taken from the system at once. Two rounds of it must cover every pipe of a large stack, so that
/// settling sees what a pipe holds; costs 16 bytes each while the thread lives.
const EVENTS_PER_TICK: usize = 4096;

/// What the handle asks for.
pub(super) enum Command {
    Attach { replica: ReplicaId, spawn: SpawnId, policy: CapturePolicy, open: OpenPipes },
    SetPolicy { replica: ReplicaId, policy: CapturePolicy },
    SetMaxTotal { bytes: u64 },
    Rotate { replicas: Vec<(ReplicaId, CapturePolicy)>, reply: oneshot::Sender<Vec<(ReplicaId, Rotated)>> },
    Settle { spawn: SpawnId, n: usize, reply: oneshot::Sender<Vec<LogLine>> },
    Detach { spawn: SpawnId, reply: oneshot::Sender<()> },
    Tail { replica: ReplicaId, n: usize, reply: oneshot::Sender<Vec<LogLine>> },
    Close { reply: oneshot::Sender<()> },
}

/// What the tasks of the thread share.
pub(super) struct Desk {
    pub(super) root: PathBuf,
    pub(super) tap: Option<Arc<dyn Tap>>,
    notices: Arc<dyn Fn(Notice) + Send + Sync>,
    pub(super) buffers: RefCell<Buffers>,
    tidier: Tidier,
    pub(super) counters: Registry,
    pub(super) clock: Clock,
    /// When the desk wakes by itself: the earliest of all files that will be old enough.
    due: Cell<Option<Timestamp>>,
    /// Has the desk work that out again.
    look_again: Arc<Notify>,
}

/// The buffers every read and write goes through, one at a time.
pub(super) struct Buffers {
    pub(super) read: Vec<u8>,
    /// What was read, masked; empty where nobody asked for masks.
    pub(super) masked: Vec<u8>,
    pub(super) batch: Batch,
}

impl Desk {
    pub(super) fn notice(&self, notice: Notice) {
        (self.notices)(notice);
    }

    /// A file will be old enough at this time.
    pub(super) fn due(&self, at: Timestamp) {
        if self.due.get().is_none_or(|due| at < due) {
            self.look_again.notify_one();
        }
    }

    /// Has a replica's closed files pruned and compressed in the background.
    pub(super) fn tidy(&self, replica: &ReplicaId, policy: &CapturePolicy) {
        self.tidier.tidy(replica, policy);
    }
}

/// Starts the thread; the channel is its only hold.
pub(super) fn start(
    options: CaptureOptions,
    counters: Registry,
) -> io::Result<mpsc::UnboundedSender<Command>> {
    let runtime_thread = std::thread::Builder::new().name("logs".to_owned());
    let (commands, received) = mpsc::unbounded_channel();
    let (started, outcome) = std::sync::mpsc::channel();
    runtime_thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_io_events_per_tick(EVENTS_PER_TICK)
            .max_blocking_threads(1)
            .thread_name("logs-tail")
            .build_local(LocalOptions::default());
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let _ = started.send(Ok(()));
        let closed = runtime.block_on(take_commands(options, counters, received));
        // Everything of the thread is gone before the answer, so that the caller may remove the folder.
        runtime.shutdown_timeout(Duration::ZERO);
        if let Some(reply) = closed {
            let _ = reply.send(());
        }
    })?;
    outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
    Ok(commands)
}

/// What is known of one start.
struct Attached {
    log: Rc<RefCell<ReplicaLog>>,
    mailbox: Rc<Mailbox>,
}

/// The desk's own state: which starts there are, and each replica's file. Replicas stay until the thread ends; they
/// are as many as the stack ever named.
struct Clerk {
    desk: Rc<Desk>,
    logs: HashMap<ReplicaId, Rc<RefCell<ReplicaLog>>>,
    attached: HashMap<SpawnId, Attached>,
}

async fn take_commands(
    options: CaptureOptions,
    counters: Registry,
    mut received: mpsc::UnboundedReceiver<Command>,
) -> Option<oneshot::Sender<()>> {
    let look_again = Arc::new(Notify::new());
    let desk = Rc::new(Desk {
        tidier: Tidier::new(&options, counters.clone(), Arc::clone(&look_again)),
        root: options.dir,
        tap: options.tap,
        notices: options.notices,
        counters,
        clock: options.clock,
        due: Cell::new(None),
        look_again,
        buffers: RefCell::new(Buffers { read: vec![0; READ_BYTES], masked: Vec::new(), batch: Batch::new() }),
    });
    desk.tidier.recover();
    let mut clerk = Clerk { desk: Rc::clone(&desk), logs: HashMap::new(), attached: HashMap::new() };
    let mut closed = None;
    loop {
        let due = clerk.next_due();
        desk.due.set(due);
        let command = tokio::select! {
            biased;
            command = received.recv() => command,
            () = desk.look_again.notified() => continue,
            () = sleep_until(&desk.clock, due) => {
                clerk.on_due();
                continue;
            }
        };
        match command {
            None => break,
            Some(Command::Attach { replica, spawn, policy, open }) => {
                clerk.attach(replica, spawn, policy, open);
            }
            Some(Command::SetPolicy { replica, policy }) => clerk.set_policy(&replica, policy),
            Some(Command::SetMaxTotal { bytes }) => desk.tidier.set_max_total(bytes),
            Some(Command::Rotate { replicas, reply }) => {
                let outcomes = replicas.into_iter().map(|(replica, policy)| clerk.rotate(replica, policy));
                // Whoever asked may have gone.
                let _ = reply.send(outcomes.collect());
            }
            Some(Command::Settle { spawn, n, reply }) => clerk.settle(spawn, n, reply),
            Some(Command::Detach { spawn, reply }) => clerk.detach(spawn, reply),
            Some(Command::Tail { replica, n, reply }) => {
                let log = clerk.logs.get(&replica).cloned();
                answer_tail(&clerk.desk, &replica, log.as_deref(), n, reply);
            }
            Some(Command::Close { reply }) => {
                closed = Some(reply);
                break;
            }
        }
    }
    clerk.close().await;
    closed
}

/// Sleeps until the clock should show this time. It may be early or late when the clock is set meanwhile: whoever is woken
/// looks at the clock again.
async fn sleep_until(clock: &Clock, due: Option<Timestamp>) {
    match due {
        Some(due) => {
            tokio::time::sleep(Duration::try_from(due.duration_since(clock())).unwrap_or_default()).await;
        }
        None => std::future::pending().await,
    }
}

impl Clerk {
    /// When the next file will be old enough to be closed or removed.
    fn next_due(&self) -> Option<Timestamp> {
        let files = self.logs.values().filter_map(|log| log.borrow().next_due());
        files.chain(self.desk.tidier.next_expiry()).min()
    }

    /// Closes and has removed what is old enough by now.
    fn on_due(&self) {
        let now = (self.desk.clock)();
        for log in self.logs.values() {
            log.borrow_mut().rotate_if_due(now);
        }
        if self.desk.tidier.next_expiry().is_some_and(|expiry| expiry <= now) {
            self.desk.tidier.expire();
        }
    }

    /// The file of a replica, with this policy from here on.
    fn log_of(&mut self, replica: ReplicaId, policy: CapturePolicy) -> Rc<RefCell<ReplicaLog>> {
        let log = self.logs.entry(replica).or_insert_with_key(|replica| {
            let log = ReplicaLog::new(self.desk.clone(), replica.clone(), policy.clone());
            // Files that an earlier host closed and did not come to compress.
            log.tidy();
            Rc::new(RefCell::new(log))
        });
        log.borrow_mut().set_policy(policy);
        Rc::clone(log)
    }

    fn rotate(&mut self, replica: ReplicaId, policy: CapturePolicy) -> (ReplicaId, Rotated) {
        if !self.logs.contains_key(&replica) && !replica_dir(&self.desk.root, &replica).is_dir() {
            return (replica, Rotated::Empty);
        }
        let log = self.log_of(replica.clone(), policy);
        let outcome = log.borrow_mut().close_current();
        (replica, outcome)
    }

    fn attach(&mut self, replica: ReplicaId, spawn: SpawnId, policy: CapturePolicy, open: OpenPipes) {
        let log = self.log_of(replica, policy);
        let mailbox = Rc::new(Mailbox::default());
        self.attached.insert(spawn, Attached { log: log.clone(), mailbox: mailbox.clone() });
        match open() {
            Ok(readers) => Program::start(self.desk.clone(), log.clone(), mailbox, readers),
            Err(error) => {
                mailbox.end();
                let replica = log.borrow().replica.clone();
                self.desk.notice(Notice::PipeFailed { replica, stream: None, error: error.to_string() });
            }
        }
    }

    fn set_policy(&self, replica: &ReplicaId, policy: CapturePolicy) {
        if let Some(log) = self.logs.get(replica) {
            let mut log = log.borrow_mut();
            log.set_policy(policy);
            log.tidy();
        }
    }

    fn settle(&self, spawn: SpawnId, n: usize, reply: oneshot::Sender<Vec<LogLine>>) {
        let Some(attached) = self.attached.get(&spawn) else { return };
        if let Err(Request::Settle { n, reply }) = attached.mailbox.put(Request::Settle { n, reply }) {
            let replica = attached.log.borrow().replica.clone();
            answer_tail(&self.desk, &replica, Some(&attached.log), n, reply);
        }
    }

    fn detach(&mut self, spawn: SpawnId, reply: oneshot::Sender<()>) {
        if let Some(attached) = self.attached.remove(&spawn)
            && let Err(Request::Detach { reply }) = attached.mailbox.put(Request::Detach { reply })
        {
            // Both pipes ended before: all is written.
            let _ = reply.send(());
        }
    }

    async fn close(mut self) {
        let spawns: Vec<SpawnId> = self.attached.keys().copied().collect();
        let mut answers = Vec::new();
        for spawn in spawns {
            let (reply, answer) = oneshot::channel();
            self.detach(spawn, reply);
            answers.push(answer);
        }
        for answer in answers {
            let _ = answer.await;
        }
        for log in self.logs.values() {
            log.borrow_mut().give_up();
        }
        self.desk.tidier.finish(CLOSE_WAIT);
    }
}

/// Answers with the last lines: of the plain files at once, and only where they do not reach, of compressed ones on a
/// thread beside (unpacking a file may take a tenth of a second).
pub(super) fn answer_tail(
    desk: &Desk,
    replica: &ReplicaId,
    log: Option<&RefCell<ReplicaLog>>,
    n: usize,
    reply: oneshot::Sender<Vec<LogLine>>,
) {
    let waiting = log.map(|log| unwritten(&log.borrow())).unwrap_or_default();
    let finish = move |mut lines: Vec<LogLine>| {
        lines.extend(waiting);
        lines.drain(..lines.len().saturating_sub(n));
        let _ = reply.send(lines);
    };
    let (lines, all) = read::tail(&desk.root, replica, n, read::Depth::Plain);
    if all || lines.len() >= n {
        finish(lines);
        return;
    }
    let (root, replica) = (desk.root.clone(), replica.clone());
    tokio::task::spawn_blocking(move || finish(read::tail(&root, &replica, n, read::Depth::All).0));
}

/// Lines that wait for the disk.
fn unwritten(log: &ReplicaLog) -> Vec<LogLine> {
    let mut lines = Vec::new();
    for record in log.backlog().split(|byte| *byte == b'\n').filter_map(parse) {
        let cut = record.text.len().min(read::TAIL_TEXT_BYTES);
        lines.push(LogLine {
            at: record.at,
            replica: log.replica.clone(),
            stream: record.stream,
            partial: record.partial || cut < record.text.len(),
            text: record.text[..cut].to_vec(),
        });
    }
    lines
}
