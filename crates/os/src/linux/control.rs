//! Control sockets on Linux: Unix stream sockets with checked credentials.
//!
//! A socket is bound under a passing name in its folder, already of mode 0600 and listening, and then renamed: at no
//! moment is there a socket under the final name that others may open or that refuses. The name of a crashed host
//! is exchanged against the new socket in one step and looked at again before it is removed, so of two hosts that
//! start at once over the same remains, one finds the other.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};

use crate::control::{Accepted, ControlBindError, ControlConnectError, Peer};

/// Longest path a Unix address holds: `sun_path` has 108 bytes, one of them ends it (unix(7)).
const MAX_SUN_PATH_BYTES: usize = 107;
/// Longest file name that still fits into an address behind `/proc/self/fd/N/`, N having at most 10 digits.
const MAX_NAME_BYTES: usize = MAX_SUN_PATH_BYTES - "/proc/self/fd/4294967295/".len();
/// Connections that may wait to be accepted; clients beyond it wait in connect.
const BACKLOG: i32 = 128;
/// How often the name is tried again when another host comes or goes meanwhile.
const BIND_TRIES: u32 = 4;
/// The superuser.
const ROOT: u32 = 0;

/// A control socket that accepts commands. Dropping it removes the socket's name, if it is still its own.
#[derive(Debug)]
pub struct ControlListener {
    listener: UnixListener,
    place: Place,
    /// Device and inode of the socket's name.
    own: (u64, u64),
    own_uid: u32,
    refused: AtomicU64,
}

impl ControlListener {
    /// Stops listening, and takes the name away; the same as dropping it.
    pub fn close(self) {
        drop(self);
    }

    /// Opens the socket, creating its folder where it is missing (mode 0755 for root, whose clients are told "not
    /// permitted" then rather than "not running"; 0700 for others). A name left by a host that crashed is replaced.
    /// A path longer than a Unix address holds is reached through `/proc`, which must be mounted then.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn bind(path: &Path) -> Result<Self, ControlBindError> {
        let place = Place::create(path)?;
        let own_uid = rustix::process::geteuid().as_raw();
        let failed = |source: io::Error| ControlBindError::Socket { path: path.to_owned(), source };
        let (socket, passing) = place.listen().map_err(|errno| failed(errno.into()))?;
        let named = place
            .stat(&passing)
            .map_err(|errno| failed(errno.into()))
            .and_then(|stat| place.take_name(&passing).map(|()| (stat.st_dev, stat.st_ino)));
        let own = match named {
            Ok(own) => own,
            Err(error) => {
                place.unlink(&passing);
                return Err(error);
            }
        };
        let listener = UnixListener::from_std(socket.into()).map_err(failed)?;
        Ok(Self { listener, place, own, own_uid, refused: AtomicU64::new(0) })
    }

    /// Waits for the next connection and checks who made it: root and the host's own user pass, others are closed
    /// and counted. An error is one of the system (out of file descriptors, say); the listener goes on.
    ///
    /// Dropping the future loses no connection.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let (stream, _) = self.listener.accept().await?;
        let peer = peer_of(&stream)?;
        if peer.uid == ROOT || peer.uid == self.own_uid {
            Ok(Accepted::Stream(ControlStream { stream, peer }))
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            Ok(Accepted::Refused(peer))
        }
    }

    /// Connections closed so far because of who made them.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Where it listens, as it was asked for.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place.path
    }
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        // Another host may have taken the name over; its socket stays.
        if let Ok(stat) = self.place.stat(&self.place.name)
            && (stat.st_dev, stat.st_ino) == self.own
        {
            self.place.unlink(&self.place.name);
        }
    }
}

/// Connects to the host that listens on `path`, and checks that it is root's, or that it and this process are of one
/// user. Root trusts any.
pub async fn connect(path: &Path) -> Result<ControlStream, ControlConnectError> {
    let other = |source| ControlConnectError::Other { path: path.to_owned(), source };
    let connected = if path.as_os_str().len() <= MAX_SUN_PATH_BYTES {
        UnixStream::connect(path).await
    } else {
        match Place::open(path) {
            Ok(place) => UnixStream::connect(place.address(&place.name)).await,
            Err(error) => Err(error),
        }
    };
    let stream = connected.map_err(|source| {
        use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound, PermissionDenied};
        let kind = source.kind();
        // A path through something that is no folder holds no socket either.
        if matches!(kind, NotFound | ConnectionRefused | NotADirectory) {
            ControlConnectError::NotRunning { path: path.to_owned() }
        } else if kind == PermissionDenied {
            ControlConnectError::NotPermitted { path: path.to_owned() }
        } else {
            other(source)
        }
    })?;
    let peer = peer_of(&stream).map_err(other)?;
    let own_uid = rustix::process::geteuid().as_raw();
    if peer.uid == ROOT || peer.uid == own_uid || own_uid == ROOT {
        Ok(ControlStream { stream, peer })
    } else {
        Err(ControlConnectError::NotTrusted { path: path.to_owned(), uid: peer.uid })
    }
}

fn peer_of(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = stream.peer_cred()?;
    // A process outside this namespace is shown as 0 (pid_namespaces(7)).
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    Ok(Peer { uid: credentials.uid(), pid })
}

/// A connection between a host and a client, checked on both sides.
#[derive(Debug)]
pub struct ControlStream {
    stream: UnixStream,
    peer: Peer,
}

