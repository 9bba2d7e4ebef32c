//! HTTP probes: one GET over one connection, with TLS or without, and what came of it told in kinds a user can act
//! upon.

use std::error::Error;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use mainstay_types::{CaFile, HostPort, HttpTarget, ProbeFailure};
use regex::bytes::Regex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout_at;

use crate::recorded::{Beginning, Recorded};
use crate::tcp::{self, Limit};
use crate::tls;

/// As much of a body as is read when only the status counts; what comes after is of no interest to a check
/// (Kubernetes stops at 10 KiB).
const MAX_BODY_BYTES: usize = 16 * 1024;
/// As much of a body as is read to be matched.
const MAX_MATCHED_BYTES: usize = 1024 * 1024;
/// Longest excerpt of a body in a failure, in bytes.
const MAX_EXCERPT_BYTES: usize = 200;
/// Room for the head of the answer. hyper takes no less than 8 KiB.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What is asked, and what must be answered.
pub(crate) struct Question<'a> {
    pub(crate) target: &'a HttpTarget,
    /// The one status that passes; `None` is 200 to 399.
    pub(crate) status: Option<u16>,
    /// What the body must match.
    pub(crate) body: Option<&'a str>,
    /// Whom to trust with https.
    pub(crate) ca: Option<&'a CaFile>,
}

/// Asks once.
pub(crate) async fn check(question: &Question<'_>, timeout: Duration) -> Result<String, ProbeFailure> {
    let limit = Limit::from_now(timeout);
    let address = &question.target.address;
    let body = question
        .body
        .map(|pattern| Regex::new(pattern).map_err(|error| unusable(pattern, &error)))
        .transpose()?;
    if !question.target.tls {
        let stream = tcp::connect(address, &limit).await?;
        return ask(stream, question, body.as_ref(), &limit).await;
    }
    // First the settings, so that a missing file is told whether or not somebody listens.
    let config = tls::client_config_within(address, question.ca, &limit).await?;
    let stream = tcp::connect(address, &limit).await?;
    // ALPN: RFC 7301, 6.
    let stream = tls::connect(stream, address, &config, b"http/1.1", &limit).await?;
    ask(Lenient(stream), question, body.as_ref(), &limit).await
}

fn unusable(pattern: &str, error: &regex::Error) -> ProbeFailure {
    ProbeFailure::Protocol(format!("the body cannot be matched with {pattern:?}: {error}"))
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    question: &Question<'_>,
    body: Option<&Regex>,
    limit: &Limit,
) -> Result<String, ProbeFailure> {
    let target = question.target;
    let beginning = Beginning::default();
    let broken = |error: &hyper::Error, when: &str| broken(error, &target.address, &beginning, when);
    let io = TokioIo::new(Recorded::new(stream, beginning.clone()));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(io)
        .await
        .map_err(|error| broken(&error, "before it answered"))?;

    let exchange = pin!(async {
        let request = request(target)?;
        let response = match timeout_at(limit.deadline, sender.send_request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(broken(&error, "before it answered")),
            Err(_) => return Err(ProbeFailure::TimedOut(limit.timeout)),
        };
        judge(response, question.status, body, limit, broken).await
    });
    drive(exchange, pin!(connection)).await
}

