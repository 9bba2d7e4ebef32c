//! The task that reads one started program's two pipes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use mainstay_types::Timestamp;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;

use super::Notice;
use super::desk::{Desk, Reader, answer_tail};
use super::replica_log::{RETRY_FIRST, RETRY_MAX, ReplicaLog, WhenBlocked};
use super::splitter::Splitter;
use crate::capture::Lines;
use crate::{LogLine, Stream};

/// How much one stream may give before the others have their turn.
const TURN_BYTES: usize = 1024 * 1024;

/// How much settling takes from one pipe at most: what a pipe can hold unless a privileged hand enlarged it
/// (`/proc/sys/fs/pipe-max-size`, pipe(7)). A grandchild that writes without end cannot keep it busy.
const DRAIN_BYTES: usize = 1024 * 1024;

/// Rounds without a byte after which a pipe is taken as empty; between them the system is asked for news.
const QUIET_ROUNDS: u32 = 2;

/// What a program's task is asked to do.
pub(super) enum Request {
    Settle { n: usize, reply: oneshot::Sender<Vec<LogLine>> },
    Detach { reply: oneshot::Sender<()> },
}

/// Requests for one program's task; filled by the desk, on the same thread. Holds a few at most: the host waits for
/// each answer.
#[derive(Default)]
pub(super) struct Mailbox {
    requests: RefCell<VecDeque<Request>>,
    waker: RefCell<Option<Waker>>,
    ended: Cell<bool>,
}

impl Mailbox {
    /// Hands over a request; gives it back when the task has ended.
    pub(super) fn put(&self, request: Request) -> Result<(), Request> {
        if self.ended.get() {
            return Err(request);
        }
        self.requests.borrow_mut().push_back(request);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
        Ok(())
    }

    /// No task takes requests any more.
    pub(super) fn end(&self) {
        self.ended.set(true);
    }

    fn poll_take(&self, cx: &Context<'_>) -> Option<Request> {
        let request = self.requests.borrow_mut().pop_front();
        if request.is_none() {
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        request
    }
}

/// One started program.
pub(super) struct Program {
    desk: Rc<Desk>,
    log: Rc<RefCell<ReplicaLog>>,
    mailbox: Rc<Mailbox>,
    pipes: [Pipe; 2],
}

struct Pipe {
    stream: Stream,
    /// Gone at its end.
    reader: Option<Reader>,
    splitter: Splitter,
}

/// Why the task woke.
enum Woken {
    Asked(Request),
    /// A stream has had its turn and may have more.
    TurnOver,
    /// Both pipes are at their end.
    Ended,
}

/// What reading a pipe came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It holds nothing more for now, or is at its end.
    Empty,
    /// The allowance is used up.
    TurnOver,
    /// The file cannot be written.
    Blocked,
}

impl Program {
    /// Starts the task.
    pub(super) fn start(
        desk: Rc<Desk>,
        log: Rc<RefCell<ReplicaLog>>,
        mailbox: Rc<Mailbox>,
        [stdout, stderr]: [Reader; 2],
    ) {
        log.borrow_mut().attached += 1;
        let pipe = |stream, reader| Pipe { stream, reader: Some(reader), splitter: Splitter::default() };
        let pipes = [pipe(Stream::Stdout, stdout), pipe(Stream::Stderr, stderr)];
        // The share of a turn is counted in bytes here; tokio's own budget would hide readable pipes from draining.
        tokio::task::spawn_local(tokio::task::coop::unconstrained(Self { desk, log, mailbox, pipes }.run()));
    }

    async fn run(mut self) {
        loop {
            match poll_fn(|cx| self.poll_woken(cx)).await {
                Woken::TurnOver => tokio::task::yield_now().await,
                Woken::Ended => break,
                Woken::Asked(Request::Settle { n, reply }) => {
                    self.log.borrow_mut().retry();
                    self.drain(WhenBlocked::Keep).await;
                    self.end_lines(Splitter::settle);
                    let replica = self.log.borrow().replica.clone();
                    answer_tail(&self.desk, &replica, Some(&self.log), n, reply);
                }
                Woken::Asked(Request::Detach { reply }) => {
                    self.log.borrow_mut().retry();
                    self.drain(WhenBlocked::Bound).await;
                    self.end();
                    let _ = reply.send(());
                    return;
                }
            }
        }
        self.end();
    }

    /// Reads while there is something to read and the file takes it.
    fn poll_woken(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        if let Some(request) = self.mailbox.poll_take(cx) {
            return Poll::Ready(Woken::Asked(request));
        }
        if self.log.borrow().is_blocked() {
            self.log.borrow_mut().wake_when_flowing(cx.waker());
            return Poll::Pending;
        }
        let mut over = false;
        for index in 0..self.pipes.len() {
            match self.poll_pipe(index, TURN_BYTES, WhenBlocked::Keep, cx).1 {
                Reading::Empty => {}
                Reading::TurnOver => over = true,
                Reading::Blocked => {
                    self.log.borrow_mut().wake_when_flowing(cx.waker());
                    return Poll::Pending;
                }
            }
        }
        if self.pipes.iter().all(|pipe| pipe.reader.is_none()) {
            Poll::Ready(Woken::Ended)
        } else if over {
            Poll::Ready(Woken::TurnOver)
        } else {
            Poll::Pending
        }
    }

