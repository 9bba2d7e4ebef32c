//! What is around a running service: stop ladder, reload, hooks, sockets, limits, and coming back after giving up.

use std::path::Path;
use std::time::Duration;

use mainstay_config::{Hook, Limits, ReloadPolicy, Service, StopAction, StopPolicy, StopStep};
use mainstay_types::{CommandLine, ListenAddress, StopSignal};

use super::{errors, good, help, read};

/// A file with one service; the lines under test begin at line 3.
fn with(lines: &str) -> String {
    format!("[service.web]\ncommand = \"./web\"\n{lines}\n")
}

fn web(lines: &str) -> Service {
    good(&with(lines)).services.remove(0)
}

fn command(words: &str) -> CommandLine {
    let mut words = words.split(' ').map(str::to_owned);
    CommandLine { program: words.next().unwrap(), args: words.collect() }
}

fn signal(signal: StopSignal, wait: Option<u64>) -> StopStep {
    StopStep { action: StopAction::Signal(signal), wait: wait.map(Duration::from_secs) }
}

#[test]
fn a_stop_becomes_its_steps() {
    let seconds = Duration::from_secs;
    assert_eq!(
        web("stop = { signal = \"SIGQUIT\", grace = \"1m\" }").stop,
        StopPolicy::signal(StopSignal::Quit, seconds(60))
    );
    // A command alone: half of the grace for it, then the signal.
    let asked = StopStep { action: StopAction::Command(command("drain --all")), wait: Some(seconds(10)) };
    assert_eq!(
        web("stop = { command = \"drain --all\", signal = \"SIGINT\", grace = \"20s\" }").stop,
        StopPolicy { steps: vec![asked.clone(), signal(StopSignal::Int, None)], grace: seconds(20) }
    );
    assert_eq!(web("stop = { command = \"drain\" }").stop.steps[0].wait, Some(Duration::from_millis(7500)));
    let ladder = "stop.steps = [{ command = \"drain --all\", wait = \"10s\" }, { signal = \"SIGINT\", wait = \"5s\" }, \
                  { signal = \"SIGTERM\" }]";
    let steps = vec![asked, signal(StopSignal::Int, Some(5)), signal(StopSignal::Term, None)];
    assert_eq!(web(ladder).stop, StopPolicy { steps, grace: seconds(15) });
    let written = with("[[service.web.stop.steps]]\nsignal = \"SIGINT\"\nwait = \"1s\"\n");
    assert_eq!(good(&written).services[0].stop.steps, [signal(StopSignal::Int, Some(1))]);
}

#[test]
fn mistakes_in_a_stop_are_said_in_place() {
    let seventeen = format!("stop.steps = [{}]", "{ signal = \"SIGINT\", wait = \"1ms\" },".repeat(17));
    for (lines, want) in [
        (
            "stop = { signal = \"SIGINT\", steps = [{ signal = \"SIGTERM\" }] }",
            "3:10 config-invalid-value: `signal` and `steps` exclude each other",
        ),
        (
            "stop = { steps = [{ signal = \"SIGTERM\" }], command = \"x\" }",
            "3:44 config-invalid-value: `command` and `steps` exclude each other",
        ),
        ("stop.steps = []", "3:14 config-invalid-value: `steps` must hold 1 to 16 steps, not 0"),
        (&seventeen, "3:14 config-invalid-value: `steps` must hold 1 to 16 steps, not 17"),
        ("stop.steps = [\"SIGTERM\"]", "3:15 config-invalid-value: each step is a table"),
        (
            "stop.steps = \"SIGTERM\"",
            "3:14 config-invalid-value: `steps` must be a list of tables, not a text",
        ),
        ("stop.steps = [{ wait = \"1s\" }]", "3:15 config-invalid-value: this step does not say what to do"),
        (
            "stop.steps = [{ signal = \"SIGINT\", command = \"x\" }]",
            "3:36 config-invalid-value: `signal` and `command` exclude each other",
        ),
        (
            "stop.steps = [{ signal = \"SIGINT\" }, { signal = \"SIGTERM\" }]",
            "3:15 config-invalid-value: step 1 does not say how long to wait before the next one",
        ),
        (
            "stop.steps = [{ signal = \"SIGINT\", wait = \"10s\" }, { signal = \"SIGTERM\", wait = \"10s\" }]",
            "3:81 config-invalid-value: the waits of `steps` add up to 20s, and `grace` is 15s, its default: the later steps would never be reached",
        ),
        (
            "stop = { grace = \"5s\", steps = [{ signal = \"SIGINT\", wait = \"6s\" }] }",
            "3:18 config-invalid-value: the waits of `steps` add up to 6s, and `grace` is 5s: the later steps would never be reached",
        ),
        (
            "stop.steps = [{ signal = \"SIGINT\", wiat = \"10s\" }]",
            "3:36 config-unknown-key: unknown key `wiat` ([service.web.stop] steps)",
        ),
        (
            "stop.steps = [{ signal = \"SIGINT\", wait = \"0s\" }]",
            "3:43 config-invalid-value: `wait` must be from 1ms to 365d, not 0s",
        ),
    ] {
        assert_eq!(errors(&with(lines)), [want], "{lines}");
    }
    // All of the grace may be waited.
    assert!(
        read(&with("stop = { grace = \"5s\", steps = [{ signal = \"SIGINT\", wait = \"5s\" }] }")).is_ok()
    );
}

