//! The connections of the control socket: each bounded in its memory, all bounded in their number.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::response::IntoResponse;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mainstay_os::{Accepted, ControlListener, ControlStream, Peer};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::follow::Closing;
use crate::{Problem, ProblemKind};

/// Connections answered at once, followers included.
pub const MAX_CONNECTIONS: usize = 64;
/// Connections beyond [`MAX_CONNECTIONS`] that are told so at once; any further ones are closed without a word.
const MAX_REFUSALS: usize = 16;
/// The buffer of one connection, which also bounds the head of a request. hyper takes no less than 8 KiB.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long a client may take to send the head of a request, and a connection may lie idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a refused client may take to send its request and read the answer.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long requests under way may take when the server closes.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Pause after the system refused to accept (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Notices of one kind are at least this far apart.
const NOTICE_PAUSE: Duration = Duration::from_secs(60);

/// What an operator should know of the server. Each kind comes at most once a minute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// All connections are taken; further clients are refused until one ends.
    ConnectionLimit {
        /// How many there are at most.
        limit: usize,
    },
    /// Somebody who may not tried to connect.
    PeerRefused {
        /// Who.
        peer: Peer,
        /// How many such connections there have been so far.
        refused: u64,
    },
    /// The system gives no connection; the server goes on trying.
    AcceptFailed {
        /// The system's answer.
        reason: String,
    },
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConnectionLimit { limit } => {
                write!(
                    f,
                    "all {limit} connections of the control socket are taken; further clients are refused"
                )
            }
            Self::PeerRefused { peer, refused } => {
                write!(f, "uid {}", peer.uid)?;
                if let Some(pid) = peer.pid {
                    write!(f, " (pid {pid})")?;
                }
                write!(f, " may not use the control socket; connections refused so far: {refused}")
            }
            Self::AcceptFailed { reason } => {
                write!(f, "the control socket cannot take a connection: {reason}")
            }
        }
    }
}

/// Serves `router` (see [`crate::router()`]) until `shutdown`, then ends followers, gives requests under way two
/// seconds, and returns. Dropping the future closes everything at once.
pub async fn serve(listener: ControlListener, router: Router, shutdown: impl Future<Output = ()>) {
    serve_with_notices(listener, router, shutdown, |_| ()).await;
}

/// As [`serve`], telling `notice` what an operator should know. It is called between connections and must not block.
pub async fn serve_with_notices(
    listener: ControlListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    notice: impl Fn(Notice),
) {
    let (close, closing) = watch::channel(false);
    let closing = Closing(closing);
    let router = router.layer(Extension(closing.clone()));
    let mut connections = JoinSet::new();
    let mut notices = Notices::new(notice);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(Accepted::Stream(stream)) if connections.len() < MAX_CONNECTIONS => {
                connections.spawn(answer(stream, router.clone(), closing.clone()));
            }
            Ok(Accepted::Stream(stream)) => {
                notices.tell(Notice::ConnectionLimit { limit: MAX_CONNECTIONS });
                if connections.len() < MAX_CONNECTIONS + MAX_REFUSALS {
                    connections.spawn(refuse(stream));
                }
            }
            Ok(Accepted::Refused(peer)) => {
                notices.tell(Notice::PeerRefused { peer, refused: listener.refused() });
            }
            Err(error) => {
                notices.tell(Notice::AcceptFailed { reason: error.to_string() });
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // The name goes first: who comes now finds no host rather than one that does not answer.
    listener.close();
    // Nobody listens when there are no connections.
    let _ = close.send(true);
    let _ = timeout(CLOSE_GRACE, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

async fn answer(stream: ControlStream, router: Router, closing: Closing) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // An error is the client's: it went away, or spoke no HTTP. It has been answered as far as it can be.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = closing.wait() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Answers one request with "not now".
async fn refuse(stream: ControlStream) {
    let service = service_fn(|_| async {
        let detail =
            format!("all {MAX_CONNECTIONS} connections of this host are taken; end a follower, or try again");
        Ok::<_, Infallible>(Problem::new(ProblemKind::Unavailable, detail).into_response())
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let _ = timeout(REFUSAL_TIMEOUT, connection).await;
}

/// Passes each kind of notice on at most once in [`NOTICE_PAUSE`].
struct Notices<F> {
    notice: F,
    told: Vec<(std::mem::Discriminant<Notice>, Instant)>,
}

impl<F: Fn(Notice)> Notices<F> {
    const fn new(notice: F) -> Self {
        Self { notice, told: Vec::new() }
    }

    fn tell(&mut self, notice: Notice) {
        let kind = std::mem::discriminant(&notice);
        let now = Instant::now();
        self.told.retain(|(_, at)| now.duration_since(*at) < NOTICE_PAUSE);
        if self.told.iter().all(|(told, _)| *told != kind) {
            self.told.push((kind, now));
            (self.notice)(notice);
        }
    }
}
