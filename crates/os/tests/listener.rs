//! Sockets the host opens: what they accept, what they replace, and the words when there is none.

#![cfg(target_os = "linux")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Host, LIMIT, alone, launch};
use mainstay_os::{Handed, ListenError, ListenFailure, UseCgroups, open_listener};
use mainstay_types::{LaunchFailure, ListenAddress};

fn parse(text: &str) -> ListenAddress {
    ListenAddress::parse(text).unwrap()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn refused(address: &ListenAddress) -> ListenError {
    open_listener(address).map(|_| ()).unwrap_err()
}

#[test]
fn a_program_accepts_on_each_kind() {
    let mut host = Host::start(UseCgroups::IfPossible);
    let dir = host.dir.path().to_owned();
    let port = free_port();
    let stream = dir.join("stream.sock");
    let addresses = [
        ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], port))),
        ListenAddress::Tcp(format!("[::1]:{port}").parse().unwrap()),
        ListenAddress::Udp(SocketAddr::from(([127, 0, 0, 1], port))),
        ListenAddress::Unix(stream.clone()),
        ListenAddress::UnixDatagram(dir.join("datagram.sock")),
    ];
    let listeners: Vec<_> = addresses.iter().map(|address| open_listener(address).unwrap()).collect();
    for listener in &listeners {
        let flags = rustix_flags(listener.descriptor().get().as_fd());
        assert_eq!(flags, (false, true), "{:?}: non-blocking, close-on-exec", listener.address());
    }
    let script = "import os, socket\n\
                  for fd in (3, 4, 6):\n\
                  \x20   s = socket.socket(fileno=fd)\n\
                  \x20   assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1 and os.get_blocking(fd)\n\
                  \x20   c, _ = s.accept(); c.sendall(b'%d' % fd); c.close()\n\
                  for fd in (5, 7): print(socket.socket(fileno=fd).recv(9).decode(), flush=True)\n";
    let mut what = launch("/usr/bin/python3", &["-ISc", script]);
    what.handed = (3..)
        .zip(&listeners)
        .map(|(target, listener)| Handed { target, descriptor: listener.descriptor().clone() })
        .collect();
    what.listen_names = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
    // What a program before it did must not matter to the next one.
    rustix::io::ioctl_fionbio(listeners[0].descriptor().get(), true).unwrap();
    let (spawn, _) = host.run("a", what);
    let answer = |mut stream: Box<dyn Read>| {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer within the limit");
        text
    };
    for (host, expected) in [("127.0.0.1", "3"), ("::1", "4")] {
        let stream = TcpStream::connect((host, port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        assert_eq!(answer(Box::new(stream)), expected);
    }
    let unix = UnixStream::connect(&stream).unwrap();
    unix.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(answer(Box::new(unix)), "6");
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"udp", ("127.0.0.1", port)).unwrap();
    UnixDatagram::unbound().unwrap().send_to(b"unix", dir.join("datagram.sock")).unwrap();
    assert_eq!(host.stdout_of(spawn), "udp\nunix\n");
    host.next_of(spawn);
    drop(listeners);
    assert!(!stream.exists());
    // The port is free at once, though connections of it linger.
    drop(open_listener(&addresses[0]).unwrap());
    host.shutdown();
}

/// Whether it is non-blocking, and closed on exec.
fn rustix_flags(fd: std::os::fd::BorrowedFd<'_>) -> (bool, bool) {
    let status = rustix::fs::fcntl_getfl(fd).unwrap();
    let own = rustix::io::fcntl_getfd(fd).unwrap();
    (status.contains(rustix::fs::OFlags::NONBLOCK), own.contains(rustix::io::FdFlags::CLOEXEC))
}

