//! Rules for the reload of a service.

use std::collections::BTreeSet;

use mainstay_config::Hook;
use mainstay_types::{ProbeFailure, ReplicaId};
use proptest::prelude::*;

use super::*;
use crate::{ReloadView, TaskId};

fn reload(bench: &Bench) -> ReloadView {
    bench.machine.service("web").unwrap().reload.unwrap()
}

fn web(replicas: u32, reload: ReloadPolicy) -> Bench {
    let it = Service { replicas, reload, ..backoff(service("web"), 100, None) };
    let mut bench = Bench::started(vec![it]);
    for spawn in 1..=u64::from(replicas) {
        bench.launched(spawn);
    }
    bench
}

fn ask(bench: &mut Bench) -> Vec<String> {
    bench.command(Command::Reload(name("web")))
}

#[test]
fn a_signal_goes_to_each_main_process() {
    let mut bench = web(2, ReloadPolicy::Signal(StopSignal::Hup));
    assert_eq!(ask(&mut bench), ["signal main #1 SIGHUP", "signal main #2 SIGHUP"]);
    let told = bench.last.iter().filter(
        |effect| matches!(effect, Effect::Record(Record::Reloaded { how, .. }) if how == "SIGHUP sent"),
    );
    assert_eq!(told.count(), 2);
    let view = reload(&bench);
    assert_eq!((view.done, view.of, view.outcome), (2, 2, Some(Ok(()))));
    ask(&mut bench);
    assert!(reload(&bench).id > view.id);
}

#[test]
fn a_command_runs_for_each_replica() {
    let hook = Hook { command: CommandLine { program: "ask".into(), args: vec![] }, timeout: ms(1000) };
    for passes in [true, false] {
        let mut bench = web(2, ReloadPolicy::Command(hook.clone()));
        assert_eq!(ask(&mut bench), ["run reload web ask ~1", "run reload web.1 ask ~2"]);
        assert_eq!(reload(&bench).outcome, None);
        let failed = ProbeOutcome::Failed(ProbeFailure::TimedOut(ms(1000)));
        let outcome = if passes { outcome(true) } else { failed };
        bench.event(Event::RunEnded { task: TaskId(2), outcome });
        bench.event(Event::RunEnded { task: TaskId(1), outcome: super::outcome(true) });
        let expected = if passes { Ok(()) } else { Err("web.1: did not end within 1s".to_owned()) };
        assert_eq!(reload(&bench).outcome, Some(expected));
        assert_eq!(bench.spawns("web"), [1, 2]);
    }
}

#[test]
fn a_rolling_restart_takes_one_after_the_other() {
    let it = Service { replicas: 3, readiness: Some(probe(10_000, 3)), ..service("web") };
    let mut bench = Bench::started(vec![it]);
    for spawn in 1..=3 {
        bench.launched(spawn);
        bench.probe(spawn, ProbeKind::Readiness, true);
    }
    assert_eq!(ask(&mut bench), ["signal #1 SIGTERM"]);
    assert_eq!(bench.reason("web").to_string(), "rolling restart");
    for (old, new) in [(1, 4), (2, 5), (3, 6)] {
        assert_eq!(
            bench.exited(old, 0).last().unwrap(),
            &format!(
                "launch web{}#{new}",
                match old {
                    1 => String::new(),
                    _ => format!(".{}", old - 1),
                }
            )
        );
        assert_eq!(bench.launched(new), [format!("probe #{new} readiness")], "not before it is ready");
        assert_eq!(u64::from(reload(&bench).done), old - 1);
        let effects = bench.probe(new, ProbeKind::Readiness, true);
        let next = if old == 3 { vec![] } else { vec![format!("signal #{} SIGTERM", old + 1)] };
        assert_eq!(effects, next);
    }
    let view = reload(&bench);
    assert_eq!((view.done, view.of, view.outcome), (3, 3, Some(Ok(()))));
    assert_eq!(bench.spawns("web"), [4, 5, 6]);
}

