//! What is different between two files: every field is seen, in words people know, and with the right consequence.

use std::time::Duration;

use mainstay_config::{
    Backoff, ChangeEffect, Check, Condition, Fsync, Gate, GiveUp, Hook, Hooks, Kind, Limits, Listen,
    LogPolicy, Lose, Need, Probe, ReloadPolicy, RestartPolicy, RestartWhen, Rotation, Service, ServiceChange,
    Stack, StackDiff, StopPolicy, WhenBlocked, diff,
};
use mainstay_types::{ListenAddress, ProbeAction, ServiceName, StackName, StopSignal};
use proptest::prelude::*;

use super::good;

const FILE: &str = r#"
[service.web]
command = "./web --port 80"
needs = [{ service = "db" }, { redis = "redis://:first@127.0.0.1" }]
readiness = { http = "http://127.0.0.1:80/" }
[service.web.env]
PORT = 80
TOKEN = "first"
[service.db]
command = "db"
"#;

/// How the file changes when this text in it is replaced.
fn replaced(from: &str, to: &str) -> StackDiff {
    assert!(FILE.contains(from), "{from}");
    diff(&good(FILE), &good(&FILE.replacen(from, to, 1)))
}

/// The only change, as `key: from -> to`, with its consequence.
fn changes(from: &str, to: &str) -> (Vec<String>, ChangeEffect) {
    let difference = replaced(from, to);
    let [ServiceChange { name, keys, effect }] = difference.changed.as_slice() else {
        panic!("{difference:?}")
    };
    assert_eq!(name.as_str(), "web");
    (keys.iter().map(|change| format!("{}: {} -> {}", change.key, change.from, change.to)).collect(), *effect)
}

#[test]
fn values_are_shown_as_people_know_them() {
    use ChangeEffect::{InPlace, Restart};
    let file = |line: &str| format!("{line}\n[service.web.env]");
    for (from, to, want, effect) in [
        ("./web --port 80", "./web --port 81", &["command: ./web --port 80 -> ./web --port 81"][..], Restart),
        ("PORT = 80", "PORT = 81", &["env.PORT: 80 -> 81"], Restart),
        ("PORT = 80\n", "HOST = \"\"\n", &["env.HOST: (none) -> \"\"", "env.PORT: 80 -> (none)"], Restart),
        ("\"first\"", "\"second\"", &["env.TOKEN: *** -> ***"], Restart),
        (
            ":first@",
            ":second@",
            &[
                "needs: service db is ready, redis redis://@127.0.0.1 -> service db is ready, redis redis://@127.0.0.1",
            ],
            InPlace,
        ),
        (
            "{ service = \"db\" }",
            "{ service = \"db\", is = \"started\", within = \"5s\", lose = \"stop\" }",
            &[
                "needs: service db is ready, redis redis://@127.0.0.1 -> service db is started within 5s lose stop, redis redis://@127.0.0.1",
            ],
            InPlace,
        ),
        (
            "/\" }",
            "/\", status = 200, period = \"5s\" }",
            &["readiness.status: (none) -> 200", "readiness.period: 10s -> 5s"],
            InPlace,
        ),
        (
            "http = \"http://127.0.0.1:80/\"",
            "tcp = \"127.0.0.1:80\"",
            &["readiness.tcp: (none) -> 127.0.0.1:80", "readiness.http: http://127.0.0.1:80/ -> (none)"],
            InPlace,
        ),
        (
            "http = \"http://127.0.0.1:80/\"",
            "notify = true",
            &["readiness.notify: (none) -> true", "readiness.http: http://127.0.0.1:80/ -> (none)"],
            Restart,
        ),
        (
            "[service.web.env]",
            &file(
                "stop = { command = \"./drain\", grace = \"20s\" }\nreload.signal = \"SIGHUP\"\nlimits.cpu = 1.5",
            ),
            &[
                "limits.cpu: (none) -> 1.5",
                "stop: SIGTERM, kill after 15s -> run ./drain, wait 10s, SIGTERM, kill after 20s",
                "reload: rolling -> SIGHUP",
            ],
            Restart,
        ),
        (
            "[service.web.env]",
            &file("listen.admin = \"unix:run/x\"\nworkdir = \"data\"\nafter_exit = \"./clean\""),
            &[
                "workdir: . -> ./data",
                "listen.admin: (none) -> unix:./run/x as descriptor 3",
                "after_exit: (none) -> ./clean within 30s",
            ],
            Restart,
        ),
        (
            "[service.web.env]",
            &file("restart.give_up = { failures = 0 }"),
            &["restart.give_up.failures: 5 -> 0", "restart.give_up.within: 60s -> (none)"],
            InPlace,
        ),
    ] {
        let want: Vec<_> = want.iter().map(|change| (*change).to_owned()).collect();
        assert_eq!(changes(from, to), (want, effect), "{to}");
    }
}

