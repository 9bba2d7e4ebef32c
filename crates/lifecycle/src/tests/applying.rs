//! Rules for a changed file: what is stopped, what is started, and above all what is not touched.

mod worlds;

use mainstay_config::Lose;

use super::*;

fn changed(mut it: Service) -> Service {
    it.command.args.push("new".into());
    it
}

fn applied(bench: &Bench) -> bool {
    bench.last.iter().any(|effect| matches!(effect, Effect::Record(Record::Applied { .. })))
}

fn chain() -> Vec<Service> {
    vec![
        service("db"),
        needs(service("api"), "db", Condition::Ready),
        needs(service("web"), "api", Condition::Ready),
        service("other"),
    ]
}

fn running(services: Vec<Service>) -> Bench {
    let count = services.iter().map(|service| u64::from(service.replicas)).sum();
    let mut bench = Bench::started(services);
    for _ in 0..count {
        let new: Vec<u64> = bench
            .machine
            .services()
            .flat_map(|service| service.replicas)
            .filter(|replica| replica.started_at.is_none())
            .filter_map(|replica| replica.spawn.map(|spawn| spawn.0))
            .collect();
        for spawn in new {
            bench.launched(spawn);
        }
    }
    bench
}

#[test]
fn the_same_file_in_another_order_changes_nothing() {
    let mut bench = running(chain());
    let before: Vec<_> = ["db", "api", "web", "other"].map(|name| bench.spawns(name)).into();
    let mut services = chain();
    services.reverse();
    services.iter_mut().for_each(|service| service.line += 10);
    assert_eq!(bench.apply(services), NOTHING);
    assert!(applied(&bench) && bench.records().is_empty());
    let after: Vec<_> = ["db", "api", "web", "other"].map(|name| bench.spawns(name)).into();
    assert_eq!(before, after);
    assert_eq!(bench.machine.stack().services[0].name, name("other"));
    // The old places are forgotten: a stop goes along the gates.
    assert_eq!(bench.command(Command::Stop(name("db"))), [format!("signal #{} SIGTERM", before[2][0])]);
}

#[test]
fn a_changed_chain_goes_down_by_the_old_gates_and_comes_up_by_the_new_ones() {
    let mut bench = running(chain());
    let [db, api, web, other] = ["db", "api", "web", "other"].map(|name| bench.spawns(name)[0]);
    // Now web is what db needs, and the old policy still says how they stop.
    let mut new_db = changed(needs(service("db"), "web", Condition::Ready));
    new_db.stop = StopPolicy::signal(StopSignal::Int, ms(1));
    let new = vec![
        new_db,
        changed(service("web")),
        needs(service("api"), "db", Condition::Ready),
        service("other"),
    ];
    let signals = [format!("signal #{db} SIGTERM"), format!("signal #{web} SIGTERM")];
    assert_eq!(bench.apply(new), signals, "api between them did not change, and stays");
    assert_eq!(bench.reason("web").to_string(), "its configuration has changed");
    assert!(
        bench.machine.is_applying() && bench.machine.is_changing("db") && !bench.machine.is_changing("api")
    );
    assert!(!applied(&bench));
    let effects = bench.exited(web, 0);
    assert_eq!(effects, NOTHING);
    assert_eq!(bench.state("db"), State::Stopping);
    assert_eq!((bench.spawns("api"), bench.spawns("other")), (vec![api], vec![other]));
    let effects = bench.exited(db, 0);
    assert_eq!(effects, ["launch web#5"]);
    assert!(applied(&bench) && !bench.machine.is_applying());
    assert_eq!(bench.launched(5), ["launch db#6"]);
    bench.launched(6);
    assert_eq!((bench.spawns("api"), bench.spawns("other")), (vec![api], vec![other]));
}

