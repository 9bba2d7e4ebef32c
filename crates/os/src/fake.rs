//! Process trees in memory: the third body of [`ProcessTrees`], driven by a seed and by virtual time, for simulations
//! and for tests that need a program to misbehave at an exact moment.
//!
//! Nothing happens by itself: [`FakeProcesses::advance`] moves the clock, makes everything happen that is due, and
//! the news waits in `poll_event`. The same seed and the same calls give the same news.
//!
//! ```text
//!  launch ──► launching ──► running ──► leftovers ──► (gone)
//!                 │            └────────────────────────▲
//!                 └──► (gone: LaunchFailed)
//! ```

mod behaviour;

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};

use mainstay_types::{Exit, Moment, ReplicaId, SpawnId, StopSignal};

pub use behaviour::{Behaviour, LifeEnd, OnStop, Random};

use crate::{Launch, ProcessEvent, ProcessTrees};

/// What makes up the behaviour of a start whose replica has none of its own.
#[derive(Clone, Debug)]
enum Default {
    Random,
    Fixed(Box<Behaviour>),
}

/// What is true of one tree that is not gone.
#[derive(Clone, Debug)]
enum TreeState {
    /// Asked for; signals that come now are delivered as soon as it runs.
    Launching { signals: Vec<StopSignal>, killed: bool },
    /// The main process and its descendants live.
    Running,
    /// Only descendants live.
    Leftovers,
}

#[derive(Clone, Debug)]
struct Tree {
    replica: ReplicaId,
    behaviour: Behaviour,
    state: TreeState,
    /// A kill is under way; a second one changes nothing.
    killing: bool,
    /// The last signal put an end on the calendar; a second one changes nothing.
    stopping: bool,
}

/// Something that will happen unless the tree's state has moved on.
#[derive(Clone, Copy, Debug)]
enum Due {
    LaunchAnswered,
    MainEnds { exit: Exit, leftovers: u32 },
    LeftoversEnd,
}

/// Process trees in memory. Bounded by its user: one entry per live tree and per event not yet polled.
#[derive(Debug)]
pub struct FakeProcesses {
    random: Random,
    now: Moment,
    default: Default,
    behaviours: BTreeMap<ReplicaId, Behaviour>,
    trees: BTreeMap<SpawnId, Tree>,
    /// Keyed by time, then by the order of scheduling.
    calendar: BTreeMap<(Moment, u64), (SpawnId, Due)>,
    scheduled: u64,
    launched: BTreeMap<ReplicaId, u64>,
    next_pid: u32,
    news: VecDeque<ProcessEvent<()>>,
    waker: Option<Waker>,
}

