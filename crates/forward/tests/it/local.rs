//! Targets behind a socket in the file system, which are datagrams to somebody on this machine.

use std::os::unix::net::UnixDatagram;

use mainstay_config::Destination;

use crate::fixture::{Logs, SOON, end, target, wait_for};

#[test]
fn local_sockets_get_syslog_and_journal_entries() {
    for is_journald in [false, true] {
        let logs = Logs::new();
        let path = logs.path("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_read_timeout(Some(SOON)).unwrap();
        let forwarder = logs.start(&target(if is_journald {
            Destination::Journald(Some(path))
        } else {
            Destination::SyslogLocal(path)
        }));
        logs.write("web", &["ERROR it broke"]);
        let mut some = vec![0; 4096];
        let count = receiver.recv(&mut some).unwrap();
        let text = String::from_utf8(some[..count].to_vec()).unwrap();
        if is_journald {
            for field in
                ["MESSAGE=ERROR it broke\n", "PRIORITY=3\n", "SERVICE_NAME=web\n", "LABEL_ENV=test\n"]
            {
                assert!(text.contains(field), "{text}");
            }
        } else {
            assert!(text.starts_with("<27>1 ") && text.ends_with("] ERROR it broke"), "{text}");
        }
        wait_for("it is counted", || (forwarder.counts().sent == 1).then_some(()));
        end(forwarder);
    }
}

#[test]
fn a_local_socket_that_comes_back_is_found_again() {
    let logs = Logs::new();
    let path = logs.path("socket");
    let forwarder = logs.start(&target(Destination::SyslogLocal(path.clone())));
    logs.write("web", &["one", "two"]);
    let why = wait_for("nobody is there", || forwarder.counts().failing);
    assert!(why.contains("socket"), "{why}");
    let receiver = UnixDatagram::bind(&path).unwrap();
    receiver.set_read_timeout(Some(SOON)).unwrap();
    let mut some = vec![0; 4096];
    for text in ["one", "two"] {
        let count = receiver.recv(&mut some).unwrap();
        assert!(some[..count].ends_with(text.as_bytes()));
    }
    end(forwarder);
}