#[test]
fn services_come_and_go_and_the_order_of_the_file_does_not_count() {
    let file = |names: &[&str]| {
        good(&names.iter().map(|name| format!("[service.{name}]\ncommand = \"x\"\n")).collect::<String>())
    };
    let difference = diff(&file(&["b", "c", "a"]), &file(&["e", "c", "d"]));
    let names = |names: &[ServiceName]| names.iter().map(ServiceName::to_string).collect::<Vec<_>>();
    assert_eq!(names(&difference.added), ["e", "d"]);
    assert_eq!((names(&difference.removed), difference.changed.len()), (vec!["b".into(), "a".into()], 0));
    let stack = good(FILE);
    let mut turned = stack.clone();
    turned.services.reverse();
    turned.services.iter_mut().for_each(|service| service.line += 7);
    assert!(diff(&stack, &turned).is_empty());
    turned.stop_budget = Some(Duration::from_secs(60));
    let difference = diff(&stack, &turned);
    assert_eq!(difference.changed, []);
    assert_eq!((difference.stack[0].key.as_str(), difference.stack[0].to.as_str()), ("stop_budget", "60s"));
    turned.name = StackName::parse("other").unwrap();
    assert_eq!(diff(&stack, &turned).stack.len(), 2);
}

#[test]
fn replicas_alone_scale_and_with_more_they_restart() {
    let (keys, effect) = changes("[service.web.env]", "replicas = 3\ndescription = \"x\"\n[service.web.env]");
    assert_eq!(keys, ["replicas: 1 -> 3", "description: (none) -> x"]);
    assert_eq!(effect, ChangeEffect::Scale { from: 1, to: 3 });
    let (keys, effect) = changes("[service.web.env]", "replicas = 3\nuser = \"x\"\n[service.web.env]");
    assert_eq!((keys.len(), effect), (2, ChangeEffect::Restart));
}

#[test]
fn what_a_program_was_told_of_its_watchdog_takes_a_restart() {
    let with = |liveness: &str| {
        FILE.replace("readiness = {", &format!("liveness = {{ {liveness} }}\nreadiness = {{"))
    };
    let effect =
        |before: &str, after: &str| diff(&good(&with(before)), &good(&with(after))).changed[0].effect;
    assert_eq!(effect("notify = true", "notify = true, period = \"5s\""), ChangeEffect::Restart);
    assert_eq!(effect("notify = true", "notify = true, initial_delay = \"5s\""), ChangeEffect::InPlace);
    assert_eq!(effect("tcp = \"a:1\"", "tcp = \"a:1\", period = \"5s\""), ChangeEffect::InPlace);
}

/// A service in which every field holds something.
fn full() -> Service {
    good(
        r#"[service.web]
command = "./web"
description = "x"
user = "a"
group = "a"
env = { A = 1 }
env_file = "a"
needs = [{ tcp = "a:1" }]
listen = { a = "127.0.0.1:1" }
reload = { command = "x" }
before_start = "x"
after_ready = "x"
before_stop = "x"
after_exit = "x"
startup = { exec = "x" }
readiness = { http = "http://a/", status = 200, body = "x" }
liveness = { grpc = "a:1", grpc_service = "x" }
restart.give_up.retry_after = "1m"
limits = { memory = "1MiB", pids = 5, cpu = 1, open_files = 100 }
"#,
    )
    .services
    .remove(0)
}

