//! Rules for probes: who is asked when, and what the answers amount to.

use ProbeKind::{Liveness, Readiness, Startup};

use super::*;

fn with(startup: Option<Box<Probe>>, readiness: Option<Box<Probe>>, liveness: Option<Box<Probe>>) -> Bench {
    let mut bench = Bench::started(vec![Service { startup, readiness, liveness, ..service("web") }]);
    bench.last.clear();
    bench
}

#[test]
fn readiness_decides_over_ready_and_unready() {
    let mut bench = with(None, Some(Box::new(Probe { success_threshold: 2, ..*probe(100, 2) })), None);
    assert_eq!(bench.launched(1), ["probe #1 readiness"]);
    bench.probe(1, Readiness, true);
    assert_eq!(bench.state("web"), State::Starting, "two passes in a row are needed");
    let steps = [
        (true, State::Ready),
        (false, State::Ready),
        (true, State::Ready),
        (false, State::Ready),
        (false, State::Unready),
        (true, State::Unready),
        (false, State::Unready),
        (true, State::Unready),
        (true, State::Ready),
    ];
    for (step, (passes, expected)) in steps.into_iter().enumerate() {
        assert_eq!(bench.until(bench.now + 100), ["probe #1 readiness"], "step {step}");
        bench.probe(1, Readiness, passes);
        assert_eq!(bench.state("web"), expected, "step {step}");
    }
}

#[test]
fn while_not_ready_it_is_asked_at_doubling_distances_up_to_the_period() {
    let mut bench = with(None, Some(probe(200, 3)), None);
    bench.launched(1);
    let mut asked_at = vec![];
    for _ in 0..7 {
        bench.probe(1, Readiness, false);
        let (next, _) = bench.machine.next_deadline().unwrap();
        bench.until(u64::try_from(next.since_start().as_millis()).unwrap());
        asked_at.push(bench.now);
    }
    assert_eq!(asked_at, [20, 60, 140, 300, 500, 700, 900]);
    assert_eq!(bench.state("web"), State::Starting, "a readiness that fails does not end a start");
    assert!(matches!(bench.reason("web"), Reason::ProbeFailed { kind: Readiness, .. }));
}

#[test]
fn the_period_counts_from_the_start_of_a_check_and_one_is_in_flight() {
    let mut bench = with(None, None, Some(probe(100, 3)));
    assert_eq!(bench.launched(1), ["probe #1 liveness"]);
    assert_eq!(bench.until(30), NOTHING);
    bench.probe(1, Liveness, true);
    assert_eq!(bench.until(99), NOTHING);
    assert_eq!(bench.until(100), ["probe #1 liveness"]);
    assert_eq!(bench.until(350), NOTHING, "no second one while the first is not answered");
    bench.probe(1, Liveness, true);
    assert_eq!(bench.until(350), ["probe #1 liveness"], "a late answer is followed at once");
}

#[test]
fn startup_holds_the_others_back() {
    let mut bench = with(Some(probe(100, 3)), Some(probe(100, 3)), Some(probe(100, 3)));
    assert_eq!(bench.launched(1), ["probe #1 startup"]);
    bench.probe(1, Startup, false);
    assert_eq!(bench.until(20), ["probe #1 startup"]);
    assert_eq!(bench.probe(1, Startup, true), ["probe #1 readiness", "probe #1 liveness"]);
    assert_eq!(bench.state("web"), State::Starting);
    bench.probe(1, Readiness, true);
    assert_eq!(bench.state("web"), State::Ready);
    let later = bench.until(1000);
    assert!(!later.iter().any(|effect| effect.contains("startup")), "it is never asked again: {later:?}");
}

#[test]
fn startup_alone_makes_ready() {
    let mut bench = with(Some(probe(100, 3)), None, None);
    bench.launched(1);
    bench.probe(1, Startup, true);
    assert_eq!(bench.state("web"), State::Ready);
    assert!(bench.machine.next_deadline().is_none());
}

#[test]
fn startup_fails_by_time_however_often_it_was_asked() {
    let mut bench = with(Some(Box::new(Probe { initial_delay: ms(50), ..*probe(100, 3) })), None, None);
    assert_eq!(bench.launched(1), NOTHING);
    assert_eq!(bench.until(50), ["probe #1 startup"]);
    let mut checks = 0;
    while bench.state("web") == State::Starting {
        bench.probe(1, Startup, false);
        checks += 1;
        let (next, _) = bench.machine.next_deadline().unwrap();
        bench.until(u64::try_from(next.since_start().as_millis()).unwrap());
    }
    assert_eq!((bench.now, bench.state("web")), (350, State::Stopping), "50 + 3 * 100");
    assert!(checks > 3);
    assert!(matches!(bench.reason("web"), Reason::ProbeFailed { kind: Startup, .. }));
}

#[test]
fn a_lost_liveness_restarts_gracefully_and_counts_as_a_failure() {
    let it = Service { liveness: Some(probe(100, 2)), ..backoff(service("web"), 0, Some((2, 60_000))) };
    let mut bench = Bench::started(vec![it]);
    for spawn in 1..=2 {
        bench.launched(spawn);
        bench.probe(spawn, Liveness, false);
        bench.until(bench.now + 100);
        assert_eq!(bench.probe(spawn, Liveness, false), [format!("signal #{spawn} SIGTERM")]);
        assert_eq!(bench.state("web"), State::Stopping);
        bench.exited(spawn, 0);
    }
    assert_eq!(bench.state("web"), State::Failed, "although it exited with 0 both times");
    let Reason::GaveUp { cause, .. } = bench.reason("web") else { panic!("{:?}", bench.reason("web")) };
    assert!(matches!(*cause, Reason::ProbeFailed { kind: Liveness, failures: 2, .. }));
}

#[test]
fn initial_delays_count_from_the_launch() {
    let delayed = |delay| Some(Box::new(Probe { initial_delay: ms(delay), ..*probe(1000, 3) }));
    let mut bench = with(None, delayed(30), delayed(70));
    assert_eq!(bench.launched(1), NOTHING);
    assert_eq!(bench.until(29), NOTHING);
    assert_eq!(bench.until(30), ["probe #1 readiness"]);
    bench.probe(1, Readiness, true);
    assert_eq!(bench.until(70), ["probe #1 liveness"]);
}
