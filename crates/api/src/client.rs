//! The client of the control API: what the command line asks a running host through.
//!
//! Each request makes its own connection and closes it; nothing runs in the background, so a dropped future or
//! stream is a closed connection.

mod follow;

use std::fmt;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use mainstay_os::{ControlConnectError, ControlStream, connect_control};
use mainstay_types::{ExitCode, format_duration};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

pub use follow::Followed;

use crate::query::Target;
use crate::route::Route;
use crate::{
    CommandOptions, CommandReply, Event, EventsQuery, LogEntry, LogLevel, LogsQuery, Problem, ReloadOptions,
    ReloadReply, RotateReply, Status, Verb,
};

/// How long a host may take to answer what it answers from memory or with one look into its records. For a command
/// that waits, this is added to its own time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to read logs or events, which can be gigabytes.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Largest answer read, in bytes: well above what a host sends.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// The buffer of a connection. hyper takes no less than 8 KiB.
const BUFFER_BYTES: usize = 64 * 1024;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No host runs for this stack.
    #[error("no host is running: nobody answers on {}", .socket_path.display())]
    NotRunning {
        /// Its control socket.
        socket_path: PathBuf,
    },
    /// The host is there, and this user may not ask it.
    #[error("{0}")]
    NotPermitted(String),
    /// The host says why not.
    #[error("{0}")]
    Problem(Problem),
    /// The host did not answer in time.
    #[error("the host did not answer within {}", format_duration(*.0))]
    TimedOut(Duration),
    /// The connection broke, or what came over it makes no sense.
    #[error("{0}")]
    Protocol(String),
}

impl ClientError {
    /// The exit code of a command line that ends with this error.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NotRunning { .. } => ExitCode::NotFound,
            Self::NotPermitted(_) => ExitCode::NotPermitted,
            Self::Problem(problem) => problem.exit_code(),
            Self::TimedOut(_) => ExitCode::TimedOut,
            Self::Protocol(_) => ExitCode::Failed,
        }
    }
}

impl From<ControlConnectError> for ClientError {
    fn from(error: ControlConnectError) -> Self {
        let words = error.to_string();
        match error {
            ControlConnectError::NotRunning { path } => Self::NotRunning { socket_path: path },
            ControlConnectError::NotPermitted { .. } | ControlConnectError::NotTrusted { .. } => {
                Self::NotPermitted(words)
            }
            ControlConnectError::Other { source, .. } => Self::Protocol(format!("{words}: {source}")),
        }
    }
}

/// The way to one host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    socket_path: PathBuf,
}

impl Client {
    /// For the host that listens on this socket. Nothing is opened yet.
    #[must_use]
    pub fn new(socket_path: impl Into<PathBuf>) -> Self {
        Self { socket_path: socket_path.into() }
    }

    /// Where the host listens.
    #[must_use]
    pub fn socket_path(&self) -> &Path {
        &self.socket_path
    }

