//! Rules for stops and restarts: order, grace, kill, budget, and what a command finds in flight.

use mainstay_types::Phase;

use super::*;

fn chain() -> Vec<Service> {
    vec![
        service("db"),
        needs(service("api"), "db", Condition::Ready),
        needs(service("web"), "api", Condition::Started),
    ]
}

fn running_chain(budget: Option<Duration>) -> Bench {
    let mut bench = Bench::with_budget(chain(), budget);
    bench.command(Command::StartStack);
    for spawn in 1..=3 {
        bench.launched(spawn);
    }
    bench
}

#[test]
fn a_stop_takes_its_dependents_first() {
    let mut bench = running_chain(None);
    assert_eq!(bench.command(Command::Stop(name("db"))), ["signal #3 SIGTERM"]);
    assert_eq!(
        bench.records(),
        [
            "web: ready -> stopping (api, which it needs, is being stopped)",
            "web: stopping -> stopping (SIGTERM sent, 1s to end)"
        ]
    );
    assert_eq!(bench.state("db"), State::Ready);
    assert_eq!(bench.exited(3, 0), ["signal #2 SIGTERM"]);
    assert_eq!(bench.exited(2, 0), ["signal #1 SIGTERM"]);
    assert_eq!(bench.exited(1, 0), NOTHING);
    assert!(bench.machine.is_settled() && !bench.machine.is_over());
    assert_eq!(bench.command(Command::Start(name("web"))), ["launch db#4"], "and start brings all back");
}

#[test]
fn a_gate_on_something_completed_does_not_follow_a_stop() {
    let mut bench =
        Bench::started(vec![oneshot("migrate"), needs(service("web"), "migrate", Condition::Completed)]);
    bench.launched(1);
    bench.exited(1, 0);
    bench.launched(2);
    assert_eq!(bench.command(Command::Stop(name("migrate"))), NOTHING);
    assert_eq!((bench.state("migrate"), bench.state("web")), (State::Completed, State::Ready));
}

#[test]
fn the_grace_is_followed_by_a_kill() {
    let mut bench = Bench::started(vec![service("web")]);
    bench.launched(1);
    assert_eq!(bench.command(Command::Stop(name("web"))), ["signal #1 SIGTERM"]);
    let blockers = bench.machine.stop_progress();
    assert_eq!((blockers[0].pid, blockers[0].killed), (Some(1001), false));
    assert_eq!(bench.until(999), NOTHING);
    assert_eq!(bench.until(1000), ["kill #1"]);
    assert_eq!(
        bench.records(),
        ["web: stopping -> stopping (did not end within 1s after SIGTERM: killed with all its processes)"]
    );
    bench.event(Event::Exited {
        spawn: SpawnId(1),
        exit: Exit::Signal { signal: 9, core_dumped: false },
        leftovers: 0,
    });
    assert_eq!(bench.state("web"), State::Stopped);
    assert_eq!(bench.reason("web"), Reason::Killed { after: ms(1000), tried: vec!["SIGTERM".into()] });
}

#[test]
fn leftovers_of_a_stop_have_the_rest_of_the_grace() {
    let mut bench = Bench::started(vec![service("web")]);
    bench.launched(1);
    bench.command(Command::Stop(name("web")));
    bench.now = 400;
    assert_eq!(bench.exited_leaving(1, 0, 1), NOTHING);
    assert_eq!(bench.state("web"), State::Stopping);
    assert_eq!(bench.machine.service("web").unwrap().replicas[0].pid, None);
    assert_eq!(bench.until(1000), ["kill #1"]);
    bench.tree_ended(1);
    assert_eq!(bench.state("web"), State::Stopped);
}

#[test]
fn what_waits_stops_at_once() {
    let mut bench = Bench::started(vec![
        backoff(service("db"), 100, None),
        needs(service("web"), "db", Condition::Ready),
    ]);
    bench.launched(1);
    bench.launched(2);
    bench.exited(1, 1);
    bench.exited(2, 1);
    assert_eq!((bench.state("db"), bench.state("web")), (State::Backoff, State::Waiting));
    assert_eq!(bench.command(Command::Stop(name("db"))), NOTHING);
    assert_eq!((bench.state("db"), bench.state("web")), (State::Stopped, State::Stopped));
    assert!(bench.machine.next_deadline().is_none());
}

#[test]
fn a_launch_in_flight_is_stopped_when_it_runs() {
    let mut bench = Bench::started(vec![service("web")]);
    assert_eq!(bench.command(Command::Stop(name("web"))), NOTHING);
    assert_eq!(bench.state("web"), State::Stopping);
    assert_eq!(bench.launched(1), ["signal #1 SIGTERM"]);

    let mut bench = Bench::started(vec![service("web")]);
    bench.command(Command::Stop(name("web")));
    assert_eq!(bench.event(Event::LaunchFailed { spawn: SpawnId(1), failure: failure() }), NOTHING);
    assert_eq!(bench.state("web"), State::Stopped);

    let mut bench = Bench::started(vec![service("web")]);
    bench.command(Command::Stop(name("web")));
    assert_eq!(bench.until(1000), ["kill #1"], "a launch that hangs does not hang the stop");
    assert_eq!(bench.launched(1), ["kill #1"]);
}

