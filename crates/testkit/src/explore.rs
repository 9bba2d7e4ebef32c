//! The lifecycle explored: every order of exits, answers, commands and deadlines of a small stack, up to a bound, with
//! the rules of the simulation's model checked after each. [stateright](https://docs.rs/stateright) walks the states
//! breadth first, so that a broken rule comes with a shortest way to it.
//!
//! ```text
//!  stacks.rs ──► Explored ── what may happen next? ──► world.rs: answers, each perhaps a fault
//!                   │                                  commands, while there are any left
//!                   │                                  time: the next deadline, or the end of an answer's time
//!                   ▼
//!                 Node: machine, world, the simulation's model; equal if canonical.rs says so
//! ```
//!
//! Time stands still between deadlines: an answer comes at once, or after the deadlines that pass before its time is up.
//! Commands and faults (an exit nobody asked for, leftovers, a failed launch, a probe or gate that does not pass) are
//! so many on every way; everything else is unbounded but for the depth.

mod canonical;
mod stacks;
#[cfg(test)]
mod tests;
mod world;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mainstay_config::Stack;
use mainstay_lifecycle::{Command, Effect, Event, Record, StackMachine};
use mainstay_types::Moment;
use stateright::{Checker as _, Model as _, Property};

use crate::sim::Subject;
use crate::sim::model::{Broken, Model};
use stacks::Named;
use world::World;

/// How far to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Events on one way, the first command included.
    pub depth: usize,
    /// Commands on one way, after the first.
    pub commands: u8,
    /// Faults on one way.
    pub faults: u8,
}

/// What was explored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The stack's name.
    pub stack: &'static str,
    /// Different states.
    pub states: usize,
    /// Events that were handled to find them.
    pub events: usize,
    /// The longest way gone.
    pub depth: usize,
    /// Whether that was all: no way was cut by the depth.
    pub complete: bool,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stack, states, events, depth, complete } = self;
        let cut = if *complete { "all of them" } else { "cut by the depth" };
        write!(f, "{stack}: {states} states, {events} events, depth {depth}, {cut}")
    }
}

/// A broken rule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{rule}: {what}\nin the stack {stack:?}, after:\n{}", .steps.join("\n"))]
pub struct Violation {
    /// The rule, as it stands in the simulation's model.
    pub rule: &'static str,
    /// What broke it.
    pub what: String,
    /// The stack.
    pub stack: &'static str,
    /// The shortest way there: each event with its effects.
    pub steps: Vec<String>,
}

/// The names of the stacks there are.
pub fn stacks() -> impl Iterator<Item = &'static str> {
    stacks::ALL.iter().map(|named| named.name)
}

/// Explores one stack. `None` when there is none of this name.
///
/// # Errors
/// The first rule that is broken.
pub fn run(stack: &str, bounds: Bounds) -> Option<Result<Summary, Violation>> {
    let named = stacks::ALL.into_iter().find(|named| named.name == stack)?;
    Some(explore(named, bounds, None, StackMachine::new))
}

/// What is explored: a machine that can be copied and told apart.
pub(crate) trait Explorable: Subject + Clone + fmt::Debug + Send + Sync + 'static {}

impl<S: Subject + Clone + fmt::Debug + Send + Sync + 'static> Explorable for S {}

/// With `rule`, only this rule's breaches count; a way ends at any.
fn explore<S: Explorable>(
    named: Named,
    bounds: Bounds,
    rule: Option<&'static str>,
    subject: impl Fn(Arc<Stack>, u64) -> S,
) -> Result<Summary, Violation> {
    let stack = Arc::new(named.stack());
    let machine = subject(stack.clone(), 1);
    let first = Node::new(stack, machine, bounds);
    let changed = named.changed_stack().map(Arc::new);
    let explored = Explored { changed, first, rule };
    // One thread: the count of states is the same each time, and the first breach found is a nearest one.
    let checker = explored.checker().target_max_depth(bounds.depth + 1).spawn_bfs().join();
    match checker.discoveries().remove(RULES_HOLD) {
        None => Ok(Summary {
            stack: named.name,
            states: checker.unique_state_count(),
            events: checker.state_count(),
            depth: checker.max_depth().min(bounds.depth),
            complete: checker.max_depth() <= bounds.depth,
        }),
        Some(path) => {
            let mut node = checker.model().first.clone();
            let mut steps = Vec::new();
            for Step { at, event, .. } in path.into_actions() {
                steps.push(format!("{:?} {event:?}", at.since_start()));
                node.handle(event, at, |effect| {
                    steps.push(format!("        {effect}"));
                });
            }
            let (rule, what) = node.broken.unwrap_or((RULES_HOLD, "only at the first walk".to_owned()));
            Err(Violation { rule, what, stack: named.name, steps })
        }
    }
}

const RULES_HOLD: &str = "the rules hold";