/// A change of one field: the key it has to show up under, and what makes it.
type Change = (&'static str, fn(&mut Service));

/// At least one change of every field: taken apart without `..`, so that a new one cannot be forgotten.
fn all_changes() -> Vec<Change> {
    let Service {
        name: _,
        line: _,
        description: _,
        kind: _,
        command: _,
        workdir: _,
        env: _,
        inherit_env: _,
        env_files: _,
        user: _,
        group: _,
        replicas: _,
        autostart: _,
        needs: _,
        startup: _,
        readiness,
        liveness: _,
        restart: RestartPolicy { when: _, backoff, give_up },
        stop: StopPolicy { steps: _, grace: _ },
        log:
            LogPolicy {
                rotate:
                    Rotation { size_bytes: _, age: _, keep: _, keep_age: _, keep_total_bytes: _, compress: _ },
                max_line_bytes: _,
                when_blocked: _,
                fsync: _,
                redact: _,
            },
        reload: _,
        hooks: Hooks { before_start: _, after_ready: _, before_stop: _, after_exit: _ },
        listen,
        limits: Limits { open_files: _, memory_bytes: _, pids: _, cpu_millis: _ },
    } = full();
    let Probe {
        check: _,
        initial_delay: _,
        period: _,
        timeout: _,
        success_threshold: _,
        failure_threshold: _,
    } = *readiness.unwrap();
    let Backoff { first: _, factor: _, max: _, jitter: _, reset_after: _ } = backoff;
    let GiveUp { failures: _, within: _, retry_after: _ } = give_up.unwrap();
    let Listen { name: _, address: _ } = &listen[0];
    vec![
        ("description", |web| web.description = None),
        ("description", |web| web.description = Some("y".into())),
        ("kind", |web| web.kind = Kind::Oneshot),
        ("command", |web| web.command.program = "y".into()),
        ("command", |web| web.command.args.push(String::new())),
        ("workdir", |web| web.workdir = "/".into()),
        ("env.A", |web| web.env.clear()),
        ("env.A", |web| _ = web.env.insert("A".into(), "2".into())),
        ("env.PASSWORD", |web| _ = web.env.insert("PASSWORD".into(), "2".into())),
        ("inherit_env", |web| web.inherit_env = true),
        ("env_file", |web| web.env_files.clear()),
        ("env_file", |web| web.env_files.push("/b".into())),
        ("user", |web| web.user = None),
        ("group", |web| web.group = Some("b".into())),
        ("replicas", |web| web.replicas = 2),
        ("autostart", |web| web.autostart = false),
        ("needs", |web| web.needs.clear()),
        ("needs", |web| web.needs[0].within = Some(Duration::from_secs(1))),
        ("needs", |web| web.needs[0].lose = Lose::Stop),
        ("needs", |web| web.needs[0].period = Duration::from_secs(1)),
        ("needs", |web| {
            let service = ServiceName::parse("db").unwrap();
            web.needs = vec![Need::new(Gate::Service { service, is: Condition::Ready }, None)];
        }),
        ("startup.exec", |web| web.startup = None),
        ("readiness.http", |web| web.readiness.as_mut().unwrap().check = Check::Notify),
        ("readiness.status", |web| change_http(web, |status, _, _| *status = None)),
        ("readiness.body", |web| change_http(web, |_, body, _| *body = None)),
        ("readiness.ca", |web| {
            change_http(web, |_, _, ca| *ca = Some(mainstay_types::CaFile("/ca".into())));
        }),
        ("readiness.initial_delay", |web| probe(web).initial_delay = Duration::from_secs(77)),
        ("readiness.period", |web| probe(web).period = Duration::from_micros(1)),
        ("readiness.timeout", |web| probe(web).timeout = Duration::from_secs(77)),
        ("readiness.success_threshold", |web| probe(web).success_threshold = 77),
        ("readiness.failure_threshold", |web| probe(web).failure_threshold = 77),
        ("readiness.log", |web| probe(web).check = Check::Log("x".into())),
        ("readiness.notify_fd", |web| probe(web).check = Check::NotifyFd(9)),
        ("liveness.grpc_service", |web| {
            let Check::Ask(ProbeAction::Grpc { service, .. }) = &mut web.liveness.as_mut().unwrap().check
            else {
                panic!()
            };
            service.clear();
        }),
        ("restart.when", |web| web.restart.when = RestartWhen::Never),
        ("restart.backoff.first", |web| web.restart.backoff.first = Duration::ZERO),
        ("restart.backoff.factor", |web| web.restart.backoff.factor = 1.5),
        ("restart.backoff.max", |web| web.restart.backoff.max = Duration::from_secs(77)),
        ("restart.backoff.jitter", |web| web.restart.backoff.jitter = 1.0),
        ("restart.backoff.reset_after", |web| web.restart.backoff.reset_after = Duration::ZERO),
        ("restart.give_up.failures", |web| web.restart.give_up = None),
        ("restart.give_up.within", |web| give_up_of(web).within = Duration::from_secs(77)),
        ("restart.give_up.retry_after", |web| give_up_of(web).retry_after = None),
        ("stop", |web| web.stop.grace = Duration::from_secs(77)),
        ("stop", |web| web.stop.steps[0].wait = Some(Duration::from_secs(1))),
        ("stop", |web| web.stop = StopPolicy::signal(StopSignal::Int, web.stop.grace)),
        ("log.rotate.size", |web| web.log.rotate.size_bytes = 77 << 10),
        ("log.rotate.age", |web| web.log.rotate.age = Some(Duration::from_secs(77))),
        ("log.rotate.keep_age", |web| web.log.rotate.keep_age = Some(Duration::from_secs(77))),
        ("log.rotate.keep_total", |web| web.log.rotate.keep_total_bytes = 77 << 20),
        ("log.rotate.keep", |web| web.log.rotate.keep = 77),
        ("log.rotate.compress", |web| web.log.rotate.compress = false),
        ("log.max_line", |web| web.log.max_line_bytes = 1025),
        ("log.when_blocked", |web| web.log.when_blocked = WhenBlocked::Drop),
        ("log.fsync", |web| web.log.fsync = Fsync::Line),
        ("log.redact", |web| web.log.redact = vec!["x".into()]),
        ("reload", |web| web.reload = ReloadPolicy::Rolling),
        ("reload", |web| {
            let ReloadPolicy::Command(Hook { timeout, .. }) = &mut web.reload else { panic!() };
            *timeout = Duration::from_secs(1);
        }),
        ("before_start", |web| web.hooks.before_start = None),
        ("after_ready", |web| web.hooks.after_ready.as_mut().unwrap().timeout = Duration::from_secs(1)),
        ("before_stop", |web| web.hooks.before_stop.as_mut().unwrap().command.args.push("y".into())),
        ("after_exit", |web| web.hooks.after_exit = None),
        ("listen.a", |web| web.listen.clear()),
        ("listen.b", |web| web.listen[0].name = "b".into()),
        ("listen.a", |web| web.listen[0].address = ListenAddress::parse("127.0.0.1:2").unwrap()),
        ("limits.memory", |web| web.limits.memory_bytes = None),
        ("limits.pids", |web| web.limits.pids = Some(6)),
        ("limits.cpu", |web| web.limits.cpu_millis = Some(1)),
        ("limits.open_files", |web| web.limits.open_files = None),
    ]
}

type HttpParts<'p> = (&'p mut Option<u16>, &'p mut Option<String>, &'p mut Option<mainstay_types::CaFile>);