#[test]
fn changed_dependents_stop_before_what_they_need() {
    let mut bench = running(chain());
    let [db, api, other] = ["db", "api", "other"].map(|name| bench.spawns(name)[0]);
    let new = vec![
        changed(service("db")),
        changed(needs(service("api"), "db", Condition::Ready)),
        needs(service("web"), "api", Condition::Ready),
        service("other"),
    ];
    assert_eq!(bench.apply(new), [format!("signal #{api} SIGTERM")]);
    assert_eq!(bench.exited(api, 0), [format!("signal #{db} SIGTERM")]);
    assert_eq!(bench.exited(db, 0), ["launch db#5"]);
    assert_eq!(bench.launched(5), ["launch api#6"]);
    assert_eq!(bench.spawns("other"), [other]);
}

#[test]
fn what_is_removed_goes_and_what_is_new_comes() {
    let mut bench = running(chain());
    let [web, other] = ["web", "other"].map(|name| bench.spawns(name)[0]);
    let late = Service { autostart: false, ..service("late") };
    let idle = Service { autostart: false, ..service("idle") };
    let new = vec![
        service("db"),
        needs(service("api"), "db", Condition::Ready),
        needs(service("cache"), "late", Condition::Ready),
        late,
        idle,
    ];
    let mut effects = bench.apply(new);
    effects.sort();
    assert_eq!(effects, [format!("signal #{other} SIGTERM"), format!("signal #{web} SIGTERM")]);
    assert_eq!(bench.reason("other").to_string(), "it is no longer in the file");
    bench.exited(other, 0);
    assert_eq!(bench.exited(web, 0), ["launch late#5"], "a new one brings what it needs");
    assert!(bench.machine.service("web").is_none() && bench.machine.service("other").is_none());
    assert_eq!(bench.launched(5), ["launch cache#6"]);
    assert_eq!(bench.state("idle"), State::Stopped);
    assert_eq!(bench.command(Command::Start(name("other"))), NOTHING);
}

#[test]
fn a_service_the_user_stopped_stays_stopped() {
    let mut bench = running(vec![service("web"), service("db")]);
    bench.command(Command::Stop(name("web")));
    bench.exited(1, 0);
    assert_eq!(bench.apply(vec![changed(service("web")), service("db")]), NOTHING);
    assert!(applied(&bench));
    assert_eq!(bench.state("web"), State::Stopped);
    assert_eq!(bench.command(Command::Start(name("web"))), ["launch web#3"]);
    // A stop in the middle of the change counts too.
    bench.launched(3);
    assert_eq!(bench.apply(vec![service("web"), service("db")]), ["signal #3 SIGTERM"]);
    assert_eq!(bench.command(Command::Start(name("web"))), NOTHING);
    assert_eq!(bench.command(Command::Restart(name("web"))), NOTHING);
    assert!(bench.last.is_empty(), "not taken");
    bench.command(Command::Stop(name("web")));
    assert_eq!(bench.exited(3, 0), NOTHING);
    assert!(applied(&bench));
    assert_eq!(bench.state("web"), State::Stopped);
}

#[test]
fn replicas_come_and_go_without_touching_the_others() {
    let scaled = |replicas| Service { replicas, ..service("db") };
    let mut web = needs(service("web"), "db", Condition::Ready);
    web.needs[0].lose = Lose::Stop;
    let mut bench = running(vec![scaled(1), web.clone()]);
    assert_eq!(bench.spawns("web"), [2]);
    let effects = bench.apply(vec![scaled(3), web.clone()]);
    assert_eq!(effects, ["launch db.1#3", "launch db.2#4"], "nobody counts on those yet");
    bench.launched(3);
    assert_eq!(bench.launched(4), NOTHING);
    assert_eq!((bench.spawns("db"), bench.spawns("web")), (vec![1, 3, 4], vec![2]));
    assert_eq!(bench.apply(vec![scaled(2), web.clone()]), ["signal #4 SIGTERM"]);
    assert_eq!(bench.reason("db").to_string(), "the file has fewer replicas now");
    assert_eq!(bench.state("web"), State::Ready, "nobody misses what goes");
    bench.exited(4, 0);
    assert!(applied(&bench));
    assert_eq!((bench.spawns("db"), bench.spawns("web")), (vec![1, 3], vec![2]));
    assert_eq!(bench.exited(3, 1), ["launch db.1#5", "signal #2 SIGTERM"], "this one is counted on by now");
    // While some go, a newer file may want them after all.
    bench.launched(5);
    assert_eq!(bench.exited(2, 0), ["launch web#6"]);
    bench.launched(6);
    assert_eq!(bench.apply(vec![scaled(1), web.clone()]), ["signal #5 SIGTERM"]);
    assert_eq!(bench.apply(vec![scaled(2), web]), ["signal #6 SIGTERM"]);
    assert_eq!(bench.exited(5, 0), ["launch db.1#7"]);
}