#[test]
fn a_taken_port_names_its_holder() {
    let _alone = alone();
    let port = free_port();
    let holder = format!(
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', {port})); s.listen(); \
                          print('ready', flush=True); input()"
    );
    let mut child = Command::new("/usr/bin/python3")
        .args(["-ISc", &holder])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let address = parse(&format!("0.0.0.0:{port}"));
    let error = refused(&address);
    let pid = child.id();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on 0.0.0.0:{port}: it is taken by python3 (pid {pid})")
    );
    let failure = LaunchFailure::from(error);
    assert_eq!(
        failure.to_string(),
        format!("cannot listen on 0.0.0.0:{port}: it is taken by python3 (pid {pid}) (errno 98)")
    );
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    child.wait().unwrap();
    let first = open_listener(&address).unwrap();
    assert!(refused(&address).to_string().ends_with("it is taken by this host itself, for another service"));
    // IPv6 is apart, and so is UDP, of which only one can be.
    let _second = open_listener(&parse(&format!("[::]:{port}"))).unwrap();
    let _udp = open_listener(&parse(&format!("udp:0.0.0.0:{port}"))).unwrap();
    assert!(matches!(
        refused(&parse(&format!("udp:127.0.0.1:{port}"))).reason,
        ListenFailure::Taken { holder: Some(holder), .. } if holder.pid == Some(std::process::id())
    ));
    drop(first);
}

#[test]
fn addresses_that_cannot_be() {
    let error = refused(&parse("192.0.2.1:8080"));
    assert!(matches!(error.reason, ListenFailure::NoSuchAddress { errno: 99 }), "{error:?}");
    let error = refused(&parse("[::ffff:127.0.0.1]:8080")).to_string();
    assert!(error.ends_with(": write it as 127.0.0.1:8080"), "{error}");
}

#[test]
fn a_socket_file_is_replaced_only_when_nobody_listens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    for address in [ListenAddress::Unix(path.clone()), ListenAddress::UnixDatagram(path.clone())] {
        let listener = open_listener(&address).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o666);
        let error = refused(&address).to_string();
        assert!(error.ends_with("it is taken by this host itself, for another service"), "{error}");
        drop(listener);
        assert!(!path.exists());

        // A dead one's file, of either kind.
        drop(UnixListener::bind(&path).unwrap());
        drop(open_listener(&address).unwrap());
        drop(UnixDatagram::bind(&path).unwrap());
        let listener = open_listener(&address).unwrap();
        // Another one's by now: it stays.
        std::fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        let inode = std::fs::metadata(&path).unwrap().ino();
        drop(listener);
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
        assert!(matches!(refused(&address).reason, ListenFailure::Taken { holder: Some(_), errno: 98 }));
        drop(other);
        std::fs::remove_file(&path).unwrap();
    }

    std::fs::write(&path, "precious").unwrap();
    let error = refused(&ListenAddress::Unix(path.clone())).to_string();
    assert!(error.contains("there is a file of that name, not a socket: it is left alone"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert!(matches!(
        refused(&ListenAddress::Unix(path.clone())).reason,
        ListenFailure::NotASocket { kind: "a link" }
    ));

    let missing = refused(&ListenAddress::Unix(dir.path().join("no/x.sock")));
    assert_eq!(
        (missing.reason.errno(), missing.reason.to_string().as_str()),
        (2, "No such file or directory")
    );
    let long = dir.path().join("x".repeat(120));
    let error = refused(&ListenAddress::Unix(long)).to_string();
    assert!(error.contains("a Unix socket's path at most 107"), "{error}");
}

const PORT: &str = "CONTRACT_LISTEN_PORT";

#[test]
#[ignore = "run as another user by the test below"]
fn as_a_user_without_rights() {
    let Ok(address) = std::env::var(PORT) else { return };
    println!("answer: {}", refused(&parse(&address)));
}

#[test]
fn without_rights_the_reason_is_told() {
    if !mainstay_os::is_root() {
        return;
    }
    // Copied to where any user may execute it.
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let exe = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let ask = |address: &str| {
        let output = Command::new("setpriv")
            .args(["--reuid=54321", "--regid=54321", "--clear-groups", "--"])
            .arg(Path::new(&exe))
            .args(["--exact", "as_a_user_without_rights", "--ignored", "--nocapture"])
            .env(PORT, address)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find_map(|line| line.split_once("answer: ")).map(|(_, answer)| answer.to_owned())
    };
    let first: u16 = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    if first > 1 {
        let answer = ask("127.0.0.1:1").unwrap();
        let expected =
            format!("cannot listen on 127.0.0.1:1: ports below {first} are for root - run mainstay as root");
        assert!(answer.starts_with(&expected), "{answer}");
    }
    // Somebody it may not look into: named by user.
    let _alone = alone();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let answer = ask(&address.to_string()).unwrap();
    assert_eq!(answer, format!("cannot listen on {address}: it is taken by a process of user root"));
}
