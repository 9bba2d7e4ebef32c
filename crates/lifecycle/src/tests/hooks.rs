//! Rules for the commands around a service's life: when they run, what they hold up, what they are told.

use super::*;

fn with(edit: impl FnOnce(&mut Hooks)) -> Service {
    let mut it = backoff(service("web"), 100, None);
    edit(&mut it.hooks);
    it
}

fn prepared() -> Service {
    with(|hooks| hooks.before_start = hook("prepare", 5000))
}

fn cleaned() -> Service {
    with(|hooks| hooks.after_exit = hook("clean", 5000))
}

// ---- before_start ----

#[test]
fn before_start_comes_before_each_launch() {
    let mut bench = Bench::new(vec![prepared()]);
    assert_eq!(bench.command(Command::StartStack), ["run before_start web prepare ~1"]);
    assert_eq!(bench.timeout(), 5000);
    assert_eq!(
        bench.facts(),
        ["MAINSTAY_HOOK=before_start", "MAINSTAY_STATE=starting", "MAINSTAY_RESTARTS=0"]
    );
    assert_eq!(
        (bench.state("web"), bench.reason("web").to_string()),
        (State::Starting, "its before_start runs, 5s to end".into())
    );
    bench.now = 40;
    assert_eq!(bench.run_ended(1, true), ["launch web#1"]);
    assert_eq!(bench.runs(), ["web before_start 40ms: exit code 0"]);
    bench.launched(1);
    assert_eq!(bench.state("web"), State::Ready);
    bench.exited(1, 1);
    assert_eq!(bench.until(140), ["run before_start web prepare ~2"]);
    assert_eq!(bench.facts()[2], "MAINSTAY_RESTARTS=1");
}

#[test]
fn a_before_start_that_fails_is_a_launch_that_failed() {
    for it in [prepared(), Service { kind: Kind::Oneshot, ..prepared() }] {
        let mut it = it;
        it.restart.give_up = Some(GiveUp { failures: 2, within: ms(9000), retry_after: None });
        let mut bench = Bench::started(vec![it]);
        assert_eq!(bench.run_ended(1, false), NOTHING);
        assert_eq!(bench.state("web"), State::Backoff);
        assert_eq!(bench.until(100), ["run before_start web prepare ~2"]);
        assert_eq!(bench.run_ended(2, false), NOTHING);
        assert_eq!(bench.state("web"), State::Failed);
        assert_eq!(
            bench.reason("web").to_string(),
            "gave up after 2 failures within 9s: before_start: the command exited with code 7: no"
        );
    }
}

#[test]
fn nobody_who_needs_it_started_starts_while_it_is_prepared() {
    let mut bench = Bench::started(vec![prepared(), needs(service("api"), "web", Condition::Started)]);
    assert_eq!(bench.run_ended(1, true), ["launch web#1"]);
    assert_eq!(bench.launched(1), ["launch api#2"]);
}

#[test]
fn a_stop_ends_before_start_and_waits_for_its_end() {
    let mut bench = Bench::started(vec![prepared()]);
    assert_eq!(bench.command(Command::Stop(name("web"))), ["end run ~1"]);
    assert_eq!(bench.state("web"), State::Stopping);
    assert_eq!(bench.machine.stop_progress()[0].tried, ["before_start"]);
    assert_eq!(bench.run_ended(1, false), NOTHING);
    assert_eq!(bench.state("web"), State::Stopped);
    assert!(bench.machine.is_settled());

    let mut bench = Bench::started(vec![prepared()]);
    bench.command(Command::Stop(name("web")));
    assert_eq!(bench.run_ended(1, true), NOTHING, "it came too late to matter that it passed");
    assert_eq!(bench.state("web"), State::Stopped);

    let mut bench = Bench::started(vec![prepared()]);
    bench.command(Command::Stop(name("web")));
    bench.command(Command::Start(name("web")));
    assert_eq!(bench.run_ended(1, false), ["run before_start web prepare ~2"]);

    let mut bench = Bench::started(vec![prepared()]);
    assert_eq!(bench.command(Command::Restart(name("web"))), ["end run ~1"]);
    assert_eq!(bench.run_ended(1, false), ["run before_start web prepare ~2"]);
}

