//! Rules for probes that go by what the program says: log lines, sd_notify, the readiness descriptor, the watchdog.

use Notification::{
    ExtendTimeout, Ready, Reloading, Status, Stopping, Watchdog, WatchdogInterval, WatchdogTrigger,
};
use ProbeKind::{Liveness, Readiness, Startup};

use super::*;

fn told(check: Check, period: u64, failures: u32) -> Option<Box<Probe>> {
    Some(Box::new(Probe { check, ..*probe(period, failures) }))
}

fn with(startup: Option<Box<Probe>>, readiness: Option<Box<Probe>>, liveness: Option<Box<Probe>>) -> Bench {
    let it = backoff(service("web"), 500, None);
    let mut bench = Bench::started(vec![Service { startup, readiness, liveness, ..it }]);
    assert_eq!(bench.launched(1), NOTHING, "it is never asked");
    bench
}

#[test]
fn a_start_waits_for_what_the_program_has_to_say() {
    let log =
        |spawn, kind| Event::LogMatched { spawn: SpawnId(spawn), kind, line: "listening on :80".into() };
    let ready = Event::Notified { spawn: SpawnId(1), what: Ready };
    let cases = [
        (Check::Notify, ready.clone(), "its READY=1 (sd_notify)", "READY=1"),
        (Check::NotifyFd(3), ready, "a newline on its descriptor 3", "READY=1"),
        (Check::Log("listen".into()), log(1, Startup), "a line that matches /listen/", "listening on :80"),
    ];
    for (check, event, awaited, evidence) in cases {
        let mut bench = with(told(check, 100, 3), None, None);
        assert_eq!(bench.state("web"), State::Starting);
        assert_eq!(bench.reason("web").to_string(), format!("waiting for {awaited}"));
        assert_eq!(bench.event(log(1, Liveness)), NOTHING, "nobody waits for that");
        assert_eq!(bench.state("web"), State::Starting);
        assert_eq!(bench.event(event), NOTHING);
        assert_eq!(bench.state("web"), State::Ready);
        assert_eq!(bench.reason("web").to_string(), format!("startup probe passed: {evidence}"));
        assert_eq!(bench.until(10_000), NOTHING, "and that stays so");
    }
}

#[test]
fn a_start_that_says_nothing_fails_when_its_budget_is_over() {
    for (check, words) in [
        (Check::Notify, "startup probe failed: no READY=1 (sd_notify) within 350ms"),
        (Check::NotifyFd(3), "startup probe failed: no newline on its descriptor 3 within 350ms"),
        (Check::Log("up$".into()), "startup probe failed: no line that matches /up$/ within 350ms"),
    ] {
        let startup = Box::new(Probe { initial_delay: ms(50), ..*told(check, 100, 3).unwrap() });
        let mut bench = with(Some(startup), None, None);
        assert_eq!(bench.until(349), NOTHING);
        assert_eq!(bench.until(350), ["signal #1 SIGTERM"]);
        assert_eq!(bench.reason("web").to_string(), words);
        assert_eq!(bench.exited(1, 0), NOTHING);
        assert_eq!(bench.state("web"), State::Backoff, "it counts as a failure");
    }
}

#[test]
fn a_program_may_ask_for_more_time_to_start() {
    let mut bench = with(told(Check::Notify, 100, 3), None, None);
    bench.now = 250;
    bench.says(1, ExtendTimeout(ms(20)));
    bench.says(1, ExtendTimeout(ms(400)));
    bench.says(1, ExtendTimeout(ms(10)));
    assert_eq!(bench.until(649), NOTHING, "the time it has is never made shorter");
    assert_eq!(bench.until(650), ["signal #1 SIGTERM"]);
}

#[test]
fn readiness_waits_without_limit_and_notify_may_take_it_back() {
    let mut bench = with(None, told(Check::Notify, 10, 1), None);
    assert_eq!(bench.until(60_000), NOTHING);
    assert_eq!(bench.reason("web").to_string(), "waiting for its READY=1 (sd_notify)");
    bench.says(1, Reloading);
    assert_eq!(bench.state("web"), State::Starting, "what was never said cannot be taken back");
    bench.says(1, Ready);
    assert_eq!(bench.state("web"), State::Ready);
    bench.says(1, Reloading);
    assert_eq!(bench.state("web"), State::Unready);
    assert_eq!(bench.reason("web").to_string(), "readiness probe failed: it reloads its configuration");
    bench.says(1, Status("took 3 sites".into()));
    bench.says(1, Ready);
    assert_eq!(bench.state("web"), State::Ready);
    assert!(bench.last.iter().any(|effect| matches!(effect, Effect::Record(Record::Reloaded { how, .. })
        if how == "reloaded: took 3 sites")));
    bench.says(1, Stopping);
    assert_eq!(bench.reason("web").to_string(), "readiness probe failed: it says that it is stopping");
    assert_eq!(bench.state("web"), State::Unready);
}

