//! gRPC probes: the standard health service (`grpc.health.v1`), asked over HTTP/2 without TLS.
//!
//! The request and the answer are one field each, so they are written and read here as they are on the wire:
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>,
//! <https://github.com/grpc/grpc-proto/blob/master/grpc/health/v1/health.proto>.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use mainstay_types::{HostPort, ProbeFailure};
use tokio::time::timeout_at;

use crate::http;
use crate::recorded::{Beginning, Recorded};
use crate::tcp::{self, Limit};

/// Largest answer that is read; a health answer has seven bytes.
const MAX_ANSWER_BYTES: usize = 4 * 1024;
/// Largest head or trailer that is taken.
const MAX_HEAD_BYTES: u32 = 16 * 1024;
/// Longest message of the server that is told, in bytes.
const MAX_MESSAGE_BYTES: usize = 200;

/// Asks `grpc.health.v1.Health/Check` once for `service`; the empty name is the server as a whole.
pub(crate) async fn check(
    address: &HostPort,
    service: &str,
    timeout: Duration,
) -> Result<String, ProbeFailure> {
    let limit = Limit::from_now(timeout);
    let stream = tcp::connect(address, &limit).await?;
    let beginning = Beginning::default();
    let exchange = async {
        let (sender, connection) = h2::client::Builder::new()
            .max_header_list_size(MAX_HEAD_BYTES)
            .enable_push(false)
            .handshake(Recorded::new(stream, beginning.clone()))
            .await
            .map_err(|error| broken(&error, &beginning))?;
        let call = pin!(call(sender, address, service, &limit, &beginning));
        http::drive(call, pin!(connection)).await
    };
    timeout_at(limit.deadline, exchange).await.unwrap_or(Err(ProbeFailure::TimedOut(timeout)))
}

async fn call(
    sender: SendRequest<Bytes>,
    address: &HostPort,
    service: &str,
    limit: &Limit,
    beginning: &Beginning,
) -> Result<String, ProbeFailure> {
    let broken = |error: h2::Error| broken(&error, beginning);
    let request = request(address, limit)?;
    let mut sender = sender.ready().await.map_err(broken)?;
    let (answer, mut body) = sender.send_request(request, false).map_err(broken)?;
    // It may answer, or refuse, before it has read the whole question; the answer tells.
    let _ = body.send_data(question(service), true);
    let (head, incoming) = answer.await.map_err(broken)?.into_parts();
    let head = Response::from_parts(head, ());
    let kind = head.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if head.status() != 200 || !kind.starts_with(b"application/grpc") {
        let kind = if kind.is_empty() { "nothing".to_owned() } else { crate::printable(kind, 100) };
        return Err(ProbeFailure::Protocol(format!(
            "it speaks HTTP/2, but not gRPC: it answers HTTP {} with {kind}",
            head.status().as_u16()
        )));
    }
    // An answer without a message has everything in its head.
    if head.headers().contains_key("grpc-status") {
        return judge(head.headers(), &[], service, limit);
    }
    let mut message = Vec::new();
    let trailers = read(incoming, &mut message).await.map_err(broken)?;
    judge(&trailers.unwrap_or_default(), &message, service, limit)
}

fn request(address: &HostPort, limit: &Limit) -> Result<Request<()>, ProbeFailure> {
    // At most eight digits; the server's own limit is a courtesy, ours counts.
    let millis = limit.timeout.as_millis().clamp(1, 99_999_999);
    Request::builder()
        .method(Method::POST)
        .uri(format!("http://{}/grpc.health.v1.Health/Check", http::host(address, 80)))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, concat!("mainstay-probe/", env!("CARGO_PKG_VERSION")))
        .header("grpc-timeout", format!("{millis}m"))
        .body(())
        .map_err(|error| ProbeFailure::Protocol(format!("cannot ask {address}: {error}")))
}

