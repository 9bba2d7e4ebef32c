//! Right files: what they become.

use std::path::Path;
use std::time::Duration;

use mainstay_config::{Check, Condition, Fsync, Gate, Kind, RestartWhen, Service, StopPolicy, WhenBlocked};
use mainstay_types::{ProbeAction, StopSignal};

use super::good;

fn web(lines: &str) -> Service {
    good(&format!("[service.web]\n{lines}")).services.remove(0)
}

fn words(command: &str) -> Vec<String> {
    let command = web(&format!("command = {command}")).command;
    std::iter::once(command.program).chain(command.args).collect()
}

#[test]
fn what_is_not_written_has_its_default() {
    let stack = good("[service.web]\ncommand = [\"web\"]");
    assert_eq!(stack.name.as_str(), "my-shop");
    assert_eq!(stack.stop_budget, None);
    assert_eq!(stack.file.parent(), Some(stack.dir.as_path()));
    let web = &stack.services[0];
    assert_eq!(
        (web.line, web.kind, web.replicas, web.autostart, web.inherit_env),
        (1, Kind::LongRunning, 1, true, false)
    );
    assert_eq!(web.workdir, stack.dir);
    assert!(web.env.is_empty() && web.env_files.is_empty() && web.needs.is_empty());
    assert_eq!((&web.user, &web.group, &web.description), (&None, &None, &None));
    assert_eq!((&web.startup, &web.readiness, &web.liveness), (&None, &None, &None));
    assert_eq!(web.restart.when, RestartWhen::Always);
    let backoff = &web.restart.backoff;
    assert_eq!((backoff.first, backoff.max), (Duration::from_millis(200), Duration::from_secs(30)));
    assert_eq!((backoff.factor, backoff.jitter, backoff.reset_after), (2.0, 0.1, Duration::from_secs(60)));
    let give_up = web.restart.give_up.unwrap();
    assert_eq!((give_up.failures, give_up.within), (5, Duration::from_secs(60)));
    assert_eq!(web.stop, StopPolicy::signal(StopSignal::Term, Duration::from_secs(15)));
    assert_eq!(web.log.max_line_bytes, 65_536);
    assert_eq!((web.log.when_blocked, web.log.fsync), (WhenBlocked::Wait, Fsync::Never));
    let rotate = web.log.rotate;
    assert_eq!((rotate.size_bytes, rotate.keep, rotate.compress), (64 << 20, 8, true));
    assert_eq!((rotate.age, rotate.keep_age, rotate.keep_total_bytes), (None, None, 1 << 30));
    assert_eq!(web.limits.open_files, None);

    let probe = self::web("command = \"x\"\nreadiness = { tcp = \"a:1\" }").readiness.unwrap();
    assert_eq!(
        (probe.initial_delay, probe.period, probe.timeout),
        (Duration::ZERO, Duration::from_secs(10), Duration::from_secs(1))
    );
    assert_eq!((probe.success_threshold, probe.failure_threshold), (1, 3));
    assert_eq!(self::web("command = \"x\"\nkind = \"oneshot\"").restart.when, RestartWhen::OnFailure);
    assert_eq!(self::web("command = \"x\"\nrestart.give_up.failures = 0").restart.give_up, None);
}

