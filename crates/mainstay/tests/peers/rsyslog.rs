//! Output sent on to rsyslog, which says field by field what it understood.

use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::{free_port, need, text};
use crate::fixture::{Fixture, SOON};

/// Writes what was understood of each message.
const RSYSLOG: &str = r#"
module(load="imtcp")
module(load="imudp")
template(name="fields" type="list") {
  constant(value="{") property(outname="pri" name="pri" format="jsonf")
  constant(value=",") property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  constant(value=",") property(outname="host" name="hostname" format="jsonf")
  constant(value=",") property(outname="app" name="app-name" format="jsonf")
  constant(value=",") property(outname="msgid" name="msgid" format="jsonf")
  constant(value=",") property(outname="data" name="structured-data" format="jsonf")
  constant(value=",") property(outname="msg" name="msg" format="jsonf")
  constant(value="}\n")
}
input(type="imtcp" address="127.0.0.1" port="@PORT")
input(type="imudp" address="127.0.0.1" port="@PORT")
action(type="omfile" file="@OUT" template="fields" asyncWriting="off" flushOnTXEnd="on")
"#;

#[test]
fn rsyslog_understands_what_it_is_sent() {
    let Some([rsyslogd]) = need(["rsyslogd"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (port, out) = (free_port(), dir.path().join("out"));
    let config = RSYSLOG.replace("@PORT", &port.to_string()).replace("@OUT", text(&out));
    std::fs::write(dir.path().join("rsyslog.conf"), config).unwrap();
    let mut rsyslog = std::process::Command::new(rsyslogd)
        .args(["-n", "-f", text(&dir.path().join("rsyslog.conf")), "-i", text(&dir.path().join("pid"))])
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(begun.elapsed() < SOON, "rsyslog does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let fixture = Fixture::new(&format!(
        r#"
        stack = "shop"
        [forward.by-tcp]
        to = "syslog"
        url = "tcp://127.0.0.1:{port}"
        labels = {{ way = 'tcp "quoted" [x] \' }}
        [forward.by-udp]
        to = "syslog"
        url = "udp://127.0.0.1:{port}"
        labels = {{ way = "udp" }}
        [service.web]
        command = "sh -c 'echo ERROR it broke; echo zu spät >&2'"
        kind = "oneshot"
        "#
    ));
    assert!(fixture.mainstay(&["run"]).status.success());
    let messages = loop {
        let written = std::fs::read_to_string(&out).unwrap_or_default();
        let ours: Vec<serde_json::Value> = written
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .filter(|message: &serde_json::Value| message["app"] == "web")
            .collect();
        if ours.len() >= 4 {
            break ours;
        }
        assert!(begun.elapsed() < SOON, "only this came: {written}");
        std::thread::sleep(Duration::from_millis(20));
    };
    rsyslog.kill().unwrap();
    rsyslog.wait().unwrap();
    assert_eq!(messages.len(), 4, "{messages:#?}");
    for (way, escaped) in [("tcp", r#"way="tcp \"quoted\" [x\] \\""#), ("udp", "way=\"udp\"")] {
        let of_way: Vec<_> = messages
            .iter()
            .filter(|message| message["data"].as_str().unwrap().contains(&format!("way=\"{way}")))
            .collect();
        assert_eq!(of_way.len(), 2, "{way}: {messages:#?}");
        for message in &of_way {
            let data = message["data"].as_str().unwrap();
            assert!(
                data.starts_with("[mainstay@32473 stack=\"shop\" service=\"web\" replica=\"0\""),
                "{data}"
            );
            assert!(data.contains(escaped), "{data}");
        }
        let find = |msgid: &str| of_way.iter().find(|message| message["msgid"] == msgid).unwrap();
        // 3 * 8 + 3: an error of a daemon; 3 * 8 + 6: information.
        assert_eq!(
            (&find("stdout")["pri"], &find("stdout")["msg"]),
            (&"27".into(), &"ERROR it broke".into())
        );
        assert_eq!(find("stderr")["pri"], "30");
        let said = find("stderr")["msg"].as_str().unwrap().trim_start_matches('\u{FEFF}').to_owned();
        assert_eq!(said, "zu spät");
        let time: mainstay_types::Timestamp = find("stdout")["time"].as_str().unwrap().parse().unwrap();
        let age = mainstay_types::Timestamp::now().duration_since(time);
        assert!(age.as_secs() < 120, "{time}");
    }
}