#[test]
fn a_reload_is_one_of_three() {
    for (lines, want) in [
        ("", ReloadPolicy::Rolling),
        ("reload = { rolling = true }", ReloadPolicy::Rolling),
        ("reload = { signal = \"SIGHUP\" }", ReloadPolicy::Signal(StopSignal::Hup)),
        (
            "reload.command = \"ctl reload\"",
            ReloadPolicy::Command(Hook { command: command("ctl reload"), timeout: Duration::from_secs(30) }),
        ),
        (
            "reload = { command = \"ctl\", timeout = \"5s\" }",
            ReloadPolicy::Command(Hook { command: command("ctl"), timeout: Duration::from_secs(5) }),
        ),
    ] {
        assert_eq!(web(lines).reload, want, "{lines}");
    }
    for (lines, want) in [
        ("reload = {}", "3:10 config-invalid-value: this reload does not say what to do"),
        (
            "reload = { signal = \"SIGKILL\" }",
            "3:21 config-invalid-value: SIGKILL ends a program: it cannot ask for a reload",
        ),
        ("reload = { rolling = false }", "3:22 config-invalid-value: `rolling` can only be true"),
        (
            "reload = { signal = \"SIGHUP\", rolling = true }",
            "3:31 config-invalid-value: `signal` and `rolling` exclude each other",
        ),
        (
            "reload = { signal = \"SIGHUP\", timeout = \"1s\" }",
            "3:31 config-invalid-value: `timeout` goes with `command`, which is not here",
        ),
        ("reload = \"SIGHUP\"", "3:10 config-invalid-value: `reload` must be a table, not a text"),
        (
            "kind = \"oneshot\"\nreload = { signal = \"SIGHUP\" }",
            "4:12 config-invalid-value: a oneshot cannot be reloaded by a signal: it reads its configuration when it runs",
        ),
        (
            "kind = \"oneshot\"\nreload = { command = \"x\" }",
            "4:12 config-invalid-value: a oneshot cannot be reloaded by a command: it reads its configuration when it runs",
        ),
    ] {
        assert_eq!(errors(&with(lines)), [want], "{lines}");
    }
}

#[test]
fn hooks_are_commands_with_a_time() {
    let hooks = web(
        "before_start = [\"./prepare\", \"a b\"]\nafter_ready = \"announce --now\"\n\
         before_stop = { command = \"drain\", timeout = \"5s\" }\n[service.web.after_exit]\ncommand = [\"clean\"]",
    )
    .hooks;
    let start = hooks.before_start.unwrap();
    assert_eq!(Path::new(&start.command.program), Path::new("/srv/my shop/prepare"));
    assert_eq!((start.command.args, start.timeout), (vec!["a b".to_owned()], Duration::from_secs(30)));
    assert_eq!(hooks.after_ready.unwrap().command, command("announce --now"));
    assert_eq!(hooks.before_stop, Some(Hook { command: command("drain"), timeout: Duration::from_secs(5) }));
    assert_eq!(hooks.after_exit, Some(Hook { command: command("clean"), timeout: Duration::from_secs(30) }));
    for (lines, want) in [
        (
            "before_start = 5",
            "3:16 config-invalid-value: `before_start` must be a command: a list of texts, one text, or a table, not a whole number",
        ),
        ("before_start = { timeout = \"1s\" }", "3:16 config-invalid-value: `command` is missing"),
        (
            "before_start = { command = \"x\", timeout = \"0s\" }",
            "3:43 config-invalid-value: `timeout` must be from 1ms to 365d, not 0s",
        ),
        ("after_exit = \"\"", "3:14 config-invalid-value: `after_exit` names no program"),
        (
            "after_exit = \"a | b\"",
            "3:14 config-invalid-value: `|` in `after_exit` would be passed to the program: no shell is run",
        ),
        (
            "before_stop = { comand = \"x\" }",
            "3:17 config-unknown-key: unknown key `comand` (the table of a hook)",
        ),
    ] {
        assert_eq!(errors(&with(lines)), [want], "{lines}");
    }
}

