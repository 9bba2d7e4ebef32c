//! Rules for giving up: the first failure is the reason, somebody is told, and it may be tried again later.

use super::*;

fn giving_up(failures: u32, retry_after: Option<u64>) -> Service {
    let mut it = backoff(service("web"), 0, Some((failures, 60_000)));
    it.restart.give_up.as_mut().unwrap().retry_after = retry_after.map(ms);
    it
}

fn gave_up(bench: &Bench) -> Vec<String> {
    let told = |effect: &Effect| {
        let Effect::Record(Record::GaveUp { replica, reason }) = effect else { return None };
        Some(format!("{replica}: {reason}"))
    };
    bench.last.iter().filter_map(told).collect()
}

#[test]
fn the_first_failure_is_the_reason_and_the_last_one_where_it_differs() {
    let mut bench = Bench::started(vec![giving_up(3, None)]);
    bench.now = 12;
    for (spawn, code) in [(1, 3), (2, 4), (3, 5)] {
        bench.launched(spawn);
        bench.exited(spawn, code);
    }
    let words = "gave up after 3 failures within 1m: first it exited with code 3 after 0ms; \
                 last it exited with code 5 after 0ms";
    assert_eq!(bench.reason("web").to_string(), words);
    assert_eq!(gave_up(&bench), [format!("web: {words}")]);
    assert_eq!(bench.state("web"), State::Failed);
    assert!(bench.machine.is_settled());

    let mut bench = Bench::started(vec![giving_up(2, None)]);
    bench.launched(1);
    bench.now = 50;
    bench.exited(1, 3);
    bench.launched(2);
    bench.exited(2, 3);
    let words = "gave up after 2 failures within 1m: it exited with code 3 after 50ms";
    assert_eq!(bench.reason("web").to_string(), words, "the same failure is named once");
}

#[test]
fn a_failure_that_left_the_window_is_not_the_first_any_more() {
    let mut bench = Bench::started(vec![giving_up(2, None)]);
    for (spawn, code, now) in [(1, 1, 0), (2, 2, 70_000), (3, 3, 80_000)] {
        bench.now = now;
        bench.launched(spawn);
        bench.exited(spawn, code);
    }
    let words = bench.reason("web").to_string();
    assert!(
        words.contains("first it exited with code 2") && words.contains("last it exited with code 3"),
        "{words}"
    );
}

/// It gave up at 0 and is tried again at 10 s.
fn resting() -> Bench {
    let mut bench = Bench::started(vec![giving_up(2, Some(10_000))]);
    for spawn in 1..=2 {
        bench.launched(spawn);
        bench.exited(spawn, 1);
    }
    bench
}

#[test]
fn it_is_tried_again_with_a_fresh_set_of_tries_and_says_when() {
    let mut bench = resting();
    assert_eq!(bench.state("web"), State::Failed);
    assert_eq!(
        bench.reason("web").to_string(),
        "gave up after 2 failures within 1m: it exited with code 1 after 0ms; next try in 10s"
    );
    assert!(!bench.machine.is_settled(), "something will happen by itself");
    let due = (Moment::after_start(ms(10_000)), crate::DeadlineReason::Retry);
    assert_eq!(bench.machine.next_deadline(), Some(due));
    assert_eq!(bench.until(9999), NOTHING);
    assert_eq!(bench.until(10_000), ["launch web#3"]);
    assert_eq!(bench.records(), ["web: failed -> starting (tried again 10s after it gave up)"]);
    assert_eq!(bench.machine.service("web").unwrap().replicas[0].restarts, 2);
    bench.launched(3);
    assert_eq!(bench.exited(3, 1), ["launch web#4"], "the first of a fresh set");
    bench.launched(4);
    assert_eq!(bench.exited(4, 1), NOTHING);
    let words = "gave up again after 2 failures within 1m: it exited with code 1 after 0ms; next try in 10s";
    assert_eq!(gave_up(&bench), [format!("web: {words}")]);
    assert_eq!(bench.until(20_000), ["launch web#5"]);
}

#[test]
fn a_long_run_makes_it_forget_that_it_gave_up() {
    let mut bench = resting();
    bench.until(10_000);
    bench.launched(3);
    bench.now = 80_000;
    bench.exited(3, 1);
    bench.launched(4);
    bench.exited(4, 1);
    assert!(bench.reason("web").to_string().starts_with("gave up after 2"), "{}", bench.reason("web"));
}

#[test]
fn commands_end_the_waiting() {
    for command in [Command::Start(name("web")), Command::Restart(name("web")), Command::StartStack] {
        let mut bench = resting();
        assert_eq!(bench.command(command), ["launch web#3"]);
        assert_eq!(bench.machine.service("web").unwrap().replicas[0].restarts, 1, "somebody asked for it");
        assert_eq!(bench.until(20_000), NOTHING);
    }
    for command in [Command::Stop(name("web")), Command::StopStack, Command::KillStack] {
        let mut bench = resting();
        assert_eq!(bench.command(command), NOTHING);
        assert_eq!((bench.state("web"), bench.reason("web")), (State::Stopped, Reason::StopRequested));
        assert_eq!(bench.machine.next_deadline(), None);
        assert!(bench.machine.is_settled());
    }
}

#[test]
fn a_kill_for_lack_of_memory_is_a_failure() {
    let mut bench = Bench::started(vec![giving_up(1, None)]);
    bench.launched(1);
    bench.event(Event::Exited { spawn: SpawnId(1), exit: Exit::OutOfMemory, leftovers: 0 });
    assert_eq!(
        bench.reason("web").to_string(),
        "gave up after 1 failure within 1m: it was killed by the kernel for lack of memory (SIGKILL) after 0ms"
    );
    let mut it = service("web");
    it.restart.when = RestartWhen::OnFailure;
    let mut bench = Bench::started(vec![it]);
    bench.launched(1);
    let out = bench.event(Event::Exited { spawn: SpawnId(1), exit: Exit::OutOfMemory, leftovers: 0 });
    assert_eq!(out, ["launch web#2"]);
}

#[test]
fn waiting_says_what_the_other_is_in_whole_words() {
    let db = giving_up(1, None);
    let mut bench = Bench::started(vec![db, needs(service("api"), "web", Condition::Ready)]);
    bench.launched(1);
    bench.launched(2);
    bench.exited(2, 1);
    bench.exited(1, 1);
    bench.launched(3);
    bench.exited(3, 1);
    assert_eq!(bench.reason("api").to_string(), "waiting for web to be ready: it has failed");
}