impl FakeProcesses {
    /// An empty system at [`Moment::START`]. Replicas without a behaviour of their own get a random one for each
    /// start, drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            now: Moment::START,
            default: Default::Random,
            behaviours: BTreeMap::new(),
            trees: BTreeMap::new(),
            calendar: BTreeMap::new(),
            scheduled: 0,
            launched: BTreeMap::new(),
            next_pid: 1000,
            news: VecDeque::new(),
            waker: None,
        }
    }

    /// How every later start of this replica behaves; running ones stay as they are.
    pub fn set_behaviour(&mut self, replica: &ReplicaId, behaviour: Behaviour) {
        self.behaviours.insert(replica.clone(), behaviour);
    }

    /// Later starts of this replica behave by the default again.
    pub fn clear_behaviour(&mut self, replica: &ReplicaId) {
        self.behaviours.remove(replica);
    }

    /// How replicas without a behaviour of their own behave from now on, instead of at random.
    pub fn set_default_behaviour(&mut self, behaviour: Behaviour) {
        self.default = Default::Fixed(Box::new(behaviour));
    }

    /// The virtual time.
    #[must_use]
    pub const fn now(&self) -> Moment {
        self.now
    }

    /// When the next thing happens: now while news waits to be polled, `None` when nothing is on the calendar.
    #[must_use]
    pub fn next_event_at(&self) -> Option<Moment> {
        if self.news.is_empty() {
            self.calendar.keys().next().map(|(moment, _)| *moment)
        } else {
            Some(self.now)
        }
    }

    /// Moves the clock and makes everything due until then happen, in order. Never goes back.
    pub fn advance(&mut self, to: Moment) {
        while let Some(entry) = self.calendar.first_entry()
            && entry.key().0 <= to
        {
            let ((moment, _), (spawn, due)) = entry.remove_entry();
            self.now = self.now.max(moment);
            self.happen(spawn, due);
        }
        self.now = self.now.max(to);
        if !self.news.is_empty()
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// Trees of this replica that are asked for and not gone: launching, running, or with leftovers.
    #[must_use]
    pub fn live(&self, replica: &ReplicaId) -> usize {
        self.trees.values().filter(|tree| tree.replica == *replica).count()
    }

    /// Main processes of this replica that run.
    #[must_use]
    pub fn running(&self, replica: &ReplicaId) -> usize {
        self.trees
            .values()
            .filter(|tree| tree.replica == *replica && matches!(tree.state, TreeState::Running))
            .count()
    }

    /// Every tree that is not gone.
    pub fn live_trees(&self) -> impl Iterator<Item = (SpawnId, &ReplicaId)> {
        self.trees.iter().map(|(spawn, tree)| (*spawn, &tree.replica))
    }

    /// How often this replica was asked for.
    #[must_use]
    pub fn launches(&self, replica: &ReplicaId) -> u64 {
        self.launched.get(replica).copied().unwrap_or(0)
    }

    /// Ends the main process of `spawn` now, as if by itself or from outside. Its behaviour decides over leftovers.
    /// Nothing happens when it does not run.
    pub fn end_main(&mut self, spawn: SpawnId, exit: Exit) {
        if let Some(leftovers) = self.trees.get(&spawn).map(|tree| tree.behaviour.leftovers) {
            self.happen(spawn, Due::MainEnds { exit, leftovers });
        }
    }

    fn schedule(&mut self, after: std::time::Duration, spawn: SpawnId, due: Due) {
        self.scheduled += 1;
        self.calendar.insert((self.now + after, self.scheduled), (spawn, due));
    }

    fn happen(&mut self, spawn: SpawnId, due: Due) {
        let Some(tree) = self.trees.get_mut(&spawn) else { return };
        match (due, &tree.state) {
            (Due::LaunchAnswered, TreeState::Launching { signals, killed }) => {
                let (signals, killed) = (signals.clone(), *killed);
                if let Some(failure) = tree.behaviour.launch_fails.clone() {
                    self.trees.remove(&spawn);
                    self.news.push_back(ProcessEvent::LaunchFailed { spawn, failure });
                    return;
                }
                tree.state = TreeState::Running;
                let (end, leftovers) = (tree.behaviour.ends, tree.behaviour.leftovers);
                let pid = self.next_pid;
                self.next_pid += 1;
                self.news.push_back(ProcessEvent::Launched { spawn, pid, output: () });
                if let Some(LifeEnd { after, exit }) = end {
                    self.schedule(after, spawn, Due::MainEnds { exit, leftovers });
                }
                for signal in signals {
                    self.signal(spawn, signal);
                }
                if killed {
                    self.kill(spawn);
                }
            }
            (Due::MainEnds { exit, leftovers }, TreeState::Running) => {
                self.news.push_back(ProcessEvent::Exited { spawn, exit, leftovers });
                if leftovers == 0 {
                    self.trees.remove(&spawn);
                } else {
                    tree.state = TreeState::Leftovers;
                    // A kill or stop under way ends the leftovers too, by what it put on the calendar.
                    if !tree.killing
                        && let Some(after) = tree.behaviour.leftovers_end_after
                    {
                        self.schedule(after, spawn, Due::LeftoversEnd);
                    }
                }
            }
            (Due::LeftoversEnd, TreeState::Leftovers) => {
                self.trees.remove(&spawn);
                self.news.push_back(ProcessEvent::TreeEnded { spawn });
            }
            // The calendar is not cleaned when a tree ends earlier than planned: such entries find another state.
            (Due::LaunchAnswered, TreeState::Running | TreeState::Leftovers)
            | (Due::MainEnds { .. }, TreeState::Launching { .. } | TreeState::Leftovers)
            | (Due::LeftoversEnd, TreeState::Launching { .. } | TreeState::Running) => {}
        }
    }
}

