//! Commands of exec probes and gates, of hooks, stops and reloads: each runs in a process tree of its own, as its service
//! would, and ends with everything it started when it exits or its time is up. What a probe writes is kept for its last
//! line only; what the others write goes to the log of their service.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use mainstay_lifecycle::TaskId;
use mainstay_logs::{Capture, LogLine};
use mainstay_os::ProcessTrees;
use mainstay_probes::{ExecAnswer, RunCommand};
use mainstay_types::{CommandLine, Exit, LaunchFailure, ProbeFailure, ProbeOutcome, ReplicaId, SpawnId};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::host::{Host, next_processes};
use crate::message::{Message, RunAs};

/// Ids of commands lie above this, ids of services below: the two are never mixed up. Below 2⁵⁶, which is what
/// `os` has room for, and far above what a host will ever start.
const FIRST_COMMAND_ID: u64 = 1 << 48;
/// What is kept of a command's output, for its last line.
const KEPT_OUTPUT_BYTES: usize = 4096;
/// How long output may still come after the command has exited (a grandchild may hold the pipe).
const OUTPUT_GRACE: Duration = Duration::from_millis(50);
/// How long the host's end waits for commands it has killed to be gone: only a process that hangs in the kernel takes
/// longer.
const END_LIMIT: Duration = Duration::from_secs(5);

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

/// Whom a run's end is told to.
enum Asker {
    /// A probe or gate check.
    Probe(oneshot::Sender<ExecAnswer>),
    /// The machine, about this task of this replica.
    Task(TaskId, ReplicaId),
}

struct Run {
    asker: Option<Asker>,
    /// The start of a service that it asks about: without it the answer is of no use.
    about: Option<SpawnId>,
    output: Option<JoinHandle<String>>,
    timer: JoinHandle<()>,
    timed_out: bool,
    timeout: Duration,
}

/// The commands under way. At most one for each probe, gate and replica's hook, since none is begun again before it has
/// answered.
pub(crate) struct Runs {
    next: u64,
    running: BTreeMap<SpawnId, Run>,
    /// Tasks that have not been answered.
    tasks: BTreeMap<TaskId, SpawnId>,
    /// Those of which processes may be left, answered or not.
    trees: BTreeSet<SpawnId>,
    messages: mpsc::UnboundedSender<Message>,
}

impl Runs {
    pub(crate) fn new(messages: mpsc::UnboundedSender<Message>) -> Self {
        Self {
            next: FIRST_COMMAND_ID,
            running: BTreeMap::new(),
            tasks: BTreeMap::new(),
            trees: BTreeSet::new(),
            messages,
        }
    }

    pub(crate) fn is_command(spawn: SpawnId) -> bool {
        spawn.0 >= FIRST_COMMAND_ID
    }

    /// Begins the command of a probe or gate; `about` is the start of the service that a probe asks about.
    pub(crate) fn begin(
        &mut self,
        timeout: Duration,
        about: Option<SpawnId>,
        reply: oneshot::Sender<ExecAnswer>,
    ) -> SpawnId {
        self.begin_for(timeout, about, Asker::Probe(reply))
    }

    /// Begins a run whose end is told to the machine as `RunEnded`.
    pub(crate) fn begin_task(&mut self, timeout: Duration, task: TaskId, replica: ReplicaId) -> SpawnId {
        let spawn = self.begin_for(timeout, None, Asker::Task(task, replica));
        self.tasks.insert(task, spawn);
        spawn
    }

    /// The process tree of a task under way.
    pub(crate) fn spawn_of(&self, task: TaskId) -> Option<SpawnId> {
        self.tasks.get(&task).copied()
    }

    /// The replica into whose log the output of this run goes; `None` for a probe.
    pub(crate) fn logs_to(&self, spawn: SpawnId) -> Option<ReplicaId> {
        match self.running.get(&spawn)?.asker.as_ref()? {
            Asker::Task(_, replica) => Some(replica.clone()),
            Asker::Probe(_) => None,
        }
    }

    /// The commands that ask about this start of a service.
    pub(crate) fn about(&self, spawn: SpawnId) -> Vec<SpawnId> {
        let asks = |run: &Run| run.about == Some(spawn);
        self.running.iter().filter(|(_, run)| asks(run)).map(|(id, _)| *id).collect()
    }

    /// All its processes are gone.
    pub(crate) fn tree_gone(&mut self, spawn: SpawnId) {
        self.trees.remove(&spawn);
    }