#[test]
fn a_newer_file_takes_the_place_of_one_that_does_not_count_yet() {
    let mut bench = running(chain());
    let [db, web, other] = ["db", "web", "other"].map(|name| bench.spawns(name)[0]);
    let with = |place: usize| {
        let mut services = chain();
        services[place] = changed(services[place].clone());
        services
    };
    assert_eq!(bench.apply(with(0)), [format!("signal #{db} SIGTERM")]);
    // The newer one leaves db as it was: it goes down nevertheless, and comes back.
    assert_eq!(bench.apply(with(3)), [format!("signal #{other} SIGTERM")]);
    assert_eq!(bench.exited(other, 0), NOTHING);
    assert_eq!(bench.exited(db, 0), ["launch db#5", "launch other#6"]);
    assert!(applied(&bench));
    assert_eq!(bench.spawns("web"), [web]);
    assert!(bench.machine.stack().services[0].command.args.is_empty());
    assert_eq!(bench.machine.stack().services[3].command.args, ["new"]);
}

#[test]
fn a_newer_file_may_have_again_what_the_one_before_took_away() {
    let mut bench = running(vec![service("web")]);
    assert_eq!(bench.apply(vec![]), ["signal #1 SIGTERM"]);
    assert_eq!(bench.apply(vec![service("web")]), NOTHING);
    assert_eq!(bench.exited(1, 0), ["launch web#2"]);
}

#[test]
fn commands_of_what_is_gone_are_ended_and_told() {
    let web = Service {
        hooks: Hooks { after_ready: hook("announce", 1000), ..Hooks::default() },
        replicas: 2,
        ..service("web")
    };
    let mut bench = Bench::started(vec![web.clone(), service("db")]);
    bench.launched(1);
    bench.launched(2);
    let effects = bench.apply(vec![service("db"), Service { replicas: 1, ..web }]);
    assert_eq!(effects, ["end run ~2", "signal #2 SIGTERM"]);
    bench.exited(2, 0);
    assert!(applied(&bench));
    bench.run_ended(1, true);
    assert_eq!(bench.runs(), ["web after_ready 0ms: exit code 0"]);
    bench.run_ended(2, false);
    assert_eq!(bench.runs(), ["web.1 after_ready 0ms: the command exited with code 7: no"]);
}

#[test]
fn a_stop_of_the_stack_ends_the_change() {
    let mut bench = running(vec![service("web"), service("db")]);
    bench.apply(vec![changed(service("web")), service("db")]);
    assert_eq!(bench.command(Command::StopStack), ["signal #2 SIGTERM"]);
    assert!(!bench.machine.is_applying());
    bench.exited(1, 0);
    assert_eq!(bench.exited(2, 0), NOTHING);
    assert!(bench.machine.is_over());
    assert_eq!(bench.apply(vec![]), NOTHING);
    assert!(bench.last.is_empty());
}

#[test]
fn a_start_that_needs_what_is_down_for_the_change_waits_for_it() {
    let db = Service { autostart: false, ..service("db") };
    let web = Service { autostart: false, ..needs(service("web"), "db", Condition::Ready) };
    let mut bench = Bench::started(vec![db.clone(), web.clone(), service("other")]);
    bench.launched(1);
    // Neither is up; db changes, and the change waits for other.
    bench.apply(vec![changed(db), web, changed(service("other"))]);
    assert_eq!(bench.command(Command::Start(name("web"))), NOTHING);
    assert_eq!(bench.state("web"), State::Waiting);
    assert_eq!(bench.exited(1, 0), ["launch db#2", "launch other#3"]);
    assert_eq!(bench.launched(2), ["launch web#4"]);
}