#[test]
fn one_that_is_never_told_to_have_ended_is_not_waited_for_for_ever() {
    for stop in [Command::Stop(name("web")), Command::StopStack, Command::KillStack] {
        let mut bench = Bench::started(vec![prepared()]);
        assert_eq!(bench.command(stop), ["end run ~1"]);
        bench.until(4999);
        assert_eq!(bench.state("web"), State::Stopping);
        bench.until(5000);
        assert_eq!(bench.state("web"), State::Stopped);
        assert_eq!(bench.run_ended(1, false), NOTHING, "late news is told, and changes nothing");
        assert_eq!(bench.runs().len(), 1);
    }
}

#[test]
fn what_it_needs_and_loses_meanwhile_is_waited_for() {
    let db = backoff(service("db"), 100, None);
    let mut bench = Bench::started(vec![db, needs(prepared(), "db", Condition::Ready)]);
    assert_eq!(bench.launched(1), ["run before_start web prepare ~1"]);
    bench.exited(1, 1);
    assert_eq!(bench.run_ended(1, true), NOTHING);
    assert_eq!(bench.state("web"), State::Waiting);
    assert_eq!(bench.until(100), ["launch db#2"]);
    assert_eq!(bench.launched(2), ["run before_start web prepare ~2"]);
}

#[test]
fn one_whose_turn_to_stop_has_not_come_is_not_launched() {
    let web = Service { replicas: 2, ..prepared() };
    let mut bench = Bench::started(vec![web, needs(service("api"), "web", Condition::Ready)]);
    bench.run_ended(1, true);
    bench.run_ended(2, true);
    bench.launched(1);
    assert_eq!(bench.launched(2), ["launch api#3"]);
    bench.launched(3);
    bench.exited(1, 1);
    assert_eq!(bench.until(100), ["run before_start web prepare ~3"]);
    assert_eq!(bench.command(Command::Stop(name("web"))), ["signal #3 SIGTERM"]);
    assert_eq!(bench.run_ended(3, true), NOTHING);
    assert_eq!(bench.exited(3, 0), ["signal #2 SIGTERM"]);
}

// ---- after_ready ----

#[test]
fn after_ready_runs_once_per_start_and_is_only_told() {
    let mut it = with(|hooks| hooks.after_ready = hook("announce", 5000));
    it.readiness = Some(probe(1000, 1));
    let mut bench = Bench::started(vec![it]);
    assert_eq!(bench.launched(1), ["probe #1 readiness"]);
    assert_eq!(bench.probe(1, ProbeKind::Readiness, true), ["run after_ready web announce ~1"]);
    assert_eq!(
        bench.facts(),
        ["MAINSTAY_HOOK=after_ready", "MAINSTAY_STATE=ready", "MAINSTAY_RESTARTS=0", "MAINSTAY_PID=1001"]
    );
    assert_eq!(bench.until(1000), ["probe #1 readiness"]);
    bench.probe(1, ProbeKind::Readiness, false);
    assert_eq!(bench.state("web"), State::Unready);
    bench.until(2000);
    assert_eq!(bench.probe(1, ProbeKind::Readiness, true), NOTHING, "ready again is not ready first");
    assert_eq!(bench.run_ended(1, false), NOTHING);
    assert_eq!(bench.runs(), ["web after_ready 2s: the command exited with code 7: no"]);
    assert_eq!(bench.state("web"), State::Ready);
    assert_eq!(bench.exited(1, 1), NOTHING, "it has ended: there is nothing to end");
    bench.until(2100);
    bench.launched(2);
    assert_eq!(bench.probe(2, ProbeKind::Readiness, true), ["run after_ready web announce ~2"]);
}

#[test]
fn after_ready_ends_with_its_program() {
    let it = || with(|hooks| hooks.after_ready = hook("announce", 5000));
    let mut bench = Bench::started(vec![it()]);
    assert_eq!(bench.launched(1), ["run after_ready web announce ~1"]);
    assert_eq!(bench.command(Command::Stop(name("web"))), ["end run ~1", "signal #1 SIGTERM"]);
    assert_eq!(bench.exited(1, 0), NOTHING);
    assert_eq!(bench.state("web"), State::Stopped, "its end is not waited for");
    bench.run_ended(1, false);
    assert_eq!(bench.runs().len(), 1);

    let mut bench = Bench::started(vec![it()]);
    bench.launched(1);
    assert_eq!(bench.exited(1, 1), ["end run ~1"]);

    let mut bench = Bench::started(vec![it()]);
    bench.launched(1);
    let mut killed = bench.command(Command::KillStack);
    killed.sort();
    assert_eq!(killed, ["end run ~1", "kill #1"]);
}

