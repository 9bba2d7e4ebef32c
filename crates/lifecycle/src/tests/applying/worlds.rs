//! Random pairs of stacks in a world where every program does what its name says: whatever a change meets in flight, in
//! the end the machine is what one started with the new stack would be, and what did not change was not touched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mainstay_config::{ChangeEffect, Kind, diff};
use proptest::prelude::*;

use super::*;
use crate::SplitMix64;

const NAMES: [&str; 5] = ["s0", "s1", "s2", "s3", "bad"];

/// The world of programs: what was asked of it and is not answered yet.
struct World {
    bench: Bench,
    open: VecDeque<Event>,
    random: SplitMix64,
    launched: BTreeSet<SpawnId>,
    /// What was launched before the last change began to count.
    before_change: BTreeSet<SpawnId>,
}

impl World {
    fn new(services: Vec<Service>, seed: u64) -> Self {
        let mut world = Self {
            bench: Bench::new(services),
            open: VecDeque::new(),
            random: SplitMix64::new(seed),
            launched: BTreeSet::new(),
            before_change: BTreeSet::new(),
        };
        world.take(Event::Command(Command::StartStack));
        world
    }

    fn take(&mut self, event: Event) {
        self.bench.event(event);
        for effect in std::mem::take(&mut self.bench.last) {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        if let Effect::Launch { spawn, .. } = &effect {
            self.launched.insert(*spawn);
        }
        match effect {
            Effect::Record(Record::Applied { .. }) => self.before_change = self.launched.clone(),
            Effect::Launch { replica, spawn } if replica.service.as_str() == "bad" => {
                self.open.push_back(Event::LaunchFailed { spawn, failure: failure() });
            }
            Effect::Launch { replica, spawn } => {
                self.open.push_back(Event::Launched { spawn, pid: 1 });
                let stack = self.bench.machine.stack();
                if stack.service(replica.service.as_str()).unwrap().kind == Kind::Oneshot {
                    self.open.push_back(Event::Exited { spawn, exit: Exit::Code(0), leftovers: 0 });
                }
            }
            Effect::Signal { spawn, .. } | Effect::Kill { spawn } => {
                self.open.push_back(Event::Exited { spawn, exit: Exit::Code(0), leftovers: 0 });
            }
            Effect::Probe { spawn, kind, .. } => {
                self.open.push_back(Event::ProbeAnswered { spawn, kind, outcome: outcome(true) });
            }
            Effect::CheckGate { check, .. } => {
                self.open.push_back(Event::GateAnswered { check, outcome: outcome(true) });
            }
            Effect::Run { task, .. } => {
                self.open.push_back(Event::RunEnded { task, outcome: outcome(true) });
            }
            Effect::SignalMain { .. } | Effect::EndRun { .. } | Effect::Record(_) => {}
        }
    }

    /// The next thing happens: an answer, mostly in order but for those of different programs, or time passes.
    fn step(&mut self) {
        let place = (self.random.next_u64() % 3) as usize;
        let spawn = |event: &Event| {
            if let Event::Launched { spawn, .. }
            | Event::Exited { spawn, .. }
            | Event::ProbeAnswered { spawn, .. } = event
            {
                Some(*spawn)
            } else {
                None
            }
        };
        let jumps = self.open.get(place).is_some_and(|event| {
            self.open
                .iter()
                .take(place)
                .all(|before| spawn(before).is_none() || spawn(before) != spawn(event))
        });
        let next = if jumps { self.open.remove(place) } else { self.open.pop_front() };
        match next {
            Some(event) => self.take(event),
            None => {
                let Some((moment, _)) = self.bench.machine.next_deadline() else { return };
                let due = u64::try_from(moment.since_start().as_millis()).unwrap();
                self.bench.now = self.bench.now.max(due);
                self.take(Event::Tick);
            }
        }
    }

    /// Until nothing is on its way any more, a good while longer.
    fn settle(&mut self) {
        let end = self.bench.now + 40_000;
        for _ in 0..20_000 {
            let due = self.bench.machine.next_deadline();
            let later = due.is_none_or(|(moment, _)| moment > Moment::after_start(ms(end)));
            if self.open.is_empty() && later {
                return;
            }
            self.step();
        }
        panic!("the machine does not settle");
    }

    fn states(&self) -> BTreeMap<String, State> {
        let services = self.bench.machine.services();
        services.map(|service| (service.name.to_string(), service.state)).collect()
    }

    /// The program of each replica that runs, by its name.
    fn programs(&self) -> BTreeMap<(String, u32), SpawnId> {
        let services = self.bench.machine.services();
        services
            .flat_map(|service| {
                let name = service.name.to_string();
                service.replicas.into_iter().filter_map(move |replica| {
                    let up = matches!(replica.state, State::Ready | State::Starting | State::Unready);
                    Some(((name.clone(), replica.index), replica.spawn.filter(|_| up)?))
                })
            })
            .collect()
    }
}

/// One service of a random stack: `choices` are small numbers that shrink to the plainest service.
fn random_service(place: usize, choices: &[u8], rank: &[usize]) -> Service {
    let pick = |of: usize| usize::from(choices[of]);
    let text = NAMES[place];
    let mut it = if pick(0) == 3 && text != "bad" { oneshot(text) } else { service(text) };
    if it.kind == Kind::LongRunning {
        it.replicas = 1 + u32::from(choices[1] % 3);
    }
    if text == "bad" {
        it.restart.give_up = Some(GiveUp { failures: 2, within: ms(60_000), retry_after: None });
    }
    it.command.args = vec![(pick(2) % 2).to_string()];
    it.readiness = (pick(3) == 1).then(|| probe(20_000, 3));
    it.startup = (pick(3) == 2).then(|| probe(20_000, 3));
    it.stop.grace = ms(1000 + 1000 * u64::from(choices[4] % 2));
    for (number, other) in rank.iter().take_while(|other| **other != place).enumerate() {
        if pick(5) >> number & 1 == 1 {
            it = needs(it, NAMES[*other], Condition::Ready);
        }
    }
    if pick(6) == 1 {
        it = needs_outside(it, None);
    }
    let lose = [Lose::Ignore, Lose::Ignore, Lose::Stop, Lose::Restart][pick(6)];
    it.needs.iter_mut().for_each(|need| need.lose = lose);
    it
}

/// The services that are there, and the order in which they may need each other.
fn random_stack() -> impl Strategy<Value = Vec<Service>> {
    let services =
        prop::collection::vec(prop::option::weighted(0.8, prop::collection::vec(0u8..4, 7)), NAMES.len());
    (services, Just((0..NAMES.len()).collect::<Vec<usize>>()).prop_shuffle()).prop_map(|(services, rank)| {
        let here: Vec<usize> = rank.iter().copied().filter(|place| services[*place].is_some()).collect();
        here.iter().map(|place| random_service(*place, services[*place].as_ref().unwrap(), &here)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn after_a_change_it_is_as_if_started_with_the_new_file(
        stacks in prop::collection::vec(random_stack(), 2..4),
        moments in prop::collection::vec(0usize..60, 3),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(stacks[0].clone(), seed);
        let first = stack(stacks[0].clone());
        let (mut before, mut touched) = (None, Vec::new());
        for (services, steps) in stacks[1..].iter().zip(&moments) {
            for _ in 0..*steps {
                world.step();
            }
            before.get_or_insert_with(|| world.programs());
            // What differs between any two files on the way may be touched.
            for from in std::iter::once(&first).chain([&**world.bench.machine.stack()]) {
                touched.push(diff(from, &stack(services.clone())));
            }
            world.take(Event::Apply(Arc::new(stack(services.clone()))));
        }
        world.settle();
        prop_assert!(!world.bench.machine.is_applying());

        let last = stacks.last().unwrap().clone();
        let mut fresh = World::new(last.clone(), seed);
        fresh.settle();
        let (is, should) = (world.states(), fresh.states());
        let programs = world.programs();
        let before = before.unwrap();
        // A gate that came to a running program, or to work that was done, counts at its next start; so this one is
        // ahead, and so may be what needs it.
        let mut ahead: BTreeSet<String> = BTreeSet::new();
        loop {
            let before = ahead.len();
            for it in &last {
                let name = it.name.to_string();
                let ran_through =
                    programs.iter().any(|(key, spawn)| key.0 == name && world.before_change.contains(spawn));
                let needs_one = it.needs.iter().any(|need| {
                    matches!(&need.gate, Gate::Service { service, .. } if ahead.contains(service.as_str()))
                });
                let waits = should[&name] == State::Waiting;
                if waits && (ran_through || needs_one || is[&name] == State::Completed) {
                    ahead.insert(name);
                }
            }
            if ahead.len() == before {
                break;
            }
        }
        for (name, should) in &should {
            prop_assert!(
                is[name] == *should || ahead.contains(name),
                "{name} is {}, not {should}", is[name]
            );
        }
        prop_assert_eq!(is.len(), should.len());

        for ((name, index), spawn) in before {
            let restarted = touched.iter().any(|diff| {
                diff.removed.iter().any(|it| it.as_str() == name)
                    || diff.changed.iter().any(|it| it.name.as_str() == name && match it.effect {
                        ChangeEffect::Restart => true,
                        ChangeEffect::Scale { from, to } => index >= from.min(to),
                        ChangeEffect::InPlace => false,
                    })
            });
            let ends = first.service(&name).is_none_or(|it| it.kind == Kind::Oneshot) || name == "bad";
            // What keeps its gates follows what it needs.
            let keeps = stacks.iter().flatten().filter(|it| it.name.as_str() == name);
            let keeps = keeps.flat_map(|it| &it.needs).any(|need| need.lose != Lose::Ignore);
            if !restarted && !ends && !keeps {
                prop_assert_eq!(programs.get(&(name.clone(), index)), Some(&spawn), "{} was touched", name);
            }
        }
    }
}
