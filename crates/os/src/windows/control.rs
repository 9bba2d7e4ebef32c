//! Control sockets on Windows: a named pipe, not there yet. The functions are those of Linux, and say so.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::control::{Accepted, ControlBindError, ControlConnectError, Peer};

/// A control socket that accepts commands. There is none on this system yet.
#[derive(Debug)]
pub struct ControlListener(Infallible);

impl ControlListener {
    /// Fails with [`ControlBindError::NotYet`].
    pub fn bind(_path: &Path) -> Result<Self, ControlBindError> {
        Err(ControlBindError::NotYet)
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self.0 {}
    }

    /// Connections closed so far because of who made them.
    #[must_use]
    pub fn refused(&self) -> u64 {
        match self.0 {}
    }

    /// Stops listening, and takes the name away.
    pub fn close(self) {
        match self.0 {}
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self.0 {}
    }
}

/// Fails with [`ControlConnectError::NotYet`].
pub async fn connect(_path: &Path) -> Result<ControlStream, ControlConnectError> {
    Err(ControlConnectError::NotYet)
}

/// A connection between a host and a client. There is none on this system yet.
#[derive(Debug)]
pub struct ControlStream(Infallible);

impl ControlStream {
    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        match self.0 {}
    }
}

impl AsyncRead for ControlStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}

impl AsyncWrite for ControlStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}
