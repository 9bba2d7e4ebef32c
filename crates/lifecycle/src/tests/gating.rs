//! Rules for gates: when a start may happen, and what becomes of one that may not.

use super::*;

#[test]
fn a_dependent_starts_when_its_need_has_come_far_enough() {
    let ready = |it: Service| Service { readiness: Some(probe(1000, 3)), ..it };
    // (needed state, what happens to the dependent at: launch, launched, ready)
    for (is, at_launched, at_ready) in
        [(Condition::Started, vec!["launch web#2"], vec![]), (Condition::Ready, vec![], vec!["launch web#2"])]
    {
        let mut bench = Bench::new(vec![needs(service("web"), "db", is), ready(service("db"))]);
        assert_eq!(bench.command(Command::StartStack), ["launch db#1"], "{is:?}");
        assert_eq!(bench.state("web"), State::Waiting);
        let mut effects = bench.launched(1);
        effects.retain(|effect| !effect.starts_with("probe"));
        assert_eq!(effects, at_launched, "{is:?}");
        let mut effects = bench.probe(1, ProbeKind::Readiness, true);
        effects.retain(|effect| !effect.starts_with("probe"));
        assert_eq!(effects, at_ready, "{is:?}");
    }
}

#[test]
fn a_launch_in_flight_does_not_count_as_started() {
    let mut bench = Bench::started(vec![service("db"), needs(service("web"), "db", Condition::Started)]);
    assert_eq!(bench.event(Event::LaunchFailed { spawn: SpawnId(1), failure: failure() }), ["launch db#2"]);
    assert_eq!(bench.state("web"), State::Waiting);
    assert_eq!(bench.launched(2), ["launch web#3"]);
}

#[test]
fn all_replicas_must_be_ready() {
    let db = Service { replicas: 2, ..service("db") };
    let mut bench = Bench::started(vec![db, needs(service("web"), "db", Condition::Ready)]);
    assert_eq!(bench.launched(1), NOTHING);
    assert_eq!(bench.launched(2), ["launch web#3"]);
}

#[test]
fn a_dependent_of_a_failed_service_waits_and_starts_when_it_recovers() {
    let db = backoff(service("db"), 0, Some((1, 1000)));
    let mut bench = Bench::started(vec![db, needs(service("web"), "db", Condition::Ready)]);
    bench.launched(1);
    bench.launched(2);
    bench.exited(1, 1);
    assert_eq!(bench.state("db"), State::Failed);
    assert_eq!(bench.exited(2, 1), NOTHING, "its gate is checked before a restart too");
    assert_eq!(bench.state("web"), State::Waiting);
    let expected = Reason::WaitingForService { service: name("db"), needed: "ready", is: State::Failed };
    assert_eq!(bench.reason("web"), expected);
    assert_eq!(bench.command(Command::Start(name("db"))), ["launch db#3"]);
    assert_eq!(bench.launched(3), ["launch web#4"]);
}

#[test]
fn an_outside_gate_is_asked_before_every_start() {
    let mut bench = Bench::new(vec![needs_outside(service("web"), None)]);
    assert_eq!(bench.command(Command::StartStack), ["check web/0 @1"]);
    assert_eq!(bench.gate(1, true), ["launch web#2".replace('2', "1")]);
    bench.launched(1);
    assert_eq!(bench.exited(1, 1), ["check web/0 @2"]);
    assert_eq!(bench.gate(1, true), NOTHING, "an answer of the past");
    assert_eq!(bench.gate(2, true), ["launch web#2"]);
}

#[test]
fn a_shut_outside_gate_is_asked_again_with_growing_waits_up_to_five_seconds() {
    let mut bench = Bench::started(vec![needs_outside(service("web"), None)]);
    let mut longest = 0;
    for check in 1..200 {
        let before = bench.now;
        assert_eq!(bench.gate(check, false), NOTHING);
        let (next, reason) = bench.machine.next_deadline().unwrap();
        assert_eq!(reason, crate::DeadlineReason::GateCheck);
        let wait = next.since(Moment::after_start(ms(before)));
        let ceiling = ms(100).saturating_mul(1 << (check - 1).min(16)).min(ms(5000));
        assert!(wait >= ms(1) && wait <= ceiling, "{wait:?} after try {check}");
        longest = longest.max(wait.as_millis());
        bench.now += u64::try_from(wait.as_millis()).unwrap() + 1;
        assert_eq!(bench.event(Event::Tick), [format!("check web/0 @{}", check + 1)]);
    }
    assert!(longest > 4000, "the ceiling is reached: {longest}");
    assert!(matches!(bench.reason("web"), Reason::WaitingForGate { tries: 200, .. }));
}