#[test]
fn sockets_keep_the_order_of_the_file() {
    let listen =
        web("listen = { z = \"0.0.0.0:80\", dns = \"udp:0.0.0.0:53\", admin = \"unix:run/admin.sock\", \
         a = \"unixgram:/run/a\", \"with blank\" = \"tcp:[::1]:80\" }")
        .listen;
    let shown: Vec<_> = listen
        .iter()
        .map(|socket| (socket.name.as_str(), socket.address.to_string().replace('\\', "/")))
        .collect();
    let want = [
        ("z", "0.0.0.0:80"),
        ("dns", "udp:0.0.0.0:53"),
        ("admin", "unix:/srv/my shop/run/admin.sock"),
        ("a", "unixgram:/run/a"),
        ("with blank", "[::1]:80"),
    ];
    assert_eq!(shown, want.map(|(name, address)| (name, address.to_owned())));
    let table = web("[service.web.listen]\nb = \"${EMPTY}127.0.0.1:1\"\na = \"127.0.0.1:2\"").listen;
    assert_eq!((table[0].name.as_str(), table[1].name.as_str()), ("b", "a"));
    assert!(matches!(table[0].address, ListenAddress::Tcp(_)));
}

#[test]
fn mistakes_in_sockets_are_said_in_place() {
    let long = format!("listen = {{ a = \"unix:/{}\" }}", "x".repeat(107));
    let name = format!("listen = {{ {} = \"[::]:80\" }}", "x".repeat(256));
    let many: String = (1..=33).map(|port| format!("s{port} = \"127.0.0.1:{port}\", ")).collect();
    let many = format!("listen = {{ {many} }}");
    let shown = "x".repeat(60);
    for (lines, want) in [
        (
            "listen = { a = \"localhost:80\" }",
            "3:16 config-invalid-value: \"localhost:80\" is nothing to listen on: write IP:PORT, tcp:IP:PORT, udp:IP:PORT, unix:/path or unixgram:/path, such as 0.0.0.0:80 or [::]:80",
        ),
        ("listen = { a = 80 }", "3:16 config-invalid-value: `listen` must be a text, not a whole number"),
        ("listen = \"0.0.0.0:80\"", "3:10 config-invalid-value: `listen` must be a table, not a text"),
        (
            "listen = { \"a:b\" = \"[::]:80\" }",
            "3:12 config-invalid-value: \"a:b\" is no name of a socket: it holds `:`",
        ),
        (
            "listen = { \"\" = \"[::]:80\" }",
            "3:12 config-invalid-value: \"\" is no name of a socket: it is empty",
        ),
        (
            "listen = { \"é\" = \"[::]:80\" }",
            "3:12 config-invalid-value: \"é\" is no name of a socket: it holds something else than printable ASCII characters",
        ),
        (
            &name,
            &format!(
                "3:12 config-invalid-value: \"{shown}…\" is no name of a socket: it is longer than 255 characters"
            ),
        ),
        (
            &long,
            "3:16 config-invalid-value: the path of a socket has at most 107 bytes, this one has 108 from the root on",
        ),
        (&many, "3:10 config-invalid-value: `listen` must hold at most 32 sockets, not 33"),
        (
            "listen = { a = \"0.0.0.0:80\", b = \"tcp:0.0.0.0:80\" }",
            "3:34 config-invalid-value: `b` listens on 0.0.0.0:80, as `a` of this service does",
        ),
        (
            "listen = { a = \"unix:x\", b = \"unixgram:./x\" }",
            "3:30 config-invalid-value: `b` cannot listen on unixgram:/srv/my shop/x: `a` of this service listens on unix:/srv/my shop/x",
        ),
        (
            "listen = { a = \"[::]:80\" }\n[service.b]\ncommand = \"x\"\nlisten = { b = \"[::1]:80\" }",
            "6:16 config-invalid-value: `b` cannot listen on [::1]:80: `a` of service `web` listens on [::]:80",
        ),
        (
            "listen = { a = \"127.0.0.1:80\" }\n[service.b]\ncommand = \"x\"\nlisten = { b = \"0.0.0.0:80\" }",
            "6:16 config-invalid-value: `b` cannot listen on 0.0.0.0:80: `a` of service `web` listens on 127.0.0.1:80",
        ),
    ] {
        let shown: Vec<String> = errors(&with(lines)).iter().map(|error| error.replace('\\', "/")).collect();
        assert_eq!(shown, [want], "{lines}");
    }
    for apart in [
        "a = \"127.0.0.1:80\", b = \"127.0.0.2:80\"",
        "a = \"0.0.0.0:80\", b = \"udp:0.0.0.0:80\"",
        "a = \"0.0.0.0:80\", b = \"[::]:80\"",
        "a = \"0.0.0.0:80\", b = \"0.0.0.0:81\"",
    ] {
        assert_eq!(web(&format!("listen = {{ {apart} }}")).listen.len(), 2);
    }
    for (address, want) in [
        ("localhost:80", "a name can have several addresses: write 127.0.0.1:80 or [::1]:80"),
        (":80", "for every address write 0.0.0.0:80, or [::]:80 with IPv6"),
        ("80", "for every address write 0.0.0.0:80, or [::]:80 with IPv6"),
        ("::1:80", "write [::1]:80"),
        ("udp:eth0:53", "write an IP address in place of a name: 0.0.0.0:53 for all of this machine's"),
    ] {
        assert_eq!(help(&with(&format!("listen.a = \"{address}\""))), want, "{address}");
    }
}

