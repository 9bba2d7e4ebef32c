//! The task that reads one started program's two pipes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;

use super::Notice;
use super::batch::Batch;
use super::desk::{Buffers, Desk, Reader, answer_tail};
use super::mask::Masker;
use super::replica_log::{Backlog, RETRY_FIRST, RETRY_MAX, ReplicaLog};
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
    masker: Masker,
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
        let pipe = |stream, reader| Pipe {
            stream,
            reader: Some(reader),
            masker: Masker::default(),
            splitter: Splitter::default(),
        };
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
                    self.drain(Backlog::Keep).await;
                    self.end_lines(Splitter::settle);
                    let replica = self.log.borrow().replica.clone();
                    answer_tail(&self.desk, &replica, Some(&self.log), n, reply);
                }
                Woken::Asked(Request::Detach { reply }) => {
                    self.log.borrow_mut().retry();
                    self.drain(Backlog::Bound).await;
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
        if self.log.borrow().holds_back() {
            self.log.borrow_mut().wake_when_flowing(cx.waker());
            return Poll::Pending;
        }
        let mut over = false;
        for index in 0..self.pipes.len() {
            match self.poll_pipe(index, TURN_BYTES, Backlog::Keep, cx).1 {
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
        backlog: Backlog,
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
                    let pipe = &mut self.pipes[index];
                    pipe.masker.shrink();
                    pipe.splitter.shrink();
                    return (given, Reading::Empty);
                }
                Poll::Ready(Ok(())) if !space.filled().is_empty() => {
                    let count = space.filled().len();
                    given += count;
                    let pipe = &mut self.pipes[index];
                    pipe.take(&self.desk, &self.log, buffers, Taken::Read(count), backlog);
                    if backlog == Backlog::Keep && self.log.borrow().holds_back() {
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
                    let pipe = &mut self.pipes[index];
                    pipe.reader = None;
                    pipe.end_line(&self.desk, &self.log, buffers, Splitter::finish, backlog);
                    return (given, Reading::Empty);
                }
            }
        }
    }

    /// Reads what both pipes hold now. While the file cannot be written, settling leaves them as they are.
    async fn drain(&mut self, backlog: Backlog) {
        let mut left = [DRAIN_BYTES; 2];
        let mut quiet = 0;
        while quiet < QUIET_ROUNDS {
            if backlog == Backlog::Keep && self.log.borrow().holds_back() {
                return;
            }
            let given = poll_fn(|cx| {
                let mut given = 0;
                for (index, left) in left.iter_mut().enumerate() {
                    let count = self.poll_pipe(index, *left, backlog, cx).0;
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
    fn end_lines(&mut self, how: fn(&mut Splitter, &mut Batch)) {
        let buffers = &mut *self.desk.buffers.borrow_mut();
        for pipe in &mut self.pipes {
            pipe.end_line(&self.desk, &self.log, buffers, how, Backlog::Keep);
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

/// Where bytes come from.
#[derive(Clone, Copy)]
enum Taken {
    /// This many are in the buffer to read into.
    Read(usize),
    /// What the masker holds: nothing more is waited for.
    Held,
}

impl Pipe {
    /// Takes bytes in: through the masks, into lines, to the file.
    fn take(
        &mut self,
        desk: &Desk,
        log: &Rc<RefCell<ReplicaLog>>,
        buffers: &mut Buffers,
        taken: Taken,
        backlog: Backlog,
    ) {
        let now = (desk.clock)();
        let (masks, max_line_bytes) = {
            let log = log.borrow();
            (log.policy.masks.clone(), log.policy.max_line_bytes)
        };
        let Buffers { read, masked, batch } = buffers;
        let chunk = match (taken, &masks) {
            (Taken::Read(count), None) if self.masker.is_empty() => &read[..count],
            (Taken::Read(count), Some(masks)) => {
                masked.clear();
                log.borrow().counters.masked(self.masker.push(masks, &read[..count], masked));
                &masked[..]
            }
            (Taken::Read(count), None) => {
                // The masks were taken away by a changed file in the middle of a line.
                masked.clear();
                self.masker.give_up(masked);
                masked.extend_from_slice(&read[..count]);
                &masked[..]
            }
            (Taken::Held, Some(masks)) => {
                masked.clear();
                log.borrow().counters.masked(self.masker.release(masks, masked));
                &masked[..]
            }
            (Taken::Held, None) => {
                masked.clear();
                self.masker.give_up(masked);
                &masked[..]
            }
        };
        let mut used = 0;
        while used < chunk.len() {
            batch.begin(log.borrow_mut().begin(now, self.stream));
            used += self.splitter.push(&chunk[used..], max_line_bytes, batch);
            hand_over(desk, log, self.stream, batch, backlog);
        }
    }

    /// Does to an unfinished line what `how` says.
    fn end_line(
        &mut self,
        desk: &Desk,
        log: &Rc<RefCell<ReplicaLog>>,
        buffers: &mut Buffers,
        how: fn(&mut Splitter, &mut Batch),
        backlog: Backlog,
    ) {
        if !self.masker.is_empty() {
            self.take(desk, log, buffers, Taken::Held, backlog);
        }
        if self.splitter.is_between_lines() {
            return;
        }
        let batch = &mut buffers.batch;
        batch.begin(log.borrow_mut().begin((desk.clock)(), self.stream));
        how(&mut self.splitter, batch);
        hand_over(desk, log, self.stream, batch, backlog);
    }
}

/// Shows a batch to the tap and writes it; a file that fails gets a task that tries again.
fn hand_over(desk: &Desk, log: &Rc<RefCell<ReplicaLog>>, stream: Stream, batch: &Batch, backlog: Backlog) {
    let mut file = log.borrow_mut();
    if let Some(tap) = &desk.tap
        && !batch.bytes.is_empty()
    {
        tap.lines(&file.replica, stream, batch.at(), Lines { records: &batch.bytes });
    }
    file.submit(batch, backlog);
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