#[test]
fn a_replica_that_fails_ends_the_roll_and_the_rest_runs_on() {
    for wait in [0, 100] {
        let it = Service { replicas: 2, ..backoff(service("web"), wait, None) };
        let mut bench = Bench::started(vec![it]);
        bench.launched(1);
        bench.launched(2);
        ask(&mut bench);
        assert_eq!(bench.exited(1, 0), ["launch web#3"]);
        bench.event(Event::LaunchFailed { spawn: SpawnId(3), failure: failure() });
        let Some(Err(why)) = reload(&bench).outcome else { panic!("{:?}", reload(&bench)) };
        assert!(why.starts_with("web did not come up again: "), "{why}");
        assert_eq!(bench.spawns("web")[1], 2, "untouched");
        bench.until(1000);
        assert_eq!(bench.spawns("web")[1], 2, "and it stays so");
    }
}

#[test]
fn commands_end_a_roll() {
    let cases = [
        (Command::Stop(name("web")), "it is being stopped"),
        (Command::Restart(name("web")), "it was restarted by a command"),
        (Command::StopStack, "it is being stopped"),
    ];
    for (command, words) in cases {
        let mut bench = web(2, ReloadPolicy::Rolling);
        ask(&mut bench);
        bench.command(command);
        assert_eq!(reload(&bench).outcome, Some(Err(words.to_owned())));
    }
    // A newer one begins from the start; the replica under way counts for both.
    let mut bench = web(2, ReloadPolicy::Rolling);
    ask(&mut bench);
    let first = reload(&bench).id;
    assert_eq!(ask(&mut bench), NOTHING);
    assert!(reload(&bench).id > first);
    bench.exited(1, 0);
    assert_eq!(bench.launched(3), ["signal #2 SIGTERM"]);
    bench.exited(2, 0);
    bench.launched(4);
    assert_eq!(reload(&bench).outcome, Some(Ok(())));
}

#[test]
fn a_newer_reload_begins_with_what_the_older_one_has_down() {
    let web = Service {
        replicas: 3,
        ..backoff(needs(service("web"), "db", Condition::Ready), 100, Some((2, 9000)))
    };
    let started = || {
        let mut bench = Bench::started(vec![service("db"), web.clone()]);
        (1..=4).for_each(|spawn| drop(bench.launched(spawn)));
        assert_eq!(bench.spawns("web"), [2, 3, 4]);
        bench
    };
    // It waits for a gate.
    let mut bench = started();
    assert_eq!(ask(&mut bench), ["signal #2 SIGTERM"]);
    assert_eq!(bench.exited(1, 1), ["launch db#5"]);
    bench.exited(2, 0);
    assert_eq!(bench.state("web"), State::Waiting);
    assert_eq!(ask(&mut bench), NOTHING, "web.1 stays up");
    assert_eq!(bench.launched(5), ["launch web#6"]);
    assert_eq!(bench.launched(6), ["signal #3 SIGTERM"]);
    let view = reload(&bench);
    assert_eq!((view.done, view.of, view.outcome), (1, 3, None));

    // Its turn was not the first one.
    assert_eq!(ask(&mut bench), NOTHING, "web.1 is down, so web stays up");
    assert_eq!(bench.exited(3, 0), ["launch web.1#7"]);
    assert_eq!(bench.launched(7), ["signal #6 SIGTERM"]);
    bench.exited(6, 0);
    assert_eq!(bench.launched(8), ["signal #4 SIGTERM"]);
    bench.exited(4, 0);
    bench.launched(9);
    let view = reload(&bench);
    assert_eq!((view.done, view.of, view.outcome), (3, 3, Some(Ok(()))));

    // It has failed, and waits for its next try, or has given up: it is tried anew before another one goes down.
    for gives_up in [false, true] {
        let mut bench = started();
        ask(&mut bench);
        bench.exited(2, 0);
        bench.event(Event::LaunchFailed { spawn: SpawnId(5), failure: failure() });
        assert!(reload(&bench).outcome.unwrap().is_err());
        let mut next = 6;
        if gives_up {
            assert_eq!(bench.until(100), ["launch web#6"]);
            bench.event(Event::LaunchFailed { spawn: SpawnId(6), failure: failure() });
            next = 7;
        }
        assert_eq!(bench.state("web"), if gives_up { State::Failed } else { State::Backoff });
        assert_eq!(ask(&mut bench), [format!("launch web#{next}")]);
        bench.event(Event::LaunchFailed { spawn: SpawnId(next), failure: failure() });
        assert!(reload(&bench).outcome.unwrap().is_err());
        assert_eq!(ask(&mut bench), [format!("launch web#{}", next + 1)]);
        assert_eq!(bench.launched(next + 1), ["signal #3 SIGTERM"]);
    }
}