#[test]
fn a_failed_service_that_changed_is_tried_anew_and_one_that_did_not_is_not() {
    let bad = |text| backoff(service(text), 0, Some((1, 1000)));
    let mut bench = running(vec![bad("one"), bad("two")]);
    bench.exited(1, 1);
    bench.exited(2, 1);
    assert_eq!((bench.state("one"), bench.state("two")), (State::Failed, State::Failed));
    assert_eq!(bench.apply(vec![changed(bad("one")), bad("two")]), ["launch one#3"]);
    assert_eq!(bench.state("two"), State::Failed);
    assert_eq!(bench.machine.service("two").unwrap().replicas[0].last_exit.unwrap().0, Exit::Code(1));
}

#[test]
fn a_oneshot_that_changed_does_its_work_again() {
    let web = needs(service("web"), "job", Condition::Completed);
    let mut bench = Bench::started(vec![oneshot("job"), web.clone()]);
    bench.launched(1);
    bench.exited(1, 0);
    bench.launched(2);
    assert_eq!(bench.apply(vec![changed(oneshot("job")), web.clone()]), ["launch job#3"]);
    bench.launched(3);
    bench.exited(3, 0);
    assert_eq!((bench.state("job"), bench.spawns("web")), (State::Completed, vec![2]));
    assert_eq!(bench.apply(vec![changed(oneshot("job")), web]), NOTHING, "and not if it did not");
}

#[test]
fn probes_count_from_the_change_and_what_it_is_stays_until_they_say_otherwise() {
    let with = |readiness| vec![Service { readiness, ..service("web") }];
    let mut bench = running(with(None));
    assert_eq!(bench.apply(with(Some(probe(100, 2)))), NOTHING);
    assert_eq!(bench.state("web"), State::Ready);
    assert_eq!(bench.until(0), ["probe #1 readiness"]);
    bench.probe(1, ProbeKind::Readiness, false);
    assert_eq!(bench.state("web"), State::Ready);
    while bench.state("web") == State::Ready {
        bench.until(bench.now + 20);
        bench.probe(1, ProbeKind::Readiness, false);
    }
    assert_eq!((bench.now, bench.state("web")), (240, State::Unready), "the first check after 2 * 100 ms");
    // The answer to a check of the old probe does not count for the new one.
    bench.until(300);
    bench.apply(with(Some(probe(50, 1))));
    bench.probe(1, ProbeKind::Readiness, true);
    assert_eq!(bench.state("web"), State::Unready);
    assert_eq!(bench.until(300), ["probe #1 readiness"]);
    bench.probe(1, ProbeKind::Readiness, true);
    assert_eq!(bench.state("web"), State::Ready);
    bench.until(1000);
    bench.probe(1, ProbeKind::Readiness, false);
    assert_eq!(bench.state("web"), State::Unready);
    bench.apply(with(None));
    assert_eq!((bench.state("web"), bench.spawns("web")), (State::Ready, vec![1]), "without one it is ready");
}

#[test]
fn a_start_under_a_probe_that_goes_is_a_start_that_has_passed() {
    let with = |startup, liveness| vec![Service { startup, liveness, ..service("web") }];
    let mut bench = Bench::started(with(Some(probe(100, 3)), None));
    bench.launched(1);
    bench.probe(1, ProbeKind::Startup, false);
    bench.apply(with(None, Some(probe(100, 1))));
    assert_eq!(bench.state("web"), State::Ready);
    assert_eq!(bench.until(bench.now), ["probe #1 liveness"]);
    // And one that comes later is not asked of what has started.
    bench.apply(with(Some(probe(100, 3)), Some(probe(100, 1))));
    assert_eq!(bench.state("web"), State::Ready);
    bench.probe(1, ProbeKind::Liveness, true);
    assert!(!bench.until(1000).iter().any(|effect| effect.contains("startup")));
}

