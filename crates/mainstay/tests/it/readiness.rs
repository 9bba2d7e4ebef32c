//! How a program becomes ready: by what it says itself, by its output, by a file; and what is shown while it is not.

use std::time::Duration;

use crate::fixture::{Fixture, SOON, alive, signal, stderr};

/// Says to the host what it is told to say by files in its folder: `say-N` holds one datagram.
const NOTIFIER: &str = r#"
import os, socket, sys, time
name = os.environ["NOTIFY_SOCKET"]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("\0" + name[1:] if name[0] == "@" else name)
print("watchdog", os.environ.get("WATCHDOG_USEC"), flush=True)
n = 0
while True:
    try:
        text = open("say-%d" % n).read()
        n += 1
        s.send(text.encode())
    except FileNotFoundError:
        time.sleep(0.01)
"#;

/// A file that appears whole.
fn say(fixture: &Fixture, number: u32, text: &str) {
    fixture.write("saying", text);
    std::fs::rename(fixture.path("saying"), fixture.path(&format!("say-{number}"))).unwrap();
}

#[test]
fn a_program_says_itself_how_it_is() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = "python3 notifier.py"
        readiness = { notify = true }
        stop = { grace = "2s" }
        [service.after]
        command = "sleep 1000"
        needs = [{ service = "web" }]
        "#,
    );
    fixture.write("notifier.py", NOTIFIER);
    let mut host = fixture.run(&[]);
    host.wait_for("its output", SOON, |_| fixture.log("web").contains("watchdog None").then_some(()));
    assert_eq!(host.state("web"), "starting");
    assert!(host.service("web")["reason"].as_str().unwrap().contains("READY=1"), "{}", host.service("web"));
    assert_eq!(host.state("after"), "waiting");
    say(&fixture, 0, "STATUS=opening the shop");
    host.wait_for("the status text", SOON, |host| {
        (host.service("web")["replicas"][0]["status_text"] == "opening the shop").then_some(())
    });
    say(&fixture, 1, "READY=1\nSTATUS=3 clients");
    host.wait_state("web", "ready");
    host.wait_state("after", "ready");
    assert_eq!(host.service("web")["replicas"][0]["status_text"], "3 clients");
    say(&fixture, 2, "RELOADING=1");
    host.wait_state("web", "unready");
    say(&fixture, 3, "READY=1");
    host.wait_state("web", "ready");
    // Gates hold a start back, not a running program.
    assert_eq!(host.service("after")["replicas"][0]["restarts"], 0);
    let (status, _) = host.stop();
    assert!(status.success());
}

#[test]
fn a_stranger_is_not_believed() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = "python3 notifier.py"
        readiness = { notify = true }
        [service.thief]
        command = "python3 thief.py"
        "#,
    );
    fixture.write("notifier.py", &NOTIFIER.replace("n = 0\n", "open('name', 'w').write(name)\nn = 0\n"));
    fixture.write(
        "thief.py",
        r#"
import socket, time
while True:
    try:
        name = open("name").read()
        if name: break
    except FileNotFoundError:
        pass
    time.sleep(0.01)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("\0" + name[1:] if name[0] == "@" else name)
s.send(b"READY=1")
print("sent", flush=True)
time.sleep(1000)
"#,
    );
    let mut host = fixture.run(&[]);
    host.wait_for("the theft", SOON, |_| fixture.log("thief").contains("sent").then_some(()));
    host.wait_for("a notice of it", SOON, |_| {
        fixture
            .events()
            .iter()
            .any(|event| {
                event["reason"].as_str().is_some_and(|reason| reason.contains("not one of its processes"))
            })
            .then_some(())
    });
    assert_eq!(host.state("web"), "starting");
    host.stop();
}

#[test]
fn a_watchdog_that_is_not_fed_restarts() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = "python3 notifier.py"
        liveness = { notify = true, period = "300ms", failure_threshold = 2 }
        restart = { backoff = { first = "10ms" } }
        "#,
    );
    fixture.write("notifier.py", NOTIFIER);
    let mut host = fixture.run(&[]);
    host.wait_for("its output", SOON, |_| fixture.log("web").contains("watchdog 600000").then_some(()));
    say(&fixture, 0, "WATCHDOG=1");
    host.wait_for("a restart", SOON, |host| {
        (host.service("web")["replicas"][0]["restarts"].as_u64() > Some(0)).then_some(())
    });
    let events = fixture.events();
    let verdict =
        events.iter().find(|event| event["probe"] == "liveness" && event["passed"] == false).unwrap();
    assert!(verdict["reason"].as_str().unwrap().contains("WATCHDOG=1"), "{verdict}");
    host.stop();
}

