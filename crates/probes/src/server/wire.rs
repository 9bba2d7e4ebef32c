//! One connection to a server, for as long as one check takes: within its time, within its memory.

use std::io;
use std::time::Duration;

use mainstay_types::{HostPort, ProbeFailure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::login::Login;
use super::trust::{Trust, trusting_anyone};
use crate::tcp::{self, Limit};
use crate::tls;

/// As much as a server may say in one check. PostgreSQL's and RabbitMQ's greetings are about 1 KiB, Redis' INFO 2 KiB.
const MAX_SAID_BYTES: usize = 256 * 1024;
/// As much of what was said first as is kept, to show it when it is another protocol.
const MAX_BEGINNING_BYTES: usize = 256;
/// Longest excerpt of that in a failure.
const MAX_EXCERPT_BYTES: usize = 48;
/// Time for the server to end its side after it was told good-bye. The answer is known by then.
const FAREWELL: Duration = Duration::from_millis(300);

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// The connection.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    address: HostPort,
    limit: Limit,
    /// Read and not taken yet.
    unread: Vec<u8>,
    /// The first bytes that came.
    beginning: Vec<u8>,
    /// How many bytes came in all.
    said_bytes: usize,
    /// What must not be shown, should the other side repeat what it was told.
    secret: Option<Vec<u8>>,
}

/// Why the connection gives nothing more.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) kind: BrokenKind,
    /// Whether anything had come before.
    pub(super) answered: bool,
    timeout: Duration,
}

#[derive(Debug)]
pub(super) enum BrokenKind {
    /// The other side closed it.
    Closed,
    /// The other side, or something between, cut it off.
    Reset,
    TimedOut,
    /// More than [`MAX_SAID_BYTES`] came.
    TooMuch,
    Other(io::Error),
}

impl Wire {
    /// Connects as a tcp check does, and with the same failures. `timeout` counts for all that follows.
    pub(super) async fn connect(address: &HostPort, timeout: Duration) -> Result<Self, ProbeFailure> {
        let limit = Limit::from_now(timeout);
        let stream = tcp::connect(address, &limit).await?;
        Ok(Self {
            stream: Box::new(stream),
            address: address.clone(),
            limit,
            unread: Vec::new(),
            beginning: Vec::new(),
            said_bytes: 0,
            secret: None,
        })
    }

    /// From now on the connection is encrypted. All that was said before must have been read: more is not of
    /// `protocol`, or comes from someone in between (CVE-2021-23222 is about PostgreSQL's own client).
    pub(super) async fn start_tls(&mut self, trust: Trust<'_>, protocol: &str) -> Result<(), ProbeFailure> {
        if !self.unread.is_empty() {
            return Err(self.not_speaking(protocol));
        }
        let config = match trust {
            Trust::Signed(ca) => tls::client_config_within(&self.address, ca, &self.limit).await?,
            Trust::Anyone => trusting_anyone().map_err(|error| tls::tls_failure(&self.address, &error))?,
        };
        let name = tls::server_name(&self.address)?;
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        match timeout_at(self.limit.deadline, TlsConnector::from(config).connect(name, plain)).await {
            Ok(Ok(stream)) => {
                self.stream = Box::new(stream);
                Ok(())
            }
            Ok(Err(error)) => Err(tls::tls_failure(&self.address, &error)),
            Err(_) => Err(ProbeFailure::TimedOut(self.limit.timeout)),
        }
    }

    /// Runs what takes its time away from the threads that serve everyone, and waits for it as long as there is time.
    pub(super) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ProbeFailure> {
        match timeout_at(self.limit.deadline, tokio::task::spawn_blocking(work)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(ProbeFailure::NotStarted(format!("cannot do the check: {error}"))),
            Err(_) => Err(ProbeFailure::TimedOut(self.limit.timeout)),
        }
    }

    pub(super) fn tls_failure(&self, message: &str) -> ProbeFailure {
        ProbeFailure::Tls { address: self.address.clone(), message: message.to_owned() }
    }

    /// Keeps the password, which is about to be sent as it is, out of all that is shown of what the other side says.
    pub(super) fn hide_password(&mut self, login: &Login) {
        // Taken out of the name of the user, it would be plain what it is.
        let known = |password: &str| {
            [&login.user, &login.name].into_iter().flatten().any(|shown| shown.contains(password))
        };
        self.secret = login
            .password
            .as_ref()
            .filter(|password| !known(password))
            .map(|password| password.clone().into_bytes());
    }