#[test]
fn commands_are_split_without_a_shell() {
    for (command, want) in [
        (r#"["web", "a b", "|"]"#, &["web", "a b", "|"][..]),
        (r#""web --x 'a b' \"c d\" e\\ f""#, &["web", "--x", "a b", "c d", "e f"]),
        (r#""web '|' \"a && b\"""#, &["web", "|", "a && b"]),
        (r#""web a|b x>y""#, &["web", "a|b", "x>y"]),
        (r#""web ${HOME}/x ${NOPE:-a b}""#, &["web", "/home/me/x", "a b"]),
        (r#""web ${SPACED} ${EMPTY}""#, &["web", "a b 'c", ""]),
        (r#""web $HOME $${HOME} ${EMPTY:-d}""#, &["web", "$HOME", "${HOME}", "d"]),
        (r#"["web", "${SPACED}"]"#, &["web", "a b 'c"]),
    ] {
        assert_eq!(words(command), want, "{command}");
    }
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    for (program, path) in [
        ("./web", "/srv/my shop/web"),
        ("bin/web", "/srv/my shop/bin/web"),
        ("/bin/web", "/bin/web"),
        ("../web", "/srv/my shop/../web"),
        ("${HOME}/web", "/home/me/web"),
    ] {
        assert_eq!(Path::new(&words(&format!("{program:?}"))[0]), Path::new(path), "{program}");
    }
    let web = web(
        "command = \"x\"\nworkdir = \"./a/./b/\"\nenv_file = [\".env\", \"/etc/env\"]\nreadiness.exec = \"./check\"",
    );
    assert_eq!(web.workdir, Path::new("/srv/my shop/a/b"));
    assert_eq!(web.env_files, [Path::new("/srv/my shop/.env"), Path::new("/etc/env")]);
    let Check::Ask(ProbeAction::Exec(check)) = web.readiness.unwrap().check else { panic!("no exec") };
    assert_eq!(Path::new(&check.program), Path::new("/srv/my shop/check"));
    assert_eq!(self::web("command = \"x\"\nenv_file = \"one\"").env_files.len(), 1);
}

#[test]
fn variables_are_numbers_and_booleans_too() {
    let env = web(
        "command = \"x\"\nenv = { A = \"${HOME}\", B = 8080, C = true, D = 0x1F, E = -1, \"a.b\" = \"\" }",
    )
    .env;
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("A", "/home/me"), ("B", "8080"), ("C", "true"), ("D", "31"), ("E", "-1"), ("a.b", "")]);
}

#[test]
fn services_and_gates_keep_the_order_of_the_file() {
    let stack = good(
        "[service.z.stop]\ngrace = \"1s\"\n[service.z]\ncommand = \"x\"\nneeds = [{ service = \"job\" }, { service = \"a\" },\n\
         { service = \"a\", is = \"started\" }, { tcp = \"[::1]:1\", within = \"1m30s\" }]\n\
         [service.a]\ncommand = \"x\"\n[service.job]\nkind = \"oneshot\"\ncommand = \"x\"\n",
    );
    let names: Vec<_> = stack.services.iter().map(|service| (service.name.as_str(), service.line)).collect();
    assert_eq!(names, [("z", 3), ("a", 7), ("job", 9)]);
    let gates: Vec<_> = stack.services[0].needs.iter().map(|need| need.gate.clone()).collect();
    let is = |gate: &Gate| match gate {
        Gate::Service { is, .. } => Some(*is),
        Gate::Outside(_) => None,
    };
    let conditions: Vec<_> = gates.iter().map(is).collect();
    // The default is ready, and for a oneshot, which is never ready, completed.
    assert_eq!(
        conditions,
        [Some(Condition::Completed), Some(Condition::Ready), Some(Condition::Started), None]
    );
    assert_eq!(stack.services[0].needs[3].within, Some(Duration::from_secs(90)));
    assert_eq!(stack.service("z").unwrap().stop.grace, Duration::from_secs(1));
}

#[test]
fn a_thousand_services_are_read_fast() {
    let mut text = String::new();
    for index in 0..1000 {
        let before = if index > 0 { format!("{{ service = \"s{}\" }}", index - 1) } else { String::new() };
        text.push_str(&format!("[service.s{index}]\ncommand = \"./web ${{HOME}}\"\nneeds = [{before}]\n"));
    }
    let started = std::time::Instant::now();
    assert_eq!(good(&text).services.len(), 1000);
    // In release it takes 10 ms; the margin is for a debug build on a busy machine, and still catches a square.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn what_is_masked_is_that_of_the_stack_and_then_ones_own() {
    let stack = good(
        "[log]\nredact = 'a+'\n[service.web]\ncommand = \"./web\"\nlog = { redact = ['b+', 'c'], when_blocked = \"drop\", fsync = \"line\" }\n\
         [service.other]\ncommand = \"./other\"\n",
    );
    assert_eq!(stack.services[0].log.redact, ["a+", "b+", "c"]);
    assert_eq!(stack.services[0].log.when_blocked, WhenBlocked::Drop);
    assert_eq!(stack.services[0].log.fsync, Fsync::Line);
    assert_eq!(stack.services[1].log.redact, ["a+"]);
}

#[test]
fn the_totals_of_logs_leave_room_for_what_is_asked_for() {
    let totals = |log: &str, rotate: &str| {
        let text = format!("{log}[service.web]\ncommand = \"x\"\nlog.rotate = {{ {rotate} }}\n");
        let stack = good(&text);
        (stack.services[0].log.rotate.keep_total_bytes, stack.log_max_total_bytes)
    };
    for (log, rotate, want) in [
        ("", "", (1 << 30, 4 << 30)),
        ("", "size = \"1GiB\"", (2 << 30, 4 << 30)),
        ("", "keep_total = \"64MiB\"", (64 << 20, 4 << 30)),
        ("", "keep_total = \"8GiB\"", (8 << 30, 8 << 30)),
        ("log.max_total = \"1GiB\"\n", "keep_total = \"8GiB\"", (8 << 30, 1 << 30)),
    ] {
        assert_eq!(totals(log, rotate), want, "{log}{rotate}");
    }
    let rotate = good("[service.web]\ncommand = \"x\"\nlog.rotate = { age = \"24h\", keep_age = \"30d\" }\n")
        .services[0]
        .log
        .rotate;
    let day = Duration::from_secs(86_400);
    assert_eq!((rotate.age, rotate.keep_age), (Some(day), Some(30 * day)));
}