#[test]
fn limits_are_read_in_their_units() {
    let limits = web("limits = { memory = \"1GiB\", pids = 100, cpu = 0.01, open_files = 1024 }").limits;
    let want =
        Limits { open_files: Some(1024), memory_bytes: Some(1 << 30), pids: Some(100), cpu_millis: Some(10) };
    assert_eq!(limits, want);
    assert_eq!(web("limits.cpu = 1024").limits.cpu_millis, Some(1_024_000));
    assert_eq!(web("limits.cpu = 0.3").limits.cpu_millis, Some(300));
    assert_eq!(web("").limits, Limits::default());
    let sockets: String = (1..=14).map(|port| format!("s{port} = \"127.0.0.1:{port}\", ")).collect();
    assert_eq!(
        errors(&with(&format!("limits.open_files = 16\nlisten = {{ {sockets} }}"))),
        ["3:21 config-invalid-value: `open_files` leaves no room for the 14 sockets of `listen`"]
    );
    for (limit, want) in [
        (
            "memory = \"1KiB\"",
            "3:21 config-invalid-value: `memory` must be from 1MiB to 1048576TiB, not 1KiB",
        ),
        ("memory = 512", "3:21 config-invalid-value: `memory` must be a size, not a whole number"),
        ("pids = 0", "3:19 config-invalid-value: `pids` must be from 1 to 4194304, not 0"),
        ("cpu = 0.001", "3:18 config-invalid-value: `cpu` must be from 0.01 to 1024, not 0.001"),
        ("cpu = \"50%\"", "3:18 config-invalid-value: `cpu` must be a number, not a text"),
    ] {
        assert_eq!(errors(&with(&format!("limits = {{ {limit} }}"))), [want], "{limit}");
    }
}

#[test]
fn giving_up_can_be_for_a_while() {
    let give_up = web("restart.give_up = { failures = 3, retry_after = \"10m\" }").restart.give_up.unwrap();
    assert_eq!((give_up.failures, give_up.retry_after), (3, Some(Duration::from_secs(600))));
    assert_eq!(web("restart.give_up.failures = 3").restart.give_up.unwrap().retry_after, None);
    assert_eq!(
        errors(&with("restart.give_up = { failures = 0, retry_after = \"10m\" }")),
        [
            "3:35 config-invalid-value: `retry_after` follows giving up, and with failures = 0 the service never gives up"
        ]
    );
}
