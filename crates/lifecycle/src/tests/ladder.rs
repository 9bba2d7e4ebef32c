//! Rules for the steps of a stop: their order and times, commands that fail, the grace, the budget, the kill.

use super::*;

const STEPS: [(&str, Option<u64>); 3] = [("SIGINT", Some(500)), ("ask", Some(1000)), ("SIGTERM", None)];

/// One replica runs under this policy and is being stopped.
fn stopping(it: Service) -> Bench {
    let mut bench = Bench::started(vec![it]);
    bench.launched(1);
    bench.command(Command::Stop(name("web")));
    bench
}

fn three_steps() -> Bench {
    stopping(ladder(service("web"), 3000, &STEPS))
}

#[test]
fn the_steps_follow_each_other_after_their_waits_and_the_kill_after_the_grace() {
    let mut bench = Bench::started(vec![ladder(service("web"), 3000, &STEPS)]);
    bench.launched(1);
    assert_eq!(bench.command(Command::Stop(name("web"))), ["signal #1 SIGINT"]);
    assert_eq!(bench.until(499), NOTHING);
    assert_eq!(bench.until(500), ["run stop web ask ~1"]);
    assert_eq!(bench.records(), ["web: stopping -> stopping (its stop command runs, 1s to end)"]);
    assert_eq!(bench.timeout(), 1000);
    assert_eq!(
        bench.facts(),
        ["MAINSTAY_HOOK=stop", "MAINSTAY_STATE=stopping", "MAINSTAY_RESTARTS=0", "MAINSTAY_PID=1001"]
    );
    assert_eq!(bench.run_ended(1, true), NOTHING, "a command that did its work has its whole time");
    assert_eq!(bench.until(1499), NOTHING);
    assert_eq!(bench.until(1500), ["signal #1 SIGTERM"]);
    assert_eq!(bench.records(), ["web: stopping -> stopping (SIGTERM sent, 1.5s to end)"]);
    assert_eq!(bench.until(2999), NOTHING, "the last step has the rest of the grace");
    assert_eq!(bench.until(3000), ["kill #1"]);
    let words =
        "did not end within 3s after SIGINT, its stop command, SIGTERM: killed with all its processes";
    assert_eq!(bench.reason("web").to_string(), words);
    bench.exited(1, 9);
    assert_eq!((bench.state("web"), bench.reason("web").to_string().as_str()), (State::Stopped, words));
}

#[test]
fn progress_says_what_was_tried_and_what_comes_next() {
    let mut bench = three_steps();
    let progress = |bench: &Bench| {
        let blockers = bench.machine.stop_progress();
        assert_eq!(blockers.len(), 1);
        let blocker = &blockers[0];
        let at = blocker.deadline.since_start().as_millis();
        (blocker.tried.join(", "), blocker.next.clone(), at, blocker.killed)
    };
    assert_eq!(progress(&bench), ("SIGINT".into(), "its stop command".into(), 500, false));
    bench.until(500);
    assert_eq!(progress(&bench), ("SIGINT, its stop command".into(), "SIGTERM".into(), 1500, false));
    bench.until(1500);
    let tried = "SIGINT, its stop command, SIGTERM";
    assert_eq!(progress(&bench), (tried.into(), "the kill".into(), 3000, false));
    bench.until(3000);
    assert_eq!(progress(&bench), (tried.into(), "the end of the waiting".into(), 8000, true));
}

#[test]
fn a_command_that_fails_is_followed_by_the_next_step_at_once() {
    let mut bench = three_steps();
    bench.until(500);
    bench.now = 700;
    assert_eq!(bench.run_ended(1, false), ["signal #1 SIGTERM"]);
    assert_eq!(bench.runs(), ["web stop 200ms: the command exited with code 7: no"]);
    assert_eq!(
        bench.reason("web").to_string(),
        "stop command failed: the command exited with code 7: no; SIGTERM sent, 2.3s to end"
    );
    assert_eq!(bench.until(2999), NOTHING);
    assert_eq!(bench.until(3000), ["kill #1"]);
}

#[test]
fn a_command_that_is_the_last_step_and_fails_leaves_the_rest_of_the_grace() {
    let mut bench = stopping(ladder(service("web"), 1000, &[("SIGINT", Some(100)), ("ask", None)]));
    assert_eq!(bench.until(100), ["run stop web ask ~1"]);
    assert_eq!(bench.timeout(), 900, "what is left of the grace");
    assert_eq!(bench.run_ended(1, false), NOTHING);
    assert_eq!(
        bench.reason("web").to_string(),
        "stop command failed: the command exited with code 7: no; 900ms to end"
    );
    assert_eq!(bench.until(1000), ["kill #1"]);
}

