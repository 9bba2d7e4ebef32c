//! Who has a port or a socket file: from the kernel's tables of sockets to the process that holds one (proc(5),
//! `/proc/net`, `/proc/PID/fd`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::identity::user_name;
use super::procfs;
use crate::Holder;

/// The state of a listening TCP socket in /proc/net/tcp (`TCP_LISTEN`, include/net/tcp_states.h).
const LISTENS: u8 = 0x0a;

/// One line of /proc/net/tcp, tcp6, udp or udp6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    local: SocketAddr,
    state: u8,
    uid: u32,
    inode: u64,
}

/// Who has a local address that cannot be bound.
pub(super) fn of_port(wanted: SocketAddr, is_tcp: bool) -> Option<Holder> {
    let names = if is_tcp { ["tcp", "tcp6"] } else { ["udp", "udp6"] };
    let tables = names.map(|name| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default());
    let mut found: Vec<Entry> = tables
        .iter()
        .flat_map(|table| table.lines().skip(1).filter_map(parse_entry))
        .filter(|entry| conflicts(entry.local, wanted))
        .collect();
    // One that listens explains more than a connection.
    found.sort_by_key(|entry| entry.state != LISTENS);
    let entry = found.first()?;
    holder(entry.inode, Some(entry.uid), is_tcp && entry.state != LISTENS)
}

/// Who listens on a socket file.
pub(super) fn of_path(path: &Path) -> Option<Holder> {
    let table = std::fs::read("/proc/net/unix").ok()?;
    // Connections bear the path of the socket they came to; one that nobody has taken yet is no file, inode 0.
    // Sockets that bore it before and are about to be gone are held by nobody any more.
    let inodes = table.split(|byte| *byte == b'\n').filter_map(|line| unix_inode(line, path));
    inodes.filter(|inode| *inode != 0).find_map(|inode| holder(inode, None, false))
}

/// `Num RefCount Protocol Flags Type St Inode Path`; the inode is padded, and the path may hold spaces itself.
fn unix_inode(line: &[u8], path: &Path) -> Option<u64> {
    let head = line.strip_suffix(path.as_os_str().as_bytes())?.strip_suffix(b" ")?;
    let mut fields = std::str::from_utf8(head).ok()?.split_ascii_whitespace();
    let inode = fields.nth(6)?.parse().ok()?;
    fields.next().is_none().then_some(inode)
}

fn parse_entry(line: &str) -> Option<Entry> {
    let mut fields = line.split_ascii_whitespace();
    let local = parse_address(fields.nth(1)?)?;
    let state = u8::from_str_radix(fields.nth(1)?, 16).ok()?;
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(Entry { local, state, uid, inode })
}

/// `0100007F:0050`: words of 32 bits as this machine stores them, and the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for word in address.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = if let Ok(v4) = <[u8; 4]>::try_from(&bytes[..]) {
        IpAddr::from(Ipv4Addr::from(v4))
    } else {
        IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?))
    };
    Some(SocketAddr::new(ip, port))
}

/// Whether a socket at `local` may be what keeps `wanted` from being bound.
fn conflicts(local: SocketAddr, wanted: SocketAddr) -> bool {
    if local.port() != wanted.port() {
        return false;
    }
    match (local.ip().to_canonical(), wanted.ip()) {
        (IpAddr::V4(local), IpAddr::V4(wanted)) => {
            local == wanted || local.is_unspecified() || wanted.is_unspecified()
        }
        (IpAddr::V6(local), IpAddr::V6(wanted)) => {
            local == wanted || local.is_unspecified() || wanted.is_unspecified()
        }
        // One on [::] may take IPv4 as well.
        (IpAddr::V6(local), IpAddr::V4(_)) => local.is_unspecified(),
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    }
}

/// The process with the lowest pid that has the socket open; its user alone, where it may not be looked into.
fn holder(inode: u64, uid: Option<u32>, is_connection: bool) -> Option<Holder> {
    let target = format!("socket:[{inode}]");
    let entries = std::fs::read_dir("/proc").ok()?;
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let has_it = |pid: &u32| {
        let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        fds.filter_map(Result::ok)
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == target.as_str()))
    };
    if let Some(pid) = pids.into_iter().find(has_it) {
        return Some(Holder { pid: Some(pid), name: procfs::name(pid), is_connection });
    }
    let uid = uid?;
    let name = user_name(uid).unwrap_or_else(|| uid.to_string());
    Some(Holder { pid: None, name, is_connection })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as little-endian machines print them.
    #[test]
    #[cfg(target_endian = "little")]
    fn reads_the_kernels_tables() {
        let line = "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100";
        let entry = parse_entry(line).unwrap();
        let expected =
            Entry { local: "127.0.0.1:8080".parse().unwrap(), state: LISTENS, uid: 1000, inode: 4242 };
        assert_eq!(entry, expected);
        let line = "   0: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000 \
                    00:00000000 00000000     0        0 77 2 0 0";
        assert_eq!(parse_entry(line).unwrap().local, "[::1]:53".parse().unwrap());
        assert_eq!(parse_entry("  sl  local_address rem_address"), None);
        let line = b"ffff8880: 00000002 00000000 00010000 0001 01 10101 /run/a b.sock";
        assert_eq!(unix_inode(line, Path::new("/run/a b.sock")), Some(10101));
        let line = b"ffff8880: 00000002 00000000 00010000 0001 01   101 /run/a b.sock";
        assert_eq!(unix_inode(line, Path::new("/run/a b.sock")), Some(101));
        assert_eq!(unix_inode(line, Path::new("/run/a")), None);
    }

    #[test]
    fn addresses_that_exclude_each_other() {
        let table = [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("[::1]:80", "[::]:80", true),
            ("0.0.0.0:80", "[::]:80", false),
        ];
        for (local, wanted, expected) in table {
            assert_eq!(
                conflicts(local.parse().unwrap(), wanted.parse().unwrap()),
                expected,
                "{local} {wanted}"
            );
        }
    }
}
