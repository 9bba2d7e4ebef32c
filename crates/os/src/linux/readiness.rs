//! Readiness by a newline on a descriptor (s6's notification-fd, <https://skarnet.org/software/s6/notifywhenup.html>).

use std::io;

use rustix::pipe::PipeFlags;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::Descriptor;

/// A program that wrote this much without a newline is not talking about readiness.
const MAX_BYTES: usize = 64 * 1024;

/// Waits for the newline.
#[derive(Debug)]
pub struct ReadinessReader(pipe::Receiver);

/// A pipe whose writing end is to be handed over, within the tokio runtime that will read it. The caller must not keep the
/// writing end: its closing by the program would not show.
///
/// # Errors
/// The system's refusal, such as too many open files.
pub fn readiness_pipe() -> io::Result<(ReadinessReader, Descriptor)> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    Ok((ReadinessReader(pipe::Receiver::from_owned_fd(reader)?), Descriptor::new(writer)))
}

impl ReadinessReader {
    /// True at the first newline, whatever came before it; false when everybody has closed the pipe without one. The
    /// pipe closes with that: a program that writes on gets EPIPE, as with s6.
    ///
    /// # Errors
    /// 64 KiB without a newline, or the system's.
    pub async fn wait(mut self) -> io::Result<bool> {
        let mut buffer = [0; 256];
        let mut total = 0;
        while total < MAX_BYTES {
            let length = self.0.read(&mut buffer).await?;
            if length == 0 {
                return Ok(false);
            }
            if buffer[..length].contains(&b'\n') {
                return Ok(true);
            }
            total += length;
        }
        let text = format!("the program wrote {total} bytes to its readiness descriptor without a newline");
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}