#[test]
fn needs_count_at_the_next_start_and_new_ones_cannot_be_lost_before_they_held() {
    let keeps = |mut it: Service| {
        it.needs[0].lose = Lose::Stop;
        it
    };
    let mut bench = running(vec![service("web")]);
    let web = keeps(needs(service("web"), "db", Condition::Ready));
    let db = Service { autostart: false, ..service("db") };
    assert_eq!(bench.apply(vec![web.clone(), db]), ["launch db#2"], "what it needs now is started for it");
    assert_eq!((bench.state("web"), bench.spawns("web")), (State::Ready, vec![1]));
    bench.launched(2);
    assert_eq!(bench.exited(2, 1), ["launch db#3", "signal #1 SIGTERM"], "from here on it can be lost");
    // A gate goes together with the service it was on: that is no loss.
    let mut bench = running(vec![service("db"), web]);
    assert_eq!(bench.apply(vec![service("web")]), ["signal #1 SIGTERM"]);
    assert_eq!(bench.exited(1, 0), NOTHING);
    assert_eq!((bench.state("web"), bench.spawns("web")), (State::Ready, vec![2]));
}

#[test]
fn a_wait_goes_on_where_gates_did_not_change_and_begins_anew_where_they_did() {
    let mut bench = Bench::started(vec![needs_outside(service("web"), None), service("x")]);
    bench.launched(1);
    bench.apply(vec![service("y"), needs_outside(service("web"), None), service("x")]);
    assert_eq!(bench.gate(1, true), ["launch web#3"], "the check in flight is the same");
    let mut bench = Bench::started(vec![needs_outside(service("web"), None)]);
    assert_eq!(bench.apply(vec![needs_outside(service("web"), Some(ms(500)))]), ["check web/0 @2"]);
    assert_eq!(bench.gate(1, true), NOTHING);
    assert_eq!(bench.gate(2, true), ["launch web#1"]);
}

#[test]
fn before_the_first_command_a_file_is_only_taken_note_of() {
    let mut bench = Bench::new(vec![service("web")]);
    assert_eq!(bench.apply(vec![service("db")]), NOTHING);
    assert_eq!(bench.command(Command::StartStack), ["launch db#1"]);
}

#[test]
fn a_tree_left_behind_keeps_its_place_over_scaling() {
    let scaled = |replicas| vec![service("db"), Service { replicas, ..service("web") }];
    for stopped_first in [false, true] {
        let mut bench = running(scaled(2));
        assert_eq!(bench.exited_leaving(3, 1, 1), ["kill #3"]);
        bench.until(5000);
        assert_eq!(bench.state("web"), State::Failed);
        if stopped_first {
            bench.command(Command::Stop(name("web")));
            bench.exited(2, 0);
        }
        assert_eq!(bench.apply(scaled(1)), NOTHING);
        assert!(applied(&bench));
        let told = bench.records().iter().any(|it| it.starts_with("web.1: failed -> stopped (killed, but"));
        assert_eq!(told, !stopped_first, "{:?}", bench.records());
        // However often it goes and comes.
        bench.apply(vec![service("db")]);
        if !stopped_first {
            assert_eq!(bench.exited(2, 0), NOTHING);
        }
        assert!(bench.machine.service("web").is_none());
        assert_eq!(bench.apply(scaled(3)), ["launch web#4", "launch web.2#5"]);
        let web = bench.machine.service("web").unwrap();
        assert_eq!((web.replicas[1].state, &web.replicas[1].reason), (State::Waiting, &Reason::LeftBehind));
        bench.launched(4);
        bench.launched(5);
        // And over a file in another order.
        let mut turned = scaled(3);
        turned.reverse();
        assert_eq!(bench.apply(turned), NOTHING);
        assert_eq!(bench.tree_ended(3), ["launch web.1#6"]);
        bench.launched(6);
        assert_eq!(bench.state("web"), State::Ready);
    }
}

