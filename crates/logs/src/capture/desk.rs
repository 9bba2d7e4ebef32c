//! The capture thread: what all its tasks share, and the task that takes the commands.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mainstay_types::{ReplicaId, SpawnId};
use tokio::io::AsyncRead;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot};

use super::batch::Batch;
use super::counters::Registry;
use super::program::{Mailbox, Program, Request};
use super::replica_log::ReplicaLog;
use super::tidy::Tidier;
use super::{CaptureOptions, CapturePolicy, Notice, Tap};
use crate::record::parse;
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

    /// Has a replica's closed files pruned and compressed in the background.
    pub(super) fn tidy(&self, dir: &Path, replica: &ReplicaId, policy: &CapturePolicy) {
        self.tidier.tidy(dir, replica, policy);
    }
}

/// Starts the thread; the channel is its only hold.
pub(super) fn start(
    options: CaptureOptions,
    lower_priority: fn(),
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
        let closed = runtime.block_on(take_commands(options, lower_priority, counters, received));
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
    lower_priority: fn(),
    counters: Registry,
    mut received: mpsc::UnboundedReceiver<Command>,
) -> Option<oneshot::Sender<()>> {
    let desk = Rc::new(Desk {
        tidier: Tidier::new(options.notices.clone(), lower_priority),
        root: options.dir,
        tap: options.tap,
        notices: options.notices,
        counters,
        buffers: RefCell::new(Buffers { read: vec![0; READ_BYTES], masked: Vec::new(), batch: Batch::new() }),
    });
    desk.tidier.recover(&desk.root);
    let mut clerk = Clerk { desk, logs: HashMap::new(), attached: HashMap::new() };
    let mut closed = None;
    while let Some(command) = received.recv().await {
        match command {
            Command::Attach { replica, spawn, policy, open } => clerk.attach(replica, spawn, policy, open),
            Command::SetPolicy { replica, policy } => clerk.set_policy(&replica, policy),
            Command::Settle { spawn, n, reply } => clerk.settle(spawn, n, reply),
            Command::Detach { spawn, reply } => clerk.detach(spawn, reply),
            Command::Tail { replica, n, reply } => {
                let log = clerk.logs.get(&replica).cloned();
                answer_tail(&clerk.desk, &replica, log.as_deref(), n, reply);
            }
            Command::Close { reply } => {
                closed = Some(reply);
                break;
            }
        }
    }
    clerk.close().await;
    closed
}

impl Clerk {
    fn attach(&mut self, replica: ReplicaId, spawn: SpawnId, policy: CapturePolicy, open: OpenPipes) {
        let log = self.logs.entry(replica).or_insert_with_key(|replica| {
            let log = ReplicaLog::new(self.desk.clone(), replica.clone(), policy.clone());
            // Files that an earlier host closed and did not come to compress.
            log.tidy();
            Rc::new(RefCell::new(log))
        });
        log.borrow_mut().set_policy(policy);
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
