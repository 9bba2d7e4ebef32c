//! Random stacks for the simulation: small, with every kind of gate, policy and probe.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_config::{
    Backoff, Check, Condition, Fsync, Gate, GiveUp, Hook, Hooks, Kind, Limits, LogPolicy, Lose, Need, Probe,
    ReloadPolicy, RestartPolicy, RestartWhen, Rotation, Service, Stack, StopAction, StopPolicy, StopStep,
    WhenBlocked,
};
use mainstay_os::fake::Random;
use mainstay_types::{CommandLine, HostPort, ProbeAction, ProbeKind, ServiceName, StackName, StopSignal};

const NAMES: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];

/// One to eight services; each may need any before it, so that gates form no circle.
pub(super) fn random(random: &mut Random) -> Stack {
    let count = 1 + random.below(NAMES.len() as u64) as usize;
    let mut services: Vec<Service> = Vec::with_capacity(count);
    for text in &NAMES[..count] {
        let it = service(random, name(text), &services);
        services.push(it);
    }
    // The order of the file is not the order of need.
    if random.one_in(2) {
        services.reverse();
    }
    let stop_budget =
        random.one_in(2).then(|| random.duration(Duration::from_millis(100), Duration::from_secs(20)));
    let name = StackName::from_folder("simulated");
    Stack {
        name,
        file: "/simulated/mainstay.toml".into(),
        dir: "/simulated".into(),
        stop_budget,
        log_max_total_bytes: 1 << 30,
        services,
        forwards: vec![],
    }
}

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).expect("the names of this file are names")
}

fn service(random: &mut Random, name: ServiceName, before: &[Service]) -> Service {
    let oneshot = random.one_in(4);
    let when = match random.below(4) {
        0 => RestartWhen::Never,
        1 => RestartWhen::OnFailure,
        _ => RestartWhen::Always,
    };
    Service {
        name,
        line: 1,
        description: None,
        kind: if oneshot { Kind::Oneshot } else { Kind::LongRunning },
        command: CommandLine { program: "/bin/true".to_owned(), args: vec![] },
        workdir: "/".into(),
        env: BTreeMap::new(),
        inherit_env: false,
        env_files: vec![],
        user: None,
        group: None,
        replicas: if oneshot { 1 } else { 1 + random.below(3) as u32 },
        autostart: !random.one_in(5),
        needs: needs(random, before),
        startup: probe(random, ProbeKind::Startup),
        readiness: probe(random, ProbeKind::Readiness),
        liveness: probe(random, ProbeKind::Liveness),
        restart: RestartPolicy { when, backoff: backoff(random), give_up: give_up(random) },
        stop: stop(random),
        log: LogPolicy {
            rotate: Rotation {
                size_bytes: 1 << 20,
                age: None,
                keep: 1,
                keep_age: None,
                keep_total_bytes: 1 << 30,
                compress: false,
            },
            max_line_bytes: 1 << 16,
            when_blocked: WhenBlocked::Wait,
            fsync: Fsync::Never,
            redact: Vec::new(),
        },
        limits: Limits::default(),
        reload: match random.below(4) {
            0 => ReloadPolicy::Signal(StopSignal::Hup),
            1 => ReloadPolicy::Command(Hook {
                command: CommandLine { program: "reload".to_owned(), args: vec![] },
                timeout: random.duration(Duration::from_millis(1), Duration::from_secs(10)),
            }),
            _ => ReloadPolicy::Rolling,
        },
        hooks: Hooks {
            before_start: hook(random, "prepare"),
            after_ready: hook(random, "announce"),
            before_stop: hook(random, "leave"),
            after_exit: hook(random, "clean"),
        },
        listen: Vec::new(),
    }
}

fn hook(random: &mut Random, program: &str) -> Option<Hook> {
    random.one_in(4).then(|| Hook {
        command: CommandLine { program: program.to_owned(), args: vec![] },
        timeout: random.duration(Duration::from_millis(1), Duration::from_secs(10)),
    })
}

/// One signal most of the time, otherwise a ladder of up to four steps.
fn stop(random: &mut Random) -> StopPolicy {
    let grace = if random.one_in(10) {
        Duration::ZERO
    } else {
        random.duration(Duration::from_millis(100), Duration::from_secs(10))
    };
    let count = if random.one_in(2) { 1 } else { 1 + random.below(4) };
    let step = |random: &mut Random, number: u64| {
        let action = match random.below(12) {
            0 => StopAction::Signal(StopSignal::Kill),
            1..5 => StopAction::Command(CommandLine { program: format!("stop-{number}"), args: vec![] }),
            5..8 => StopAction::Signal(StopSignal::Int),
            _ => StopAction::Signal(StopSignal::Term),
        };
        let wait = (!random.one_in(3)).then(|| random.duration(Duration::ZERO, Duration::from_secs(4)));
        StopStep { action, wait }
    };
    StopPolicy { steps: (0..count).map(|number| step(random, number)).collect(), grace }
}