#[test]
fn a_roll_takes_what_is_not_ready_first_and_waits_for_what_goes_down_meanwhile() {
    let it = Service { replicas: 3, readiness: Some(probe(10_000, 1)), ..backoff(service("web"), 100, None) };
    let mut bench = Bench::started(vec![it]);
    for spawn in 1..=3 {
        bench.launched(spawn);
        bench.probe(spawn, ProbeKind::Readiness, true);
    }
    bench.until(20_000);
    bench.probe(1, ProbeKind::Readiness, true);
    bench.probe(2, ProbeKind::Readiness, false);
    bench.probe(3, ProbeKind::Readiness, true);
    let up = |bench: &mut Bench, spawn| {
        bench.launched(spawn);
        let mut effects = bench.probe(spawn, ProbeKind::Readiness, true);
        effects.retain(|effect| !effect.starts_with("probe"));
        effects
    };
    assert_eq!(ask(&mut bench), ["signal #2 SIGTERM"], "it serves nobody anyway");
    bench.exited(2, 0);
    assert_eq!(bench.exited(3, 1), NOTHING, "this one falls over by itself");
    assert_eq!(up(&mut bench, 4), ["launch web.2#5"], "its turn: it need not wait for its next try");
    assert_eq!(up(&mut bench, 5), ["signal #1 SIGTERM"]);
    assert_eq!(bench.exited(4, 1), NOTHING);
    bench.exited(1, 0);
    up(&mut bench, 6);
    assert_eq!(reload(&bench).outcome, Some(Ok(())));

    // One that was taken already falls over by itself: the last one is not taken before it is back.
    let mut bench = web(2, ReloadPolicy::Rolling);
    ask(&mut bench);
    bench.exited(2, 1);
    bench.exited(1, 0);
    assert_eq!(bench.launched(3), ["launch web.1#4"]);
    assert_eq!(bench.launched(4), NOTHING);
    assert_eq!(reload(&bench).outcome, Some(Ok(())));
    let it = Service { replicas: 3, readiness: Some(probe(10_000, 1)), ..backoff(service("web"), 100, None) };
    let mut bench = Bench::started(vec![it]);
    for spawn in 1..=3 {
        bench.launched(spawn);
        bench.probe(spawn, ProbeKind::Readiness, true);
    }
    ask(&mut bench);
    bench.exited(1, 0);
    assert_eq!(up(&mut bench, 4), ["signal #2 SIGTERM"]);
    bench.exited(4, 1);
    bench.exited(2, 0);
    assert_eq!(up(&mut bench, 5), NOTHING, "web is down");
    assert_eq!(bench.until(bench.now + 100), ["launch web#6"]);
    assert_eq!(up(&mut bench, 6), ["signal #3 SIGTERM"]);
}

