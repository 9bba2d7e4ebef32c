//! Commands of exec probes and gates: each runs in a process tree of its own, as its service would, and ends with
//! everything it started when it exits or its time is up.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use mainstay_probes::{ExecAnswer, RunCommand};
use mainstay_types::{CommandLine, Exit, LaunchFailure, SpawnId};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::message::{Message, RunAs};

/// Ids of commands lie above this, ids of services below: the two are never mixed up. Below 2⁵⁶, which is what
/// `os` has room for, and far above what a host will ever start.
const FIRST_COMMAND_ID: u64 = 1 << 48;
/// What is kept of a command's output, for its last line.
const KEPT_OUTPUT_BYTES: usize = 4096;
/// How long output may still come after the command has exited (a grandchild may hold the pipe).
const OUTPUT_GRACE: Duration = Duration::from_millis(50);

/// The probes' way to run a command: through the host loop.
pub(crate) struct LoopRunner {
    pub(crate) messages: mpsc::UnboundedSender<Message>,
    pub(crate) run_as: RunAs,
}

impl RunCommand for LoopRunner {
    fn run(
        &self,
        command: CommandLine,
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = ExecAnswer> + Send>> {
        let (reply, answer) = oneshot::channel();
        let message = Message::RunCommand { run_as: self.run_as.clone(), command, timeout, reply };
        let sent = self.messages.send(message);
        Box::pin(async move {
            if sent.is_err() {
                return ExecAnswer::NotStarted("the host is ending".to_owned());
            }
            answer.await.unwrap_or_else(|_| ExecAnswer::NotStarted("the host is ending".to_owned()))
        })
    }
}

struct Run {
    reply: Option<oneshot::Sender<ExecAnswer>>,
    output: Option<JoinHandle<String>>,
    timer: JoinHandle<()>,
    timed_out: bool,
    timeout: Duration,
}

/// The commands under way. At most one for each probe and gate, since neither is asked again before it has answered.
pub(crate) struct Runs {
    next: u64,
    running: BTreeMap<SpawnId, Run>,
    messages: mpsc::UnboundedSender<Message>,
}

impl Runs {
    pub(crate) fn new(messages: mpsc::UnboundedSender<Message>) -> Self {
        Self { next: FIRST_COMMAND_ID, running: BTreeMap::new(), messages }
    }

    pub(crate) fn is_command(spawn: SpawnId) -> bool {
        spawn.0 >= FIRST_COMMAND_ID
    }

    pub(crate) fn begin(&mut self, timeout: Duration, reply: oneshot::Sender<ExecAnswer>) -> SpawnId {
        let spawn = SpawnId(self.next);
        self.next += 1;
        let messages = self.messages.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            // The loop may have ended.
            let _ = messages.send(Message::RunTimedOut(spawn));
        });
        self.running
            .insert(spawn, Run { reply: Some(reply), output: None, timer, timed_out: false, timeout });
        spawn
    }

    pub(crate) fn launched<R>(&mut self, spawn: SpawnId, stdout: R, stderr: R)
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        if let Some(run) = self.running.get_mut(&spawn) {
            run.output = Some(tokio::spawn(last_line(stdout, stderr)));
        }
    }

    pub(crate) fn failed(&mut self, spawn: SpawnId, failure: &LaunchFailure) {
        if let Some(mut run) = self.running.remove(&spawn) {
            run.timer.abort();
            if let Some(reply) = run.reply.take() {
                // Whoever asked may have gone.
                let _ = reply.send(ExecAnswer::NotStarted(failure.to_string()));
            }
        }
    }

    /// Answers at once, and lets the caller kill the tree.
    pub(crate) fn timed_out(&mut self, spawn: SpawnId) -> bool {
        let Some(run) = self.running.get_mut(&spawn) else { return false };
        run.timed_out = true;
        if let Some(reply) = run.reply.take() {
            let _ = reply.send(ExecAnswer::TimedOut(run.timeout));
        }
        true
    }

    pub(crate) fn exited(&mut self, spawn: SpawnId, exit: Exit) {
        let Some(mut run) = self.running.remove(&spawn) else { return };
        run.timer.abort();
        let Some(reply) = run.reply.take() else { return };
        tokio::spawn(async move {
            let last_line = match run.output.take() {
                Some(mut output) => match tokio::time::timeout(OUTPUT_GRACE, &mut output).await {
                    Ok(line) => line.unwrap_or_default(),
                    Err(_) => {
                        output.abort();
                        String::new()
                    }
                },
                None => String::new(),
            };
            let _ = reply.send(ExecAnswer::Exited { exit, last_line });
        });
    }
}

/// Reads both streams to their end and gives the last line that is not empty; keeps only the end of the output.
async fn last_line<R: AsyncRead + Unpin>(mut stdout: R, mut stderr: R) -> String {
    let mut kept = Vec::new();
    let (mut out, mut err) = ([0_u8; 1024], [0_u8; 1024]);
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        let read = tokio::select! {
            read = stdout.read(&mut out), if out_open => { let n = read.unwrap_or(0); out_open = n > 0; &out[..n] }
            read = stderr.read(&mut err), if err_open => { let n = read.unwrap_or(0); err_open = n > 0; &err[..n] }
        };
        kept.extend_from_slice(read);
        let surplus = kept.len().saturating_sub(KEPT_OUTPUT_BYTES);
        kept.drain(..surplus);
    }
    let text = String::from_utf8_lossy(&kept);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}
