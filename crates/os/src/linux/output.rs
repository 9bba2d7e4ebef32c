//! The reading ends of a program's output, free of any runtime until they are used.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::AsyncRead;
use tokio::net::unix::pipe;

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
pub struct OutputPipe(OwnedFd);

impl OutputPipe {
    pub(super) const fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Becomes a reader of the runtime this is called in, which may be another than the one that got the news.
    ///
    /// # Errors
    /// When the runtime cannot watch one more descriptor.
    pub fn into_reader(self) -> io::Result<impl AsyncRead + Send + Unpin + 'static> {
        pipe::Receiver::from_owned_fd(self.0)
    }

    /// The descriptor itself, in blocking mode.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}
