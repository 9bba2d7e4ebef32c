//! The ends of a program's output, free of any runtime until they are used.
//!
//! A pipe without a name cannot be waited for by a runtime, so each is a named one with a name that nobody can guess, one
//! instance, no access for others, and both ends open before anybody hears of it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::windows::io::{IntoRawHandle, OwnedHandle};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::windows::named_pipe::NamedPipeServer;
use windows_sys::Win32::Foundation::{GENERIC_READ, GENERIC_WRITE};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_ATTRIBUTE_NORMAL, FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, FILE_SHARE_READ,
    FILE_SHARE_WRITE, OPEN_EXISTING, PIPE_ACCESS_INBOUND,
};
use windows_sys::Win32::System::Pipes::{CreateNamedPipeW, PIPE_REJECT_REMOTE_CLIENTS, PIPE_TYPE_BYTE};

use super::security::OwnersOnly;
use super::system::{made, wide};

/// What the system keeps for a program that writes faster than is read; it waits beyond that. As on Linux.
const BUFFER_BYTES: u32 = 64 * 1024;

/// Standard output and error of one start.
#[derive(Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: OutputPipe,
    /// Standard error.
    pub stderr: OutputPipe,
}

/// One reading end. It ends when the last process that holds the writing end has closed it, which may be long after
/// the program itself has ended.
#[derive(Debug)]
pub struct OutputPipe(OwnedHandle);

impl OutputPipe {
    /// The reading end, and the writing end that a child may inherit.
    pub(super) fn pair(owners: &OwnersOnly) -> io::Result<(Self, OwnedHandle)> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        // Seeded by the system for each process, and mixed with a count: not to be guessed, never the same twice.
        let mut hasher = RandomState::new().build_hasher();
        let count = MADE.fetch_add(1, Ordering::Relaxed);
        hasher.write_u64(count);
        let name = wide(format!(
            r"\\.\pipe\mainstay-output-{}-{count}-{:016x}",
            std::process::id(),
            hasher.finish()
        ));
        // SAFETY: the name is closed by NUL and lives through the call, as does the list of who may open it.
        // https://learn.microsoft.com/en-us/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew
        let reader = made(unsafe {
            CreateNamedPipeW(
                name.as_ptr(),
                PIPE_ACCESS_INBOUND | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE,
                PIPE_TYPE_BYTE | PIPE_REJECT_REMOTE_CLIENTS,
                1,
                0,
                BUFFER_BYTES,
                0,
                owners.attributes(),
            )
        })?;
        let writer = open(&name, GENERIC_WRITE)?;
        Ok((Self(reader), writer))
    }

    /// Becomes a reader of the runtime this is called in, which may be another than the one that got the news.
    ///
    /// # Errors
    /// When the runtime cannot watch one more pipe.
    pub fn into_reader(self) -> io::Result<impl AsyncRead + Send + Unpin + 'static> {
        // SAFETY: the handle is an open, overlapped named pipe, and is given away.
        // https://docs.rs/tokio/latest/tokio/net/windows/named_pipe/struct.NamedPipeServer.html#method.from_raw_handle
        unsafe { NamedPipeServer::from_raw_handle(self.0.into_raw_handle()) }.map(Reader)
    }
}

/// What gives nothing to read, for a child to inherit.
pub(super) fn no_input() -> io::Result<OwnedHandle> {
    open(&wide("NUL"), GENERIC_READ)
}

/// Opens something that is there, to be inherited.
fn open(name: &[u16], access: u32) -> io::Result<OwnedHandle> {
    let inherited = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: std::ptr::null_mut(),
        bInheritHandle: 1,
    };
    // SAFETY: every caller's name is closed by NUL; it and the attributes live through the call.
    // https://learn.microsoft.com/en-us/windows/win32/api/fileapi/nf-fileapi-createfilew
    made(unsafe {
        CreateFileW(
            name.as_ptr(),
            access,
            FILE_SHARE_READ | FILE_SHARE_WRITE,
            &raw const inherited,
            OPEN_EXISTING,
            FILE_ATTRIBUTE_NORMAL,
            std::ptr::null_mut(),
        )
    })
}

/// Reads until all writers have closed; Windows calls that a broken pipe.
struct Reader(NamedPipeServer);

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(cx, buf) {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(Ok(())),
            other @ (Poll::Ready(_) | Poll::Pending) => other,
        }
    }
}
