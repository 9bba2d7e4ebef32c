//! Each kind of target: what arrives there, with its fields.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use mainstay_config::Destination;
use mainstay_types::{CaFile, Level};

use crate::fixture::{Logs, SOON, Server, address, end, loki, name, otlp, status, target, wait_for, yes};

#[test]
fn loki_gets_streams_with_labels_and_levels() {
    let logs = Logs::new();
    let server = Server::start(|_| yes());
    let mut target = loki(&server.address);
    target.services = vec![name("web")];
    target.level = Some(Level::Warn);
    target.headers.0.insert("X-Scope-OrgID".to_owned(), "tenant".to_owned());
    let forwarder = logs.start(&target);
    logs.write("db", &["ERROR of another service"]);
    logs.write("web.1", &["INFO begun", "WARN nearly full"]);
    logs.write_records("web", &["stderr F ERROR it broke", "stderr F   at line 7"]);
    server.wait_lines(3);
    end(forwarder);
    let mut streams: Vec<(String, Vec<String>)> = Vec::new();
    for request in server.requests() {
        let head = request.head.to_ascii_lowercase();
        assert!(head.starts_with("post /loki/api/v1/push http/1.1\r\n"), "{head}");
        assert!(head.contains("x-scope-orgid: tenant\r\n") && head.contains("content-encoding: gzip\r\n"));
        for stream in request.body["streams"].as_array().unwrap() {
            let lines = stream["values"].as_array().unwrap().iter();
            streams.push((
                stream["stream"].to_string(),
                lines.map(|value| value[1].as_str().unwrap().to_owned()).collect(),
            ));
        }
    }
    streams.sort();
    let labels = |level: &str, replica: &str, stream: &str| {
        serde_json::json!({ "env": "test", "level": level, "replica": replica, "service": "web", "stack": "shop", "stream": stream })
            .to_string()
    };
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        streams,
        [
            (labels("error", "0", "stderr"), lines(&["ERROR it broke", "  at line 7"])),
            (labels("warn", "1", "stdout"), lines(&["WARN nearly full"])),
        ]
    );
}

#[test]
fn otlp_is_posted_as_json() {
    let logs = Logs::new();
    let server = Server::start(|_| status("200 OK", "content-type: application/json\r\n", "{}"));
    let mut target = otlp(&server.address);
    target.gzip = false;
    target.stderr = false;
    let forwarder = logs.start(&target);
    logs.write_records("web", &["stderr F not wanted", "stdout F ERROR it broke"]);
    assert_eq!(server.wait_lines(1), ["ERROR it broke"]);
    end(forwarder);
    let request = &server.requests()[0];
    let head = request.head.to_ascii_lowercase();
    assert!(
        head.starts_with("post /v1/logs http/1.1\r\n") && head.contains("content-type: application/json\r\n")
    );
    let record = &request.body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    assert_eq!(record["severityText"], "ERROR");
}

/// Takes connections one after the other and gives their bytes on.
fn listen() -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, bytes) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut some = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut some) {
                if sender.send(some[..count].to_vec()).is_err() {
                    return;
                }
            }
        }
    });
    (address, bytes)
}

fn receive(bytes: &Receiver<Vec<u8>>, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push_str(&String::from_utf8(bytes.recv_timeout(SOON).unwrap()).unwrap());
    }
    text
}

#[test]
fn syslog_comes_counted_over_tcp() {
    let logs = Logs::new();
    let (at, bytes) = listen();
    let forwarder = logs.start(&target(Destination::SyslogTcp(address(&at))));
    logs.write("web", &["ERROR it broke", "zu spät"]);
    let text = receive(&bytes, "zu spät");
    end(forwarder);
    let data = "[mainstay@32473 stack=\"shop\" service=\"web\" replica=\"0\" env=\"test\"]";
    let one = format!("<27>1 2026-11-22T15:20:01.000000Z machine-1 web - stdout {data} ERROR it broke");
    let two = format!("<30>1 2026-11-22T15:20:01.001000Z machine-1 web - stdout {data} \u{FEFF}zu spät");
    assert_eq!(text, format!("{} {one}{} {two}", one.len(), two.len()));
}

#[test]
fn syslog_over_tcp_connects_anew_when_the_receiver_was_restarted() {
    let logs = Logs::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let forwarder = logs.start(&target(Destination::SyslogTcp(address(&at))));
    logs.write("web", &["one"]);
    let (mut first, _) = listener.accept().unwrap();
    let mut some = [0; 4096];
    assert!(first.read(&mut some).unwrap() > 0);
    drop(first);
    wait_for("it is counted", || (forwarder.counts().sent == 1).then_some(()));
    logs.write("web", &["two"]);
    let (mut second, _) = listener.accept().unwrap();
    let count = second.read(&mut some).unwrap();
    assert!(some[..count].ends_with(b"] two"));
    end(forwarder);
}

#[test]
fn syslog_over_udp_is_a_message_a_datagram() {
    let logs = Logs::new();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(SOON)).unwrap();
    let at = receiver.local_addr().unwrap().to_string();
    let forwarder = logs.start(&target(Destination::SyslogUdp(address(&at))));
    let long = "y".repeat(100_000);
    logs.write("web", &["short", &long]);
    let mut some = vec![0; 70_000];
    let mut texts = Vec::new();
    for _ in 0..3 {
        let count = receiver.recv(&mut some).unwrap();
        texts.push(String::from_utf8(some[..count].to_vec()).unwrap());
    }
    assert!(texts[0].starts_with("<30>1 ") && texts[0].ends_with("] short"));
    let piece = |text: &str| text.split_once("] ").unwrap().1.to_owned();
    assert_eq!(piece(&texts[1]) + &piece(&texts[2]), long);
    assert!(texts[1].contains(" partial=\"true\""));
    end(forwarder);
}

#[test]
fn syslog_over_tls_goes_only_to_whom_is_trusted() {
    let logs = Logs::new();
    let signed =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![signed.cert.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let (sender, bytes) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut some = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut some) {
                let _ = sender.send(some[..count].to_vec());
            }
        }
    });
    let mut target = target(Destination::SyslogTls(address(&at)));
    let forwarder = logs.start(&target);
    logs.write("web", &["secret"]);
    let why = wait_for("it is not trusted", || forwarder.counts().failing);
    assert!(why.contains("certificate"), "{why}");
    end(forwarder);
    assert!(bytes.try_recv().is_err(), "nothing was said to a stranger");

    let ca = logs.path("ca.pem");
    std::fs::File::create(&ca).unwrap().write_all(signed.cert.pem().as_bytes()).unwrap();
    target.ca = Some(CaFile(ca));
    let forwarder = logs.start(&target);
    assert!(receive(&bytes, "secret").contains("web - stdout"));
    end(forwarder);
}
