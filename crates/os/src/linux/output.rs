//! The reading ends of a program's output, free of any runtime until they are used.
//!
//! A pipe holds 64 KiB (pipe(7)). One that a loud program keeps full is given room for 1 MiB, so that writer and reader wait
//! for each other less often; how many can be is bounded, because the room counts against the user's pipe-user-pages-soft.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;

/// What a pipe holds unless it is told otherwise (pipe(7)).
const PIPE_BYTES: usize = 64 * 1024;
/// What a loud program's pipe holds: the largest that anybody may ask for (/proc/sys/fs/pipe-max-size).
const LARGE_PIPE_BYTES: usize = 1024 * 1024;
/// Reads in a row that found the pipe full before it is made larger.
const FULL_READS: u32 = 4;
/// Pipes of this process that may be large at the same time: half of what an ordinary user's pipes may hold together (64 MiB,
/// /proc/sys/fs/pipe-user-pages-soft), beyond which new pipes of theirs would be tiny.
const MAX_LARGE: usize = 32;

/// How many are large now.
static LARGE: AtomicUsize = AtomicUsize::new(0);

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
        let receiver = pipe::Receiver::from_owned_fd(self.0)?;
        Ok(GrowingPipe { receiver, size: Size::Usual { full_reads: 0 } })
    }

    /// The descriptor itself, in blocking mode.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

/// A pipe that is made larger when it is found full again and again.
struct GrowingPipe {
    receiver: pipe::Receiver,
    size: Size,
}

enum Size {
    /// So many reads in a row found it full.
    Usual { full_reads: u32 },
    /// It has been made larger, and counts in [`LARGE`].
    Large,
    /// It cannot be made larger.
    Fixed,
}

impl GrowingPipe {
    fn grow(&mut self) {
        let claimed = LARGE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |large| {
            (large < MAX_LARGE).then_some(large + 1)
        });
        if claimed.is_err() {
            // Another may end by the time this one has been full as often again.
            self.size = Size::Usual { full_reads: 0 };
            return;
        }
        // Refused where the user's pipes have their share already, or what gave the pipe is none; it works as it is.
        self.size = match rustix::pipe::fcntl_setpipe_size(&self.receiver, LARGE_PIPE_BYTES) {
            Ok(_) => Size::Large,
            Err(_) => {
                LARGE.fetch_sub(1, Ordering::Relaxed);
                Size::Fixed
            }
        };
    }
}

impl AsyncRead for GrowingPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let outcome = Pin::new(&mut self.receiver).poll_read(cx, into);
        if let (Size::Usual { full_reads }, Poll::Ready(Ok(()))) = (&mut self.size, &outcome) {
            let is_full = into.filled().len() - before >= PIPE_BYTES;
            *full_reads = if is_full { *full_reads + 1 } else { 0 };
            if *full_reads >= FULL_READS {
                self.grow();
            }
        }
        outcome
    }
}

impl Drop for GrowingPipe {
    fn drop(&mut self) {
        if matches!(self.size, Size::Large) {
            LARGE.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rustix::pipe::fcntl_getpipe_size;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_pipe_that_is_found_full_again_and_again_is_made_larger_and_no_other() {
        let (reader, mut writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let kept = reader.try_clone().unwrap();
        let mut output = OutputPipe::new(reader.into()).into_reader().unwrap();
        let mut buffer = vec![0; 256 * 1024];
        let mut count = 0;
        for _ in 0..FULL_READS {
            // One that is not full in between does not count towards it.
            writer.write_all(&[b'x'; 1000]).unwrap();
            count += output.read(&mut buffer).await.unwrap();
        }
        assert_eq!((count, fcntl_getpipe_size(&kept).unwrap()), (1000 * FULL_READS as usize, PIPE_BYTES));
        for _ in 0..FULL_READS {
            writer.write_all(&[b'x'; PIPE_BYTES]).unwrap();
            assert_eq!(output.read(&mut buffer).await.unwrap(), PIPE_BYTES);
        }
        // An ordinary user may have no share left; then it stays as it is.
        let size = fcntl_getpipe_size(&kept).unwrap();
        assert!(size == LARGE_PIPE_BYTES || !rustix::process::geteuid().is_root(), "{size}");
        let large = LARGE.load(Ordering::Relaxed);
        drop(output);
        if size == LARGE_PIPE_BYTES {
            assert_eq!(LARGE.load(Ordering::Relaxed), large - 1);
        }
    }
}
