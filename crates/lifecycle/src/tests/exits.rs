//! Rules for exits nobody asked for: restart, back-off, giving up, oneshots, leftovers.

use mainstay_types::Phase;

use super::*;

#[test]
fn a_service_without_probes_is_ready_as_soon_as_it_runs() {
    let mut bench = Bench::new(vec![service("web")]);
    assert_eq!(bench.machine.phase(), Phase::Initializing);
    assert_eq!(bench.command(Command::StartStack), ["launch web#1"]);
    assert_eq!(bench.records(), ["web: starting -> starting (start requested)"]);
    assert_eq!(bench.state("web"), State::Starting);
    assert_eq!(bench.launched(1), NOTHING);
    assert_eq!(bench.state("web"), State::Ready);
    assert_eq!(bench.machine.phase(), Phase::Running);
    assert_eq!(bench.machine.service("web").unwrap().replicas[0].pid, Some(1001));
}

#[test]
fn without_backoff_the_next_start_comes_in_the_same_breath_as_the_exit() {
    let mut bench = Bench::started(vec![service("web")]);
    bench.launched(1);
    assert_eq!(bench.exited(1, 1), ["launch web#2"]);
    assert_eq!(
        bench.records(),
        ["web: ready -> starting (it exited with code 1 after 0ms; next start in 0ms)"]
    );
    bench.launched(2);
    let view = bench.machine.service("web").unwrap();
    assert_eq!(view.replicas[0].restarts, 1);
    assert_eq!(view.replicas[0].last_exit, Some((Exit::Code(1), Moment::START)));
}

#[test]
fn with_backoff_the_next_start_comes_when_the_wait_is_over() {
    let mut bench = Bench::started(vec![backoff(service("web"), 200, None)]);
    bench.launched(1);
    assert_eq!(bench.exited(1, 1), NOTHING);
    assert_eq!(bench.state("web"), State::Backoff);
    assert_eq!(bench.until(199), NOTHING);
    assert_eq!(bench.until(200), ["launch web#2"]);
    bench.launched(2);
    bench.exited(2, 1);
    assert_eq!(bench.until(599), NOTHING);
    assert_eq!(bench.until(600), ["launch web#3"]);
}

#[test]
fn the_policy_decides_after_which_exits() {
    use RestartWhen::{Always, Never, OnFailure};
    let cases = [
        (Kind::LongRunning, Always, 0, State::Starting),
        (Kind::LongRunning, Always, 1, State::Starting),
        (Kind::LongRunning, OnFailure, 0, State::Stopped),
        (Kind::LongRunning, OnFailure, 1, State::Starting),
        (Kind::LongRunning, Never, 0, State::Stopped),
        (Kind::LongRunning, Never, 1, State::Failed),
        (Kind::Oneshot, Always, 0, State::Completed),
        (Kind::Oneshot, OnFailure, 0, State::Completed),
        (Kind::Oneshot, OnFailure, 1, State::Starting),
        (Kind::Oneshot, Never, 0, State::Completed),
        (Kind::Oneshot, Never, 3, State::Failed),
    ];
    for (kind, when, code, expected) in cases {
        let mut it = service("web");
        it.kind = kind;
        it.restart.when = when;
        let mut bench = Bench::started(vec![it]);
        bench.launched(1);
        bench.exited(1, code);
        assert_eq!(bench.state("web"), expected, "{kind:?} {when:?} code {code}");
    }
}

#[test]
fn a_launch_that_fails_counts_as_a_failure() {
    let mut bench = Bench::started(vec![backoff(service("web"), 100, Some((2, 1000)))]);
    bench.event(Event::LaunchFailed { spawn: SpawnId(1), failure: failure() });
    assert_eq!(bench.state("web"), State::Backoff);
    assert_eq!(bench.until(100), ["launch web#2"]);
    bench.event(Event::LaunchFailed { spawn: SpawnId(2), failure: failure() });
    assert_eq!(bench.state("web"), State::Failed);
    assert!(matches!(bench.reason("web"), Reason::GaveUp { failures: 2, .. }));
}

#[test]
fn it_gives_up_when_the_window_is_full_and_a_start_gives_fresh_tries() {
    let mut bench = Bench::started(vec![backoff(service("web"), 0, Some((3, 1000)))]);
    for spawn in 1..=2 {
        bench.launched(spawn);
        assert_eq!(bench.exited(spawn, 1), [format!("launch web#{}", spawn + 1)]);
    }
    bench.launched(3);
    assert_eq!(bench.exited(3, 1), NOTHING);
    assert_eq!(bench.state("web"), State::Failed);
    assert!(bench.machine.is_settled());
    assert_eq!(bench.command(Command::Start(name("web"))), ["launch web#4"]);
    bench.launched(4);
    assert_eq!(bench.exited(4, 1), ["launch web#5"], "the first of a fresh set of failures");
}