fn change_http(
    web: &mut Service,
    change: fn(&mut Option<u16>, &mut Option<String>, &mut Option<mainstay_types::CaFile>),
) {
    let Check::Ask(ProbeAction::Http { status, body, ca, .. }) = &mut probe(web).check else { panic!() };
    let (status, body, ca): HttpParts<'_> = (status, body, ca);
    change(status, body, ca);
}

fn probe(web: &mut Service) -> &mut Probe {
    web.readiness.as_mut().unwrap()
}

fn give_up_of(web: &mut Service) -> &mut GiveUp {
    web.restart.give_up.as_mut().unwrap()
}

#[test]
fn every_field_that_changes_shows_up_both_ways() {
    const RESTART: [&str; 13] = [
        "kind",
        "command",
        "workdir",
        "env",
        "inherit_env",
        "env_file",
        "user",
        "group",
        "listen",
        "limits",
        "log",
        "notify",
        "notify_fd",
    ];
    for (key, change) in all_changes() {
        let mut before = good(FILE);
        before.services = vec![full()];
        let mut after = before.clone();
        change(&mut after.services[0]);
        for (old, new) in [(&before, &after), (&after, &before)] {
            let difference = diff(old, new);
            let [ServiceChange { keys, effect, .. }] = difference.changed.as_slice() else {
                panic!("{key}: {difference:?}")
            };
            let found =
                keys.iter().find(|found| found.key == key).unwrap_or_else(|| panic!("{key}: {keys:?}"));
            assert!(!found.from.is_empty() && !found.to.is_empty(), "{found:?}");
            let word = |key: &str| match key.split_once('.') {
                Some(("readiness", check)) => check.to_owned(),
                Some(("log", _)) => "(the log of the service)".to_owned(),
                Some((first, _)) => first.to_owned(),
                None => key.to_owned(),
            };
            let restarts = keys.iter().any(|change| RESTART.contains(&word(&change.key).as_str()));
            let want = match (restarts, key) {
                (true, _) => ChangeEffect::Restart,
                (false, "replicas") => {
                    ChangeEffect::Scale { from: old.services[0].replicas, to: new.services[0].replicas }
                }
                (false, _) => ChangeEffect::InPlace,
            };
            assert_eq!(*effect, want, "{key}: {keys:?}");
        }
    }
}

