//! Properties of the machine before a world that keeps to the rules: what it launched ends, what it runs is answered
//! once. Whatever happens in whatever order, commands around a service's life and its programs do not overlap where
//! they must not, and everything comes to an end.

use std::collections::BTreeSet;

use mainstay_config::Lose;
use proptest::prelude::*;

use super::*;
use crate::{KILL_WAIT, Purpose};

/// A start that was launched and is not gone.
#[derive(Debug)]
struct Tree {
    replica: String,
    runs: bool,
    leftovers: bool,
    killed: bool,
}

#[derive(Debug)]
struct Task {
    replica: String,
    _purpose: Purpose,
    ends_at: u64,
    ended: bool,
}

struct World {
    bench: Bench,
    trees: BTreeMap<u64, Tree>,
    tasks: BTreeMap<u64, Task>,
    probes: BTreeSet<(u64, ProbeKind)>,
    /// Runs that were begun and told, and give-ups.
    begun: u64,
    told: u64,
    stopped: bool,
    killed: bool,
}

fn stack() -> Vec<Service> {
    let hooks = |it: Service| Service {
        hooks: Hooks {
            before_start: hook("prepare", 300),
            after_ready: hook("announce", 2000),
            before_stop: hook("leave", 300),
            // Longer than the end of a kill is waited for.
            after_exit: hook("clean", 6000),
        },
        ..it
    };
    let mut db = hooks(backoff(service("db"), 50, Some((2, 5000))));
    db.restart.give_up.as_mut().unwrap().retry_after = Some(ms(700));
    db.readiness = Some(probe(1000, 1));
    let steps = [("ask", Some(200)), ("SIGINT", Some(200)), ("ask", Some(100)), ("SIGTERM", None)];
    let web = Service { replicas: 2, ..ladder(hooks(service("web")), 800, &steps) };
    let mut job = ladder(hooks(oneshot("job")), 500, &[("SIGTERM", Some(100)), ("SIGKILL", None)]);
    db.reload = ReloadPolicy::Signal(StopSignal::Hup);
    job.reload = ReloadPolicy::Command(hook("ask", 500).unwrap());
    let mut web = needs(web, "db", Condition::Ready);
    web.needs[0].lose = Lose::Stop;
    vec![db, web, needs(job, "web", Condition::Started)]
}

/// Another version of the stack: with one changed, without one, with fewer replicas, in another order.
fn changed(which: usize) -> Vec<Service> {
    let mut services = stack();
    match which % 7 {
        0..3 => services[which % 7].command.args.push(which.to_string()),
        3 => services[0].readiness = None,
        4 => services[1].replicas = 1,
        5 => services.truncate(1 + which % 2),
        _ => services.reverse(),
    }
    services
}

impl World {
    fn new(budget: Option<u64>) -> Self {
        Self {
            bench: Bench::with_budget(stack(), budget.map(ms)),
            trees: BTreeMap::new(),
            tasks: BTreeMap::new(),
            probes: BTreeSet::new(),
            begun: 0,
            told: 0,
            stopped: false,
            killed: false,
        }
    }