#[test]
fn a_oneshot_is_never_greeted() {
    let mut it = Service { kind: Kind::Oneshot, ..with(|hooks| hooks.after_ready = hook("announce", 5000)) };
    it.readiness = Some(probe(1000, 1));
    let mut bench = Bench::started(vec![it]);
    bench.launched(1);
    assert_eq!(bench.probe(1, ProbeKind::Readiness, true), NOTHING);
    assert_eq!(bench.state("web"), State::Ready);
}

// ---- before_stop ----

fn leaving() -> Service {
    with(|hooks| hooks.before_stop = hook("leave", 400))
}

#[test]
fn before_stop_comes_first_and_its_time_is_time_of_the_grace() {
    let mut bench = Bench::started(vec![leaving()]);
    bench.launched(1);
    assert_eq!(bench.command(Command::Stop(name("web"))), ["run before_stop web leave ~1"]);
    assert_eq!(bench.timeout(), 400);
    assert_eq!(bench.facts()[0], "MAINSTAY_HOOK=before_stop");
    let blocker = bench.machine.stop_progress().remove(0);
    assert_eq!((blocker.tried, blocker.next.as_str()), (vec!["before_stop".into()], "SIGTERM"));
    bench.now = 300;
    assert_eq!(bench.run_ended(1, true), ["signal #1 SIGTERM"]);
    assert_eq!(bench.until(999), NOTHING);
    assert_eq!(bench.until(1000), ["kill #1"]);
    assert_eq!(
        bench.reason("web").to_string(),
        "did not end within 1s after before_stop, SIGTERM: killed with all its processes"
    );
}

#[test]
fn a_before_stop_that_fails_does_not_hold_up_the_stop() {
    let mut bench = Bench::started(vec![leaving()]);
    bench.launched(1);
    bench.command(Command::Restart(name("web")));
    assert_eq!(bench.run_ended(1, false), ["signal #1 SIGTERM"]);
    assert_eq!(
        bench.reason("web").to_string(),
        "before_stop failed: the command exited with code 7: no; SIGTERM sent, 1s to end"
    );
    assert_eq!(bench.exited(1, 0), ["launch web#2"]);
}

#[test]
fn a_before_stop_with_more_time_than_the_grace_is_cut_and_killed_with_the_program() {
    let mut bench = Bench::started(vec![with(|hooks| hooks.before_stop = hook("leave", 60_000))]);
    bench.launched(1);
    bench.command(Command::Stop(name("web")));
    assert_eq!(bench.timeout(), 1000);
    assert_eq!(bench.until(1000), ["kill #1", "end run ~1"]);
    assert_eq!(bench.run_ended(1, false), NOTHING);

    let it = with(|hooks| hooks.before_stop = hook("leave", 60_000));
    let mut bench = Bench::started(vec![ladder(it, 1000, &[("ask", Some(500)), ("SIGTERM", None)])]);
    bench.launched(1);
    bench.command(Command::Stop(name("web")));
    bench.now = 1000;
    assert_eq!(bench.run_ended(1, false), ["kill #1"], "told in the moment the grace ends: no step is begun");
}

#[test]
fn before_stop_comes_before_a_stop_by_sigkill_too_which_is_no_escalation() {
    let it = ladder(leaving(), 1000, &[("SIGKILL", None)]);
    let mut bench = Bench::started(vec![it]);
    bench.launched(1);
    assert_eq!(bench.command(Command::Stop(name("web"))), ["run before_stop web leave ~1"]);
    assert_eq!(bench.run_ended(1, true), ["kill #1"]);
    bench.exited(1, 9);
    assert_eq!(bench.reason("web"), Reason::Stopped(Some(Exit::Code(9))));
}

#[test]
fn a_program_that_ends_during_before_stop_is_stopped() {
    let mut bench = Bench::started(vec![leaving()]);
    bench.launched(1);
    bench.command(Command::Stop(name("web")));
    assert_eq!(bench.exited(1, 0), ["end run ~1"]);
    assert_eq!(bench.state("web"), State::Stopped);
    assert_eq!(bench.run_ended(1, false), NOTHING);

    let mut bench = Bench::started(vec![leaving()]);
    bench.launched(1);
    bench.command(Command::Stop(name("web")));
    assert_eq!(bench.exited_leaving(1, 0, 1), NOTHING);
    assert_eq!(bench.run_ended(1, true), ["signal #1 SIGTERM"], "the rest of its tree is asked");
}

