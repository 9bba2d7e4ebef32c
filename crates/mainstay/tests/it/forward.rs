//! Output that is sent on: a target beside a running stack, as its user sees it.

use std::net::UdpSocket;
use std::time::Duration;

use crate::fixture::{Fixture, SOON, stderr, stdout};

/// Receives messages until one holds the text.
fn receive(receiver: &UdpSocket, wanted: &str) -> Vec<String> {
    receiver.set_read_timeout(Some(SOON)).unwrap();
    let mut messages = Vec::new();
    let mut some = vec![0; 70_000];
    loop {
        let count = receiver.recv(&mut some).unwrap_or_else(|error| panic!("{error}; so far {messages:?}"));
        messages.push(String::from_utf8_lossy(&some[..count]).into_owned());
        if messages.last().is_some_and(|message| message.contains(wanted)) {
            return messages;
        }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn lines_go_to_a_target_from_the_first_to_the_last() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    let fixture = Fixture::new(&format!(
        r#"
        stack = "shop"
        [forward.siem]
        to = "syslog"
        url = "udp://127.0.0.1:{port}"
        labels = {{ env = "test" }}
        [service.web]
        command = "sh -c 'echo first; exec sleep 86400'"
        before_stop = ["echo", "last"]
        "#
    ));
    let mut running = fixture.run(&[]);
    let messages = receive(&receiver, "] first");
    assert!(
        messages[0].starts_with("<30>1 ")
            && messages[0].contains(" web - stdout [mainstay@32473 stack=\"shop\"")
    );
    running.wait_for("it is counted", SOON, |running| {
        let status = running.status();
        let target = &status["forwards"][0];
        (target["sent"] == 1 && target["behind_bytes"] == 0).then(|| {
            assert_eq!((&target["name"], &target["to"]), (&"siem".into(), &"syslog".into()));
            assert_eq!(target["failing"], serde_json::Value::Null);
        })
    });
    let (status, _) = running.stop();
    assert!(status.success());
    receive(&receiver, "] last");
}

#[test]
fn a_target_that_is_down_is_told_once_and_hurts_nobody() {
    let port = free_port();
    let fixture = Fixture::new(&format!(
        r#"
        [forward.central]
        to = "loki"
        url = "http://127.0.0.1:{port}"
        backoff = {{ first = "20ms", max = "50ms" }}
        [service.web]
        command = "sh -c 'while :; do echo line; sleep 0.02; done'"
        "#
    ));
    let mut running = fixture.run(&[]);
    running.wait_state("web", "ready");
    running.wait_for("it has failed often", SOON, |running| {
        let status = running.status();
        (status["forwards"][0]["failures"].as_u64().unwrap() > 5).then_some(())
    });
    let text = stdout(&fixture.mainstay(&["status"]));
    assert!(
        text.contains("target central (loki, http://127.0.0.1:") && text.contains("takes nothing"),
        "{text}"
    );
    let failing = |event: &serde_json::Value| {
        event["reason"].as_str().is_some_and(|reason| reason.starts_with("target central: takes no lines"))
    };
    assert_eq!(fixture.events().iter().filter(|event| failing(event)).count(), 1);
    assert_eq!(running.state("web"), "ready");
    let begun = std::time::Instant::now();
    running.stop();
    assert!(begun.elapsed() < Duration::from_secs(20));
    let place = std::fs::read_to_string(fixture.path("state/forward/central.json")).unwrap();
    assert!(place.contains("\"web\""), "{place}");
}

#[test]
fn a_reload_adds_changes_and_removes_targets() {
    let one = UdpSocket::bind("127.0.0.1:0").unwrap();
    let two = UdpSocket::bind("127.0.0.1:0").unwrap();
    let service =
        "[service.web]\ncommand = \"sh -c 'n=0; while :; do echo n$n; n=$((n+1)); sleep 0.02; done'\"\n";
    let target = |socket: &UdpSocket| {
        let port = socket.local_addr().unwrap().port();
        format!("[forward.siem]\nto = \"syslog\"\nurl = \"udp://127.0.0.1:{port}\"\n")
    };
    let fixture = Fixture::new(service);
    let mut running = fixture.run(&[]);
    running.wait_state("web", "ready");
    let pid = running.main_pid("web");
    let reload = |text: &str| {
        fixture.write("mainstay.toml", text);
        let output = fixture.mainstay(&["reload"]);
        assert!(output.status.success(), "{}", stderr(&output));
    };
    let number = |message: &String| message.rsplit(" n").next().unwrap().parse::<u64>().unwrap();
    reload(&(service.to_owned() + &target(&one)));
    receive(&one, "] n");
    reload(&(service.to_owned() + &target(&two)));
    let first_of_two = number(&receive(&two, "] n")[0]);
    // Nothing is missing between the two.
    one.set_nonblocking(true).unwrap();
    let mut some = [0; 4096];
    let mut last_of_one = None;
    while let Ok(count) = one.recv(&mut some) {
        last_of_one = Some(number(&String::from_utf8_lossy(&some[..count]).into_owned()));
    }
    if let Some(last) = last_of_one {
        assert!(first_of_two <= last + 1, "from {last} to {first_of_two}");
    }
    reload(service);
    running.wait_for("there is none any more", SOON, |running| {
        (running.status()["forwards"].as_array().unwrap().is_empty()
            && !fixture.path("state/forward/siem.json").exists())
        .then_some(())
    });
    assert_eq!(running.main_pid("web"), pid, "no service restarts for it");
}

#[test]
fn check_finds_what_a_target_refers_to() {
    let fixture = Fixture::new(
        "[forward.central]\nto = \"loki\"\nurl = \"https://127.0.0.1\"\ntoken_file = \"absent\"\n[service.web]\ncommand = \"true\"\n",
    );
    let output = fixture.mainstay(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("target central: cannot read ") && text.contains("mainstay.toml:4"), "{text}");
}
