//! Properties of the machine under any events: it never asks for a tick in the past, never starts one replica twice.
//! What the ids are guessed for here is kept faithfully in `world.rs`.

use proptest::prelude::*;

use mainstay_config::Lose;

use super::*;

fn told(check: Check) -> Option<Box<Probe>> {
    Some(Box::new(Probe { check, ..*probe(200, 2) }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_events_in_any_order_are_taken(steps in prop::collection::vec((0u8..19, 0u64..40, 0u64..3000), 1..300)) {
        let hooks = Hooks {
            before_start: hook("prepare", 400),
            after_ready: hook("announce", 400),
            before_stop: hook("leave", 400),
            after_exit: hook("clean", 400),
        };
        let db = ladder(service("db"), 900, &[("SIGINT", Some(200)), ("ask", Some(300)), ("SIGTERM", None)]);
        let web = Service {
            hooks,
            replicas: 2,
            readiness: Some(probe(100, 2)),
            liveness: Some(probe(150, 1)),
            ..needs_outside(needs(backoff(service("web"), 50, Some((3, 2000))), "db", Condition::Ready), Some(ms(500)))
        };
        let mut web = Service { reload: ReloadPolicy::Command(hook("ask", 300).unwrap()), ..web };
        web.needs[0].lose = Lose::Stop;
        (web.needs[1].lose, web.needs[1].period) = (Lose::Restart, ms(100));
        let services = vec![db, needs(oneshot("job"), "db", Condition::Started), web];
        let mut bench = Bench::new(services.clone());
        for (what, id, wait) in steps {
            bench.now += wait;
            // Ids are guessed, so most news is stale or contradicts what went before: it must be harmless.
            let service = name(["db", "job", "web"][usize::try_from(id % 3).unwrap()]);
            match what {
                0 => bench.command(Command::StartStack),
                1 => bench.command(Command::Start(service)),
                2 => bench.command(Command::Stop(service)),
                3 => bench.command(Command::Restart(service)),
                4 if id == 0 => bench.command(Command::StopStack),
                5 => bench.exited_leaving(id, 1, u32::try_from(wait % 2).unwrap()),
                6 => bench.tree_ended(id),
                7 => bench.gate(id, wait % 2 == 0),
                8 => bench.probe(id, ProbeKind::Readiness, wait % 2 == 0),
                9 => bench.probe(id, ProbeKind::Liveness, wait % 2 == 0),
                10 => bench.event(Event::LaunchFailed { spawn: SpawnId(id), failure: failure() }),
                11 => bench.run_ended(id, wait % 2 == 0),
                12 => bench.command(Command::Reload(service)),
                13 => {
                    let what = match wait % 6 {
                        0 => Notification::Ready,
                        1 => Notification::Reloading,
                        2 => Notification::Stopping,
                        3 => Notification::Watchdog,
                        4 => Notification::WatchdogTrigger,
                        _ => Notification::ExtendTimeout(ms(wait)),
                    };
                    bench.says(id, what)
                }
                14 => {
                    let kind = ProbeKind::ALL[usize::try_from(wait % 3).unwrap()];
                    bench.event(Event::LogMatched { spawn: SpawnId(id), kind, line: String::new() })
                }
                15..17 => {
                    // Another stack: without one of them, with one changed, in another order, with other probes.
                    let mut services = services.clone();
                    match wait % 6 {
                        0 => drop(services.remove(usize::try_from(1 + id % 2).unwrap())),
                        1 => services[usize::try_from(id % 3).unwrap()].command.args.push("new".into()),
                        2 => services.reverse(),
                        3 => services[2].replicas = u32::try_from(1 + id % 4).unwrap(),
                        4 => {
                            services[2].readiness = (id % 2 == 0).then(|| probe(50, 1));
                            services[2].liveness = told(Check::Notify);
                            services[0].startup = told(Check::Log("x".into()));
                        }
                        _ => {}
                    }
                    bench.apply(services)
                }
                _ => bench.launched(id),
            };
            for _ in 0..1000 {
                let due = bench.machine.next_deadline();
                if due.is_none_or(|(moment, _)| moment > Moment::after_start(ms(bench.now))) {
                    break;
                }
                bench.event(Event::Tick);
            }
            let due = bench.machine.next_deadline();
            prop_assert!(due.is_none_or(|(moment, _)| moment > Moment::after_start(ms(bench.now))));
            let spawns: Vec<_> = bench.machine.services().flat_map(|it| it.replicas).filter_map(|it| it.spawn).collect();
            let mut unique = spawns.clone();
            unique.sort();
            unique.dedup();
            prop_assert_eq!(spawns.len(), unique.len());
        }
    }
}

/// Nothing, next to nothing, the longest that a file may say (a year, as often as a threshold may count), and the
/// longest there is.
fn any_duration() -> impl Strategy<Value = Duration> {
    let year = Duration::from_secs(365 * 86_400);
    prop::sample::select(vec![
        Duration::ZERO,
        Duration::from_nanos(1),
        ms(1),
        ms(1500),
        year,
        year.saturating_mul(100_000),
        Duration::from_secs(u64::MAX),
        Duration::MAX,
    ])
}

/// A service whose every time and count is drawn; the probes ask, or go by what is said.
fn extreme_service(times: &[Duration], counts: &[u32], asks: bool) -> Service {
    let mut times = times.iter().copied().cycle();
    let mut counts = counts.iter().copied().cycle();
    let mut time = || times.next().unwrap();
    let mut probe = |check: Check| {
        Some(Box::new(Probe {
            check: if asks { Check::Ask(tcp()) } else { check },
            initial_delay: time(),
            period: time(),
            timeout: time(),
            success_threshold: 1,
            failure_threshold: counts.next().unwrap(),
        }))
    };
    let (startup, readiness, liveness) =
        (probe(Check::Log("x".into())), probe(Check::NotifyFd(3)), probe(Check::Notify));
    let failures = counts.next().unwrap();
    let mut hook = |text: &str| Some(Hook { command: command(text), timeout: time() });
    let hooks = Hooks {
        before_start: hook("prepare"),
        after_ready: hook("announce"),
        before_stop: hook("leave"),
        after_exit: hook("clean"),
    };
    let (backoff, max, reset_after) = (time(), time(), time());
    let backoff = Backoff { first: backoff, factor: 100.0, max, jitter: 1.0, reset_after };
    let give_up = Some(GiveUp { failures, within: time(), retry_after: Some(time()) });
    let steps = ["SIGINT", "ask", "SIGTERM"].map(|action| match action {
        "ask" => StopStep { action: StopAction::Command(command("ask")), wait: Some(time()) },
        signal => {
            let signal = if signal == "SIGINT" { StopSignal::Int } else { StopSignal::Term };
            StopStep { action: StopAction::Signal(signal), wait: Some(time()) }
        }
    });
    let mut it = needs_outside(service("web"), Some(time()));
    (it.needs[0].lose, it.needs[0].period) = (Lose::Restart, time());
    it.restart = RestartPolicy { when: RestartWhen::Always, backoff, give_up };
    it.stop = StopPolicy { steps: steps.to_vec(), grace: time() };
    Service { startup, readiness, liveness, hooks, ..it }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn the_longest_times_are_never_and_not_a_panic(
        times in prop::collection::vec(any_duration(), 25), others in prop::collection::vec(any_duration(), 25),
        counts in prop::collection::vec(prop::sample::select(vec![1, 3, 100_000, u32::MAX]), 4), asks in any::<bool>(),
        budget in prop::option::of(any_duration()), starts_at in any_duration(),
        steps in prop::collection::vec((0u8..14, 1u64..8, any_duration(), any::<bool>()), 1..80),
    ) {
        // No host runs longer than its clock can tell.
        let starts_at = starts_at.min(Duration::from_secs(u64::MAX / 2));
        let web = extreme_service(&times, &counts, asks);
        let services = vec![web.clone(), needs(Service { name: name("api"), ..web }, "web", Condition::Ready)];
        let changed: Vec<Service> = services
            .iter()
            .map(|it| Service { needs: it.needs.clone(), name: it.name.clone(), ..extreme_service(&others, &counts, !asks) })
            .collect();
        let stacks = [services, changed].map(|services| Arc::new(Stack { stop_budget: budget, ..stack(services) }));
        let mut machine = StackMachine::new(stacks[0].clone(), 1);
        let mut now = Moment::after_start(starts_at);
        let (mut spawns, mut tasks, mut checks) = (1, 1, 1);
        let mut handle = |machine: &mut StackMachine, event: Event, now: Moment| {
            let effects = machine.handle(event, now);
            machine.assert_consistent();
            for effect in &effects {
                if let Effect::Launch { spawn, .. } = effect {
                    spawns = spawn.0;
                } else if let Effect::Run { task, .. } = effect {
                    tasks = task.0;
                } else if let Effect::CheckGate { check, .. } = effect {
                    checks = check.0;
                }
            }
            (SpawnId(spawns), TaskId(tasks), GateCheckId(checks))
        };
        let mut last = handle(&mut machine, Event::Command(Command::StartStack), now);
        for (what, which, time, passes) in steps {
            // The newest most often: older ones are answered too.
            let (spawn, task, check) = if which == 1 { (SpawnId(1), TaskId(1), GateCheckId(1)) } else { last };
            let kind = ProbeKind::ALL[usize::try_from(which % 3).unwrap()];
            let event = match what {
                0 | 1 => Event::GateAnswered { check, outcome: outcome(passes || which > 3) },
                2 | 3 => Event::RunEnded { task, outcome: outcome(passes || which > 3) },
                4 => Event::Launched { spawn, pid: 1 },
                5 => Event::ProbeAnswered { spawn, kind, outcome: outcome(passes) },
                6 => Event::Exited { spawn, exit: Exit::Code(1), leftovers: u32::from(passes) },
                7 => Event::Notified { spawn, what: Notification::ExtendTimeout(time) },
                8 => Event::Notified { spawn, what: Notification::WatchdogInterval(time) },
                9 => Event::Notified { spawn, what: if passes { Notification::Ready } else { Notification::Watchdog } },
                10 => Event::LogMatched { spawn, kind, line: String::new() },
                11 => Event::Apply(stacks[usize::from(passes)].clone()),
                12 if which == 2 => Event::Command(Command::StopStack),
                12 => Event::Command(Command::Restart(name("web"))),
                _ => Event::Tick,
            };
            let due = machine.next_deadline().map_or(now, |(moment, _)| moment);
            // Ahead by a little, or to the next deadline if that is ever to come.
            let near = Moment::after_start(Duration::from_secs(u64::MAX / 4 * 3));
            now = if what == 13 && due < near { due } else { now + ms(which * 100) };
            last = handle(&mut machine, event, now);
            drop(machine.services_at(now + time).map(|it| it.reason.to_string()).collect::<Vec<_>>());
            drop(machine.stop_progress());
            for _ in 0..50 {
                if machine.next_deadline().is_none_or(|(moment, _)| moment > now) {
                    break;
                }
                last = handle(&mut machine, Event::Tick, now);
            }
            prop_assert!(machine.next_deadline().is_none_or(|(moment, _)| moment > now), "{:?}", machine.next_deadline());
        }
    }
}
