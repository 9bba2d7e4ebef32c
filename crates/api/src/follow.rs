//! Server-sent events (WHATWG HTML, 9.2): what follows a stream until the client or the host goes.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::Serialize;
use tokio::sync::watch;

/// Pause after which a comment is sent, so that a proxy or a client between can tell silence from a lost connection.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Tells those who follow that the server closes: their streams end, which no request would otherwise.
#[derive(Clone)]
pub(crate) struct Closing(pub(crate) watch::Receiver<bool>);

impl Closing {
    /// Waits until the server closes.
    pub(crate) async fn wait(mut self) {
        // A server that is gone has closed.
        let _ = self.0.wait_for(|closing| *closing).await;
    }
}

/// An answer that goes on with `stream`; `name` sets the id and the event's name of each frame.
pub(crate) fn respond<T: Serialize + Send + 'static>(
    stream: BoxStream<'static, T>,
    closing: Option<Extension<Closing>>,
    name: impl Fn(&T, sse::Event) -> sse::Event + Send + 'static,
) -> Response {
    let closed = async move {
        match closing {
            Some(Extension(closing)) => closing.wait().await,
            None => std::future::pending().await,
        }
    };
    let frames = stream.take_until(Box::pin(closed)).filter_map(move |item| {
        // The shapes are made of strings and numbers, which always become JSON.
        let frame = name(&item, sse::Event::default()).json_data(&item).ok();
        std::future::ready(frame.map(Ok::<_, Infallible>))
    });
    Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
