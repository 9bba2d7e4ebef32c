//! The body in memory against itself: order of news, determinism, and what stale calendar entries must not do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mainstay_types::{Exit, Moment, ReplicaId, ServiceName, SpawnId, StopSignal};

use super::{Behaviour, FakeProcesses, OnStop, Random};
use crate::{Launch, ProcessEvent, ProcessTrees};

fn replica() -> ReplicaId {
    ReplicaId { service: ServiceName::parse("web").unwrap(), index: 0 }
}

fn launch() -> Launch {
    Launch {
        program: "web".into(),
        args: Vec::new(),
        env: Vec::new(),
        workdir: PathBuf::from("/"),
        identity: None,
        limits: crate::ResourceLimits::default(),
        handed: Vec::new(),
        listen_names: Vec::new(),
    }
}

fn at(ms: u64) -> Moment {
    Moment::after_start(Duration::from_millis(ms))
}

fn drain(fake: &mut FakeProcesses) -> Vec<String> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while let Poll::Ready(event) = fake.poll_event(&mut cx) {
        all.push(match event {
            ProcessEvent::Launched { .. } => "launched".to_owned(),
            ProcessEvent::LaunchFailed { failure, .. } => format!("failed at {}", failure.step),
            ProcessEvent::Exited { exit, leftovers, .. } => format!("{exit}, {leftovers} left"),
            ProcessEvent::TreeEnded { .. } => "ended".to_owned(),
        });
    }
    all
}

fn story(behaviour: Behaviour, act: impl Fn(&mut FakeProcesses)) -> Vec<String> {
    let mut fake = FakeProcesses::new(1);
    fake.set_behaviour(&replica(), behaviour);
    fake.launch(&replica(), SpawnId(1), launch());
    fake.advance(at(10));
    act(&mut fake);
    fake.advance(at(100_000));
    assert!(fake.next_event_at().is_some(), "news waits, so something is next");
    drain(&mut fake)
}

#[test]
fn stories() {
    let nothing = |_: &mut FakeProcesses| {};
    let term = |fake: &mut FakeProcesses| fake.signal(SpawnId(1), StopSignal::Term);
    let kill = |fake: &mut FakeProcesses| fake.kill(SpawnId(1));
    let good = Behaviour::good();
    assert_eq!(story(good.clone(), nothing), ["launched"]);
    assert_eq!(story(good.clone(), term), ["launched", "was ended by SIGTERM, 0 left"]);
    assert_eq!(story(good.clone(), kill), ["launched", "was ended by SIGKILL, 0 left"]);
    assert_eq!(story(Behaviour::launch_fails(), kill), ["failed at exec"]);
    assert_eq!(story(Behaviour::ignores_stop(), term), ["launched"]);
    assert_eq!(story(Behaviour::ignores_stop(), kill), ["launched", "was ended by SIGKILL, 0 left"]);
    assert_eq!(story(Behaviour::daemonises(2), nothing), ["launched", "exited with code 0, 2 left"]);
    assert_eq!(story(Behaviour::daemonises(2), kill), ["launched", "exited with code 0, 2 left", "ended"]);
    assert_eq!(story(Behaviour::daemonises(2), term), ["launched", "exited with code 0, 2 left", "ended"]);
    let slow_grandchild = Behaviour {
        leftovers: 1,
        leftovers_outlive_kill: Duration::from_millis(5),
        on_stop: OnStop::Ignores,
        ..good
    };
    assert_eq!(story(slow_grandchild, kill), ["launched", "was ended by SIGKILL, 1 left", "ended"]);
}

#[test]
fn a_signal_during_the_launch_is_not_lost() {
    let mut fake = FakeProcesses::new(1);
    fake.set_behaviour(&replica(), Behaviour::good());
    fake.launch(&replica(), SpawnId(1), launch());
    fake.signal(SpawnId(1), StopSignal::Int);
    assert_eq!((fake.live(&replica()), fake.running(&replica())), (1, 0));
    fake.advance(at(1));
    assert_eq!((fake.live(&replica()), fake.running(&replica())), (1, 1));
    fake.advance(at(2));
    assert_eq!(fake.live(&replica()), 0);
    assert_eq!(drain(&mut fake), ["launched", "was ended by SIGINT, 0 left"]);
}

#[test]
fn a_death_from_outside_is_seen_once() {
    let mut fake = FakeProcesses::new(1);
    fake.set_behaviour(&replica(), Behaviour::ends_after(Duration::from_secs(1), Exit::Code(3)));
    fake.launch(&replica(), SpawnId(1), launch());
    fake.advance(at(5));
    fake.end_main(SpawnId(1), Exit::Code(9));
    fake.advance(at(10_000));
    assert_eq!(drain(&mut fake), ["launched", "exited with code 9, 0 left"]);
    assert_eq!(fake.launches(&replica()), 1);
}

/// Any seed: the promised order of news, nothing left after a kill, and the same twice.
#[test]
fn any_behaviour_keeps_the_promise() {
    let run = |seed: u64| {
        let mut fake = FakeProcesses::new(seed);
        let mut random = Random::new(!seed);
        let mut all = Vec::new();
        for spawn in 0..20 {
            fake.launch(&replica(), SpawnId(spawn), launch());
            if random.one_in(2) {
                fake.signal(SpawnId(random.below(20)), StopSignal::Term);
            }
            let now = fake.now();
            fake.advance(now + random.duration(Duration::ZERO, Duration::from_secs(1)));
        }
        for spawn in 0..20 {
            fake.kill(SpawnId(spawn));
        }
        // A launch takes at most 20 ms, a kill 50, leftovers outlive it by 500.
        let now = fake.now();
        fake.advance(now + Duration::from_secs(1));
        assert_eq!(fake.live(&replica()), 0, "seed {seed}");
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(event) = fake.poll_event(&mut cx) {
            all.push(match event {
                ProcessEvent::Launched { spawn, .. } => (spawn, 'L', 0),
                ProcessEvent::LaunchFailed { spawn, .. } => (spawn, 'F', 0),
                ProcessEvent::Exited { spawn, leftovers, .. } => (spawn, 'X', leftovers),
                ProcessEvent::TreeEnded { spawn } => (spawn, 'E', 0),
            });
        }
        all
    };
    for seed in 0..300 {
        let all = run(seed);
        assert_eq!(all, run(seed), "seed {seed} is not replayable");
        let mut stories: BTreeMap<SpawnId, Vec<(char, u32)>> = BTreeMap::new();
        for (spawn, what, leftovers) in all {
            stories.entry(spawn).or_default().push((what, leftovers));
        }
        assert_eq!(stories.len(), 20);
        for (spawn, story) in stories {
            let ok = match story.as_slice() {
                [('F', _)] | [('L', _), ('X', 0)] => true,
                [('L', _), ('X', n), ('E', _)] => *n > 0,
                _ => false,
            };
            assert!(ok, "seed {seed}, spawn {spawn}: {story:?}");
        }
    }
}
