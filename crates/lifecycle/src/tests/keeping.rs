//! Rules for gates that are kept while a service runs.

use mainstay_config::Lose;

use super::*;

fn keeps(mut it: Service, lose: Lose, period: u64) -> Service {
    let need = it.needs.last_mut().unwrap();
    (need.lose, need.period) = (lose, ms(period));
    it
}

fn outside(lose: Lose) -> Bench {
    let mut bench = Bench::started(vec![keeps(needs_outside(service("web"), None), lose, 100)]);
    bench.gate(1, true);
    bench.launched(1);
    assert_eq!(bench.state("web"), State::Ready);
    bench
}

fn pair(lose: Lose) -> Bench {
    let web = keeps(needs(service("web"), "db", Condition::Ready), lose, 100);
    let mut bench = Bench::started(vec![service("db"), web]);
    bench.launched(1);
    bench.launched(2);
    bench
}

fn gate_records(bench: &Bench) -> Vec<(bool, String)> {
    let record = |effect: &Effect| {
        let Effect::Record(Record::Gate { gate, open, answer, .. }) = effect else { return None };
        Some((*open, format!("{gate}: {answer}")))
    };
    bench.last.iter().filter_map(record).collect()
}

#[test]
fn an_outside_gate_is_lost_after_three_failures_in_a_row() {
    let mut bench = outside(Lose::Stop);
    let mut check = 1;
    for (step, passes) in [true, false, false, true, false, false, false].into_iter().enumerate() {
        check += 1;
        let due = 100 * (step as u64 + 1);
        assert_eq!(bench.until(due - 1), NOTHING);
        assert_eq!(bench.until(due), [format!("check web/0 @{check}")]);
        let effects = bench.gate(check, passes);
        assert_eq!(effects, if step == 6 { vec!["signal #1 SIGTERM"] } else { vec![] }, "step {step}");
    }
    assert_eq!(bench.state("web"), State::Stopping);
    let refused = "tcp 127.0.0.1:1: connection to 127.0.0.1:1 refused: nobody listens there";
    assert_eq!(bench.reason("web").to_string(), format!("lost {refused}"));
    assert_eq!(gate_records(&bench), [(false, refused.to_owned())]);
    assert_eq!(bench.exited(1, 0), ["check web/0 @9"]);
    assert_eq!(bench.state("web"), State::Waiting, "it waits, and is not stopped");
    bench.gate(9, false);
    assert!(bench.until(bench.now + 200).contains(&"check web/0 @10".to_owned()));
    assert_eq!(bench.gate(10, true), ["launch web#2"]);
}

#[test]
fn a_lost_outside_gate_restarts_when_it_is_back() {
    let mut bench = outside(Lose::Restart);
    for check in 2..=4 {
        bench.until(bench.now + 100);
        assert_eq!(bench.gate(check, false), NOTHING);
    }
    assert_eq!(bench.state("web"), State::Ready, "it runs on");
    let lost = "lost tcp 127.0.0.1:1: connection to 127.0.0.1:1 refused: nobody listens there; restarts when it is back";
    assert_eq!(bench.reason("web").to_string(), lost);
    assert_eq!(gate_records(&bench).len(), 1);
    bench.until(bench.now + 100);
    assert_eq!(bench.gate(5, false), NOTHING);
    assert!(gate_records(&bench).is_empty(), "told once");
    bench.until(bench.now + 100);
    assert_eq!(bench.gate(6, true), ["signal #1 SIGTERM"]);
    assert_eq!(bench.reason("web").to_string(), "tcp 127.0.0.1:1 is back");
    assert_eq!(gate_records(&bench), [(true, "tcp 127.0.0.1:1: connected".to_owned())]);
    assert_eq!(bench.exited(1, 0), ["check web/0 @7"]);
    assert_eq!(bench.gate(7, true), ["launch web#2"]);
    bench.launched(2);
    assert_eq!(bench.reason("web"), Reason::Running);
    assert_eq!(bench.machine.service("web").unwrap().replicas[0].restarts, 0, "its policy had no part in it");
}

#[test]
fn nothing_is_asked_of_a_gate_whose_loss_is_ignored_nor_while_nothing_runs() {
    let mut bench = outside(Lose::Ignore);
    assert_eq!(bench.until(100_000), NOTHING);
    let mut bench = outside(Lose::Stop);
    assert_eq!(bench.until(100), ["check web/0 @2"]);
    bench.command(Command::Stop(name("web")));
    assert_eq!(bench.gate(2, false), NOTHING, "an answer of the past");
    bench.exited(1, 0);
    assert_eq!(bench.until(100_000), NOTHING);
    assert!(bench.machine.is_settled());
}