#[test]
fn what_was_said_before_startup_has_passed_counts_afterwards() {
    for by_log in [false, true] {
        let check = if by_log { Check::Log("x".into()) } else { Check::Notify };
        let it = Service { startup: Some(probe(100, 3)), readiness: told(check, 100, 3), ..service("web") };
        let mut bench = Bench::started(vec![it]);
        assert_eq!(bench.launched(1), ["probe #1 startup"]);
        if by_log {
            bench.event(Event::LogMatched { spawn: SpawnId(1), kind: Readiness, line: "x".into() });
        } else {
            bench.says(1, Ready);
        }
        assert_eq!(bench.state("web"), State::Starting, "startup holds readiness back");
        bench.probe(1, Startup, true);
        assert_eq!(bench.state("web"), State::Ready);
    }
}

#[test]
fn one_ready_passes_startup_and_readiness() {
    let mut bench = with(told(Check::Notify, 100, 3), told(Check::Notify, 100, 3), None);
    bench.says(1, Ready);
    assert_eq!(bench.state("web"), State::Ready);
}

#[test]
fn news_that_overtake_the_launch_are_not_lost() {
    let mut bench =
        Bench::started(vec![Service { readiness: told(Check::Notify, 100, 3), ..service("web") }]);
    bench.says(1, Ready);
    bench.says(1, Status("up".into()));
    bench.event(Event::MainChanged { spawn: SpawnId(1), pid: 77 });
    assert_eq!(bench.state("web"), State::Starting);
    bench.launched(1);
    assert_eq!(bench.state("web"), State::Ready);
    let replica = bench.machine.service("web").unwrap().replicas[0].clone();
    assert_eq!((replica.pid, replica.status_text.as_deref()), (Some(77), Some("up")));
    assert_eq!(bench.exited(1, 0), ["launch web#2"]);
    bench.says(1, Status("late".into()));
    assert_eq!(bench.machine.service("web").unwrap().replicas[0].status_text, None, "of another run");
    bench.launched(2);
    assert_eq!(bench.state("web"), State::Starting, "each run says it anew");
}

#[test]
fn a_watchdog_that_is_not_heard_restarts() {
    let mut bench = with(None, None, told(Check::Notify, 100, 3));
    for _ in 0..5 {
        bench.now += 299;
        assert_eq!(bench.event(Event::Tick), NOTHING);
        bench.says(1, Watchdog);
    }
    let last = bench.now;
    assert_eq!(bench.until(last + 299), NOTHING);
    assert_eq!(bench.until(last + 300), ["signal #1 SIGTERM"]);
    assert_eq!(bench.reason("web").to_string(), "liveness probe failed: no WATCHDOG=1 within 300ms");
    bench.exited(1, 0);
    assert_eq!(bench.state("web"), State::Backoff);
    assert_eq!(bench.until(last + 800), ["launch web#2"]);
    bench.launched(2);
    assert_eq!(bench.until(last + 1099), NOTHING, "it counts from the launch");
    assert_eq!(bench.until(last + 1100), ["signal #2 SIGTERM"]);
}

#[test]
fn a_watchdog_counts_from_the_first_word_where_the_program_says_when_it_is_ready() {
    let watchdog = || told(Check::Notify, 100, 3);
    for (check, word) in [(Check::Notify, Ready), (Check::Notify, Watchdog), (Check::NotifyFd(3), Ready)] {
        let mut bench = with(None, told(check, 100, 3), watchdog());
        bench.says(1, WatchdogInterval(ms(200)));
        assert_eq!(bench.until(5000), NOTHING, "a long start");
        bench.says(1, word);
        assert_eq!(bench.until(5199), NOTHING);
        assert_eq!(bench.until(5200), ["signal #1 SIGTERM"]);
    }
    let mut bench = with(None, told(Check::Log("x".into()), 100, 3), watchdog());
    assert_eq!(bench.until(5000), NOTHING);
    bench.event(Event::LogMatched { spawn: SpawnId(1), kind: Readiness, line: "x".into() });
    assert_eq!(bench.until(5299), NOTHING);
    assert_eq!(bench.until(5300), ["signal #1 SIGTERM"]);
    // Its initial delay is not cut short by an early word.
    let delayed = Box::new(Probe { initial_delay: ms(1000), ..*watchdog().unwrap() });
    let mut bench = with(None, told(Check::Notify, 100, 3), Some(delayed));
    bench.says(1, Ready);
    assert_eq!(bench.until(1299), NOTHING);
    assert_eq!(bench.until(1300), ["signal #1 SIGTERM"]);
    // Behind a startup probe that is asked, too; and readiness that was taken back does not hold it up again.
    let asked = Service { startup: Some(probe(100, 3)), liveness: watchdog(), ..service("web") };
    let mut bench = Bench::started(vec![Service { readiness: told(Check::Notify, 100, 3), ..asked }]);
    bench.launched(1);
    bench.probe(1, Startup, true);
    assert_eq!(bench.until(5000), NOTHING);
    bench.says(1, Ready);
    bench.says(1, Reloading);
    assert_eq!(bench.until(5300), ["signal #1 SIGTERM"]);
    // Or a changed file takes the startup probe away.
    let with = |startup| Service {
        startup,
        readiness: told(Check::Notify, 100, 3),
        liveness: watchdog(),
        ..service("web")
    };
    let mut bench = Bench::started(vec![with(Some(probe(100, 3)))]);
    bench.launched(1);
    assert_eq!(bench.apply(vec![with(None)]), NOTHING);
    assert_eq!(bench.until(5000), NOTHING);
    bench.says(1, Ready);
    assert_eq!(bench.until(5300), ["signal #1 SIGTERM"]);
}