    /// Reads one pipe until it is empty or has given `allowance` bytes; returns how many it gave.
    fn poll_pipe(
        &mut self,
        index: usize,
        allowance: usize,
        when_blocked: WhenBlocked,
        cx: &mut Context<'_>,
    ) -> (usize, Reading) {
        let mut given = 0;
        loop {
            let Some(reader) = &mut self.pipes[index].reader else { return (given, Reading::Empty) };
            if given >= allowance {
                return (given, Reading::TurnOver);
            }
            let buffers = &mut *self.desk.buffers.borrow_mut();
            let mut space = ReadBuf::new(&mut buffers.read);
            match Pin::new(reader).poll_read(cx, &mut space) {
                Poll::Pending => {
                    self.pipes[index].splitter.shrink();
                    return (given, Reading::Empty);
                }
                Poll::Ready(Ok(())) if !space.filled().is_empty() => {
                    let count = space.filled().len();
                    given += count;
                    let now = Timestamp::now();
                    let (chunk, batch) = (&buffers.read[..count], &mut buffers.batch);
                    let pipe = &mut self.pipes[index];
                    let max_line_bytes = self.log.borrow().policy.max_line_bytes;
                    let mut used = 0;
                    while used < chunk.len() {
                        batch.begin(self.log.borrow_mut().begin(now, pipe.stream));
                        used += pipe.splitter.push(&chunk[used..], max_line_bytes, batch);
                        hand_over(&self.desk, &self.log, pipe.stream, batch, when_blocked);
                    }
                    if when_blocked == WhenBlocked::Keep && self.log.borrow().is_blocked() {
                        return (given, Reading::Blocked);
                    }
                }
                Poll::Ready(outcome) => {
                    if let Err(error) = outcome {
                        self.desk.notice(Notice::PipeFailed {
                            replica: self.log.borrow().replica.clone(),
                            stream: Some(self.pipes[index].stream),
                            error: error.to_string(),
                        });
                    }
                    self.pipes[index].reader = None;
                    let pipe = &mut self.pipes[index];
                    buffers.batch.begin(self.log.borrow_mut().begin(Timestamp::now(), pipe.stream));
                    pipe.splitter.finish(&mut buffers.batch);
                    hand_over(&self.desk, &self.log, pipe.stream, &buffers.batch, when_blocked);
                    return (given, Reading::Empty);
                }
            }
        }
    }

    /// Reads what both pipes hold now. While the file cannot be written, settling leaves them as they are.
    async fn drain(&mut self, when_blocked: WhenBlocked) {
        let mut left = [DRAIN_BYTES; 2];
        let mut quiet = 0;
        while quiet < QUIET_ROUNDS {
            if when_blocked == WhenBlocked::Keep && self.log.borrow().is_blocked() {
                return;
            }
            let given = poll_fn(|cx| {
                let mut given = 0;
                for (index, left) in left.iter_mut().enumerate() {
                    let count = self.poll_pipe(index, *left, when_blocked, cx).0;
                    *left = left.saturating_sub(count);
                    given += count;
                }
                Poll::Ready(given)
            })
            .await;
            quiet = if given == 0 { quiet + 1 } else { 0 };
            // A pipe is known to be readable only once the runtime has asked the system; yielding makes it ask.
            tokio::task::yield_now().await;
        }
    }

    /// Does to both streams' unfinished lines what `how` says.
    fn end_lines(&mut self, how: fn(&mut Splitter, &mut super::batch::Batch)) {
        let batch = &mut self.desk.buffers.borrow_mut().batch;
        for pipe in &mut self.pipes {
            if pipe.splitter.is_between_lines() {
                continue;
            }
            batch.begin(self.log.borrow_mut().begin(Timestamp::now(), pipe.stream));
            how(&mut pipe.splitter, batch);
            hand_over(&self.desk, &self.log, pipe.stream, batch, WhenBlocked::Keep);
        }
    }

    /// Nothing more is read: ends the lines, and closes the file when no other program writes to it.
    fn end(&mut self) {
        self.end_lines(Splitter::finish);
        self.mailbox.end();
        for request in self.mailbox.requests.borrow_mut().drain(..) {
            match request {
                Request::Settle { n, reply } => {
                    let replica = self.log.borrow().replica.clone();
                    answer_tail(&self.desk, &replica, Some(&self.log), n, reply);
                }
                Request::Detach { reply } => {
                    let _ = reply.send(());
                }
            }
        }
        let mut log = self.log.borrow_mut();
        log.attached -= 1;
        if log.attached == 0 {
            log.close_file();
        }
    }
}

/// Shows a batch to the tap and writes it; a file that fails gets a task that tries again.
fn hand_over(
    desk: &Desk,
    log: &Rc<RefCell<ReplicaLog>>,
    stream: Stream,
    batch: &super::batch::Batch,
    when_blocked: WhenBlocked,
) {
    let mut file = log.borrow_mut();
    if let Some(tap) = &desk.tap
        && !batch.bytes.is_empty()
    {
        tap.lines(&file.replica, stream, batch.at(), Lines { records: &batch.bytes });
    }
    file.submit(batch, when_blocked);
    if file.claim_retry() {
        tokio::task::spawn_local(retry(log.clone()));
    }
}

async fn retry(log: Rc<RefCell<ReplicaLog>>) {
    let mut wait = RETRY_FIRST;
    loop {
        tokio::time::sleep(wait).await;
        let mut log = log.borrow_mut();
        if log.retry() {
            if log.attached == 0 {
                log.close_file();
            }
            return;
        }
        wait = (wait * 2).min(RETRY_MAX);
    }
}
