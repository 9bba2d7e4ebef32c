//! Control sockets on Windows: named pipes that only their host's user, the system and administrators may open.
//!
//! A pipe lies in a name space of the whole machine, not in a folder, so its name is made from the path that it has elsewhere:
//! `mainstay-STACK` for the usual folder, and with a number made from the folder for any other one. Each side checks the other
//! one: the system lets nobody else in, and a client looks whose the pipe is, because any user may make a pipe of any name.

use std::ffi::OsStr;
use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions};
use tokio::sync::Mutex;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_FILE_NOT_FOUND, ERROR_NO_DATA, ERROR_PIPE_BUSY, HANDLE,
};
use windows_sys::Win32::System::Pipes::{GetNamedPipeClientProcessId, GetNamedPipeServerProcessId};

use super::security::{OwnersOnly, belongs_to_a_trusted_one};
use super::system::done;
use crate::control::{Accepted, ControlBindError, ControlConnectError, Peer};

/// Where all names of pipes begin.
const PIPES: &str = r"\\.\pipe\";
/// Longest name of a pipe with its beginning.
/// <https://learn.microsoft.com/en-us/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew>
const MAX_NAME_UNITS: usize = 256;
/// Tries to get in while every end of a pipe is taken; the host makes the next one at once.
const BUSY_TRIES: u32 = 100;
/// Pause between two of them.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// A control socket that accepts commands. Its name goes with it.
#[derive(Debug)]
pub struct ControlListener {
    name: PathBuf,
    owners: OwnersOnly,
    /// The end that the next client gets; `None` when it could not be made.
    next: Mutex<Option<NamedPipeServer>>,
}

impl ControlListener {
    /// Stops listening, and takes the name away; the same as dropping it.
    pub fn close(self) {
        drop(self);
    }

    /// Opens the pipe that stands for `path`. Clients from other machines are refused by the system.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn bind(path: &Path) -> Result<Self, ControlBindError> {
        let name = pipe_name(path);
        let failed = |source: io::Error| ControlBindError::Socket { path: name.clone(), source };
        if name.as_os_str().len() > MAX_NAME_UNITS {
            return Err(ControlBindError::NameTooLong { path: name, limit: MAX_NAME_UNITS - PIPES.len() });
        }
        // To be the first is asked of the system below; this also finds out who else is.
        match ClientOptions::new().open(&name) {
            Ok(client) => return Err(ControlBindError::InUse { pid: server_pid(&client), path: name }),
            Err(error) if is(&error, ERROR_PIPE_BUSY) => {
                return Err(ControlBindError::InUse { path: name, pid: None });
            }
            Err(_) => {}
        }
        let owners = OwnersOnly::new().map_err(failed)?;
        let first = instance(&name, &owners, true).map_err(|error| {
            if is(&error, ERROR_ACCESS_DENIED) {
                ControlBindError::InUse { path: name.clone(), pid: None }
            } else {
                failed(error)
            }
        })?;
        Ok(Self { name, owners, next: Mutex::new(Some(first)) })
    }

    /// Waits for the next connection. An error is one of the system; the listener goes on.
    ///
    /// Dropping the future loses no connection.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let mut next = self.next.lock().await;
        loop {
            let server = match next.take() {
                Some(server) => next.insert(server),
                None => next.insert(instance(&self.name, &self.owners, false)?),
            };
            match server.connect().await {
                Ok(()) => {}
                // A client that has come and gone; its end is of no more use.
                Err(error) if is(&error, ERROR_NO_DATA) => {
                    *next = None;
                    continue;
                }
                Err(error) => {
                    *next = None;
                    return Err(error);
                }
            }
            // Made before this one is given away, so that there is always an end to be found.
            let following = instance(&self.name, &self.owners, false).ok();
            if let Some(server) = std::mem::replace(&mut *next, following) {
                let peer = Peer { uid: 0, pid: client_pid(&server) };
                return Ok(Accepted::Stream(ControlStream { end: End::Server(server), peer }));
            }
        }
    }

    /// Connections closed so far because of who made them: the system does it, and does not say how many.
    #[must_use]
    pub fn refused(&self) -> u64 {
        0
    }

    /// The pipe.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.name
    }
}