#[test]
fn commands_alone_are_followed_by_sigterm_when_they_fail() {
    let mut bench = stopping(ladder(service("web"), 1000, &[("ask", None)]));
    assert_eq!(bench.run_ended(1, false), ["signal #1 SIGTERM"]);
    assert_eq!(bench.until(1000), ["kill #1"]);

    let mut bench = stopping(ladder(service("web"), 1000, &[("ask", None)]));
    assert_eq!(bench.run_ended(1, true), NOTHING);
    assert_eq!(bench.until(1000), ["kill #1"], "a command that did its work has the whole grace");
}

#[test]
fn a_command_still_running_is_ended_by_the_next_step_and_the_kill_and_the_end_of_the_tree() {
    let mut bench = three_steps();
    assert_eq!(bench.until(500), ["run stop web ask ~1"]);
    assert_eq!(bench.until(1500), ["signal #1 SIGTERM", "end run ~1"]);
    assert_eq!(bench.run_ended(1, false), NOTHING, "news of a step that is over");
    assert_eq!(bench.runs().len(), 1, "it is told nevertheless");
    assert_eq!(bench.run_ended(1, false), NOTHING);
    assert_eq!(bench.runs(), NOTHING, "and once");

    let mut bench = three_steps();
    bench.until(500);
    assert_eq!(bench.exited(1, 0), ["end run ~1"]);
    assert_eq!(bench.state("web"), State::Stopped);
    assert_eq!(bench.run_ended(1, false), NOTHING);
    assert_eq!(bench.state("web"), State::Stopped);

    let mut bench = three_steps();
    bench.until(500);
    assert_eq!(bench.exited_leaving(1, 0, 1), NOTHING, "the steps go on for the rest of the tree");
    assert_eq!(bench.run_ended(1, false), ["signal #1 SIGTERM"]);
    bench.tree_ended(1);
    assert_eq!(bench.state("web"), State::Stopped);

    let mut bench = stopping(ladder(service("web"), 1000, &[("ask", None)]));
    assert_eq!(bench.until(1000), ["kill #1", "end run ~1"]);
}

#[test]
fn a_step_of_sigkill_kills_the_tree() {
    let mut bench = stopping(ladder(service("web"), 9000, &[("SIGTERM", Some(300)), ("SIGKILL", None)]));
    assert_eq!(bench.until(299), NOTHING);
    assert_eq!(bench.until(300), ["kill #1"]);
    let words = "did not end within 300ms after SIGTERM: killed with all its processes";
    assert_eq!(bench.reason("web").to_string(), words);
}

#[test]
fn waits_that_are_longer_than_the_grace_end_with_it() {
    let mut bench = stopping(ladder(
        service("web"),
        1000,
        &[("SIGINT", Some(600)), ("ask", Some(600)), ("SIGTERM", None)],
    ));
    assert_eq!(bench.until(600), ["run stop web ask ~1"]);
    assert_eq!(bench.timeout(), 400);
    assert_eq!(bench.until(1000), ["kill #1", "end run ~1"]);
}

#[test]
fn the_budget_of_the_stack_cuts_the_steps() {
    let mut bench = Bench::with_budget(vec![ladder(service("web"), 3000, &STEPS)], Some(ms(800)));
    bench.command(Command::StartStack);
    bench.launched(1);
    assert_eq!(bench.command(Command::StopStack), ["signal #1 SIGINT"]);
    assert_eq!(bench.until(500), ["run stop web ask ~1"]);
    assert_eq!(bench.timeout(), 300);
    assert_eq!(bench.until(800), ["kill #1", "end run ~1"]);

    // The budget begins while the steps are under way.
    let mut bench = Bench::with_budget(vec![ladder(service("web"), 3000, &STEPS)], Some(ms(800)));
    bench.command(Command::StartStack);
    bench.launched(1);
    bench.command(Command::Stop(name("web")));
    bench.until(400);
    assert_eq!(bench.command(Command::StopStack), NOTHING);
    assert_eq!(bench.until(1200), ["run stop web ask ~1", "kill #1", "end run ~1"]);
}

