//! Rules for the reload of a service.

use mainstay_config::Hook;
use mainstay_types::ProbeFailure;

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
        let expected = if passes { Ok(()) } else { Err("web.1: no answer within 1s".to_owned()) };
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
