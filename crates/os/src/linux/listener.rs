//! Opens the sockets of services (socket(7), ip(7), unix(7)).

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mainstay_types::ListenAddress;
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::holder;
use crate::ListenFailure;

/// Connections that wait to be taken; the kernel cuts it to net.core.somaxconn (listen(2)), 4096 since Linux 5.4.
const BACKLOG: i32 = 4096;

/// The longest path of a Unix socket: `sun_path` has 108 bytes, the last one a zero (unix(7)).
const LONGEST_PATH: usize = 107;

/// Of a socket file: everybody may connect, as with systemd (SocketMode= in systemd.socket(5)), since the service and
/// those who talk to it seldom run as the host does. The folder it lies in says who may come near.
const SOCKET_MODE: Mode = Mode::from_raw_mode(0o666);

/// A socket file of this host; removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Only the one that was made: another host may have replaced it.
        if file_id(&self.path) == Some(self.id) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

pub(crate) fn open_socket(address: &ListenAddress) -> Result<(OwnedFd, Option<SocketFile>), ListenFailure> {
    match address {
        ListenAddress::Tcp(address) => Ok((open_ip(*address, SocketType::STREAM)?, None)),
        ListenAddress::Udp(address) => Ok((open_ip(*address, SocketType::DGRAM)?, None)),
        ListenAddress::Unix(path) => open_unix(path, SocketType::STREAM),
        ListenAddress::UnixDatagram(path) => open_unix(path, SocketType::DGRAM),
    }
}

fn open_ip(address: SocketAddr, kind: SocketType) -> Result<OwnedFd, ListenFailure> {
    let is_tcp = kind == SocketType::STREAM;
    let open = || -> Result<OwnedFd, Errno> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        if is_tcp {
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        rustix::net::bind(&socket, &address)?;
        if is_tcp {
            // Two sockets that both ask for SO_REUSEADDR are told apart only here.
            rustix::net::listen(&socket, BACKLOG)?;
        }
        Ok(socket)
    };
    open().map_err(|errno| {
        let number = errno.raw_os_error();
        match errno {
            Errno::ADDRINUSE => {
                ListenFailure::Taken { holder: holder::of_port(address, is_tcp), errno: number }
            }
            Errno::ACCESS | Errno::PERM if address.port() < first_free_port() => {
                ListenFailure::PrivilegedPort { first: first_free_port(), errno: number }
            }
            Errno::ADDRNOTAVAIL => ListenFailure::NoSuchAddress { errno: number },
            // An IPv4 address in IPv6's notation cannot be bound by a socket that is IPv6 alone.
            Errno::INVAL if mapped(address).is_some() => {
                let plain = mapped(address).unwrap_or(address);
                ListenFailure::System { errno: number, message: format!("write it as {plain}") }
            }
            Errno::AFNOSUPPORT => ListenFailure::NotSupported { errno: number },
            other => system(other),
        }
    })
}

fn mapped(address: SocketAddr) -> Option<SocketAddr> {
    match address {
        SocketAddr::V4(_) => None,
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().map(|ip| SocketAddr::from((ip, v6.port()))),
    }
}

/// ip(7), `ip_unprivileged_port_start`.
fn first_free_port() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

fn open_unix(path: &Path, kind: SocketType) -> Result<(OwnedFd, Option<SocketFile>), ListenFailure> {
    let bytes = path.as_os_str().as_bytes().len();
    if bytes > LONGEST_PATH {
        return Err(ListenFailure::PathTooLong { bytes, longest: LONGEST_PATH });
    }
    let address = SocketAddrUnix::new(path).map_err(system)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).map_err(system)?;
    remove_stale(path, &address, kind)?;
    // The file is made with the mode of the socket's own inode, less the umask (unix_bind in net/unix/af_unix.c). What
    // the umask took is given back after.
    rustix::fs::fchmod(&socket, SOCKET_MODE).map_err(system)?;
    rustix::net::bind(&socket, &address).map_err(|errno| match errno {
        // Somebody was faster.
        Errno::ADDRINUSE => taken(path, errno),
        other => system(other),
    })?;
    let file = file_id(path).map(|id| SocketFile { path: path.to_owned(), id });
    rustix::fs::chmodat(rustix::fs::CWD, path, SOCKET_MODE, AtFlags::empty()).map_err(system)?;
    if kind == SocketType::STREAM {
        rustix::net::listen(&socket, BACKLOG).map_err(system)?;
    }
    Ok((socket, file))
}

/// Makes room for a socket at `path`, when what is there is a socket that nobody listens on.
fn remove_stale(path: &Path, address: &SocketAddrUnix, kind: SocketType) -> Result<(), ListenFailure> {
    let found = match rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(system(errno)),
    };
    let kind_of_file = match FileType::from_raw_mode(found.st_mode) {
        FileType::Socket => None,
        FileType::RegularFile => Some("a file"),
        FileType::Directory => Some("a folder"),
        FileType::Symlink => Some("a link"),
        FileType::Fifo => Some("a pipe"),
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => Some("a device"),
    };
    if let Some(kind) = kind_of_file {
        return Err(ListenFailure::NotASocket { kind });
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let caller = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).map_err(system)?;
    match rustix::net::connect(&caller, address) {
        Err(Errno::CONNREFUSED) => {}
        Err(Errno::NOENT) => return Ok(()),
        // AGAIN: its queue is full; PROTOTYPE: it is a live one of the other kind (unix(7)).
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => return Err(taken(path, Errno::ADDRINUSE)),
        Err(errno) => return Err(system(errno)),
    }
    match rustix::fs::unlinkat(rustix::fs::CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(system(errno)),
    }
}

fn taken(path: &Path, errno: Errno) -> ListenFailure {
    ListenFailure::Taken { holder: holder::of_path(path), errno: errno.raw_os_error() }
}

fn file_id(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

fn system(errno: Errno) -> ListenFailure {
    let text = std::io::Error::from(errno).to_string();
    let message = text.split(" (os error").next().unwrap_or(&text).to_owned();
    ListenFailure::System { errno: errno.raw_os_error(), message }
}

/// Puts a descriptor back into blocking mode: programs share it with those that had it before (fcntl(2)), and expect it
/// as systemd hands it over.
pub(super) fn make_blocking(fd: impl AsFd) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    if flags.contains(rustix::fs::OFlags::NONBLOCK) {
        rustix::fs::fcntl_setfl(&fd, flags - rustix::fs::OFlags::NONBLOCK)?;
    }
    Ok(())
}
