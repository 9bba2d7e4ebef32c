//! Sockets that the host keeps open: handed over by name, open across restarts, closed with the host.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::fixture::{Fixture, SOON, stderr, stdout};

/// Serves on what it was handed; ends in order on SIGTERM: it finishes what it has accepted.
const SERVER: &str = r#"
import os, signal, socket, sys
assert os.environ["LISTEN_PID"] == str(os.getpid()), os.environ
names = os.environ["LISTEN_FDNAMES"].split(":")
assert len(names) == int(os.environ["LISTEN_FDS"])
listener = socket.socket(fileno=3 + names.index("http"))
stopping = False
def stop(*_):
    global stopping
    stopping = True
signal.signal(signal.SIGTERM, stop)
listener.settimeout(0.05)
print("serving", flush=True)
while not stopping:
    try:
        connection, _ = listener.accept()
    except socket.timeout:
        continue
    with connection:
        connection.settimeout(10)
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(4096)
            if not part:
                break
            data += part
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
"#;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One request on a connection of its own.
fn ask(address: SocketAddr) -> Result<(), String> {
    let words = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(20)).map_err(words)?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(words)?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").map_err(words)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(words)?;
    if answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok") { Ok(()) } else { Err(answer) }
}

#[test]
fn no_request_fails_over_fifty_restarts() {
    const RESTARTS: u32 = 50;
    let port = free_port();
    let fixture = Fixture::new(&format!(
        r#"
        [service.web]
        command = "python3 server.py"
        listen = {{ http = "127.0.0.1:{port}", admin = "unix:admin.sock" }}
        readiness = {{ log = "serving" }}
        restart = {{ give_up = {{ failures = 0 }} }}
        "#
    ));
    fixture.write("server.py", SERVER);
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (done, asked) = (Arc::clone(&done), Arc::clone(&asked));
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    failed.extend(ask(address).err());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                failed
            })
        })
        .collect();
    for _ in 0..RESTARTS {
        let before = asked.load(Ordering::Relaxed);
        let output = fixture.mainstay(&["restart", "web"]);
        assert!(output.status.success(), "{}", stderr(&output));
        // There is load between any two restarts.
        host.wait_for("requests", SOON, |_| (asked.load(Ordering::Relaxed) > before + 3).then_some(()));
    }
    done.store(true, Ordering::Relaxed);
    let failed: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let asked = asked.load(Ordering::Relaxed);
    assert!(failed.is_empty(), "{} of {asked} requests failed: {failed:?}", failed.len());
    println!("{asked} requests over {RESTARTS} restarts, none failed");
    let starts = fixture.events().iter().filter(|event| event["event"] == "spawned").count();
    assert!(starts > RESTARTS as usize, "{starts} starts");

    let status = host.status();
    let sockets = status["services"][0]["listen"].as_array().unwrap().clone();
    assert_eq!((sockets.len(), &sockets[0]["open"]), (2, &true.into()), "{sockets:?}");
    // It goes on listening while the service is stopped: a connection waits for it.
    assert!(fixture.mainstay(&["stop", "web"]).status.success());
    let waiting = TcpStream::connect(address).unwrap();
    assert!(fixture.mainstay(&["start", "web"]).status.success());
    drop(waiting);
    host.stop();
    assert!(TcpStream::connect(address).is_err(), "nobody listens after the host");
    assert!(!fixture.path("admin.sock").exists());
}

/// A port below 1024 for a program that is not root: the host opens it.
#[test]
fn a_service_without_rights_gets_a_low_port() {
    if !mainstay_os::is_root() {
        println!("skipped: only root may open ports below 1024");
        return;
    }
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (700..1000).find(free).expect("a free port from 700 to 999");
    let fixture = Fixture::new(&format!(
        r#"
        [service.web]
        command = ["python3", "-c", '''
import os, socket
print("serving as", os.getuid(), os.environ["LISTEN_FDNAMES"], flush=True)
connection, _ = socket.socket(fileno=3).accept()
connection.sendall(b"hello")
''']
        workdir = "/"
        user = "nobody"
        listen = {{ http = "127.0.0.1:{port}", names = "udp:127.0.0.1:{port}" }}
        readiness = {{ log = "serving as" }}
        "#
    ));
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    let mut answer = String::new();
    TcpStream::connect(("127.0.0.1", port)).unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
    let log = fixture.log("web");
    assert!(log.contains("serving as 65534 http:names"), "{log}");
    host.stop();
}

#[test]
fn a_taken_address_is_told_with_who_has_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let fixture = Fixture::new(&format!(
        r#"
        [service.web]
        command = "sleep 1000"
        listen = {{ http = "127.0.0.1:{port}" }}
        restart = {{ when = "never" }}
        "#
    ));
    let mut host = fixture.run(&[]);
    assert_eq!(host.wait_end().code(), Some(1));
    let err = host.err();
    let me = std::process::id();
    assert!(err.contains(&format!("127.0.0.1:{port}")) && err.contains(&format!("pid {me}")), "{err}");
}

#[test]
fn check_looks_at_every_command_and_file() {
    let fixture = Fixture::new(
        r#"
        [service.web]
        command = "sleep 1"
        before_start = ["no-such-before"]
        after_exit = { command = ["./no-such-after"], timeout = "1s" }
        stop = { command = ["no-such-stop"] }
        reload = { command = ["no-such-reload"] }
        readiness = { exec = ["no-such-probe"] }
        needs = [{ exec = ["no-such-gate"] }, { http = "https://127.0.0.1/", ca = "no-such.pem" }]
        "#,
    );
    let output = fixture.mainstay(&["check"]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    let err = stderr(&output);
    for words in [
        "before_start: cannot execute no-such-before",
        "after_exit: cannot execute",
        "stop: cannot execute no-such-stop",
        "reload: cannot execute no-such-reload",
        "readiness.exec: cannot execute no-such-probe",
        "needs.exec: cannot execute no-such-gate",
        "needs.ca: cannot read",
    ] {
        assert!(err.contains(words), "{words} is not in {err}");
    }
}

#[test]
fn check_knows_the_keys_and_shows_what_is_wrong_with_them() {
    let fixture = Fixture::new(
        r#"
        [service.a]
        command = "sleep 1"
        listen = { http = "localhost:80" }
        "#,
    );
    let output = fixture.mainstay(&["check"]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(stderr(&output).contains("localhost:80"), "{}", stderr(&output));
}