#[test]
fn a_program_may_set_its_watchdog_turn_it_off_and_pull_it() {
    let mut bench = with(None, None, told(Check::Notify, 100, 3));
    bench.says(1, WatchdogInterval(ms(50)));
    assert_eq!(bench.until(49), NOTHING);
    bench.says(1, Watchdog);
    bench.says(1, WatchdogInterval(Duration::ZERO));
    assert_eq!(bench.until(100_000), NOTHING);
    bench.says(1, Watchdog);
    assert_eq!(bench.until(200_000), NOTHING, "a ping does not turn it on again");
    bench.says(1, WatchdogInterval(ms(50)));
    assert_eq!(bench.says(1, WatchdogTrigger), ["signal #1 SIGTERM"]);
    assert_eq!(bench.reason("web").to_string(), "liveness probe failed: it sent WATCHDOG=trigger");
}

#[test]
fn the_watchdog_counts_from_the_end_of_startup() {
    let mut bench = with(told(Check::Notify, 1000, 3), None, told(Check::Notify, 100, 3));
    assert_eq!(bench.until(1000), NOTHING);
    bench.says(1, WatchdogTrigger);
    bench.says(1, Ready);
    assert_eq!(bench.state("web"), State::Ready);
    eprintln!("{:?} {:#?}", bench.machine.next_deadline(), bench.last);
    assert_eq!(bench.until(1299), NOTHING);
    assert_eq!(bench.until(1300), ["signal #1 SIGTERM"]);
}

#[test]
fn a_program_without_such_probes_may_say_what_it_likes() {
    let mut bench = Bench::started(vec![Service { liveness: Some(probe(100, 3)), ..service("web") }]);
    bench.launched(1);
    for what in [
        Reloading,
        Stopping,
        Watchdog,
        WatchdogTrigger,
        WatchdogInterval(ms(1)),
        ExtendTimeout(ms(1)),
        Status("x".into()),
    ] {
        assert_eq!(bench.says(1, what), NOTHING);
        assert_eq!(bench.state("web"), State::Ready);
    }
    bench.says(1, Ready);
    assert!(bench.last.iter().any(|effect| matches!(effect, Effect::Record(Record::Reloaded { .. }))));
    assert_eq!(bench.says(9, Ready), NOTHING, "of a start nobody knows");
    bench.event(Event::MainChanged { spawn: SpawnId(1), pid: 4 });
    bench.command(Command::Stop(name("web")));
    bench.event(Event::MainChanged { spawn: SpawnId(1), pid: 5 });
    bench.says(1, Status("closing 3 connections".into()));
    let replica = bench.machine.service("web").unwrap().replicas[0].clone();
    assert_eq!((replica.pid, replica.status_text.as_deref()), (Some(5), Some("closing 3 connections")));
}

#[test]
fn a_program_may_ask_for_more_time_to_stop_within_the_budget_of_the_stack() {
    for whole in [false, true] {
        let mut bench = Bench::with_budget(vec![service("web")], Some(ms(3000)));
        bench.command(Command::StartStack);
        bench.launched(1);
        bench.command(if whole { Command::StopStack } else { Command::Stop(name("web")) });
        bench.now = 900;
        bench.says(1, ExtendTimeout(ms(1500)));
        bench.says(1, ExtendTimeout(ms(10)));
        assert_eq!(bench.until(2399), NOTHING);
        bench.says(1, ExtendTimeout(ms(5000)));
        assert_eq!(bench.until(2999), NOTHING);
        assert_eq!(bench.until(3000), ["kill #1"]);
        assert_eq!(bench.says(1, ExtendTimeout(ms(5000))), NOTHING, "there is no way back from a kill");
    }
    // Nor is the next step taken before.
    let mut bench = Bench::with_budget(
        vec![ladder(service("web"), 1000, &[("SIGINT", Some(100)), ("SIGTERM", None)])],
        Some(ms(3000)),
    );
    bench.command(Command::StartStack);
    bench.launched(1);
    assert_eq!(bench.command(Command::Stop(name("web"))), ["signal #1 SIGINT"]);
    bench.says(1, ExtendTimeout(ms(500)));
    assert_eq!(bench.until(499), NOTHING);
    assert_eq!(bench.until(500), ["signal #1 SIGTERM"]);
}