#[test]
fn a_newline_on_a_descriptor_makes_it_ready() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = ["sh", "-c", "until [ -e go ]; do sleep 0.02; done; echo >&5; exec 5>&-; exec sleep 1000"]
        readiness = { notify_fd = 5 }
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "starting");
    host.main_pid("web");
    assert_eq!(host.state("web"), "starting");
    fixture.write("go", "");
    host.wait_state("web", "ready");
    host.stop();
}

#[test]
fn a_line_of_output_makes_it_ready() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = ["sh", "-c", "echo not listening yet; until [ -e go ]; do sleep 0.02; done; echo now listening on port 80 >&2; exec sleep 1000"]
        readiness = { log = '^now listening on port \d+$' }
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_for("its first line", SOON, |_| fixture.log("web").contains("not listening yet").then_some(()));
    assert_eq!(host.state("web"), "starting");
    fixture.write("go", "");
    host.wait_state("web", "ready");
    assert!(
        host.service("web")["reason"].as_str().unwrap().contains("listening on port 80"),
        "{}",
        host.service("web")
    );
    host.stop();
}

#[test]
fn a_file_is_a_gate_and_a_probe() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = "sleep 1000"
        needs = [{ file = "secret" }, { dns = "localhost" }]
        readiness = { file = "web.ready", period = "100ms", failure_threshold = 1 }
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "waiting");
    host.wait_for("the reason", SOON, |host| {
        host.service("web")["reason"].as_str().unwrap().contains("secret: No such file").then_some(())
    });
    fixture.write("secret", "x");
    host.wait_state("web", "starting");
    fixture.write("web.ready", "");
    host.wait_state("web", "ready");
    std::fs::remove_file(fixture.path("web.ready")).unwrap();
    host.wait_state("web", "unready");
    host.stop();
}

#[test]
fn a_program_that_forks_names_its_main_process() {
    let fixture = Fixture::new(
        r#"
        [service.daemon]
        command = "python3 daemon.py"
        readiness = { notify = true }
        restart = { backoff = { first = "10ms" } }
        "#,
    );
    fixture.write(
        "daemon.py",
        r#"
import os, socket, time
name = os.environ["NOTIFY_SOCKET"]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("\0" + name[1:] if name[0] == "@" else name)
child = os.fork()
if child == 0:
    os.setsid()
    time.sleep(1000)
s.send(b"MAINPID=%d\nREADY=1" % child)
os._exit(0)
"#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("daemon", "ready");
    let pid = host.main_pid("daemon");
    assert!(alive(pid));
    // The parent has ended, and the service goes on.
    host.wait_for("nothing happens", Duration::from_secs(10), |host| {
        (host.main_pid("daemon") == pid && host.state("daemon") == "ready").then_some(())
    });
    signal(pid, "KILL");
    host.wait_for("another one", SOON, |host| {
        let replica = &host.service("daemon")["replicas"][0];
        (replica["restarts"] == 1 && replica["pid"].as_u64().is_some_and(|new| new != u64::from(pid)))
            .then_some(())
    });
    let (status, _) = host.stop();
    assert!(status.success());
}

#[test]
fn answers_are_told_apart() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let free = {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        taken.local_addr().unwrap().port()
    };
    let fixture = Fixture::new(&format!(
        r#"
        [service.hangs]
        command = "sleep 1000"
        readiness = {{ http = "http://127.0.0.1:{port}/", timeout = "200ms" }}
        [service.refused]
        command = "sleep 1000"
        readiness = {{ http = "http://127.0.0.1:{free}/" }}
        "#
    ));
    let mut host = fixture.run(&[]);
    for (service, words) in [("hangs", "no answer within 200ms"), ("refused", "nobody listens there")] {
        host.wait_for(words, SOON, |host| {
            host.service(service)["reason"].as_str().unwrap().contains(words).then_some(())
        });
        assert_eq!(host.state(service), "starting");
    }
    let output = fixture.mainstay(&["start", "hangs", "--timeout", "100ms"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    host.stop();
}