/// Lines of a service, each there or not.
const LINES: [&str; 14] = [
    "kind = \"oneshot\"",
    "description = \"x\"",
    "env = { A = 1, B_KEY = \"x\" }",
    "user = \"me\"",
    "autostart = false",
    "needs = [{ postgres = \"postgres://a:b@c/d\", lose = \"stop\" }]",
    "needs = [{ postgres = \"postgres://a:c@c/d\", lose = \"stop\" }]",
    "stop = { steps = [{ signal = \"SIGINT\", wait = \"1s\" }, { command = \"x\" }] }",
    "listen = { b = \"127.0.0.1:@PORT@\", a = \"[::1]:@PORT@\" }",
    "listen = { a = \"[::1]:@PORT@\", b = \"127.0.0.1:@PORT@\" }",
    "limits = { cpu = 0.5, memory = \"5MiB\" }",
    "before_start = { command = \"x\", timeout = \"1500ms\" }",
    "restart.backoff.first = \"0.5ms\"",
    "restart.backoff.first = \"0.6ms\"",
];

/// A file with some services, each with some of the lines; of two lines with one key only the first is taken.
fn stacks() -> impl Strategy<Value = Stack> {
    let service = prop::collection::vec(any::<bool>(), LINES.len());
    prop::collection::btree_map(0_u16..4, service, 1..4).prop_map(|services| {
        let mut text = String::new();
        for (index, lines) in services {
            text.push_str(&format!("[service.s{index}]\ncommand = \"x\"\n"));
            let mut keys = std::collections::BTreeSet::new();
            for (line, _) in LINES.iter().zip(lines).filter(|(_, taken)| *taken) {
                if keys.insert(line.split(' ').next()) {
                    text.push_str(&line.replace("@PORT@", &(8000 + index).to_string()));
                    text.push('\n');
                }
            }
        }
        good(&text)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_differs_exactly_when_the_stacks_are_the_same(old in stacks(), new in stacks()) {
        prop_assert!(diff(&old, &old).is_empty());
        let difference = diff(&old, &new);
        for service in &new.services {
            let before = old.service(service.name.as_str()).cloned();
            let before = before.map(|before| Service { line: service.line, ..before });
            let changed = difference.changed.iter().find(|change| change.name == service.name);
            prop_assert_eq!(difference.added.contains(&service.name), before.is_none());
            prop_assert_eq!(changed.is_some(), before.is_some_and(|before| before != *service));
        }
        // Both ways the same keys, with their values turned round.
        let back = diff(&new, &old);
        prop_assert_eq!((&difference.added, &difference.removed), (&back.removed, &back.added));
        for change in &difference.changed {
            let other = back.changed.iter().find(|other| other.name == change.name).unwrap();
            let mut keys: Vec<_> = change.keys.iter().map(|key| (&key.key, &key.from, &key.to)).collect();
            let mut turned: Vec<_> = other.keys.iter().map(|key| (&key.key, &key.to, &key.from)).collect();
            keys.sort();
            turned.sort();
            prop_assert_eq!(keys, turned);
        }
    }
}