    /// The state of everything.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.json(Route::Status, Target::new(Route::Status), Some(ANSWER_TIMEOUT)).await
    }

    /// Has the host start, stop, restart or reload a service. With `wait` and no time limit, waits for as long as it
    /// takes.
    pub async fn command(
        &self,
        service: &str,
        verb: Verb,
        options: &CommandOptions,
    ) -> Result<CommandReply, ClientError> {
        let route = Route::Command(verb);
        let limit = match options {
            CommandOptions { wait: false, .. } => Some(ANSWER_TIMEOUT),
            CommandOptions { wait: true, timeout } => timeout.map(|wait| wait.saturating_add(ANSWER_TIMEOUT)),
        };
        self.json(route, Target::of_service(route, service).command(options), limit).await
    }

    /// Has the host read its file again and apply what changed, or tell what it would do.
    pub async fn reload(&self, options: &ReloadOptions) -> Result<ReloadReply, ClientError> {
        let limit = match options.command {
            CommandOptions { wait: false, .. } => Some(ANSWER_TIMEOUT),
            CommandOptions { wait: true, timeout } => timeout.map(|wait| wait.saturating_add(ANSWER_TIMEOUT)),
        };
        self.json(Route::Reload, Target::new(Route::Reload).reload(options), limit).await
    }

    /// Events of the record, oldest first.
    pub async fn events(&self, query: &EventsQuery) -> Result<Vec<Event>, ClientError> {
        self.json(Route::Events, Target::new(Route::Events).events(query), Some(READ_TIMEOUT)).await
    }

    /// The events the query asks for, then those that happen; without `after_id` and `limit`, only the latter.
    pub async fn follow_events(&self, query: &EventsQuery) -> Result<Followed<Event>, ClientError> {
        self.follow(Route::Events, Target::new(Route::Events).events(query).follow()).await
    }

    /// Lines of the logs, oldest first.
    pub async fn logs(&self, query: &LogsQuery) -> Result<Vec<LogEntry>, ClientError> {
        self.json(Route::Logs, Target::new(Route::Logs).logs(query), Some(READ_TIMEOUT)).await
    }

    /// The lines the query asks for, then those that are written; without `since` and `last`, only the latter.
    pub async fn follow_logs(&self, query: &LogsQuery) -> Result<Followed<LogEntry>, ClientError> {
        self.follow(Route::Logs, Target::new(Route::Logs).logs(query).follow()).await
    }

    /// Has the current log files of these services closed, of all without one.
    pub async fn rotate_logs(&self, services: &[String]) -> Result<RotateReply, ClientError> {
        let target = Target::new(Route::RotateLogs).services_to_rotate(services);
        self.json(Route::RotateLogs, target, Some(ANSWER_TIMEOUT)).await
    }

    /// What the host's own log tells.
    pub async fn log_level(&self) -> Result<LogLevel, ClientError> {
        self.json(Route::LogLevel, Target::new(Route::LogLevel), Some(ANSWER_TIMEOUT)).await
    }

    /// Changes what the host's own log tells, from now on.
    pub async fn set_log_level(&self, level: &str) -> Result<LogLevel, ClientError> {
        let target = Target::new(Route::SetLogLevel).level(level);
        self.json(Route::SetLogLevel, target, Some(ANSWER_TIMEOUT)).await
    }

    /// Whether the host works.
    pub async fn healthy(&self) -> Result<bool, ClientError> {
        self.yes(Route::Healthz).await
    }

    /// Whether the stack is up.
    pub async fn ready(&self) -> Result<bool, ClientError> {
        self.yes(Route::Readyz).await
    }

    /// The metrics in the Prometheus text format.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let body = self.ask(Route::Metrics, Target::new(Route::Metrics), Some(ANSWER_TIMEOUT)).await?;
        String::from_utf8(body.to_vec())
            .map_err(|_| ClientError::Protocol("the metrics are no UTF-8".to_owned()))
    }

    /// The OpenAPI document of the host, which may be of another version than this client.
    pub async fn openapi(&self) -> Result<serde_json::Value, ClientError> {
        self.json(Route::OpenApi, Target::new(Route::OpenApi), Some(ANSWER_TIMEOUT)).await
    }

    async fn yes(&self, route: Route) -> Result<bool, ClientError> {
        match self.ask(route, Target::new(route), Some(ANSWER_TIMEOUT)).await {
            Ok(_) => Ok(true),
            Err(ClientError::Problem(problem)) if problem.status == 503 => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn json<T: DeserializeOwned>(
        &self,
        route: Route,
        target: Target,
        limit: Option<Duration>,
    ) -> Result<T, ClientError> {
        let body = self.ask(route, target, limit).await?;
        serde_json::from_slice(&body)
            .map_err(|error| ClientError::Protocol(format!("the host's answer does not read: {error}")))
    }

    /// Asks and reads the whole answer.
    async fn ask(&self, route: Route, target: Target, limit: Option<Duration>) -> Result<Bytes, ClientError> {
        let exchange = async {
            let (mut link, response) = self.send(route, target).await?;
            link.drive(read_whole(response)).await
        };
        match limit {
            None => exchange.await,
            Some(limit) => timeout(limit, exchange).await.unwrap_or(Err(ClientError::TimedOut(limit))),
        }
    }

    async fn follow<T: DeserializeOwned>(
        &self,
        route: Route,
        target: Target,
    ) -> Result<Followed<T>, ClientError> {
        // Only the beginning is under the limit: the stream itself goes on for as long as the host does.
        let begun = timeout(ANSWER_TIMEOUT, self.send(route, target)).await;
        let (link, response) = begun.unwrap_or(Err(ClientError::TimedOut(ANSWER_TIMEOUT)))?;
        Ok(Followed::new(link, response.into_body()))
    }

    /// Asks, and gives the answer with its body still to be read; an answer that is no success is an error.
    async fn send(&self, route: Route, target: Target) -> Result<(Link, Response<Incoming>), ClientError> {
        let stream = connect_control(&self.socket_path).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut link = Link(Some(Box::pin(connection)));
        let response = link.drive(sender.send_request(request(route, target)?)).await.map_err(broken)?;
        let status = response.status();
        if status.is_success() {
            return Ok((link, response));
        }
        let body = link.drive(read_whole(response)).await?;
        Err(serde_json::from_slice(&body).map_or_else(
            |_| ClientError::Protocol(format!("the host answered {status} without saying why")),
            ClientError::Problem,
        ))
    }
}

/// A connection to a host, which moves only while it is polled; `None` once it has ended. Its end is no answer: what
/// has come is still there to be read, and whatever went wrong reaches the reader.
struct Link(Option<Pin<Box<HostConnection>>>);

type HostConnection = Connection<TokioIo<ControlStream>, Empty<Bytes>>;

impl Link {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.0
            && connection.as_mut().poll(cx).is_ready()
        {
            self.0 = None;
        }
    }

    /// Runs the exchange with the connection moving beside it.
    async fn drive<T>(&mut self, exchange: impl Future<Output = T>) -> T {
        let mut exchange = pin!(exchange);
        poll_fn(|cx| {
            self.poll(cx);
            exchange.as_mut().poll(cx)
        })
        .await
    }
}

fn request(route: Route, target: Target) -> Result<Request<Empty<Bytes>>, ClientError> {
    Request::builder()
        .method(route.method().as_str())
        .uri(target.into_string())
        // There is no name at the other end of a socket; HTTP/1.1 wants one (RFC 9112, 3.2).
        .header(header::HOST, "mainstay")
        .header(header::USER_AGENT, concat!("mainstay/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|error| ClientError::Protocol(format!("the request cannot be written: {error}")))
}

async fn read_whole(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    match Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ClientError::Protocol(format!(
            "the host's answer is larger than {} MiB; ask for less: fewer lines, or a shorter time",
            MAX_ANSWER_BYTES / 1024 / 1024
        ))),
        Err(error) => Err(broken(error)),
    }
}

fn broken(error: impl fmt::Display) -> ClientError {
    ClientError::Protocol(format!("the connection to the host broke: {error}"))
}