    /// Exactly `count` bytes. The caller bounds `count`; memory is only taken for what comes.
    pub(super) async fn read(&mut self, count: usize) -> Result<Vec<u8>, Broken> {
        while self.unread.len() < count {
            self.read_more().await?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    /// Up to CR LF, which are left out; `None` when there is none within `max_bytes`.
    pub(super) async fn read_line(&mut self, max_bytes: usize) -> Result<Option<Vec<u8>>, Broken> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let mut line: Vec<u8> = self.unread.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(Some(line).filter(|line| line.len() <= max_bytes));
            }
            if self.unread.len() > max_bytes {
                return Ok(None);
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> Result<(), Broken> {
        let mut chunk = [0; 4096];
        let count = match timeout_at(self.limit.deadline, self.stream.read(&mut chunk)).await {
            Ok(Ok(0)) => return Err(self.broken(BrokenKind::Closed)),
            Ok(Ok(count)) => count,
            Ok(Err(error)) => return Err(self.broken(kind_of(error))),
            Err(_) => return Err(self.broken(BrokenKind::TimedOut)),
        };
        self.said_bytes += count;
        if self.said_bytes > MAX_SAID_BYTES {
            return Err(self.broken(BrokenKind::TooMuch));
        }
        let room = MAX_BEGINNING_BYTES.saturating_sub(self.beginning.len());
        self.beginning.extend_from_slice(&chunk[..count.min(room)]);
        self.unread.extend_from_slice(&chunk[..count]);
        Ok(())
    }

    /// Sends all of `bytes`. That the other side takes no more is not told here: what it said before it closed may
    /// still be read, and says why.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout_at(self.limit.deadline, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => match kind_of(error) {
                BrokenKind::Closed | BrokenKind::Reset => Ok(()),
                kind @ (BrokenKind::TimedOut | BrokenKind::TooMuch | BrokenKind::Other(_)) => {
                    Err(self.broken(kind))
                }
            },
            Err(_) => Err(self.broken(BrokenKind::TimedOut)),
        }
    }

    fn broken(&self, kind: BrokenKind) -> Broken {
        Broken { kind, answered: self.said_bytes > 0, timeout: self.limit.timeout }
    }

    /// Says good-bye in the server's own words and waits a moment for it to close, so that it sees a client that left
    /// and not one that was lost. What it says to that changes nothing.
    pub(super) async fn close(mut self, farewell: &[u8]) {
        let until = self.limit.deadline.min(Instant::now() + FAREWELL);
        let leave = async {
            self.stream.write_all(farewell).await?;
            self.stream.shutdown().await?;
            let mut rest = [0; 512];
            while self.stream.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = timeout_at(until, leave).await;
    }

    /// That what answers is something else than `protocol`, with the beginning of what it said.
    pub(super) fn not_speaking(&self, protocol: &str) -> ProbeFailure {
        // A TLS record: alert or handshake, version 3.x (RFC 8446, 5.1).
        if let [0x15 | 0x16, 0x03, ..] = self.beginning[..] {
            return ProbeFailure::Protocol(format!("it does not speak {protocol} as it is, but TLS"));
        }
        ProbeFailure::Protocol(format!(
            "it does not speak {protocol}: its answer begins with {:?}",
            self.shown(&self.beginning, MAX_EXCERPT_BYTES)
        ))
    }

    /// What the other side said, as one line, without the secret.
    pub(super) fn shown(&self, bytes: &[u8], max_bytes: usize) -> String {
        match &self.secret {
            Some(secret) => crate::printable(&without(bytes, secret), max_bytes),
            None => crate::printable(bytes, max_bytes),
        }
    }
}

fn kind_of(error: io::Error) -> BrokenKind {
    let kind = error.kind();
    if [io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionAborted].contains(&kind) {
        BrokenKind::Reset
    } else if [io::ErrorKind::BrokenPipe, io::ErrorKind::UnexpectedEof].contains(&kind) {
        BrokenKind::Closed
    } else {
        BrokenKind::Other(error)
    }
}

/// `bytes` with every `secret` as `***`, and without a beginning of it at the end, where the bytes may be cut off.
fn without(bytes: &[u8], secret: &[u8]) -> Vec<u8> {
    // No password is a password too; it is everywhere.
    if secret.is_empty() {
        return bytes.to_vec();
    }
    let mut shown = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        if let Some(behind) = rest.strip_prefix(secret) {
            shown.extend_from_slice(b"***");
            rest = behind;
        } else if secret.starts_with(rest) {
            shown.extend_from_slice(b"***");
            break;
        } else {
            shown.push(*first);
            rest = after;
        }
    }
    shown
}

impl From<Broken> for ProbeFailure {
    fn from(Broken { kind, answered, timeout }: Broken) -> Self {
        let when = if answered { "in the middle of its answer" } else { "before it answered" };
        match kind {
            BrokenKind::TimedOut => Self::TimedOut(timeout),
            BrokenKind::Closed => Self::Protocol(format!("it closed the connection {when}")),
            BrokenKind::Reset => Self::Protocol(format!("it reset the connection {when}")),
            BrokenKind::TooMuch => Self::Protocol(format!(
                "it said more than {} KiB and did not come to an end",
                MAX_SAID_BYTES / 1024
            )),
            BrokenKind::Other(error) => Self::Protocol(format!("the connection broke {when}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_whole_or_cut_off() {
        for (said, shown) in [
            ("nothing", "nothing"),
            ("x hunter2 y hunter2", "x *** y ***"),
            ("x hunt", "x ***"),
            ("x hunte y", "x hunte y"),
            ("hunter2", "***"),
            ("", ""),
        ] {
            assert_eq!(without(said.as_bytes(), b"hunter2"), shown.as_bytes(), "{said}");
        }
        assert_eq!(without(b"said", b""), b"said");
    }
}
