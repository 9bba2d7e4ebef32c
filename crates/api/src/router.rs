//! The routes: a request is read, put to the host, and its answer written.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde::Serialize;

use crate::follow::{self, Closing};
use crate::problem::PROBLEM_JSON;
use crate::query::Pairs;
use crate::route::Route;
use crate::{CommandOutcome, ControlPlane, Event, LogEntry, Problem, ProblemKind, Verb};

/// Largest body a request may announce. No request of the API has one that is read.
const MAX_BODY_BYTES: u64 = 64 * 1024;
/// Size from which a part of a long list is sent on: large enough for few system calls, small enough for the host.
const CHUNK_BYTES: usize = 32 * 1024;

/// The API over this host. Every answer that is not a success is a [`Problem`].
pub fn router<C: ControlPlane>(control: C) -> Router {
    Route::ALL
        .into_iter()
        .fold(Router::new(), |router, route| router.route(route.path(), handler(route)))
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn(refuse_large_bodies))
        .with_state(control)
}

fn handler<C: ControlPlane>(route: Route) -> MethodRouter<C> {
    match route {
        Route::Status => get(status::<C>),
        Route::Command(verb) => {
            post(move |State(control): State<C>, name: Result<Path<String>, PathRejection>, uri: Uri| {
                command(control, verb, name, uri)
            })
        }
        Route::Reload => post(reload::<C>),
        Route::Events => get(events::<C>),
        Route::Logs => get(logs::<C>),
        Route::RotateLogs => post(rotate_logs::<C>),
        Route::LogLevel => get(log_level::<C>),
        Route::SetLogLevel => post(set_log_level::<C>),
        Route::Metrics => get(metrics::<C>),
        Route::Healthz => get(healthz::<C>),
        Route::Readyz => get(readyz::<C>),
        Route::OpenApi => get(openapi),
    }
}

async fn status<C: ControlPlane>(State(control): State<C>, uri: Uri) -> Result<Response, Problem> {
    Pairs::read(&uri, Route::Status)?;
    Ok(Json(control.status().await?).into_response())
}

async fn command<C: ControlPlane>(
    control: C,
    verb: Verb,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    // One text parameter can be wrong in one way only.
    let Path(service) = name.map_err(|_| {
        Problem::new(ProblemKind::BadRequest, "the name of the service in the path is no UTF-8")
    })?;
    let options = Pairs::read(&uri, Route::Command(verb))?.command()?;
    let reply = control.command(service, verb, options).await?;
    Ok((status_of(reply.outcome), Json(reply)).into_response())
}

/// The request was carried out; how the command ended is its content.
const fn status_of(outcome: CommandOutcome) -> StatusCode {
    match outcome {
        CommandOutcome::Accepted => StatusCode::ACCEPTED,
        CommandOutcome::Done | CommandOutcome::Failed | CommandOutcome::TimedOut => StatusCode::OK,
    }
}

async fn reload<C: ControlPlane>(State(control): State<C>, uri: Uri) -> Result<Response, Problem> {
    let options = Pairs::read(&uri, Route::Reload)?.reload()?;
    let reply = control.reload(options).await?;
    Ok((status_of(reply.outcome), Json(reply)).into_response())
}

async fn events<C: ControlPlane>(
    State(control): State<C>,
    closing: Option<Extension<Closing>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let pairs = Pairs::read(&uri, Route::Events)?;
    let mut query = pairs.events()?;
    if !(pairs.follow()? || wants_events(&headers)) {
        return Ok(list(control.events(query).await?));
    }
    if let Some(last) = headers.get("last-event-id") {
        // A client that lost its connection goes on where it was; its first question said how far back to begin.
        let last =
            last.to_str().ok().and_then(|id| id.parse().ok()).filter(|id| *id >= 0).ok_or_else(|| {
                Problem::new(ProblemKind::BadRequest, "Last-Event-ID is no id of an event".to_owned())
            })?;
        query.after_id = Some(last);
        query.limit = None;
    }
    let stream = control.follow_events(query).await?;
    Ok(follow::respond(stream, closing, |event: &Event, frame| {
        frame.id(event.id.to_string()).event(event.event.as_str())
    }))
}

