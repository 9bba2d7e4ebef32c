//! The way to the service manager that started this process: one datagram, never waited for.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::ClockId;

/// Sends to the address as `NOTIFY_SOCKET` has it: a path, or a name of the abstract space after an `@` (unix(7)).
pub(crate) fn send_notification(address: &OsStr, saying: &[u8]) -> io::Result<()> {
    let bytes = address.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None if bytes.starts_with(b"/") => SocketAddr::from_pathname(address)?,
        None => {
            let text = format!(
                "NOTIFY_SOCKET is {}: only a path and a name after `@` are supported",
                address.display()
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(saying, &address).map(drop)
}

/// Microseconds of CLOCK_MONOTONIC, which `RELOADING=1` is accompanied by.
#[must_use]
pub fn monotonic_micros() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_an_abstract_name_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        send_notification(path.as_os_str(), b"READY=1").unwrap();
        let mut bytes = [0; 64];
        let length = by_path.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"READY=1");

        let name = format!("mainstay-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        send_notification(OsStr::new(&format!("@{name}")), b"WATCHDOG=1").unwrap();
        let length = by_name.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"WATCHDOG=1");
    }

    #[test]
    fn nobody_there_a_full_socket_and_nonsense_are_errors_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(send_notification(dir.path().join("nobody").as_os_str(), b"READY=1").is_err());
        assert!(send_notification(OsStr::new("vsock:2:1"), b"READY=1").is_err());
        let path = dir.path().join("full");
        let _unread = UnixDatagram::bind(&path).unwrap();
        let full = (0..100_000).find_map(|_| send_notification(path.as_os_str(), b"STATUS=x").err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