    fn begin_for(&mut self, timeout: Duration, about: Option<SpawnId>, asker: Asker) -> SpawnId {
        let spawn = SpawnId(self.next);
        self.next += 1;
        let messages = self.messages.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            // The loop may have ended.
            let _ = messages.send(Message::RunTimedOut(spawn));
        });
        self.trees.insert(spawn);
        self.running
            .insert(spawn, Run { asker: Some(asker), about, output: None, timer, timed_out: false, timeout });
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
        self.tree_gone(spawn);
        if let Some(mut run) = self.running.remove(&spawn) {
            run.timer.abort();
            self.answer(run.asker.take(), ExecAnswer::NotStarted(failure.to_string()));
        }
    }

    /// Whether the run is still there to be killed; its asker is answered at once.
    pub(crate) fn timed_out(&mut self, spawn: SpawnId) -> bool {
        let Some(run) = self.running.get_mut(&spawn) else { return false };
        run.timed_out = true;
        let (asker, timeout) = (run.asker.take(), run.timeout);
        self.answer(asker, ExecAnswer::TimedOut(timeout));
        true
    }

    /// The command ended; `capture` has what a task wrote.
    pub(crate) fn exited(&mut self, spawn: SpawnId, exit: Exit, capture: &Capture) {
        let Some(mut run) = self.running.remove(&spawn) else { return };
        run.timer.abort();
        match run.asker.take() {
            None => {}
            Some(Asker::Probe(reply)) => {
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
                    // Whoever asked may have gone; here and below.
                    let _ = reply.send(ExecAnswer::Exited { exit, last_line });
                });
            }
            Some(Asker::Task(task, _)) if exit.is_success() => {
                let passed = ProbeOutcome::Passed("exit code 0".to_owned());
                self.tell(task, passed);
            }
            Some(Asker::Task(task, _)) => {
                self.tasks.remove(&task);
                let (capture, messages) = (capture.clone(), self.messages.clone());
                tokio::spawn(async move {
                    // A failure is told with the last line it wrote.
                    let lines = tokio::time::timeout(OUTPUT_GRACE, capture.settle(spawn, 1)).await;
                    let last_line = lines.unwrap_or_default().last().map(printable_line).unwrap_or_default();
                    let outcome = ProbeOutcome::Failed(ProbeFailure::Exit { exit, last_line });
                    let _ = messages.send(Message::RunEnded { task, outcome });
                });
            }
        }
    }

    fn answer(&mut self, asker: Option<Asker>, answer: ExecAnswer) {
        match asker {
            None => {}
            Some(Asker::Probe(reply)) => {
                let _ = reply.send(answer);
            }
            Some(Asker::Task(task, _)) => {
                let failure = match answer {
                    ExecAnswer::Exited { exit, last_line } => ProbeFailure::Exit { exit, last_line },
                    ExecAnswer::TimedOut(limit) => ProbeFailure::TimedOut(limit),
                    ExecAnswer::NotStarted(reason) => ProbeFailure::NotStarted(reason),
                };
                self.tell(task, ProbeOutcome::Failed(failure));
            }
        }
    }

    fn tell(&mut self, task: TaskId, outcome: ProbeOutcome) {
        self.tasks.remove(&task);
        let _ = self.messages.send(Message::RunEnded { task, outcome });
    }
}

impl Host {
    /// Ends the commands that are still under way when the stack is over: nobody waits for their answers any more, and
    /// none may outlive the host.
    pub(crate) async fn end_commands(&mut self) {
        let limit = tokio::time::Instant::now() + END_LIMIT;
        while !self.runs.trees.is_empty() {
            // Again each time: a command whose start was under way has processes only now.
            for spawn in &self.runs.trees {
                self.processes.kill(*spawn);
            }
            let mut news = Vec::new();
            if tokio::time::timeout_at(limit, next_processes(&mut self.processes, &mut news)).await.is_err() {
                let count = self.runs.trees.len();
                let text = format!(
                    "{count} commands of probes, gates or hooks do not end, although they were killed"
                );
                self.publisher.notice(None, text);
                return;
            }
            for event in news {
                self.on_process(event);
            }
            self.tell_notices();
        }
    }
}

fn printable_line(line: &LogLine) -> String {
    String::from_utf8_lossy(&line.text).chars().filter(|c| !c.is_control()).take(200).collect()
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