#[test]
fn a_grandchild_does_not_block_the_restart() {
    let mut bench = Bench::started(vec![service("web")]);
    bench.launched(1);
    assert_eq!(bench.exited_leaving(1, 0, 2), ["kill #1"]);
    assert_eq!(bench.state("web"), State::Stopping);
    assert_eq!(bench.tree_ended(1), ["launch web#2"]);
}

#[test]
fn what_outlives_its_kill_fails_the_service_and_releases_it_when_it_ends() {
    let mut bench = Bench::started(vec![service("web")]);
    bench.launched(1);
    bench.exited_leaving(1, 1, 1);
    assert_eq!(bench.until(4999), NOTHING);
    assert_eq!(bench.until(5000), NOTHING);
    assert_eq!((bench.state("web"), bench.reason("web")), (State::Failed, Reason::LeftBehind));
    assert!(!bench.machine.is_settled(), "the kernel may let go of it");
    assert_eq!(bench.command(Command::Start(name("web"))), NOTHING, "nothing starts beside the old tree");
    assert_eq!((bench.state("web"), bench.reason("web")), (State::Waiting, Reason::LeftBehind));
    assert_eq!(bench.tree_ended(1), ["launch web#2"]);

    let mut bench = Bench::started(vec![service("web")]);
    bench.launched(1);
    bench.exited_leaving(1, 1, 1);
    bench.until(6000);
    assert_eq!(bench.tree_ended(1), ["launch web#2"], "it goes on without a command");
}

#[test]
fn news_of_an_older_start_is_dropped() {
    let mut bench = Bench::started(vec![service("web")]);
    bench.launched(1);
    bench.exited(1, 1);
    assert_eq!(bench.exited(1, 1), NOTHING);
    assert_eq!(bench.tree_ended(1), NOTHING);
    assert_eq!(bench.probe(1, ProbeKind::Liveness, false), NOTHING);
    assert_eq!(bench.state("web"), State::Starting);
}

#[test]
fn a_oneshot_is_starting_until_it_has_completed() {
    let mut bench = Bench::started(vec![
        oneshot("migrate"),
        needs(service("web"), "migrate", Condition::Completed),
        needs(service("api"), "migrate", Condition::Ready),
    ]);
    assert_eq!(bench.launched(1), NOTHING);
    assert_eq!(bench.state("migrate"), State::Starting);
    assert_eq!(bench.exited(1, 0), ["launch web#2", "launch api#3"]);
    assert_eq!(bench.state("migrate"), State::Completed);
}

#[test]
fn start_by_name_runs_a_completed_oneshot_again_and_a_mere_need_does_not() {
    let mut bench =
        Bench::started(vec![oneshot("migrate"), needs(service("web"), "migrate", Condition::Completed)]);
    bench.launched(1);
    bench.exited(1, 0);
    bench.launched(2);
    bench.command(Command::Stop(name("web")));
    bench.exited(2, 0);
    assert_eq!(bench.state("web"), State::Stopped);
    assert_eq!(bench.command(Command::Start(name("web"))), ["launch web#3"]);
    assert_eq!(bench.command(Command::Start(name("migrate"))), ["launch migrate#4"]);
}

#[test]
fn the_end_of_a_tree_that_was_left_behind_is_told_whatever_follows() {
    let exited = "it exited with code 1 after 0ms and left 1 process behind: \
                  did it put itself into the background? Run it in the foreground";
    let gave_up = format!("gave up after 1 failure within 1s: {exited}");
    let never = Service {
        restart: RestartPolicy { when: RestartWhen::Never, ..service("web").restart },
        ..service("web")
    };
    let not_again = format!("{exited}; its restart policy does not start it again");
    for (it, told) in [(never, not_again), (backoff(service("web"), 0, Some((1, 1000))), gave_up)] {
        let mut bench = Bench::started(vec![it]);
        bench.launched(1);
        bench.exited_leaving(1, 1, 1);
        bench.until(5000);
        bench.tree_ended(1);
        assert_eq!(bench.records(), [format!("web: failed -> failed ({told})")]);
        assert_eq!(bench.reason("web").to_string(), told);
    }
    // One that was stopped by then, too.
    let mut bench = Bench::started(vec![service("web")]);
    bench.launched(1);
    bench.command(Command::Stop(name("web")));
    bench.until(6000);
    assert_eq!((bench.state("web"), bench.reason("web")), (State::Stopped, Reason::LeftBehind));
    bench.exited(1, 9);
    assert_eq!(bench.records(), ["web: stopped -> stopped (stopped: it exited with code 9)"]);
}