    fn event(&mut self, event: Event) {
        let now = Moment::after_start(ms(self.bench.now));
        for effect in self.bench.machine.handle(event, now) {
            self.take(effect);
        }
        assert_eq!(
            self.begun,
            self.told + self.tasks.len() as u64,
            "each run is told once, when it is answered"
        );
    }

    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Launch { replica, spawn } => {
                let replica = replica.to_string();
                self.nothing_of(&replica, "a launch");
                assert!(!self.stopped, "nothing is launched after the stop of the stack");
                self.trees.insert(spawn.0, Tree { replica, runs: false, leftovers: false, killed: false });
            }
            Effect::Run { task, replica, purpose, timeout, .. } => {
                let replica = replica.to_string();
                assert!(!self.killed, "nothing is begun after the kill of the stack");
                let runs =
                    self.trees.values().any(|tree| tree.replica == replica && (tree.runs || tree.leftovers));
                match purpose {
                    Purpose::BeforeStart | Purpose::AfterExit => self.nothing_of(&replica, purpose.as_str()),
                    Purpose::AfterReady | Purpose::BeforeStop | Purpose::Stop | Purpose::Reload => {
                        assert!(runs, "{} of a program that is there", purpose.as_str());
                    }
                }
                let ends_at = self.bench.now + u64::try_from(timeout.as_millis()).unwrap();
                assert!(!timeout.is_zero(), "{}", purpose.as_str());
                let task_is_new =
                    self.tasks.insert(task.0, Task { replica, _purpose: purpose, ends_at, ended: false });
                assert!(task_is_new.is_none());
                self.begun += 1;
            }
            Effect::EndRun { task } => {
                let it = self.tasks.get_mut(&task.0).expect("only what runs is ended");
                assert!(!std::mem::replace(&mut it.ended, true), "once");
            }
            Effect::Record(Record::Run { .. }) => self.told += 1,
            Effect::Signal { spawn, .. } => {
                let tree = &self.trees[&spawn.0];
                assert!((tree.runs || tree.leftovers) && !tree.killed, "{tree:?}");
            }
            Effect::Kill { spawn } => {
                self.trees.get_mut(&spawn.0).expect("only what is there is killed").killed = true;
            }
            Effect::Probe { spawn, kind, .. } => assert!(self.probes.insert((spawn.0, kind))),
            Effect::SignalMain { spawn, .. } => assert!(self.trees[&spawn.0].runs),
            Effect::CheckGate { .. } => panic!("{effect:?}"),
            Effect::Record(_) => {}
        }
    }

    /// Neither a tree of this replica nor a command around its life, unless it was ended.
    fn nothing_of(&self, replica: &str, before: &str) {
        let tree = self.trees.values().find(|tree| tree.replica == replica);
        assert!(tree.is_none(), "{before} of {replica} while there is {tree:?}");
        let task = self.tasks.values().find(|task| task.replica == replica && !task.ended);
        assert!(task.is_none(), "{before} of {replica} while there runs {task:?}");
    }

    /// Lets something happen that may.
    fn step(&mut self, what: u8, which: usize, passes: bool) {
        let spawns: Vec<u64> = self.trees.keys().copied().collect();
        let spawn = spawns.get(which % spawns.len().max(1)).copied();
        let service = name(["db", "job", "web"][which % 3]);
        match (what, spawn) {
            (0, _) => self.event(Event::Command(Command::Start(service))),
            (1, _) => self.event(Event::Command(Command::Stop(service))),
            (2, _) => self.event(Event::Command(Command::Restart(service))),
            (14, _) => self.event(Event::Command(Command::Reload(service))),
            (15, _) => {
                let stop_budget = self.bench.machine.stack().stop_budget;
                self.event(Event::Apply(Arc::new(Stack { stop_budget, ..super::stack(changed(which)) })));
            }
            (3..7, Some(spawn)) => self.go_on(spawn, passes),
            (7..10, _) => self.answer_run(which, passes),
            (10, _) => {
                if let Some((spawn, kind)) = self.probes.pop_first() {
                    let outcome = outcome(passes);
                    self.event(Event::ProbeAnswered { spawn: SpawnId(spawn), kind, outcome });
                }
            }
            // Long enough for a kill to be given up.
            (13, _) => self.pass(u64::try_from(which * 5).unwrap()),
            _ => self.pass(u64::try_from(which % 400).unwrap()),
        }
    }

    /// The next thing in the life of a tree.
    fn go_on(&mut self, id: u64, well: bool) {
        let spawn = SpawnId(id);
        let tree = self.trees.get_mut(&id).unwrap();
        let event = if tree.leftovers {
            self.trees.remove(&id);
            Event::TreeEnded { spawn }
        } else if tree.runs {
            if well {
                self.trees.remove(&id);
            } else {
                (tree.runs, tree.leftovers) = (false, true);
            }
            Event::Exited { spawn, exit: Exit::Code(i32::from(!well)), leftovers: u32::from(!well) }
        } else if well {
            tree.runs = true;
            Event::Launched { spawn, pid: 1 }
        } else {
            self.trees.remove(&id);
            Event::LaunchFailed { spawn, failure: failure() }
        };
        self.event(event);
    }

    fn answer_run(&mut self, which: usize, passes: bool) {
        let tasks: Vec<u64> = self.tasks.keys().copied().collect();
        let Some(task) = tasks.get(which % tasks.len().max(1)) else { return };
        let it = self.tasks.remove(task).unwrap();
        let outcome = if passes && !it.ended {
            ProbeOutcome::Passed("exit code 0".into())
        } else {
            ProbeOutcome::Failed(ProbeFailure::TimedOut(ms(1)))
        };
        self.event(Event::RunEnded { task: TaskId(*task), outcome });
    }

    /// Time passes: ticks come when they are due, and commands end when their time is up.
    fn pass(&mut self, by: u64) {
        let until = self.bench.now + by;
        for _ in 0..10_000 {
            let tick = self.bench.machine.next_deadline().map(|(moment, _)| {
                u64::try_from(moment.since_start().as_millis()).unwrap().max(self.bench.now)
            });
            let ends =
                self.tasks.values().map(|task| if task.ended { self.bench.now } else { task.ends_at }).min();
            let next = [tick, ends].into_iter().flatten().min().filter(|next| *next <= until);
            let Some(next) = next else {
                self.bench.now = until;
                return;
            };
            self.bench.now = next;
            if ends == Some(next) {
                let due = self.tasks.values().position(|task| task.ended || task.ends_at <= next).unwrap();
                self.answer_run(due, false);
            } else {
                self.event(Event::Tick);
            }
        }
        panic!("time does not pass");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn commands_and_programs_keep_apart_and_come_to_an_end(
        steps in prop::collection::vec((0u8..16, 0usize..1200, any::<bool>()), 1..250),
        budget in prop::option::of(50u64..5000), kill in any::<bool>(), stubborn in any::<bool>(),
    ) {
        let mut world = World::new(budget);
        world.event(Event::Command(Command::StartStack));
        for (what, which, passes) in steps {
            world.step(what, which, passes);
        }
        (world.stopped, world.killed) = (true, kill);
        let stopped_at = world.bench.now;
        world.event(Event::Command(if kill { Command::KillStack } else { Command::StopStack }));
        // Without a budget: the graces and `after_exit` of all three, one after the other.
        let allowed = if kill { 0 } else { budget.unwrap_or(1000 + 800 + 500 + 3 * 6000) };
        let allowed = allowed + u64::try_from(KILL_WAIT.as_millis()).unwrap();
        for _ in 0..5000 {
            if world.bench.machine.is_over() {
                break;
            }
            // What was killed is gone soon, and what was only asked is not, when it is stubborn.
            let gone: Vec<u64> = world.trees.iter().filter(|(_, it)| it.killed || !stubborn).map(|(id, _)| *id).collect();
            for id in gone {
                world.go_on(id, true);
            }
            world.pass(7);
        }
        prop_assert!(world.bench.machine.is_over());
        let took = world.bench.now - stopped_at;
        prop_assert!(took <= allowed + 14, "{took} ms, {allowed} were allowed");
        prop_assert_eq!(world.bench.machine.next_deadline(), None);
        prop_assert!(world.tasks.values().all(|task| task.ended), "{:?}", world.tasks);
        while !world.tasks.is_empty() {
            world.answer_run(0, false);
        }
        prop_assert_eq!(world.begun, world.told);
    }
}