async fn logs<C: ControlPlane>(
    State(control): State<C>,
    closing: Option<Extension<Closing>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let pairs = Pairs::read(&uri, Route::Logs)?;
    let query = pairs.logs()?;
    if !(pairs.follow()? || wants_events(&headers)) {
        return Ok(list(control.logs(query).await?));
    }
    let stream = control.follow_logs(query).await?;
    Ok(follow::respond(stream, closing, |_: &LogEntry, frame| frame.event("line")))
}

async fn rotate_logs<C: ControlPlane>(State(control): State<C>, uri: Uri) -> Result<Response, Problem> {
    let services = Pairs::read(&uri, Route::RotateLogs)?.services_to_rotate();
    Ok(Json(control.rotate_logs(services).await?).into_response())
}

async fn log_level<C: ControlPlane>(State(control): State<C>, uri: Uri) -> Result<Response, Problem> {
    Pairs::read(&uri, Route::LogLevel)?;
    Ok(Json(control.log_level().await?).into_response())
}

async fn set_log_level<C: ControlPlane>(State(control): State<C>, uri: Uri) -> Result<Response, Problem> {
    let level = Pairs::read(&uri, Route::SetLogLevel)?.level()?;
    Ok(Json(control.set_log_level(level).await?).into_response())
}

async fn metrics<C: ControlPlane>(State(control): State<C>, uri: Uri) -> Result<Response, Problem> {
    Pairs::read(&uri, Route::Metrics)?;
    // The type Prometheus asks for (exposition formats, "Text format details").
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], control.metrics().await?).into_response())
}

async fn healthz<C: ControlPlane>(State(control): State<C>, uri: Uri) -> Result<&'static str, Problem> {
    Pairs::read(&uri, Route::Healthz)?;
    if control.healthy().await {
        Ok("ok\n")
    } else {
        Err(Problem::new(ProblemKind::Unavailable, "the host's loop does not answer"))
    }
}

async fn readyz<C: ControlPlane>(State(control): State<C>, uri: Uri) -> Result<&'static str, Problem> {
    Pairs::read(&uri, Route::Readyz)?;
    if control.ready().await {
        Ok("ok\n")
    } else {
        Err(Problem::new(
            ProblemKind::Unavailable,
            "not every service is ready or completed; GET /v1/status says which and why",
        ))
    }
}

async fn openapi(uri: Uri) -> Result<Json<serde_json::Value>, Problem> {
    Pairs::read(&uri, Route::OpenApi)?;
    Ok(Json(crate::openapi()))
}

async fn no_such_route(uri: Uri) -> Problem {
    let detail = format!("there is no path {}; GET /openapi.json lists those there are", uri.path());
    Problem::new(ProblemKind::NoSuchRoute, detail)
}

async fn method_not_allowed(method: axum::http::Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}; GET /openapi.json lists what it takes", uri.path());
    Problem::new(ProblemKind::MethodNotAllowed, detail)
}

/// Whether the client asks for server-sent events by its Accept header.
fn wants_events(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|kind| {
            kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
        })
}

async fn refuse_large_bodies(request: Request, next: Next) -> Response {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let length = announced.and_then(|value| value.to_str().ok()).and_then(|value| value.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        let detail = format!("a request has at most {} KiB; this API reads no bodies", MAX_BODY_BYTES / 1024);
        return Problem::new(ProblemKind::BodyTooLarge, detail).into_response();
    }
    next.run(request).await
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // The header comes after the body in an axum response, and so replaces the type Json gives itself.
        let kind = HeaderValue::from_static(PROBLEM_JSON);
        (status, [(header::CONTENT_TYPE, kind)], Json(self)).into_response()
    }
}

/// A JSON array, written item by item: a long answer is never whole in memory a second time.
fn list<T: Serialize + Send + 'static>(items: Vec<T>) -> Response {
    let mut items = Some(items.into_iter());
    let mut first = true;
    let parts = std::iter::from_fn(move || {
        let rest = items.as_mut()?;
        let mut part = Vec::with_capacity(1024);
        while part.len() < CHUNK_BYTES {
            let Some(item) = rest.next() else {
                part.extend_from_slice(if first { b"[]" } else { b"]" });
                items = None;
                break;
            };
            part.push(if first { b'[' } else { b',' });
            first = false;
            if let Err(error) = serde_json::to_writer(&mut part, &item) {
                // Cuts the answer off: the client sees that it is not whole.
                items = None;
                return Some(Err(error));
            }
        }
        Some(Ok(Bytes::from(part)))
    });
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(futures_util::stream::iter(parts))).into_response()
}