#[test]
fn a_tree_left_behind_by_a_removed_service_is_known_until_it_ends() {
    let all = || vec![service("web"), service("db")];
    let left = || {
        let mut bench = running(all());
        assert_eq!(bench.apply(vec![service("db")]), ["signal #1 SIGTERM"]);
        assert_eq!(bench.until(10_000), ["kill #1"]);
        assert!(applied(&bench), "after the wait for its end");
        bench
    };
    let mut bench = left();
    assert_eq!(bench.apply(all()), NOTHING);
    assert_eq!((bench.state("web"), bench.reason("web")), (State::Waiting, Reason::LeftBehind));
    assert_eq!(bench.command(Command::Restart(name("web"))), NOTHING);
    assert_eq!(bench.exited_leaving(1, 9, 1), NOTHING);
    assert_eq!(bench.tree_ended(1), ["launch web#3"]);

    // Its end may come while nobody has that name.
    for leftovers in [0, 1] {
        let mut bench = left();
        assert_eq!(bench.tree_ended(1), NOTHING, "not before its main process");
        assert_eq!(bench.exited_leaving(1, 9, leftovers), NOTHING);
        let told = matches!(&bench.last[..], [Effect::Record(Record::Exited { requested: true, .. })]);
        assert!(told, "{:?}", bench.last);
        if leftovers > 0 {
            assert_eq!(bench.tree_ended(1), NOTHING);
        }
        assert_eq!(bench.apply(all()), ["launch web#3"]);
    }

    // One that comes without autostart says why it is as it is.
    let mut bench = left();
    bench.apply(vec![service("db"), Service { autostart: false, ..service("web") }]);
    assert_eq!((bench.state("web"), bench.reason("web")), (State::Stopped, Reason::LeftBehind));
    bench.exited(1, 9);
    assert_eq!(bench.reason("web").to_string(), "stopped: it exited with code 9");
    assert_eq!(bench.command(Command::Start(name("web"))), ["launch web#3"]);
}

#[test]
fn a_launch_that_hung_and_comes_up_after_its_service_is_gone_is_killed() {
    for comes_up in [true, false] {
        let mut bench = Bench::started(vec![service("web")]);
        bench.apply(vec![]);
        assert_eq!(bench.until(20_000), ["kill #1"]);
        assert!(applied(&bench));
        if comes_up {
            assert_eq!(bench.launched(1), ["kill #1"]);
            bench.apply(vec![service("web")]);
            assert_eq!(bench.exited(1, 9), ["launch web#2"]);
        } else {
            bench.event(Event::LaunchFailed { spawn: SpawnId(1), failure: failure() });
            assert_eq!(bench.apply(vec![service("web")]), ["launch web#2"]);
        }
    }
}

#[test]
fn the_timeline_is_a_chain_over_a_change_of_kind() {
    let mut bench = Bench::started(vec![oneshot("job")]);
    bench.launched(1);
    bench.exited(1, 0);
    let restart = Service { restart: oneshot("job").restart, ..service("job") };
    assert_eq!(bench.apply(vec![restart.clone()]), ["launch job#2"]);
    let told =
        ["completed -> stopped (its configuration has changed)", "stopped -> starting (start requested)"];
    assert_eq!(bench.records(), told.map(|it| format!("job: {it}")));
    // One that is wanted down stays so, and its work is not done.
    let mut bench = Bench::started(vec![oneshot("job")]);
    bench.launched(1);
    bench.exited(1, 0);
    bench.command(Command::Stop(name("job")));
    bench.apply(vec![restart]);
    assert_eq!(bench.records(), ["job: completed -> stopped (its configuration has changed)"]);
    assert_eq!(bench.reason("job"), Reason::ConfigChanged);
}

#[test]
fn a_stop_says_before_whom_it_takes_along() {
    let mut services = chain();
    services.push(needs(service("tail"), "web", Condition::Started));
    services.push(Service { autostart: false, ..needs(service("idle"), "db", Condition::Ready) });
    services.push(needs(service("twice"), "db", Condition::Ready));
    let twice = needs(services.pop().unwrap(), "tail", Condition::Ready);
    services.push(twice);
    let bench = running(services);
    let names =
        |of: &str| bench.machine.would_stop(of).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(names("db"), "twice tail web api");
    assert_eq!(names("web"), "twice tail");
    assert_eq!((names("other"), names("nobody")), (String::new(), String::new()));
}
