//! Sockets that the host opens for a service, and why one cannot be opened.

use std::fmt;

use mainstay_types::{LaunchFailure, LaunchStep, ListenAddress};

use crate::Descriptor;
use crate::platform;

/// An open socket of the host. Dropping it removes the socket file it made, unless another one has its place by then;
/// the socket itself closes when the last copy of its descriptor is dropped.
#[derive(Debug)]
pub struct Listener {
    address: ListenAddress,
    descriptor: Descriptor,
    /// Removes the file when dropped.
    _file: Option<platform::SocketFile>,
}

impl Listener {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// What programs are handed.
    #[must_use]
    pub const fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

/// Opens the socket of `address`, in blocking mode as programs expect it from systemd, with close-on-exec.
///
/// * TCP listens with `SO_REUSEADDR` and a queue of 4096, which the kernel cuts to `net.core.somaxconn`.
/// * An IPv6 address is IPv6 alone (`IPV6_V6ONLY`, whatever `net.ipv6.bindv6only` says), so that `0.0.0.0:80` and `[::]:80`
///   stand beside each other and the file says all that is open.
/// * UDP is bound without `SO_REUSEADDR`: two programs on one UDP port would steal each other's packets.
/// * A Unix socket's file gets mode 0666 whatever the umask is, as with systemd, and the host's user and group. A file that nobody listens
///   on any more is replaced; one that somebody answers on, or that is no socket, is left alone and is an error. A
///   relative path starts at the host's working folder; folders are not made.
///
/// May read all of /proc to say who has the address, some 10 ms on a large machine; else it does not block.
///
/// # Errors
/// [`ListenError`], in words for people.
pub fn open_listener(address: &ListenAddress) -> Result<Listener, ListenError> {
    match platform::open_socket(address) {
        Ok((descriptor, file)) => {
            Ok(Listener { address: address.clone(), descriptor: Descriptor::new(descriptor), _file: file })
        }
        Err(reason) => Err(ListenError { address: address.clone(), reason }),
    }
}

/// Why there is no socket.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}{}", .reason.hint().map(|hint| format!(" - {hint}")).unwrap_or_default())]
pub struct ListenError {
    /// Where.
    pub address: ListenAddress,
    /// Why.
    pub reason: ListenFailure,
}

impl From<ListenError> for LaunchFailure {
    /// The same as a start that failed at [`LaunchStep::Listen`], with the address in the place of the path.
    fn from(error: ListenError) -> Self {
        Self {
            step: LaunchStep::Listen,
            path: Some(error.address.to_string().into()),
            errno: error.reason.errno(),
            message: error.reason.to_string(),
            hint: error.reason.hint(),
        }
    }
}

/// Reasons for [`ListenError`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListenFailure {
    /// Somebody has it.
    #[error("{}", taken_words(.holder.as_ref()))]
    Taken {
        /// Who, where it can be found out.
        holder: Option<Holder>,
        /// The system's number for it.
        errno: i32,
    },
    /// The port is below those that anybody may use.
    #[error("ports below {first} are for root")]
    PrivilegedPort {
        /// The first port for everybody (`net.ipv4.ip_unprivileged_port_start`, 1024 unless changed).
        first: u16,
        /// The system's number for it.
        errno: i32,
    },
    /// No network interface of this machine has the address.
    #[error("this machine does not have that address")]
    NoSuchAddress {
        /// The system's number for it.
        errno: i32,
    },
    /// The system has no such protocol: IPv6 is switched off.
    #[error("this system has no support for that kind of address")]
    NotSupported {
        /// The system's number for it.
        errno: i32,
    },
    /// There is a file that is no socket.
    #[error("there is {kind} of that name, not a socket: it is left alone")]
    NotASocket {
        /// `a file`, `a folder`, `a link`.
        kind: &'static str,
    },
    /// The path is longer than the address of a Unix socket can be.
    #[error("the path has {bytes} bytes, and a Unix socket's path at most {longest}")]
    PathTooLong {
        /// Of the path.
        bytes: usize,
        /// The longest (unix(7)).
        longest: usize,
    },
    /// Anything else.
    #[error("{message}")]
    System {
        /// The system's number for it; 0 when none was involved.
        errno: i32,
        /// The system's words.
        message: String,
    },
}

impl ListenFailure {
    /// The system's number for it; 0 when none was involved.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        match self {
            Self::Taken { errno, .. }
            | Self::PrivilegedPort { errno, .. }
            | Self::NoSuchAddress { errno }
            | Self::NotSupported { errno }
            | Self::System { errno, .. } => *errno,
            Self::NotASocket { .. } | Self::PathTooLong { .. } => 0,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Taken { holder: Some(_), .. } => return None,
            Self::Taken { holder: None, .. } if cfg!(windows) => {
                "`netstat -abno` as an administrator shows by whom".to_owned()
            }
            Self::Taken { holder: None, .. } => "`ss -tulpnx` as root shows by whom".to_owned(),
            Self::PrivilegedPort { first, .. } => format!(
                "run mainstay as root, or give it CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=), or use a port \
                 from {first} on, or lower net.ipv4.ip_unprivileged_port_start"
            ),
            Self::NoSuchAddress { .. } => {
                let shows = if cfg!(windows) { "ipconfig" } else { "ip address" };
                format!("`{shows}` shows the addresses there are; 0.0.0.0 and [::] stand for all of them")
            }
            Self::NotSupported { .. } => "use an IPv4 address, such as 0.0.0.0".to_owned(),
            Self::NotASocket { .. } => "remove it or choose another path".to_owned(),
            Self::PathTooLong { .. } => "choose a shorter path, such as one in /run".to_owned(),
            Self::System { .. } => return None,
        };
        Some(text)
    }
}

/// Who has an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The process, where this user may see it: the one with the lowest pid when several share the socket.
    pub pid: Option<u32>,
    /// The program's name, at most 15 bytes; of a process that cannot be seen, its user's.
    pub name: String,
    /// It does not listen there: the address is one end of a connection.
    pub is_connection: bool,
}

impl fmt::Display for Holder {
    /// `nginx (pid 123)`, `this host itself, for another service`, `a process of user www-data`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) if pid == std::process::id() => f.write_str("this host itself, for another service")?,
            Some(pid) => write!(f, "{} (pid {pid})", self.name)?,
            None => write!(f, "a process of user {}", self.name)?,
        }
        if self.is_connection { f.write_str(", as its end of a connection") } else { Ok(()) }
    }
}

fn taken_words(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "it is taken".to_owned(), |holder| format!("it is taken by {holder}"))
}
