//! Where a target goes on: after a restart, after rotation, and the very first time.

use crate::fixture::{Logs, Server, end, loki, nobody, numbered, read, texts, wait_for, yes};
use mainstay_forward::Notice;

#[test]
fn a_new_target_gets_what_is_written_from_then_on() {
    let logs = Logs::new();
    logs.write("web", &["old"]);
    let server = Server::start(|_| yes());
    let forwarder = logs.start(&loki(&server.address));
    logs.write("web", &["new"]);
    logs.write("db", &["first of all"]);
    let mut lines = server.wait_lines(2);
    lines.sort();
    assert_eq!(lines, ["first of all", "new"]);
    end(forwarder);
}

#[test]
fn the_next_one_goes_on_where_the_last_one_ended() {
    let logs = Logs::new();
    let server = Server::start(|_| yes());
    let target = loki(&server.address);
    let mut expected = Vec::new();
    for round in 0..4 {
        let lines = numbered(&format!("r{round}-"), 50);
        if round % 2 == 1 {
            // Written while nobody forwards.
            logs.write("web", &texts(&lines));
            logs.rotate("web", round == 1);
        }
        let forwarder = logs.start(&target);
        if round % 2 == 0 {
            logs.write("web", &texts(&lines));
        }
        expected.extend(lines);
        server.wait_lines(expected.len());
        end(forwarder);
    }
    assert_eq!(server.lines(), expected);
}

#[test]
fn what_was_not_taken_is_sent_by_the_next_one() {
    let logs = Logs::new();
    let address = nobody();
    let target = loki(&address);
    let forwarder = logs.start(&target);
    let lines = numbered("n", 300);
    logs.write("web", &texts(&lines));
    wait_for("it fails", || forwarder.counts().failing);
    end(forwarder);
    logs.rotate("web", true);
    logs.write("web", &["after"]);
    let server = Server::start_at(&address, |_| yes());
    let forwarder = logs.start(&target);
    let mut expected = lines;
    expected.push("after".to_owned());
    assert_eq!(server.wait_lines(301), expected);
    end(forwarder);
}

#[test]
fn a_line_in_parts_arrives_whole() {
    let logs = Logs::new();
    let server = Server::start(|_| yes());
    let forwarder = logs.start(&loki(&server.address));
    logs.write_records("web", &["stdout P ab", "stderr F other"]);
    assert_eq!(server.wait_lines(1), ["other"]);
    logs.write_records("web", &["stdout P cd", "stdout F ef"]);
    assert_eq!(server.wait_lines(2)[1], "abcdef");
    end(forwarder);
}

#[test]
fn a_damaged_place_is_told_and_everything_kept_is_sent_again() {
    let logs = Logs::new();
    let server = Server::start(|_| yes());
    let target = loki(&server.address);
    let forwarder = logs.start(&target);
    logs.write("web", &["one"]);
    server.wait_lines(1);
    end(forwarder);
    let place = logs.path("forward/central.json");
    assert!(read(&place).contains("\"level\":1"));
    std::fs::write(&place, "{").unwrap();
    let forwarder = logs.start(&target);
    assert_eq!(server.wait_lines(2), ["one", "one"]);
    end(forwarder);
    assert!(matches!(&logs.notices()[..], [Notice::Trouble { words }] if words.contains("damaged")));
}