#[test]
fn a_restart_during_the_steps_changes_what_follows_and_not_the_steps() {
    let mut bench = three_steps();
    bench.until(500);
    assert_eq!(bench.command(Command::Restart(name("web"))), NOTHING);
    assert_eq!(bench.until(1500), ["signal #1 SIGTERM", "end run ~1"]);
    assert_eq!(bench.exited(1, 0), ["launch web#2"]);
    assert_eq!(bench.run_ended(1, true), NOTHING, "news of the old start");
}

#[test]
fn a_kill_comes_at_any_step_and_ends_what_runs() {
    for (until, expected) in
        [(0, vec!["kill #1"]), (500, vec!["kill #1", "end run ~1"]), (1500, vec!["kill #1"])]
    {
        let mut bench = three_steps();
        bench.until(until);
        assert_eq!(bench.command(Command::KillStack), expected, "after {until} ms");
        bench.exited(1, 9);
        assert!(bench.machine.is_over());
        assert_eq!(bench.machine.next_deadline(), None);
    }
}

#[test]
fn a_liveness_that_is_lost_goes_through_the_steps_and_its_cause_stays_in_sight() {
    let mut it = ladder(service("web"), 3000, &STEPS);
    it.liveness = Some(probe(1000, 1));
    let mut bench = Bench::started(vec![it]);
    bench.launched(1);
    assert_eq!(bench.probe(1, ProbeKind::Liveness, false), ["signal #1 SIGINT"]);
    assert!(matches!(bench.reason("web"), Reason::ProbeFailed { .. }), "{}", bench.reason("web"));
    assert_eq!(bench.exited(1, 0), ["launch web#2"]);
}

#[test]
fn a_launch_in_flight_gets_the_steps_when_it_runs() {
    let mut bench =
        Bench::started(vec![ladder(service("web"), 3000, &[("ask", Some(500)), ("SIGTERM", None)])]);
    assert_eq!(bench.command(Command::Stop(name("web"))), NOTHING);
    bench.now = 100;
    assert_eq!(bench.launched(1), ["run stop web ask ~1"]);
    assert_eq!(bench.until(600), ["signal #1 SIGTERM", "end run ~1"]);
    assert_eq!(bench.until(3100), ["kill #1"]);
}

#[test]
fn a_step_without_a_wait_is_followed_at_once() {
    let it = ladder(service("web"), 1000, &[("SIGINT", Some(0)), ("SIGHUP", Some(0)), ("SIGTERM", None)]);
    let mut bench = Bench::started(vec![it]);
    bench.launched(1);
    let stop = bench.command(Command::Stop(name("web")));
    assert_eq!(stop, ["signal #1 SIGINT", "signal #1 SIGHUP", "signal #1 SIGTERM"]);
    assert_eq!(bench.until(1000), ["kill #1"]);
}

#[test]
fn a_command_that_has_done_its_work_is_not_waited_with_once_the_main_process_has_ended() {
    // Whichever comes first; and of commands alone it is the appended SIGTERM that follows.
    for exits_first in [true, false] {
        let mut bench = stopping(ladder(service("web"), 3000, &[("ask", None)]));
        let mut effects = Vec::new();
        for exits in [exits_first, !exits_first] {
            assert_eq!(effects, NOTHING, "not before both");
            effects = if exits { bench.exited_leaving(1, 0, 1) } else { bench.run_ended(1, true) };
        }
        assert_eq!(effects, ["signal #1 SIGTERM"]);
        assert_eq!(bench.until(2999), NOTHING, "the last step has the rest of the grace");
        assert_eq!(bench.tree_ended(1), NOTHING);
        assert_eq!(bench.state("web"), State::Stopped);
    }
    // A step of a signal has its whole time, and so has the last one.
    let mut bench = stopping(ladder(service("web"), 3000, &STEPS));
    assert_eq!(bench.exited_leaving(1, 0, 1), NOTHING);
    assert_eq!(bench.until(500), ["run stop web ask ~1"]);
    assert_eq!(bench.run_ended(1, true), ["signal #1 SIGTERM"]);
    let mut bench = stopping(ladder(service("web"), 3000, &[("SIGTERM", Some(100)), ("ask", None)]));
    bench.until(100);
    bench.exited_leaving(1, 0, 1);
    assert_eq!(bench.run_ended(1, true), NOTHING);
    assert_eq!(bench.until(3000), ["kill #1"]);
}
