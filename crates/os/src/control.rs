//! Control sockets: how commands reach a running host, and nobody but root and the host's own user.
//!
//! Linux: a Unix stream socket of mode 0600; each side checks the other's credentials as the kernel gives them
//! (SO_PEERCRED, unix(7)). Windows: a named pipe with a list of who may open it; a client checks whose it is.

use std::io;
use std::path::PathBuf;

#[cfg(target_os = "linux")]
#[path = "linux/control.rs"]
mod body;
#[cfg(windows)]
use crate::platform::control as body;

pub use body::{ControlListener, ControlStream, connect};

/// Who is at the other end of a control socket, as the kernel says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its effective user when it connected; 0 on Windows, which lets in only who may ask.
    pub uid: u32,
    /// Its process when it connected; `None` when it lies outside this process's namespace. Only for people.
    pub pid: Option<u32>,
}

/// What [`ControlListener::accept`] came to.
#[derive(Debug)]
pub enum Accepted {
    /// Somebody who may ask.
    Stream(ControlStream),
    /// Somebody who may not; the connection is closed already.
    Refused(Peer),
}

/// Why a control socket cannot be opened for listening.
#[derive(Debug, thiserror::Error)]
pub enum ControlBindError {
    /// Another process listens there.
    #[error("another host{} answers on the control socket {}", of_pid(*.pid), .path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The process that listens, where it is known.
        pid: Option<u32>,
    },
    /// Something else has the name; it is not removed.
    #[error(
        "cannot open the control socket {}: something that is no socket has this name; move it away",
        .path.display()
    )]
    NotASocket {
        /// The name.
        path: PathBuf,
    },
    /// The file name alone is longer than a socket's address holds.
    #[error(
        "cannot open the control socket {}: its file name is longer than {limit} bytes; use a shorter stack name",
        .path.display()
    )]
    NameTooLong {
        /// The socket.
        path: PathBuf,
        /// Longest name, in bytes.
        limit: usize,
    },
    /// The folder of the socket cannot be created or opened.
    #[error("cannot open {}, the folder of the control socket", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The socket itself.
    #[error("cannot open the control socket {}", .path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

fn of_pid(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// Why a control socket cannot be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ControlConnectError {
    /// There is no socket, or nobody listens on it any more.
    #[error("no host answers on {}", .path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket is somebody else's.
    #[error(
        "{} may be used by root and by the user of the host only; run the command as that user, or with sudo",
        .path.display()
    )]
    NotPermitted {
        /// The socket.
        path: PathBuf,
    },
    /// Whoever listens is neither root nor the user of this process: not a host to be trusted with a command.
    #[error("{} belongs to a process of another user (uid {uid}); it is not trusted", .path.display())]
    NotTrusted {
        /// The socket.
        path: PathBuf,
        /// Who listens.
        uid: u32,
    },
    /// Anything else.
    #[error("cannot connect to {}", .path.display())]
    Other {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}