fn instance(name: &Path, owners: &OwnersOnly, first: bool) -> io::Result<NamedPipeServer> {
    let attributes = std::ptr::from_ref(owners.attributes()).cast_mut();
    let mut options = ServerOptions::new();
    options.first_pipe_instance(first).reject_remote_clients(true);
    // SAFETY: the attributes are valid while `owners` is borrowed, and are only read.
    // https://learn.microsoft.com/en-us/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew
    unsafe { options.create_with_security_attributes_raw(name, attributes.cast()) }
}

/// Connects to the host that listens on the pipe that stands for `path`, and checks that it is this user's, the system's or
/// administrators'.
pub async fn connect(path: &Path) -> Result<ControlStream, ControlConnectError> {
    let name = pipe_name(path);
    let other = |source| ControlConnectError::Other { path: name.clone(), source };
    let mut tries = 0;
    let client = loop {
        // The other end learns who this is and cannot act in its name, as tokio's options have it.
        match ClientOptions::new().open(&name) {
            Ok(client) => break client,
            Err(error) if is(&error, ERROR_PIPE_BUSY) && tries < BUSY_TRIES => {
                tries += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(error) if is(&error, ERROR_FILE_NOT_FOUND) => {
                return Err(ControlConnectError::NotRunning { path: name });
            }
            Err(error) if is(&error, ERROR_ACCESS_DENIED) => {
                return Err(ControlConnectError::NotPermitted { path: name });
            }
            Err(error) => return Err(other(error)),
        }
    };
    if !belongs_to_a_trusted_one(client.as_handle()).map_err(other)? {
        let words = "it belongs to another user, who is no administrator: it is not trusted";
        return Err(other(io::Error::new(io::ErrorKind::PermissionDenied, words)));
    }
    let peer = Peer { uid: 0, pid: server_pid(&client) };
    Ok(ControlStream { end: End::Client(client), peer })
}

fn is(error: &io::Error, number: u32) -> bool {
    error.raw_os_error() == Some(number.cast_signed())
}

/// The pipe that stands for the path of a socket.
fn pipe_name(path: &Path) -> PathBuf {
    let stack = path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or(Path::new(""));
    let usual = crate::runtime_base(false, |name| std::env::var_os(name));
    let key = |path: &OsStr| crate::variable_key(path).to_string_lossy().replace('/', "\\");
    let folder = key(folder.as_os_str());
    if usual.is_some_and(|usual| key(usual.as_os_str()) == folder) {
        return format!("{PIPES}mainstay-{stack}").into();
    }
    format!("{PIPES}mainstay-{stack}-{:016x}", fnv1a(folder.as_bytes())).into()
}

/// A number for a text, the same in every version (FNV-1a, 64 bits). It keeps names apart; nothing is proven by it.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn server_pid(client: &NamedPipeClient) -> Option<u32> {
    let mut pid = 0;
    let pipe: HANDLE = client.as_raw_handle();
    // SAFETY: the pipe is open; the place lives through the call.
    // https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-getnamedpipeserverprocessid
    done(unsafe { GetNamedPipeServerProcessId(pipe, &raw mut pid) }).ok()?;
    Some(pid).filter(|pid| *pid != 0)
}

fn client_pid(server: &NamedPipeServer) -> Option<u32> {
    let mut pid = 0;
    let pipe: HANDLE = server.as_raw_handle();
    // SAFETY: the pipe is open; the place lives through the call.
    // https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-getnamedpipeclientprocessid
    done(unsafe { GetNamedPipeClientProcessId(pipe, &raw mut pid) }).ok()?;
    Some(pid).filter(|pid| *pid != 0)
}

/// A connection between a host and a client, checked on both sides.
#[derive(Debug)]
pub struct ControlStream {
    end: End,
    peer: Peer,
}

#[derive(Debug)]
enum End {
    Server(NamedPipeServer),
    Client(NamedPipeClient),
}

impl ControlStream {
    /// Who is at the other end; Windows has no user numbers, so that is 0.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        self.peer
    }
}

impl AsHandle for ControlStream {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        match &self.end {
            End::Server(pipe) => pipe.as_handle(),
            End::Client(pipe) => pipe.as_handle(),
        }
    }
}

impl AsyncRead for ControlStream {
    /// The other side's end of the connection is the end of what there is to read; Windows calls it a broken pipe.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = match &mut self.end {
            End::Server(pipe) => Pin::new(pipe).poll_read(cx, buf),
            End::Client(pipe) => Pin::new(pipe).poll_read(cx, buf),
        };
        match read {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(Ok(())),
            other @ (Poll::Ready(_) | Poll::Pending) => other,
        }
    }
}

