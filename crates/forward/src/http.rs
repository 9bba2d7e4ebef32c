//! POST over HTTP/1.1, one request at a time over one connection that is kept while the other side keeps it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mainstay_probes::{Trust, reach};
use mainstay_types::{CaFile, HostPort, HttpTarget, Timestamp, format_duration};
use tokio::time::{Instant, timeout_at};

use crate::verdict::{Answer, retry_after};

/// As much of an answer as is read: it is an error in words, or a count.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// As much of it as is shown, in characters.
const MAX_SHOWN_CHARS: usize = 200;
/// Longest token that is read from a file.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;

/// Reads from an answer how many records were refused, and why.
pub(crate) type Rejected = fn(&[u8]) -> Option<(u64, String)>;

/// Where and how to post.
pub(crate) struct Client {
    pub(crate) target: HttpTarget,
    pub(crate) ca: Option<CaFile>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) gzip: bool,
    pub(crate) timeout: Duration,
    pub(crate) connection: Option<SendRequest<Full<Bytes>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Client {
    /// Posts JSON. `rejected` reads from the body of an answer that succeeded how many records were refused.
    pub(crate) async fn post(&mut self, json: Vec<u8>, rejected: Rejected) -> Answer {
        match self.try_post(json, rejected).await {
            Ok(answer) => answer,
            Err(words) => {
                self.connection = None;
                Answer::Failed { taken: 0, words }
            }
        }
    }

    async fn try_post(&mut self, json: Vec<u8>, rejected: Rejected) -> Result<Answer, String> {
        let deadline = Instant::now() + self.timeout;
        let body = if self.gzip { gzip(&json)? } else { json };
        let request = self.request(Bytes::from(body))?;
        let silent = || format!("no answer within {}", format_duration(self.timeout));
        if let Some(mut kept) = self.connection.take() {
            // The other side may have closed it meanwhile: that is no failure, a new one is made.
            if let Ok(Ok(())) = timeout_at(deadline, kept.ready()).await {
                match timeout_at(deadline, kept.send_request(request.clone())).await {
                    Ok(Ok(response)) => return self.judge(response, kept, deadline, rejected).await,
                    Ok(Err(_)) => {}
                    Err(_) => return Err(silent()),
                }
            }
        }
        let trust = self.target.tls.then_some(Trust { ca: self.ca.as_ref(), alpn: b"http/1.1" });
        let left = deadline.saturating_duration_since(Instant::now());
        let stream = reach(&self.target.address, trust, left).await.map_err(|failure| failure.to_string())?;
        let broken = |error: &hyper::Error| format!("it does not speak HTTP as it should: {}", chain(error));
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        // Ends with the sender, or with the connection.
        tokio::spawn(connection);
        match timeout_at(deadline, sender.send_request(request)).await {
            Ok(Ok(response)) => self.judge(response, sender, deadline, rejected).await,
            Ok(Err(error)) => Err(broken(&error)),
            Err(_) => Err(silent()),
        }
    }

    async fn judge(
        &mut self,
        response: Response<Incoming>,
        sender: SendRequest<Full<Bytes>>,
        deadline: Instant,
        rejected: Rejected,
    ) -> Result<Answer, String> {
        let (head, mut incoming) = response.into_parts();
        let status = head.status.as_u16();
        let retry_after = head
            .headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, Timestamp::now()));
        let mut body = Vec::new();
        let read = async {
            while body.len() < MAX_ANSWER_BYTES {
                match incoming.frame().await {
                    None => return true,
                    Some(Err(_)) => return false,
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            let room = MAX_ANSWER_BYTES - body.len();
                            body.extend_from_slice(&data[..data.len().min(room)]);
                        }
                    }
                }
            }
            false
        };
        // The status decides; the body is only evidence, as far as it came. What is not read to its end is not used again.
        let ended = timeout_at(deadline, read).await.unwrap_or(false);
        if ended {
            self.connection = Some(sender);
        }
        let is_success = head.status.is_success();
        let (rejected, words) = match rejected(&body).filter(|_| is_success) {
            Some((count, words)) => (count, shown(words.as_bytes())),
            None if is_success => (0, String::new()),
            None => (0, shown(&body)),
        };
        Ok(Answer::Http { status, retry_after, rejected, words })
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::post(&self.target.path)
            .header(header::HOST, host(&self.target.address, if self.target.tls { 443 } else { 80 }))
            .header(header::USER_AGENT, concat!("mainstay/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        if self.gzip {
            request = request.header(header::CONTENT_ENCODING, "gzip");
        }
        let mut request = request.body(Full::new(body)).map_err(|error| format!("cannot ask it: {error}"))?;
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name.as_str()).map_err(|error| error.to_string())?;
            request.headers_mut().insert(name, secret(value, "a value in `headers`")?);
        }
        if let Some(path) = &self.token_file {
            let token = token(path)?;
            let value = secret(&format!("Bearer {token}"), "the token")?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }
}

fn secret(value: &str, what: &str) -> Result<HeaderValue, String> {
    // The error does not repeat the value.
    let mut value =
        HeaderValue::try_from(value).map_err(|_| format!("{what} cannot stand in a field of HTTP"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Read each time: tokens are renewed under the same name.
fn token(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_string(&mut text))
        .map_err(|error| format!("cannot read the `token_file` {}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(|error| format!("cannot compress what is sent: {error}"))
}

/// The Host field: without the default port, and without the zone of an IPv6 address.
fn host(address: &HostPort, default_port: u16) -> String {
    let host = address.host.split('%').next().unwrap_or(&address.host);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if address.port == default_port { host } else { format!("{host}:{}", address.port) }
}

/// What another program sent, as one line of bounded length.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_one_bounded_line() {
        assert_eq!(shown(b"two\r\n\tlines\x1b[0m"), "two lines [0m");
        assert_eq!(shown("ü".repeat(1000).as_bytes()).chars().count(), MAX_SHOWN_CHARS + 1);
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_not_shown() {
        let error = secret("se\ncret", "the token").unwrap_err();
        assert!(!error.contains("cret"), "{error}");
    }
}
