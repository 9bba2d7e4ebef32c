//! Targets that are down, slow, full, or answer nonsense: nothing is lost that need not be, and nothing is asked for ever.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use mainstay_forward::Notice;

use crate::fixture::{Logs, Server, end, loki, nobody, numbered, otlp, status, texts, wait_for, yes};

#[test]
fn a_target_that_is_down_gets_everything_in_order_once_it_is_up() {
    let logs = Logs::new();
    let address = nobody();
    let forwarder = logs.start(&loki(&address));
    let lines = numbered("a", 2500);
    logs.write("web", &texts(&lines[..1000]));
    wait_for("it fails", || forwarder.counts().failing);
    logs.write("web", &texts(&lines[1000..]));
    wait_for("the rest is counted", || (forwarder.counts().behind_bytes > 100_000).then_some(()));
    let server = Server::start_at(&address, |_| yes());
    assert_eq!(server.wait_lines(2500), lines);
    wait_for("it is told", || (forwarder.counts().behind_bytes == 0).then_some(()));
    let counts = forwarder.counts();
    assert_eq!((counts.sent, counts.lost, counts.failing), (2500, 0, None));
    assert!(counts.failures > 0);
    let notices = wait_for("both are told", || Some(logs.notices()).filter(|notices| notices.len() == 2));
    assert!(matches!(&notices[..], [Notice::Failing { .. }, Notice::Recovered { .. }]), "{notices:?}");
    end(forwarder);
}

#[test]
fn a_slow_target_gets_each_line_once() {
    let logs = Logs::new();
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_millis(50));
        yes()
    });
    let mut target = loki(&server.address);
    target.batch.records = 20;
    let forwarder = logs.start(&target);
    let lines = numbered("s", 100);
    for line in &lines {
        logs.write("web", &[line]);
    }
    assert_eq!(server.wait_lines(100), lines);
    end(forwarder);
    assert_eq!(server.lines(), lines);
}

#[test]
fn a_target_that_is_silent_is_given_up_after_the_time_limit() {
    let logs = Logs::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut target = loki(&listener.local_addr().unwrap().to_string());
    target.timeout = Duration::from_millis(100);
    let forwarder = logs.start(&target);
    logs.write("web", &["x"]);
    let why = wait_for("it fails", || forwarder.counts().failing);
    assert!(why.contains("no answer within 100ms"), "{why}");
    end(forwarder);
}

#[test]
fn what_speaks_no_http_is_told_and_tried_again() {
    let logs = Logs::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        }
    });
    let forwarder = logs.start(&otlp(&address));
    logs.write("web", &["x"]);
    let why = wait_for("it fails", || forwarder.counts().failing);
    assert!(why.contains("does not speak HTTP"), "{why}");
    wait_for("it gave up", || (forwarder.counts().failures >= 3).then_some(()));
    let server = Server::start_at(&address, |_| yes());
    assert_eq!(server.wait_lines(1), ["x"]);
    end(forwarder);
}

#[test]
fn a_full_target_is_left_alone_for_as_long_as_it_asks() {
    let logs = Logs::new();
    let mut refused = 0;
    let server = Server::start(move |_| {
        refused += 1;
        match refused {
            1 => status("429 Too Many Requests", "retry-after: 1\r\n", "slow down"),
            2 => status("500 Internal Server Error", "", "oops"),
            _ => yes(),
        }
    });
    let mut target = loki(&server.address);
    target.backoff.max = Duration::from_secs(5);
    target.backoff.jitter = 0.0;
    let forwarder = logs.start(&target);
    let begun = Instant::now();
    logs.write("web", &["one", "two"]);
    assert_eq!(server.wait_lines(2), ["one", "two"]);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0].lines(), requests[2].lines());
    end(forwarder);
}

#[test]
fn one_bad_line_is_dropped_and_told_and_the_others_arrive() {
    let logs = Logs::new();
    let server = Server::start(|request| {
        if request.lines().iter().any(|line| line == "p17") {
            status("400 Bad Request", "", "entry for stream has timestamp too old")
        } else {
            yes()
        }
    });
    let forwarder = logs.start(&loki(&server.address));
    let lines = numbered("p", 40);
    logs.write("web", &texts(&lines));
    let taken = server.wait_lines(40);
    let mut expected = lines.clone();
    expected.remove(17);
    expected.push("[mainstay] missing here: 1 line (0 B of log files), which were not sent".to_owned());
    assert_eq!(taken, expected);
    let counts = forwarder.counts();
    assert_eq!((counts.sent, counts.lost), (39, 1));
    end(forwarder);
    let refused = logs.notices().into_iter().find_map(|notice| match notice {
        Notice::Refused { lines, words } => Some((lines, words)),
        Notice::Failing { .. }
        | Notice::Recovered { .. }
        | Notice::Missing { .. }
        | Notice::Trouble { .. } => None,
    });
    let (count, words) = refused.unwrap();
    assert_eq!(count, 1);
    assert!(words.contains("HTTP 400") && words.contains("timestamp too old"), "{words}");
}

#[test]
fn what_opentelemetry_rejects_is_counted() {
    let logs = Logs::new();
    let server = Server::start(|_| {
        let body = r#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too long"}}"#;
        status("200 OK", "content-type: application/json\r\n", body)
    });
    let forwarder = logs.start(&otlp(&server.address));
    logs.write("web", &["a", "b", "c"]);
    wait_for("they are counted", || (forwarder.counts().lost >= 2).then_some(()));
    assert_eq!(forwarder.counts().sent, 1);
    end(forwarder);
}

#[test]
fn a_token_that_is_refused_loses_nothing() {
    let logs = Logs::new();
    let token = logs.path("token");
    std::fs::write(&token, "old-secret\n").unwrap();
    let server = Server::start(|request| {
        let is_new = request.head.to_ascii_lowercase().contains("authorization: bearer new-secret\r\n");
        if is_new { yes() } else { status("401 Unauthorized", "", "") }
    });
    let mut target = loki(&server.address);
    target.token_file = Some(token.clone());
    let forwarder = logs.start(&target);
    logs.write("web", &["x"]);
    let why = wait_for("it is refused", || forwarder.counts().failing);
    assert!(why.contains("401") && why.contains("token_file") && !why.contains("secret"), "{why}");
    std::fs::write(&token, "new-secret\n").unwrap();
    assert_eq!(server.wait_lines(1), ["x"]);
    end(forwarder);
    assert!(!format!("{:?}", logs.notices()).contains("secret"));
}

#[test]
fn an_end_does_not_wait_for_a_target_that_is_silent() {
    let logs = Logs::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let forwarder = logs.start(&loki(&listener.local_addr().unwrap().to_string()));
    logs.write("web", &["x"]);
    let (_held, _) = listener.accept().unwrap();
    let begun = Instant::now();
    end(forwarder);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn what_waits_at_the_end_is_sent_at_once() {
    let logs = Logs::new();
    let server = Server::start(|_| yes());
    let mut target = loki(&server.address);
    target.batch.wait = Duration::from_secs(60);
    let forwarder = logs.start(&target);
    logs.write("web", &["last words"]);
    end(forwarder);
    assert_eq!(server.lines(), ["last words"]);
}