#[test]
fn before_stop_is_of_orderly_stops_alone() {
    let mut bench = Bench::started(vec![leaving()]);
    bench.launched(1);
    assert_eq!(bench.exited(1, 1), NOTHING, "not after an exit by itself");

    let mut bench = Bench::started(vec![leaving()]);
    bench.launched(1);
    assert_eq!(bench.command(Command::KillStack), ["kill #1"], "not before a kill");

    let mut bench = Bench::started(vec![leaving()]);
    bench.launched(1);
    bench.command(Command::Stop(name("web")));
    assert_eq!(bench.command(Command::KillStack), ["kill #1", "end run ~1"], "and a kill ends it");

    let mut bench = Bench::started(vec![leaving()]);
    bench.command(Command::Stop(name("web")));
    assert_eq!(bench.launched(1), ["signal #1 SIGTERM"], "not when it had not run yet");

    let mut bench = Bench::started(vec![Service { liveness: Some(probe(1000, 1)), ..leaving() }]);
    bench.launched(1);
    let stop = bench.probe(1, ProbeKind::Liveness, false);
    assert_eq!(stop, ["run before_stop web leave ~1"], "but when a probe condemned it");
}

// ---- after_exit ----

#[test]
fn after_exit_comes_before_anything_else() {
    let mut bench = Bench::started(vec![cleaned()]);
    bench.launched(1);
    bench.now = 2000;
    assert_eq!(bench.exited(1, 3), ["run after_exit web clean ~1"]);
    assert_eq!(bench.records(), ["web: ready -> stopping (it exited with code 3 after 2s)"]);
    assert_eq!(
        bench.facts(),
        [
            "MAINSTAY_HOOK=after_exit",
            "MAINSTAY_STATE=stopping",
            "MAINSTAY_RESTARTS=0",
            "MAINSTAY_EXIT_CODE=3",
            "MAINSTAY_EXIT_REASON=it exited with code 3 after 2s"
        ]
    );
    let view = bench.machine.service("web").unwrap().replicas.remove(0);
    assert_eq!((view.spawn, view.pid), (None, None));
    assert_eq!(bench.until(3000), NOTHING);
    assert_eq!(bench.run_ended(1, false), NOTHING, "its failure is only told");
    assert_eq!(bench.runs(), ["web after_exit 1s: the command exited with code 7: no"]);
    assert_eq!(bench.state("web"), State::Backoff);
    assert_eq!(bench.until(3100), ["launch web#2"]);
}

#[test]
fn after_exit_is_told_of_signals_and_kills() {
    let mut bench = Bench::started(vec![cleaned()]);
    bench.launched(1);
    bench.command(Command::Stop(name("web")));
    bench.until(1000);
    let exit = Exit::Signal { signal: 9, core_dumped: false };
    assert_eq!(
        bench.event(Event::Exited { spawn: SpawnId(1), exit, leftovers: 0 }),
        ["run after_exit web clean ~1"]
    );
    let words = "did not end within 1s after SIGTERM: killed with all its processes";
    assert_eq!(
        bench.facts()[3..],
        ["MAINSTAY_EXIT_SIGNAL=SIGKILL".to_owned(), format!("MAINSTAY_EXIT_REASON={words}")]
    );
    assert_eq!(bench.state("web"), State::Stopping);
    bench.run_ended(1, true);
    assert_eq!((bench.state("web"), bench.reason("web").to_string().as_str()), (State::Stopped, words));
}

#[test]
fn after_exit_follows_only_programs_that_ran() {
    let mut bench = Bench::started(vec![cleaned()]);
    assert_eq!(bench.event(Event::LaunchFailed { spawn: SpawnId(1), failure: failure() }), NOTHING);
    assert_eq!(bench.state("web"), State::Backoff);
}

#[test]
fn commands_during_after_exit_change_what_follows() {
    let closing = || {
        let mut bench = Bench::started(vec![cleaned()]);
        bench.launched(1);
        bench.exited(1, 1);
        bench
    };
    let mut bench = closing();
    assert_eq!(bench.command(Command::Stop(name("web"))), NOTHING);
    assert_eq!(bench.run_ended(1, true), NOTHING);
    assert_eq!(bench.state("web"), State::Stopped);

    let mut bench = closing();
    assert_eq!(bench.command(Command::Restart(name("web"))), NOTHING);
    assert_eq!(bench.run_ended(1, true), ["launch web#2"]);

    let mut bench = closing();
    bench.command(Command::Stop(name("web")));
    bench.command(Command::Start(name("web")));
    assert_eq!(bench.state("web"), State::Stopping);
    assert_eq!(bench.run_ended(1, true), NOTHING);
    assert_eq!(bench.state("web"), State::Backoff, "it ended by itself, so its policy decides");
}