/// `HealthCheckRequest { string service = 1; }`, not compressed, with its length before it.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, length-delimited; then the length as a varint.
        message.push(0x0a);
        let mut length = service.len();
        while length > 0x7f {
            message.push(0x80 | (length & 0x7f) as u8);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    // A name from a file that is read whole is far below 4 GiB.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// Reads up to [`MAX_ANSWER_BYTES`] into `message`, and the trailers.
async fn read(mut incoming: RecvStream, message: &mut Vec<u8>) -> Result<Option<HeaderMap>, h2::Error> {
    while let Some(data) = incoming.data().await {
        let data = data?;
        incoming.flow_control().release_capacity(data.len())?;
        message.extend_from_slice(&data);
        if message.len() > MAX_ANSWER_BYTES {
            return Ok(None);
        }
    }
    incoming.trailers().await
}

fn judge(trailers: &HeaderMap, message: &[u8], service: &str, limit: &Limit) -> Result<String, ProbeFailure> {
    let protocol = |words: String| Err(ProbeFailure::Protocol(words));
    if message.len() > MAX_ANSWER_BYTES {
        return protocol(format!(
            "its answer is larger than {} KiB, which no answer about health is",
            MAX_ANSWER_BYTES / 1024
        ));
    }
    let status = trailers.get("grpc-status").map(|status| crate::printable(status.as_bytes(), 20));
    let said = trailers
        .get("grpc-message")
        .map_or(String::new(), |text| crate::printable(&decoded(text.as_bytes()), MAX_MESSAGE_BYTES));
    let said = if said.is_empty() { said } else { format!(": {said}") };
    match status.as_deref() {
        Some("0") => {}
        Some("4") => return Err(ProbeFailure::TimedOut(limit.timeout)),
        Some("5") if service.is_empty() => {
            return protocol(format!("its health service tells nothing of the server as a whole{said}"));
        }
        Some("5") => return protocol(format!("it does not know the service {service:?}{said}")),
        Some("12") => return protocol("it has no health service (grpc.health.v1)".to_owned()),
        Some("14") => return Err(ProbeFailure::NotReady(format!("says UNAVAILABLE{said}"))),
        Some(other) => return protocol(format!("the call failed with {}{said}", status_name(other))),
        None => return protocol("it ended its answer without a grpc-status".to_owned()),
    }
    match serving(message) {
        Some(1) => Ok("SERVING".to_owned()),
        Some(0) => Err(ProbeFailure::NotReady("reports UNKNOWN".to_owned())),
        Some(2) => Err(ProbeFailure::NotReady("reports NOT_SERVING".to_owned())),
        Some(3) => Err(ProbeFailure::NotReady("reports SERVICE_UNKNOWN".to_owned())),
        Some(other) => Err(ProbeFailure::NotReady(format!("reports the unknown status {other}"))),
        None => protocol("its answer is no HealthCheckResponse".to_owned()),
    }
}

/// `HealthCheckResponse { ServingStatus status = 1; }`; absent is 0, as proto3 has it. `None` when it is none.
fn serving(framed: &[u8]) -> Option<u64> {
    // The flag says compressed, which was not offered; then the length.
    let (head, mut message) = framed.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            // Fields of a later version are passed over.
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    // Ten bytes of seven bits hold 64.
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(7 * place)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Undoes the percent-encoding of `grpc-message`; what is not encoded well stays as it is.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::new();
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let pair = match after {
            [high, low, ..] if *byte == b'%' => digit(high).zip(digit(low)),
            _ => None,
        };
        match pair {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
    decoded
}

/// The names of <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.
fn status_name(code: &str) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    match code.parse::<usize>().ok().and_then(|code| NAMES.get(code)) {
        Some(name) => (*name).to_owned(),
        None => format!("status {code}"),
    }
}

/// Tells what became of a connection that gave no whole answer.
fn broken(error: &h2::Error, beginning: &Beginning) -> ProbeFailure {
    let named = |reason: Option<Reason>| reason.map_or(String::new(), |reason| format!(" ({reason:?})"));
    ProbeFailure::Protocol(if beginning.is_http1() {
        "it speaks HTTP/1, not gRPC (HTTP/2)".to_owned()
    } else if beginning.is_tls() {
        "it speaks TLS, which the check does not: ask a port without TLS".to_owned()
    } else if error.is_remote() && error.is_reset() {
        format!("it reset the call{}", named(error.reason()))
    } else if error.is_remote() && error.is_go_away() {
        format!("it ended the connection before it answered{}", named(error.reason()))
    } else if error.is_library() && beginning.total() > 0 {
        format!("it does not speak HTTP/2: its answer begins with {}", beginning.shown())
    } else {
        match error.get_io().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted) => {
                "it reset the connection before it answered".to_owned()
            }
            Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) => {
                "it closed the connection before it answered".to_owned()
            }
            Some(_) | None => format!("the connection broke before it answered: {error}"),
        }
    })
}

#[cfg(test)]
mod tests;
