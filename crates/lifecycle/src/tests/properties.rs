//! Properties of the machine under any events: it never asks for a tick in the past, never starts one replica twice.
//! What the ids are guessed for here is kept faithfully in `world.rs`.

use proptest::prelude::*;

use mainstay_config::Lose;

use super::*;

fn told(check: Check) -> Option<Probe> {
    Some(Probe { check, ..probe(200, 2) })
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