#[test]
fn a_kill_and_the_end_of_the_budget_do_not_wait_for_after_exit() {
    let mut bench = Bench::started(vec![cleaned()]);
    bench.launched(1);
    bench.exited(1, 1);
    assert_eq!(bench.command(Command::KillStack), ["end run ~1"]);
    assert!(!bench.machine.is_over());
    bench.until(5000);
    assert!(bench.machine.is_over(), "not for longer than a kill may take");

    let mut bench = Bench::with_budget(vec![cleaned()], Some(ms(2000)));
    bench.command(Command::StartStack);
    bench.launched(1);
    bench.command(Command::StopStack);
    assert_eq!(bench.exited(1, 0), ["run after_exit web clean ~1"]);
    assert_eq!(bench.until(1999), NOTHING);
    assert_eq!(bench.until(2000), ["end run ~1"]);
    assert_eq!(bench.run_ended(1, false), NOTHING);
    assert!(bench.machine.is_over());

    let mut bench = Bench::started(vec![cleaned()]);
    bench.launched(1);
    assert_eq!(bench.command(Command::KillStack), ["kill #1"]);
    assert_eq!(bench.exited(1, 9), NOTHING, "and none is begun any more");
    assert!(bench.machine.is_over());
}

#[test]
fn without_a_budget_after_exit_has_its_time_too() {
    let mut bench = Bench::started(vec![cleaned()]);
    bench.launched(1);
    bench.command(Command::StopStack);
    assert_eq!(bench.until(1000), ["kill #1"]);
    assert_eq!(bench.exited(1, 9), ["run after_exit web clean ~1"]);
    assert_eq!(bench.until(5999), NOTHING);
    assert_eq!(bench.until(6000), ["end run ~1"]);
}

#[test]
fn a_oneshot_has_completed_when_after_exit_has_ended() {
    let it = Service {
        kind: Kind::Oneshot,
        ..with(|hooks| {
            hooks.before_start = hook("prepare", 5000);
            hooks.before_stop = hook("leave", 5000);
            hooks.after_exit = hook("clean", 5000);
        })
    };
    let mut bench = Bench::started(vec![it, needs(service("api"), "web", Condition::Completed)]);
    assert_eq!(bench.run_ended(1, true), ["launch web#1"]);
    bench.launched(1);
    assert_eq!(bench.exited(1, 0), ["run after_exit web clean ~2"]);
    assert_eq!(bench.state("web"), State::Stopping);
    assert_eq!(bench.run_ended(2, false), ["launch api#2"]);
    assert_eq!(bench.state("web"), State::Completed);
}

#[test]
fn what_was_left_behind_is_cleaned_up_after_when_it_ends() {
    let mut bench = Bench::started(vec![cleaned()]);
    bench.launched(1);
    assert_eq!(bench.exited_leaving(1, 1, 1), ["kill #1"]);
    bench.until(5000);
    assert_eq!((bench.state("web"), bench.reason("web")), (State::Failed, Reason::LeftBehind));
    assert_eq!(bench.tree_ended(1), ["run after_exit web clean ~1"]);
    assert_eq!(bench.facts()[3], "MAINSTAY_EXIT_CODE=1");
    assert_eq!(bench.command(Command::Start(name("web"))), NOTHING, "nothing starts before its end");
    assert_eq!(bench.run_ended(1, true), ["launch web#2"]);
    // A stop leaves nothing to clean up for.
    bench.launched(2);
    bench.exited_leaving(2, 1, 1);
    bench.until(bench.now + 5000);
    assert_eq!(bench.tree_ended(2), ["run after_exit web clean ~2"]);
    assert_eq!(bench.command(Command::StopStack), ["end run ~2"]);
    assert!(bench.machine.is_over());
    assert_eq!(bench.run_ended(2, false), NOTHING);
    assert_eq!(bench.state("web"), State::Stopped);
}

#[test]
fn news_of_unknown_runs_changes_nothing() {
    let mut bench = Bench::started(vec![prepared()]);
    assert_eq!(bench.run_ended(77, true), NOTHING);
    assert!(bench.last.is_empty());
    assert_eq!(bench.run_ended(1, true), ["launch web#1"]);
    assert_eq!(bench.run_ended(1, true), NOTHING);
    assert!(bench.last.is_empty());
}