/// The exploration of one stack, as stateright sees it.
struct Explored<S> {
    /// What a changed file makes of the stack.
    changed: Option<Arc<Stack>>,
    first: Node<S>,
    rule: Option<&'static str>,
}

/// One thing that may happen.
#[derive(Clone, PartialEq, Debug)]
struct Step {
    at: Moment,
    event: Event,
    faults: u8,
}

#[derive(Clone)]
struct Node<S> {
    /// As it counts now, and the one that is to count.
    stack: Arc<Stack>,
    next_stack: Option<Arc<Stack>>,
    machine: S,
    model: Model,
    world: World,
    now: Moment,
    commands: u8,
    faults: u8,
    broken: Option<Broken>,
    digest: u64,
}

impl<S> PartialEq for Node<S> {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl<S> std::hash::Hash for Node<S> {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        self.digest.hash(hasher);
    }
}

impl<S: Explorable> Node<S> {
    fn new(stack: Arc<Stack>, machine: S, bounds: Bounds) -> Self {
        let model = Model::new(stack.clone(), Duration::ZERO);
        let mut node = Self {
            stack,
            next_stack: None,
            machine,
            model,
            world: World::default(),
            now: Moment::START,
            commands: bounds.commands,
            faults: bounds.faults,
            broken: None,
            digest: 0,
        };
        node.handle(Event::Command(Command::StartStack), Moment::START, |_| {});
        node.identify(MEMORY);
        node
    }

    fn handle(&mut self, event: Event, at: Moment, mut tell: impl FnMut(String)) {
        self.now = at;
        self.world.happened(&event);
        let tick = event == Event::Tick;
        let mut broken = self.model.take_event(&event, at).err();
        if let Event::Apply(stack) = &event {
            self.next_stack = Some(stack.clone());
        }
        for effect in self.machine.handle(event, at) {
            tell(format!("{effect:?}"));
            broken = broken.or_else(|| self.model.take_effect(&effect, at).err());
            if let Effect::Record(Record::Applied { .. }) = effect
                && let Some(stack) = self.next_stack.take()
            {
                self.stack = stack;
            }
            self.world.perform(&effect, &self.stack, at);
        }
        let live = |replica: &_| self.world.live(replica);
        self.broken = broken.or_else(|| self.model.check(&self.machine, &live, tick, at).err());
    }

    fn identify(&mut self, memory: Duration) {
        let Self { machine, model, world, now, commands, faults, broken, .. } = self;
        let text = format!("{machine:?},{:?},{world:?},{commands},{faults},{broken:?}", model.gist());
        self.digest = canonical::digest(&text, *now, memory);
    }

    /// The next moment at which something has to happen, and what.
    fn time_passes(&self) -> Option<Step> {
        let tick = self.machine.next_deadline().map(|at| Step { at, event: Event::Tick, faults: 0 });
        let due = self.world.first_due().map(|(at, event)| Step { at, event, faults: 1 });
        let step = tick.into_iter().chain(due).min_by_key(|step| step.at)?;
        Some(Step { at: step.at.max(self.now), ..step })
    }
}

impl<S: Explorable> stateright::Model for Explored<S> {
    type State = Node<S>;
    type Action = Step;

    fn init_states(&self) -> Vec<Node<S>> {
        vec![self.first.clone()]
    }

    fn actions(&self, node: &Node<S>, steps: &mut Vec<Step>) {
        if node.broken.is_some() {
            return;
        }
        let answers = node.world.answers().into_iter();
        steps.extend(answers.map(|it| Step { at: node.now, event: it.event, faults: it.faults }));
        steps.extend(node.time_passes());
        steps.retain(|step| step.faults <= node.faults);
        if node.commands > 0 {
            let commands = node.stack.services.iter().flat_map(|service| {
                let name = || service.name.clone();
                [Command::Start, Command::Stop, Command::Restart, Command::Reload].map(|it| it(name()))
            });
            let all = commands.chain([Command::StopStack, Command::KillStack]).map(Event::Command);
            let all = all.chain(self.changed.iter().cloned().map(Event::Apply));
            steps.extend(all.map(|event| Step { at: node.now, event, faults: 0 }));
        }
    }

    fn next_state(&self, last: &Node<S>, step: Step) -> Option<Node<S>> {
        let mut node = last.clone();
        node.faults -= step.faults;
        node.commands -= u8::from(matches!(step.event, Event::Command(_) | Event::Apply(_)));
        node.handle(step.event, step.at, |_| {});
        node.identify(MEMORY);
        Some(node)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(RULES_HOLD, |explored: &Self, node: &Node<S>| {
            node.broken.as_ref().is_none_or(|(rule, _)| explored.rule.is_some_and(|wanted| wanted != *rule))
        })]
    }
}

/// Longer than anything in the stacks looks back: the window of `give_up`, a budget of a startup, a wait for gates.
const MEMORY: Duration = Duration::from_secs(12);