#[test]
fn a_gate_lost_while_starting_counts() {
    let it = Service { readiness: Some(probe(10_000, 3)), ..needs_outside(service("web"), None) };
    let mut bench = Bench::started(vec![keeps(it, Lose::Stop, 100)]);
    bench.gate(1, true);
    bench.launched(1);
    for check in 2..=4 {
        bench.until(bench.now + 100);
        assert_eq!(bench.state("web"), State::Starting);
        bench.gate(check, false);
    }
    assert_eq!(bench.state("web"), State::Stopping);
}

#[test]
fn a_restart_of_what_it_needs_stops_it_and_starts_it_again() {
    let mut bench = pair(Lose::Stop);
    assert_eq!(bench.command(Command::Restart(name("db"))), ["signal #1 SIGTERM", "signal #2 SIGTERM"]);
    assert_eq!(bench.reason("web").to_string(), "lost service db (ready): it is stopping");
    assert_eq!(bench.exited(2, 0), NOTHING);
    assert_eq!(bench.state("web"), State::Waiting);
    assert_eq!(bench.exited(1, 0), ["launch db#3"]);
    assert_eq!(bench.launched(3), ["launch web#4"]);
}

#[test]
fn a_crash_of_what_it_needs_restarts_it_when_that_is_back() {
    let mut bench = pair(Lose::Restart);
    assert_eq!(bench.exited(1, 1), ["launch db#3"]);
    assert_eq!(bench.state("web"), State::Ready);
    assert_eq!(
        bench.reason("web").to_string(),
        "lost service db (ready): it is starting; restarts when it is back"
    );
    assert_eq!(bench.launched(3), ["signal #2 SIGTERM"]);
    assert_eq!(bench.reason("web").to_string(), "service db (ready) is back");
    assert_eq!(bench.exited(2, 0), ["launch web#4"]);
}

#[test]
fn one_that_came_up_after_the_loss_is_not_restarted_for_it() {
    let web = keeps(needs_outside(service("web"), None), Lose::Restart, 100);
    let mut bench = Bench::started(vec![Service { replicas: 2, ..web }]);
    bench.gate(1, true);
    bench.launched(1);
    bench.launched(2);
    for check in 2..=4 {
        bench.until(bench.now + 100);
        bench.gate(check, false);
    }
    bench.now += 10;
    assert_eq!(bench.exited(2, 1), ["check web/0 @5"]);
    assert_eq!(bench.gate(5, true), ["launch web.1#3"], "it is back, and the next round of the others knows");
    bench.launched(3);
    assert_eq!(bench.until(400), ["check web/0 @6"]);
    assert_eq!(bench.gate(6, true), ["signal #1 SIGTERM"]);
}

#[test]
fn a_stop_of_what_it_needs_takes_it_along_as_ever() {
    for lose in [Lose::Stop, Lose::Restart] {
        let mut bench = pair(lose);
        assert_eq!(bench.command(Command::Stop(name("db"))), ["signal #2 SIGTERM"]);
        assert_eq!(bench.exited(2, 0), ["signal #1 SIGTERM"]);
        bench.exited(1, 0);
        assert_eq!((bench.state("db"), bench.state("web")), (State::Stopped, State::Stopped));
    }
    let mut bench = pair(Lose::Stop);
    assert_eq!(bench.command(Command::StopStack), ["signal #2 SIGTERM"]);
}

#[test]
fn what_has_completed_is_never_lost() {
    let web = keeps(needs(service("web"), "job", Condition::Completed), Lose::Stop, 100);
    let mut bench = Bench::started(vec![oneshot("job"), web]);
    bench.launched(1);
    bench.exited(1, 0);
    bench.launched(2);
    assert_eq!(bench.command(Command::Start(name("job"))), ["launch job#3"]);
    assert_eq!(bench.state("web"), State::Ready);
}

#[test]
fn a_gate_that_a_changed_file_leaves_as_it_was_keeps_its_standing() {
    // The other gate comes before it, and a check is in flight, or none.
    for in_flight in [true, false] {
        let mut bench = outside(Lose::Stop);
        for check in 2..4 {
            bench.until(100 * (check - 1));
            bench.gate(check, false);
        }
        let web = needs(service("web"), "db", Condition::Ready);
        let db = Service { autostart: false, ..service("db") };
        let web = keeps(needs_outside(web, None), Lose::Stop, 50);
        if in_flight {
            assert_eq!(bench.until(300), ["check web/0 @4"]);
            assert_eq!(bench.apply(vec![web, db]), ["launch db#2"]);
        } else {
            assert_eq!(bench.apply(vec![web, db]), ["launch db#2"]);
            assert_eq!(bench.until(250), ["check web/1 @4"], "after the new period");
        }
        assert_eq!(bench.gate(4, false), ["signal #1 SIGTERM"], "the third failure in a row");
    }
    // With another consequence it is another gate.
    let mut bench = outside(Lose::Restart);
    bench.apply(vec![keeps(needs_outside(service("web"), None), Lose::Stop, 100)]);
    for check in 2..8 {
        bench.until(100 * (check - 1));
        assert_eq!(bench.gate(check, false), NOTHING, "it never held");
    }
}
