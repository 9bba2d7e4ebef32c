//! Server-sent events as they come: frames are cut out of the body and read as JSON.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Stream, StreamExt};
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;

use super::{ClientError, Link, broken};

/// Longest frame read, in bytes: a line of the log has at most some megabytes, JSON may double it.
const MAX_FRAME_BYTES: usize = 32 * 1024 * 1024;

/// What a host tells as it happens. Ends with `None` when the host ends; an error is the last item.
pub struct Followed<T> {
    link: Link,
    /// `None` after the end or an error.
    body: Option<Incoming>,
    frames: Frames,
    item: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for Followed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followed").field("ended", &self.body.is_none()).finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Followed<T> {
    pub(super) fn new(link: Link, body: Incoming) -> Self {
        Self { link, body: Some(body), frames: Frames::default(), item: PhantomData }
    }

    /// The next item. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<T, ClientError>> {
        StreamExt::next(self).await
    }

    fn close(&mut self) {
        self.body = None;
        self.link = Link(None);
    }

    fn end(&mut self, error: ClientError) -> Poll<Option<Result<T, ClientError>>> {
        self.close();
        self.frames = Frames::default();
        Poll::Ready(Some(Err(error)))
    }
}

impl<T: DeserializeOwned> Stream for Followed<T> {
    type Item = Result<T, ClientError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(data) = this.frames.next() {
                return match serde_json::from_str(&data) {
                    Ok(item) => Poll::Ready(Some(Ok(item))),
                    Err(error) => {
                        this.end(ClientError::Protocol(format!("what the host tells does not read: {error}")))
                    }
                };
            }
            this.link.poll(cx);
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && this.frames.add(&data).is_err()
                    {
                        let mib = MAX_FRAME_BYTES / 1024 / 1024;
                        return this.end(ClientError::Protocol(format!(
                            "the host tells more than {mib} MiB at once"
                        )));
                    }
                }
                Some(Err(error)) => return this.end(broken(error)),
                None => this.close(),
            }
        }
    }
}

/// Cuts server-sent events (WHATWG HTML, 9.2.5) out of what comes; only `data` is of interest.
#[derive(Default)]
struct Frames {
    buffer: Vec<u8>,
    /// Bytes of the buffer that were given out already.
    taken: usize,
    data: Option<String>,
}

struct TooLong;

impl Frames {
    fn add(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let held = self.buffer.len() + self.data.as_ref().map_or(0, String::len);
        if held + bytes.len() > MAX_FRAME_BYTES {
            return Err(TooLong);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The data of the next whole frame that has any.
    fn next(&mut self) -> Option<String> {
        loop {
            let rest = &self.buffer[self.taken..];
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            let line = String::from_utf8_lossy(line);
            self.taken += end + 1;
            if line.is_empty() {
                if let Some(data) = self.data.take() {
                    return Some(data);
                }
            } else if let Some(value) = line.strip_prefix("data:") {
                let value = value.strip_prefix(' ').unwrap_or(value);
                match &mut self.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    none => *none = Some(value.to_owned()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let text =
            "id: 1\nevent: state\ndata: {\"é\":1}\n\n:\n\nevent: x\n\ndata:a\r\ndata: b\r\n\r\ndata: half";
        for size in 1..text.len() {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for part in text.as_bytes().chunks(size) {
                assert!(frames.add(part).is_ok());
                found.extend(std::iter::from_fn(|| frames.next()));
            }
            assert_eq!(found, ["{\"é\":1}", "a\nb"], "in parts of {size}");
        }
    }

    #[test]
    fn a_frame_without_end_is_given_up() {
        let mut frames = Frames::default();
        let part = vec![b'x'; 1024 * 1024];
        let added = (0..64).take_while(|_| frames.add(&part).is_ok() && frames.next().is_none()).count();
        assert_eq!(added, MAX_FRAME_BYTES / part.len());
    }
}