fn needs(random: &mut Random, before: &[Service]) -> Vec<Need> {
    let mut needs = Vec::new();
    for other in before {
        if !random.one_in(3) {
            continue;
        }
        let is = match (other.kind, random.below(3)) {
            (Kind::Oneshot, 0) => Condition::Started,
            (Kind::Oneshot, _) => Condition::Completed,
            (Kind::LongRunning, 0) => Condition::Started,
            (Kind::LongRunning, _) => Condition::Ready,
        };
        needs.push(need(random, Gate::Service { service: other.name.clone(), is }));
    }
    while random.one_in(4) {
        let action = ProbeAction::Tcp(HostPort { host: "127.0.0.1".to_owned(), port: 1 });
        needs.push(need(random, Gate::Outside(action)));
    }
    needs
}

fn need(random: &mut Random, gate: Gate) -> Need {
    let lose = [Lose::Ignore, Lose::Ignore, Lose::Stop, Lose::Restart][random.below(4) as usize];
    let period = random.duration(Duration::from_secs(1), Duration::from_secs(10));
    Need { lose, period, ..Need::new(gate, within(random)) }
}

/// The file changed by somebody: services that come, go, have other gates, policies or programs, more or fewer replicas.
pub(super) fn changed(random: &mut Random, before: &Stack) -> Stack {
    let mut services: Vec<Service> = Vec::new();
    for text in NAMES {
        let old = before.service(text);
        let mut it = match old {
            Some(_) if random.one_in(8) && (before.services.len() > 1) => continue,
            Some(old) => old.clone(),
            None if random.one_in(12) => service(random, name(text), &services),
            None => continue,
        };
        let there = |need: &Need| match &need.gate {
            Gate::Service { service, .. } => services.iter().any(|other| other.name == *service),
            Gate::Outside(_) => true,
        };
        it.needs.retain(there);
        let other = service(random, name(text), &services);
        match random.below(16) {
            0 => it.command.args = vec![random.next_u64().to_string()],
            1 if it.kind == Kind::LongRunning => it.replicas = 1 + random.below(3) as u32,
            2 => it.needs = other.needs,
            3 => it.stop = other.stop,
            4 => it.hooks = other.hooks,
            5 => it.restart = other.restart,
            6 => it.reload = other.reload,
            7 => {
                it = Service { kind: it.kind, replicas: it.replicas, ..other };
                it.command.args = vec![random.next_u64().to_string()];
            }
            _ => {}
        }
        services.push(it);
    }
    if services.is_empty() {
        return before.clone();
    }
    Stack { services, ..before.clone() }
}

fn within(random: &mut Random) -> Option<Duration> {
    random.one_in(3).then(|| random.duration(Duration::from_millis(1), Duration::from_secs(20)))
}

/// Asked, or told by the program itself. A liveness that is told is a watchdog.
fn check(random: &mut Random, kind: ProbeKind) -> Check {
    match (random.below(8), kind) {
        (0..4, _) => Check::Ask(ProbeAction::Tcp(HostPort { host: "127.0.0.1".to_owned(), port: 1 })),
        (4, ProbeKind::Startup | ProbeKind::Readiness) => Check::Log("up".to_owned()),
        (5, ProbeKind::Startup | ProbeKind::Readiness) => Check::NotifyFd(3),
        _ => Check::Notify,
    }
}

fn probe(random: &mut Random, kind: ProbeKind) -> Option<Box<Probe>> {
    let probe = |random: &mut Random| Probe {
        check: check(random, kind),
        initial_delay: if random.one_in(2) {
            Duration::ZERO
        } else {
            random.duration(Duration::ZERO, Duration::from_secs(3))
        },
        period: random.duration(Duration::from_secs(1), Duration::from_secs(15)),
        timeout: random.duration(Duration::from_millis(10), Duration::from_secs(3)),
        success_threshold: 1 + random.below(2) as u32,
        failure_threshold: 1 + random.below(3) as u32,
    };
    random.one_in(4).then(|| Box::new(probe(random)))
}

fn backoff(random: &mut Random) -> Backoff {
    let first = if random.one_in(3) {
        Duration::ZERO
    } else {
        random.duration(Duration::from_millis(1), Duration::from_secs(1))
    };
    Backoff {
        first,
        factor: [1.0, 1.5, 2.0, 10.0][random.below(4) as usize],
        max: first + random.duration(Duration::from_millis(1), Duration::from_secs(30)),
        jitter: [0.0, 0.1, 1.0][random.below(3) as usize],
        reset_after: random.duration(Duration::from_millis(1), Duration::from_secs(60)),
    }
}

fn give_up(random: &mut Random) -> Option<GiveUp> {
    (!random.one_in(4)).then(|| GiveUp {
        failures: 1 + random.below(5) as u32,
        within: random.duration(Duration::from_millis(100), Duration::from_secs(60)),
        retry_after: random
            .one_in(3)
            .then(|| random.duration(Duration::from_millis(1), Duration::from_secs(90))),
    })
}