/// Runs the exchange; the connection only moves while it is polled beside it. Its own end is no answer: whatever
/// went wrong reaches the exchange.
pub(crate) async fn drive<T>(
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
        .header(header::HOST, host(&target.address, if target.tls { 443 } else { 80 }))
        .header(header::USER_AGENT, concat!("mainstay-probe/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        // A body is matched as it comes.
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| ProbeFailure::Protocol(format!("cannot ask for {}: {error}", target.path)))
}

/// The Host field: without the default port (RFC 9110, 4.2.3) and without the zone of an IPv6 address, which means
/// nothing to the other side (RFC 6874, 4).
pub(crate) fn host(address: &HostPort, default_port: u16) -> String {
    let host = address.host.split('%').next().unwrap_or(&address.host);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if address.port == default_port { host } else { format!("{host}:{}", address.port) }
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
    pattern: Option<&Regex>,
    limit: &Limit,
    broken: impl Fn(&hyper::Error, &str) -> ProbeFailure,
) -> Result<String, ProbeFailure> {
    let (head, incoming) = response.into_parts();
    let status = head.status.as_u16();
    let passes = wanted.map_or((200..400).contains(&status), |wanted| wanted == status);
    let mut body = Vec::new();
    let max_bytes = if passes && pattern.is_some() { MAX_MATCHED_BYTES } else { MAX_BODY_BYTES };
    let read = timeout_at(limit.deadline, read_body(incoming, &mut body, max_bytes)).await;
    let excerpt = || crate::printable(&body[..body.len().min(MAX_BODY_BYTES)], MAX_EXCERPT_BYTES);
    if !passes {
        // The status decides; the body is only evidence, as far as it came.
        return Err(ProbeFailure::HttpStatus { status, wanted, body: excerpt() });
    }
    match read {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(broken(&error, "in the middle of its answer")),
        Err(_) => return Err(ProbeFailure::TimedOut(limit.timeout)),
    }
    let Some(pattern) = pattern else { return Ok(format!("HTTP {status}")) };
    if matches(pattern, &body) {
        return Ok(format!("HTTP {status}, its body matches"));
    }
    match head.headers.get(header::CONTENT_ENCODING).map(header::HeaderValue::as_bytes) {
        // It was asked not to.
        Some(encoding) if !encoding.eq_ignore_ascii_case(b"identity") => {
            Err(ProbeFailure::Protocol(format!(
                "HTTP {status}, but its body is encoded ({}) and cannot be matched",
                crate::printable(encoding, MAX_EXCERPT_BYTES)
            )))
        }
        _ => Err(ProbeFailure::HttpBody { status, pattern: pattern.as_str().to_owned(), body: excerpt() }),
    }
}

/// `$` may stand for the end before the last line break, as it does in Perl and Python: what a server writes ends with
/// one more often than not, and the failure's excerpt does not show it.
fn matches(pattern: &Regex, body: &[u8]) -> bool {
    let line = body.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    pattern.is_match(body) || line.is_some_and(|line| pattern.is_match(line))
}

/// Reads up to `max_bytes` into `body`.
async fn read_body(mut incoming: Incoming, body: &mut Vec<u8>, max_bytes: usize) -> Result<(), hyper::Error> {
    while body.len() < max_bytes {
        let Some(frame) = incoming.frame().await else { break };
        if let Ok(mut data) = frame?.into_data() {
            let room = max_bytes - body.len();
            let part = data.copy_to_bytes(data.remaining().min(room));
            body.extend_from_slice(&part);
        }
    }
    Ok(())
}

/// Tells what became of a connection that gave no whole answer; `when` completes the sentence.
fn broken(error: &hyper::Error, address: &HostPort, beginning: &Beginning, when: &str) -> ProbeFailure {
    if tls::find(error).is_some() {
        // With TLS 1.3 the other side judges the client only after the handshake.
        return tls::tls_failure(address, error);
    }
    let io_kind = std::iter::successors(error.source(), |error: &&(dyn Error + 'static)| (*error).source())
        .find_map(|error| error.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    ProbeFailure::Protocol(match io_kind {
        Some(
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe,
        ) => {
            format!("it reset the connection {when}")
        }
        Some(io::ErrorKind::UnexpectedEof) => format!("it closed the connection {when}"),
        _ if beginning.is_tls() => "it speaks TLS, not plain HTTP: is https:// meant?".to_owned(),
        _ if error.is_parse() && beginning.total() >= MAX_HEAD_BYTES => {
            format!("the head of its answer is larger than {} KiB", MAX_HEAD_BYTES / 1024)
        }
        _ if error.is_parse() && beginning.total() > 0 => {
            format!("it does not speak HTTP: its answer begins with {}", beginning.shown())
        }
        _ if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => {
            format!("it closed the connection {when}")
        }
        _ => format!("the connection broke {when}: {error}"),
    })
}

/// A TLS stream whose other side may close it without saying so. Many servers do, and whether the answer was whole is
/// seen by its length; nothing is trusted here that an attacker could gain by cutting it.
struct Lenient<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(cx, buf) {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            polled @ (Poll::Ready(_) | Poll::Pending) => polled,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