impl AsyncWrite for ControlStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.end {
            End::Server(pipe) => Pin::new(pipe).poll_write(cx, bytes),
            End::Client(pipe) => Pin::new(pipe).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.end {
            End::Server(pipe) => Pin::new(pipe).poll_flush(cx),
            End::Client(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.end {
            End::Server(pipe) => Pin::new(pipe).poll_shutdown(cx),
            End::Client(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn accepted(accepted: Accepted) -> ControlStream {
        match accepted {
            Accepted::Stream(stream) => stream,
            Accepted::Refused(peer) => panic!("refused {peer:?}"),
        }
    }

    #[test]
    fn names_of_pipes() {
        let usual = crate::runtime_base(false, |name| std::env::var_os(name)).unwrap();
        assert_eq!(pipe_name(&usual.join("shop.sock")), Path::new(r"\\.\pipe\mainstay-shop"));
        let elsewhere = pipe_name(Path::new(r"D:\Run\shop.sock"));
        assert!(elsewhere.to_string_lossy().starts_with(r"\\.\pipe\mainstay-shop-"));
        assert_eq!(elsewhere, pipe_name(Path::new(r"d:\run\shop.sock")));
        assert_ne!(elsewhere, pipe_name(Path::new(r"D:\run2\shop.sock")));
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn what_one_side_writes_the_other_one_reads_until_it_closes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.sock");
        runtime().block_on(async {
            assert!(matches!(connect(&path).await, Err(ControlConnectError::NotRunning { .. })));
            let listener = ControlListener::bind(&path).unwrap();
            for round in 0..20 {
                let (accepting, client) = tokio::join!(listener.accept(), connect(&path));
                let (mut server, mut client) = (accepted(accepting.unwrap()), client.unwrap());
                assert_eq!(server.peer().pid, Some(std::process::id()));
                assert_eq!(client.peer().pid, Some(std::process::id()));
                client.write_all(b"hello").await.unwrap();
                let mut got = [0; 5];
                server.read_exact(&mut got).await.unwrap();
                assert_eq!(&got, b"hello");
                // What is written before the close arrives after it.
                server.write_all(format!("bye {round}").as_bytes()).await.unwrap();
                drop(server);
                let mut rest = String::new();
                client.read_to_string(&mut rest).await.unwrap();
                assert_eq!(rest, format!("bye {round}"));
            }
            listener.close();
            assert!(matches!(connect(&path).await, Err(ControlConnectError::NotRunning { .. })));
        });
    }

    #[test]
    fn a_second_listener_finds_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.sock");
        runtime().block_on(async {
            let first = ControlListener::bind(&path).unwrap();
            match ControlListener::bind(&path) {
                Err(ControlBindError::InUse { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
                other => panic!("{other:?}"),
            }
            // The one that looked may still be accepted; it has nothing to say.
            let client = tokio::spawn({
                let path = path.clone();
                async move {
                    let mut client = connect(&path).await.unwrap();
                    client.write_all(b"x").await.unwrap();
                    client
                }
            });
            let mut got = [0; 1];
            for _ in 0..2 {
                let mut server = accepted(first.accept().await.unwrap());
                if server.read_exact(&mut got).await.is_ok() {
                    break;
                }
            }
            assert_eq!(&got, b"x");
            drop(client.await.unwrap());
            first.close();
            // The runtime closes the last end when it hears that nobody will come to it any more.
            let begin = std::time::Instant::now();
            while let Err(error) = ControlListener::bind(&path) {
                assert!(begin.elapsed() < Duration::from_secs(30), "{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }

    #[test]
    fn many_clients_at_once_are_all_served() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.sock");
        runtime().block_on(async {
            let listener = ControlListener::bind(&path).unwrap();
            let clients: Vec<_> = (0..30_u8)
                .map(|number| {
                    let path = path.clone();
                    tokio::spawn(async move {
                        let mut client = connect(&path).await.unwrap();
                        client.write_all(&[number]).await.unwrap();
                        let mut answer = [0; 1];
                        client.read_exact(&mut answer).await.unwrap();
                        assert_eq!(answer[0], number);
                    })
                })
                .collect();
            for _ in 0..clients.len() {
                let mut server = accepted(listener.accept().await.unwrap());
                let mut got = [0; 1];
                server.read_exact(&mut got).await.unwrap();
                server.write_all(&got).await.unwrap();
            }
            for client in clients {
                client.await.unwrap();
            }
        });
    }
}