const fn ended_by(signal: StopSignal) -> Exit {
    Exit::Signal { signal: signal.number(), core_dumped: false }
}

impl ProcessTrees for FakeProcesses {
    type Output = ();

    fn launch(&mut self, replica: &ReplicaId, spawn: SpawnId, _launch: Launch) {
        let behaviour = match (self.behaviours.get(replica), &self.default) {
            (Some(own), _) => own.clone(),
            (None, Default::Fixed(fixed)) => Behaviour::clone(fixed),
            (None, Default::Random) => Behaviour::random(&mut self.random),
        };
        *self.launched.entry(replica.clone()).or_default() += 1;
        let takes = behaviour.launch_takes;
        let state = TreeState::Launching { signals: Vec::new(), killed: false };
        let tree = Tree { replica: replica.clone(), behaviour, state, killing: false, stopping: false };
        self.trees.insert(spawn, tree);
        self.schedule(takes, spawn, Due::LaunchAnswered);
    }

    fn signal(&mut self, spawn: SpawnId, signal: StopSignal) {
        if signal == StopSignal::Kill {
            self.kill(spawn);
            return;
        }
        let Some(tree) = self.trees.get_mut(&spawn) else { return };
        match &mut tree.state {
            TreeState::Launching { signals, .. } => signals.push(signal),
            TreeState::Running | TreeState::Leftovers => match tree.behaviour.on_stop {
                OnStop::Ignores => {}
                OnStop::EndsAfter(_) | OnStop::EndsAlone(_) if tree.stopping => {}
                OnStop::EndsAfter(after) => {
                    tree.stopping = true;
                    self.schedule(after, spawn, Due::MainEnds { exit: ended_by(signal), leftovers: 0 });
                    self.schedule(after, spawn, Due::LeftoversEnd);
                }
                OnStop::EndsAlone(after) => {
                    tree.stopping = true;
                    let leftovers = tree.behaviour.leftovers;
                    self.schedule(after, spawn, Due::MainEnds { exit: Exit::Code(0), leftovers });
                }
            },
        }
    }

    /// A signal that programs take as a request to reload (HUP, USR1, USR2) changes nothing here.
    fn signal_main(&mut self, spawn: SpawnId, signal: StopSignal) {
        let Some(tree) = self.trees.get_mut(&spawn) else { return };
        match &mut tree.state {
            TreeState::Launching { signals, killed } => match signal {
                StopSignal::Kill => *killed = true,
                StopSignal::Term | StopSignal::Int | StopSignal::Quit => signals.push(signal),
                StopSignal::Hup | StopSignal::Usr1 | StopSignal::Usr2 => {}
            },
            TreeState::Leftovers => {}
            TreeState::Running => {
                let (after, exit) = match (signal, tree.behaviour.on_stop) {
                    (StopSignal::Hup | StopSignal::Usr1 | StopSignal::Usr2, _) => return,
                    (StopSignal::Kill, _) => (tree.behaviour.kill_takes, ended_by(signal)),
                    (StopSignal::Term | StopSignal::Int | StopSignal::Quit, on_stop) => match on_stop {
                        OnStop::Ignores => return,
                        OnStop::EndsAfter(after) => (after, ended_by(signal)),
                        OnStop::EndsAlone(after) => (after, Exit::Code(0)),
                    },
                };
                let leftovers = tree.behaviour.leftovers;
                self.schedule(after, spawn, Due::MainEnds { exit, leftovers });
            }
        }
    }

    fn kill(&mut self, spawn: SpawnId) {
        let Some(tree) = self.trees.get_mut(&spawn) else { return };
        if let TreeState::Launching { killed, .. } = &mut tree.state {
            *killed = true;
            return;
        }
        if tree.killing {
            return;
        }
        tree.killing = true;
        let Behaviour { kill_takes, leftovers, leftovers_outlive_kill, .. } = tree.behaviour;
        let seen = if leftovers_outlive_kill.is_zero() { 0 } else { leftovers };
        let exit = ended_by(StopSignal::Kill);
        self.schedule(kill_takes, spawn, Due::MainEnds { exit, leftovers: seen });
        self.schedule(kill_takes + leftovers_outlive_kill, spawn, Due::LeftoversEnd);
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<ProcessEvent<()>> {
        match self.news.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests;