#[test]
fn a_start_during_a_stop_follows_it() {
    let mut bench = Bench::started(vec![service("web")]);
    bench.launched(1);
    bench.command(Command::Stop(name("web")));
    assert_eq!(bench.command(Command::Start(name("web"))), NOTHING);
    assert_eq!(bench.exited(1, 0), ["launch web#2"]);
}

#[test]
fn a_restart_is_of_that_service_alone() {
    let mut bench = running_chain(None);
    assert_eq!(bench.command(Command::Restart(name("db"))), ["signal #1 SIGTERM"]);
    assert_eq!(bench.exited(1, 0), ["launch db#4"]);
    assert_eq!((bench.state("api"), bench.state("web")), (State::Ready, State::Ready));
    assert_eq!(bench.machine.service("db").unwrap().replicas[0].restarts, 0, "the policy made none");
}

#[test]
fn a_restart_starts_what_does_not_run() {
    let mut bench = Bench::started(vec![backoff(service("web"), 10_000, None)]);
    bench.launched(1);
    bench.exited(1, 1);
    assert_eq!(bench.state("web"), State::Backoff);
    assert_eq!(bench.command(Command::Restart(name("web"))), ["launch web#2"]);
    bench.launched(2);
    bench.command(Command::Stop(name("web")));
    bench.exited(2, 0);
    assert_eq!(bench.command(Command::Restart(name("web"))), ["launch web#3"]);
}

#[test]
fn the_stack_stops_in_reverse_order_for_good() {
    let mut bench = running_chain(None);
    assert_eq!(bench.command(Command::StopStack), ["signal #3 SIGTERM"]);
    assert_eq!(bench.machine.phase(), Phase::ShuttingDown);
    assert_eq!(bench.command(Command::StopStack), NOTHING);
    assert_eq!(bench.command(Command::StartStack), NOTHING);
    assert_eq!(bench.exited(2, 1), NOTHING, "one that ends by itself stays down");
    assert_eq!(bench.exited(3, 0), ["signal #1 SIGTERM"]);
    assert!(!bench.machine.is_over());
    bench.exited(1, 0);
    assert!(bench.machine.is_over() && bench.machine.is_settled());
    assert_eq!(bench.machine.phase(), Phase::Terminated);
    assert_eq!(bench.command(Command::Start(name("web"))), NOTHING);
    assert!(bench.machine.next_deadline().is_none());
}

#[test]
fn the_budget_bounds_every_grace_and_ends_in_a_kill_of_all() {
    let mut bench = running_chain(Some(ms(1500)));
    bench.command(Command::StopStack);
    assert_eq!(bench.until(1000), ["kill #3"]);
    assert_eq!(bench.exited(3, 9), ["signal #2 SIGTERM"]);
    let killed = bench.until(1500);
    assert_eq!(killed, ["kill #2", "kill #1"], "the grace of api is cut, db has none left");
    bench.until(6500);
    assert!(bench.machine.is_over(), "even when no kill is ever answered");
    assert_eq!(bench.reason("db"), Reason::LeftBehind);
}

#[test]
fn without_a_budget_every_service_of_the_longest_chain_has_its_own_grace() {
    let mut bench = running_chain(None);
    bench.command(Command::StopStack);
    assert_eq!(bench.until(1000), ["kill #3"]);
    assert_eq!(bench.exited(3, 9), ["signal #2 SIGTERM"]);
    assert_eq!(bench.until(2000), ["kill #2"]);
    assert_eq!(bench.exited(2, 9), ["signal #1 SIGTERM"]);
    assert_eq!(bench.until(3000), ["kill #1"]);
}

#[test]
fn kill_kills_everything_now() {
    let mut bench = running_chain(None);
    bench.command(Command::StopStack);
    assert_eq!(bench.command(Command::KillStack), ["kill #1", "kill #2", "kill #3"]);
    assert_eq!(bench.command(Command::KillStack), NOTHING);
    for spawn in 1..=3 {
        assert_eq!(bench.exited(spawn, 9), NOTHING);
    }
    assert!(bench.machine.is_over());
}

#[test]
fn a_signal_of_kill_and_a_grace_of_zero_kill_at_once() {
    for stop in [StopPolicy::signal(StopSignal::Kill, ms(1000)), StopPolicy::signal(StopSignal::Term, ms(0))]
    {
        let mut bench = Bench::started(vec![Service { stop, ..service("web") }]);
        bench.launched(1);
        assert_eq!(bench.command(Command::Stop(name("web"))), ["kill #1"]);
    }
}