#[test]
fn a_wait_says_what_was_answered_and_when_it_asks_again() {
    let mut bench = Bench::started(vec![needs_outside(service("web"), None)]);
    let words = |bench: &Bench| bench.reason("web").to_string();
    assert_eq!(words(&bench), "waiting for tcp 127.0.0.1:1");
    bench.gate(1, false);
    let refused = "waiting for tcp 127.0.0.1:1: connection to 127.0.0.1:1 refused: nobody listens there";
    assert_eq!(words(&bench), format!("{refused}, 1 try, next in 100ms"));
    let (due, _) = bench.machine.next_deadline().unwrap();
    let told_at = |bench: &Bench, now| bench.machine.services_at(now).next().unwrap().reason.to_string();
    assert_eq!(told_at(&bench, due), format!("{refused}, 1 try, next now"), "and its tick is late");
    assert_eq!(told_at(&bench, Moment::START), words(&bench), "the past is over");
    bench.until(100);
    assert_eq!(words(&bench), format!("{refused}, 2 tries"), "being asked");
    for (wait, words) in
        [(1, "100ms"), (999, "1s"), (1000, "1s"), (1001, "2s"), (4200, "5s"), (89_500, "1m 30s")]
    {
        let answer = Some(ProbeFailure::NotSaid("no".into()));
        let reason = Reason::WaitingForGate { gate: "x".into(), answer, tries: 4, next: Some(ms(wait)) };
        assert_eq!(reason.to_string(), format!("waiting for x: no, 4 tries, next in {words}"));
    }
}

#[test]
fn all_gates_must_hold_in_one_round() {
    let mut bench = Bench::started(vec![needs_outside(needs_outside(service("web"), None), None)]);
    assert_eq!(bench.gate(1, true), NOTHING);
    assert_eq!(bench.gate(2, false), NOTHING);
    assert_eq!(bench.until(100), ["check web/0 @3", "check web/1 @4"]);
    assert_eq!(bench.gate(4, true), NOTHING);
    assert_eq!(bench.gate(3, true), ["launch web#1"]);
}

#[test]
fn outside_gates_are_asked_again_when_the_services_come_later() {
    let web = needs_outside(needs(service("web"), "db", Condition::Ready), None);
    let mut bench = Bench::new(vec![service("db"), web]);
    assert_eq!(bench.command(Command::StartStack), ["launch db#1", "check web/1 @1"]);
    assert_eq!(bench.gate(1, true), NOTHING);
    assert_eq!(bench.until(60_000), NOTHING, "an open gate is left in peace");
    assert_eq!(bench.launched(1), ["check web/1 @2"]);
    assert_eq!(bench.gate(2, true), ["launch web#2"]);
}

#[test]
fn after_within_it_has_failed_and_starts_nevertheless_when_the_gate_opens() {
    let mut bench = Bench::started(vec![needs_outside(service("web"), Some(ms(300)))]);
    let mut check = 1;
    while bench.state("web") == State::Waiting {
        bench.gate(check, false);
        if bench.until(bench.now + 5000).iter().any(|effect| effect.starts_with("check")) {
            check += 1;
        }
    }
    assert_eq!(bench.state("web"), State::Failed);
    assert!(matches!(bench.reason("web"), Reason::GateTimedOut { .. }));
    assert!(!bench.machine.is_settled(), "its gate is watched");
    assert_eq!(bench.gate(check, true), ["launch web#1"]);
    bench.launched(1);
    assert_eq!(bench.state("web"), State::Ready);
}

#[test]
fn after_within_a_service_gate_fails_it_too() {
    let mut web = needs(service("web"), "db", Condition::Ready);
    web.needs[0].within = Some(ms(300));
    let mut bench = Bench::started(vec![service("db"), web]);
    bench.until(299);
    assert_eq!(bench.state("web"), State::Waiting);
    bench.until(300);
    assert_eq!(bench.state("web"), State::Failed);
    let words = bench.reason("web").to_string();
    assert_eq!(words, "service db (ready) did not hold within 300ms: it is starting");
    assert_eq!(bench.launched(1), ["launch web#2"]);
}

#[test]
fn a_stop_ends_the_watching() {
    let mut bench = Bench::started(vec![needs_outside(service("web"), Some(ms(10)))]);
    bench.until(10);
    assert_eq!(bench.state("web"), State::Failed);
    bench.command(Command::Stop(name("web")));
    assert_eq!(bench.state("web"), State::Stopped);
    assert_eq!(bench.gate(1, true), NOTHING);
    assert!(bench.machine.is_settled());
}

#[test]
fn start_wants_all_that_is_needed() {
    let off = |it: Service| Service { autostart: false, ..it };
    let mut bench = Bench::new(vec![
        off(needs(service("web"), "db", Condition::Ready)),
        off(service("db")),
        off(service("other")),
    ]);
    assert_eq!(bench.command(Command::StartStack), NOTHING);
    assert_eq!(bench.reason("web"), Reason::NotWanted);
    assert_eq!(bench.records().len(), 3, "the timeline hears of every replica");
    assert_eq!(bench.command(Command::Start(name("web"))), ["launch db#1"]);
    assert_eq!(bench.launched(1), ["launch web#2"]);
    assert_eq!(bench.command(Command::Start(name("nobody"))), NOTHING);
    assert!(bench.last.is_empty(), "not even a record");
}

#[test]
fn replicas_start_together() {
    let mut bench = Bench::new(vec![needs_outside(Service { replicas: 3, ..service("web") }, None)]);
    assert_eq!(bench.command(Command::StartStack), ["check web/0 @1"], "one check for all");
    assert_eq!(bench.gate(1, true), ["launch web#1", "launch web.1#2", "launch web.2#3"]);
}
