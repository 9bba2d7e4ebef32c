//! Keeps the beginning of what the other side said, to show what speaks there when it is not what was expected.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much as is kept.
const MAX_BEGINNING_BYTES: usize = 48;

/// The first bytes that came over a connection, and how many came in all.
#[derive(Clone, Default)]
pub(crate) struct Beginning(Arc<Mutex<(Vec<u8>, usize)>>);

impl Beginning {
    /// All bytes that came, in number.
    pub(crate) fn total(&self) -> usize {
        self.lock().1
    }

    /// Whether it is a TLS record that says no: alert, version 3.x (RFC 8446, 5.1).
    pub(crate) fn is_tls(&self) -> bool {
        self.lock().0.starts_with(&[0x15, 0x03])
    }

    /// Whether it is the answer of HTTP/1.
    pub(crate) fn is_http1(&self) -> bool {
        self.lock().0.starts_with(b"HTTP/1.")
    }

    /// For a message: quoted, one line.
    pub(crate) fn shown(&self) -> String {
        format!("{:?}", crate::printable(&self.lock().0, MAX_BEGINNING_BYTES))
    }

    fn add(&self, bytes: &[u8]) {
        let (kept, total) = &mut *self.lock();
        let room = MAX_BEGINNING_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        *total += bytes.len();
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<u8>, usize)> {
        // Nothing panics while holding it; even then the bytes are whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that keeps the beginning of what it read, since a protocol's library gives nothing of an answer it cannot
/// parse, and that reads only once something was written: hyper drops a connection whose other side speaks first, be
/// it a mail server's greeting or a proxy that is full, and what it said would be lost.
pub(crate) struct Recorded<S> {
    stream: S,
    beginning: Beginning,
    /// Whether the request is on its way.
    asked: bool,
    /// Who wanted to read before.
    reader: Option<Waker>,
}

impl<S> Recorded<S> {
    pub(crate) fn new(stream: S, beginning: Beginning) -> Self {
        Self { stream, beginning, asked: false, reader: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.beginning.add(&buf.filled()[before..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if written.is_ready() {
            self.asked = true;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