impl ControlStream {
    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for ControlStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ControlStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A name in a folder that is held open, so that it means the same folder throughout.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    dir: OwnedFd,
    dir_path: PathBuf,
    name: OsString,
}

impl Place {
    fn create(path: &Path) -> Result<Self, ControlBindError> {
        let dir_path = parent_of(path);
        let folder = |source| ControlBindError::Folder { path: dir_path.to_owned(), source };
        let mode = if rustix::process::geteuid().is_root() { 0o755 } else { 0o700 };
        DirBuilder::new().recursive(true).mode(mode).create(dir_path).map_err(folder)?;
        let place = Self::open(path).map_err(folder)?;
        if place.name.len() > MAX_NAME_BYTES {
            return Err(ControlBindError::NameTooLong { path: place.path, limit: MAX_NAME_BYTES });
        }
        Ok(place)
    }

    fn open(path: &Path) -> io::Result<Self> {
        let dir_path = parent_of(path);
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir_path, flags, Mode::empty())?;
        Ok(Self { path: path.to_owned(), dir, dir_path: dir_path.to_owned(), name: name.to_owned() })
    }

    /// A path to `name` in the folder that fits into a Unix address.
    fn address(&self, name: &OsStr) -> PathBuf {
        let plain = self.dir_path.join(name);
        if plain.as_os_str().as_bytes().len() <= MAX_SUN_PATH_BYTES {
            plain
        } else {
            PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd())).join(name)
        }
    }

    fn stat(&self, name: &OsStr) -> Result<Stat, Errno> {
        rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn unlink(&self, name: &OsStr) {
        // Gone already, or the folder is: there is nothing left to do then either.
        let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
    }

    fn rename(&self, from: &OsStr, to: &OsStr, flags: RenameFlags) -> Result<(), Errno> {
        rustix::fs::renameat_with(&self.dir, from, &self.dir, to, flags)
    }

    /// A listening socket of mode 0600 under a passing name.
    fn listen(&self) -> Result<(OwnedFd, OsString), Errno> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let passing = OsString::from(format!(".control-{}-{number}", std::process::id()));
        // A passing name is left only by a process of this very id that ended within these few lines.
        self.unlink(&passing);
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        // The name gets the mode of the socket at bind, less the umask.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(self.address(&passing))?)?;
        match rustix::net::listen(&socket, BACKLOG) {
            Ok(()) => Ok((socket, passing)),
            Err(errno) => {
                self.unlink(&passing);
                Err(errno)
            }
        }
    }

    /// Gives the socket under the passing name the final one.
    fn take_name(&self, passing: &OsStr) -> Result<(), ControlBindError> {
        let failed =
            |errno: Errno| ControlBindError::Socket { path: self.path.clone(), source: errno.into() };
        for _ in 0..BIND_TRIES {
            match self.rename(passing, &self.name, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                // A file system without these flags (renameat2(2)).
                Err(Errno::INVAL) => return self.take_name_in_steps(passing),
                Err(errno) => return Err(failed(errno)),
            }
            if !self.is_stale(&self.name)? {
                continue;
            }
            match self.rename(passing, &self.name, RenameFlags::EXCHANGE) {
                Ok(()) => {}
                Err(Errno::NOENT) => continue,
                Err(Errno::INVAL) => return self.take_name_in_steps(passing),
                Err(errno) => return Err(failed(errno)),
            }
            // What lies under the passing name now is what had the final one.
            match self.is_stale(passing) {
                Ok(_) => {
                    self.unlink(passing);
                    return Ok(());
                }
                Err(error) => {
                    // Another host came in between: give it its name back.
                    self.rename(passing, &self.name, RenameFlags::EXCHANGE).map_err(failed)?;
                    return Err(error);
                }
            }
        }
        Err(failed(Errno::BUSY))
    }

    /// The same by plain calls, with a short moment in which another host may be overtaken.
    fn take_name_in_steps(&self, passing: &OsStr) -> Result<(), ControlBindError> {
        self.is_stale(&self.name)?;
        rustix::fs::renameat(&self.dir, passing, &self.dir, &self.name)
            .map_err(|errno| ControlBindError::Socket { path: self.path.clone(), source: errno.into() })
    }

    /// Whether `name` is a socket nobody listens on. `false` when there is nothing of that name; an error when
    /// somebody listens, or it is no socket.
    fn is_stale(&self, name: &OsStr) -> Result<bool, ControlBindError> {
        let failed = |source: io::Error| ControlBindError::Socket { path: self.path.clone(), source };
        match self.stat(name) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {}
            Ok(_) => return Err(ControlBindError::NotASocket { path: self.path.clone() }),
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(failed(errno.into())),
        }
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(|errno| failed(errno.into()))?;
        let address = SocketAddrUnix::new(self.address(name)).map_err(|errno| failed(errno.into()))?;
        match rustix::net::connect(&socket, &address) {
            Err(Errno::CONNREFUSED) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            // A full backlog: whoever listens is too busy to be asked who it is.
            Err(Errno::AGAIN) => Err(ControlBindError::InUse { path: self.path.clone(), pid: None }),
            Ok(()) => {
                let stream = UnixStream::from_std(socket.into()).map_err(failed)?;
                let pid = peer_of(&stream).ok().and_then(|peer| peer.pid);
                Err(ControlBindError::InUse { path: self.path.clone(), pid })
            }
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

/// The folder a file lies in; for a bare file name, the current one.
fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