#[test]
fn a_reload_of_what_does_not_run_starts_nothing() {
    for policy in [ReloadPolicy::Rolling, ReloadPolicy::Signal(StopSignal::Hup)] {
        let mut bench = Bench::new(vec![Service { reload: policy, ..service("web") }]);
        assert_eq!(ask(&mut bench), NOTHING);
        let view = reload(&bench);
        assert_eq!((view.of, view.outcome), (0, Some(Err("it is not running".to_owned()))));
        assert_eq!(bench.state("web"), State::Stopped);
    }
    let mut bench = web(1, ReloadPolicy::Rolling);
    assert_eq!(bench.command(Command::Reload(name("nobody"))), NOTHING);
    assert!(bench.last.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn reloads_have_one_replica_down_at_a_time(
        steps in prop::collection::vec((0u8..16, 0usize..12, 0u64..150), 1..200), gives_up in any::<bool>(),
    ) {
        let give_up = gives_up.then_some((2, 500));
        let web = Service { replicas: 3, ..backoff(needs(service("web"), "db", Condition::Ready), 100, give_up) };
        let mut bench = Bench::started(vec![service("db"), web.clone()]);
        // Starts that are not gone, and whether their programs run; and who was taken down and is not up again.
        let (mut starts, mut rolled) = (BTreeMap::from([(1, false)]), BTreeSet::new());
        for (what, which, wait) in steps {
            let of = |runs: bool| {
                let spawns: Vec<u64> =
                    starts.iter().filter(|(_, it)| **it == runs).map(|(spawn, _)| *spawn).collect();
                spawns.get(which % spawns.len().max(1)).copied()
            };
            let (mut now, until) = (bench.now, bench.now + wait);
            let event = match (what, of(false), of(true)) {
                (0..3, _, _) => Event::Command(Command::Reload(name("web"))),
                (3..8, Some(spawn), _) => {
                    starts.insert(spawn, true);
                    Event::Launched { spawn: SpawnId(spawn), pid: 1 }
                }
                (8, Some(spawn), _) => {
                    starts.remove(&spawn);
                    Event::LaunchFailed { spawn: SpawnId(spawn), failure: failure() }
                }
                (9..13, _, Some(spawn)) => {
                    starts.remove(&spawn);
                    Event::Exited { spawn: SpawnId(spawn), exit: Exit::Code(1), leftovers: 0 }
                }
                (13, _, _) => {
                    let replicas = 1 + u32::try_from(which).unwrap() % 3;
                    // Nobody misses what goes.
                    rolled.retain(|id: &ReplicaId| id.index < replicas);
                    let web = Service { replicas, ..web.clone() };
                    Event::Apply(Arc::new(stack(vec![service("db"), web])))
                }
                (14, _, _) if which == 0 => Event::Command(Command::Start(name("web"))),
                (14, _, _) if which == 1 => Event::Command(Command::Stop(name("db"))),
                (14, _, _) if which == 2 => Event::Command(Command::Restart(name("web"))),
                _ => {
                    now = bench.machine.next_deadline().map_or(until, |(moment, _)| {
                        u64::try_from(moment.since_start().as_millis()).unwrap()
                    });
                    Event::Tick
                }
            };
            bench.now = now.max(bench.now).min(until);
            bench.event(event);
            for effect in &bench.last {
                match effect {
                    Effect::Launch { spawn, .. } => drop(starts.insert(spawn.0, false)),
                    Effect::Record(Record::State { replica, to: State::Ready, .. }) => {
                        rolled.remove(replica);
                    }
                    Effect::Record(Record::State { replica, to: State::Stopping, reason, .. })
                        if *reason == Reason::RollingRestart =>
                    {
                        rolled.insert(replica.clone());
                        prop_assert!(rolled.len() < 2, "{rolled:?}");
                    }
                    Effect::Record(_)
                    | Effect::Signal { .. }
                    | Effect::SignalMain { .. }
                    | Effect::Run { .. }
                    | Effect::EndRun { .. }
                    | Effect::Kill { .. }
                    | Effect::Probe { .. }
                    | Effect::CheckGate { .. } => {}
                }
            }
        }
    }
}
