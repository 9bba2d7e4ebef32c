//! HTTP probes: one GET over one connection, and what came of it told in kinds a user can act upon.

use std::error::Error;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use mainstay_types::{HostPort, HttpTarget, ProbeFailure};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use crate::tcp::{self, Limit};

/// As much of a body as is read; what comes after is of no interest to a check (Kubernetes stops at 10 KiB).
const MAX_BODY_BYTES: usize = 16 * 1024;
/// Longest excerpt of a body in a failure, in bytes.
const MAX_EXCERPT_BYTES: usize = 200;
/// Room for the head of the answer. hyper takes no less than 8 KiB.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// As much of the answer's beginning as is kept to show what speaks there when it is not HTTP.
const MAX_BEGINNING_BYTES: usize = 48;

/// Asks once.
pub(crate) async fn check(
    target: &HttpTarget,
    wanted: Option<u16>,
    timeout: Duration,
) -> Result<String, ProbeFailure> {
    let limit = Limit::from_now(timeout);
    let stream = tcp::connect(&target.address, &limit).await?;
    let beginning = Beginning::default();
    let io = TokioIo::new(Recorded { stream, beginning: beginning.clone(), asked: false, reader: None });
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(io)
        .await
        .map_err(|error| broken(&error, &beginning, "before it answered"))?;

    let exchange = pin!(async {
        let request = request(target)?;
        let response = match timeout_at(limit.deadline, sender.send_request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(broken(&error, &beginning, "before it answered")),
            Err(_) => return Err(ProbeFailure::TimedOut(timeout)),
        };
        judge(response, wanted, &limit, &beginning).await
    });
    drive(exchange, pin!(connection)).await
}

/// Runs the exchange; the connection only moves while it is polled beside it. Its own end is no answer: whatever
/// went wrong reaches the exchange.
async fn drive<T>(
    mut exchange: Pin<&mut impl Future<Output = T>>,
    mut connection: Pin<&mut impl Future>,
) -> T {
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut exchange => return answer,
            _ = &mut connection, if open => open = false,
        }
    }
}

fn request(target: &HttpTarget) -> Result<Request<Empty<Bytes>>, ProbeFailure> {
    Request::get(encoded(&target.path))
        .header(header::HOST, host(&target.address))
        .header(header::USER_AGENT, concat!("mainstay-probe/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| ProbeFailure::Protocol(format!("cannot ask for {}: {error}", target.path)))
}

/// The Host field: without the default port (RFC 9110, 4.2.3) and without the zone of an IPv6 address, which means
/// nothing to the other side (RFC 6874, 4).
fn host(address: &HostPort) -> String {
    let host = address.host.split('%').next().unwrap_or(&address.host);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if address.port == 80 { host } else { format!("{host}:{}", address.port) }
}

/// Percent-encodes what a request line cannot carry as it stands (RFC 3986, 2). What is encoded already stays.
fn encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

async fn judge(
    response: Response<Incoming>,
    wanted: Option<u16>,
    limit: &Limit,
    beginning: &Beginning,
) -> Result<String, ProbeFailure> {
    let status = response.status().as_u16();
    let passes = wanted.map_or((200..400).contains(&status), |wanted| wanted == status);
    let mut body = Vec::new();
    let read = timeout_at(limit.deadline, read_body(response.into_body(), &mut body)).await;
    if !passes {
        // The status decides; the body is only evidence, as far as it came.
        return Err(ProbeFailure::HttpStatus {
            status,
            wanted,
            body: crate::printable(&body, MAX_EXCERPT_BYTES),
        });
    }
    match read {
        Ok(Ok(())) => Ok(format!("HTTP {status}")),
        Ok(Err(error)) => Err(broken(&error, beginning, "in the middle of its answer")),
        Err(_) => Err(ProbeFailure::TimedOut(limit.timeout)),
    }
}

/// Reads up to [`MAX_BODY_BYTES`] into `body`.
async fn read_body(mut incoming: Incoming, body: &mut Vec<u8>) -> Result<(), hyper::Error> {
    while body.len() < MAX_BODY_BYTES {
        let Some(frame) = incoming.frame().await else { break };
        if let Ok(mut data) = frame?.into_data() {
            let room = MAX_BODY_BYTES - body.len();
            let part = data.copy_to_bytes(data.remaining().min(room));
            body.extend_from_slice(&part);
        }
    }
    Ok(())
}

/// Tells what became of a connection that gave no whole answer; `when` completes the sentence.
fn broken(error: &hyper::Error, beginning: &Beginning, when: &str) -> ProbeFailure {
    let io_kind = std::iter::successors(error.source(), |error: &&(dyn Error + 'static)| (*error).source())
        .find_map(|error| error.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    let said = beginning.get();
    ProbeFailure::Protocol(match io_kind {
        Some(
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe,
        ) => {
            format!("it reset the connection {when}")
        }
        Some(io::ErrorKind::UnexpectedEof) => format!("it closed the connection {when}"),
        // A TLS record: alert, version 3.x (RFC 8446, 5.1).
        _ if said.starts_with(&[0x15, 0x03]) => {
            "it does not speak HTTP but TLS; https is not supported yet".to_owned()
        }
        _ if error.is_parse() && beginning.total() >= MAX_HEAD_BYTES => {
            format!("the head of its answer is larger than {} KiB", MAX_HEAD_BYTES / 1024)
        }
        _ if error.is_parse() && !said.is_empty() => {
            format!(
                "it does not speak HTTP: its answer begins with {:?}",
                crate::printable(&said, MAX_BEGINNING_BYTES)
            )
        }
        _ if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => {
            format!("it closed the connection {when}")
        }
        _ => format!("the connection broke {when}: {error}"),
    })
}

/// The first bytes that came over a connection, and how many came in all.
#[derive(Clone, Default)]
struct Beginning(Arc<Mutex<(Vec<u8>, usize)>>);

impl Beginning {
    fn get(&self) -> Vec<u8> {
        self.lock().0.clone()
    }

    fn total(&self) -> usize {
        self.lock().1
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

/// A stream that keeps the beginning of what it read, since hyper gives nothing of an answer it cannot parse, and
/// that reads only once something was written: hyper drops a connection whose other side speaks first, be it a mail
/// server's greeting or a proxy that is full, and what it said would be lost.
struct Recorded {
    stream: TcpStream,
    beginning: Beginning,
    /// Whether the request is on its way.
    asked: bool,
    /// Who wanted to read before.
    reader: Option<Waker>,
}

impl AsyncRead for Recorded {
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

impl AsyncWrite for Recorded {
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

#[cfg(test)]
mod tests;
