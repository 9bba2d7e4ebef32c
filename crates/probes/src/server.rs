//! Checks that speak a server's own protocol: PostgreSQL, Redis, MySQL and MariaDB, AMQP 0-9-1.
//!
//! Each connects, logs in as the URL says, and leaves in order, so that the server's log stays clean. Three answers
//! are told apart: it cannot be reached (as for tcp), it answers but is not ready (`NotReady`), it is ready but does
//! not let us in (`Credentials`).
//!
//! The handshakes are spoken here rather than by client libraries: a check needs to see what came instead of an
//! answer, to stay within its time and memory whatever the other side sends, and to leave in order, and those are made
//! to hide all that. What is delicate is theirs: SCRAM and the messages of PostgreSQL come from `postgres-protocol`.

mod amqp;
mod login;
mod mysql;
mod postgres;
mod redis;
mod trust;
mod wire;

#[cfg(test)]
mod fake;

use std::time::Duration;

use mainstay_types::{CaFile, ProbeFailure, ServerKind, ServerUrl};

use login::Login;
use wire::Wire;

/// Asks the server once. The text says what it is and, where it tells, its version.
pub(crate) async fn check(
    url: &ServerUrl,
    ca: Option<&CaFile>,
    timeout: Duration,
) -> Result<String, ProbeFailure> {
    let login = Login::of(url);
    let wire = Wire::connect(&url.address, timeout).await?;
    match url.kind {
        ServerKind::Postgres => postgres::check(wire, &login, ca).await,
        ServerKind::Redis => redis::check(wire, &login, ca).await,
        ServerKind::Mysql => mysql::check(wire, &login, ca).await,
        ServerKind::Amqp => amqp::check(wire, &login, ca).await,
    }
}

/// Whether the answer is only that nobody in particular is not let in: who names no user asks for readiness alone, and
/// a server that examines credentials is ready (so `pg_isready` sees it).
fn is_ready_for_others(login: &Login, failure: &ProbeFailure) -> bool {
    login.user.is_none() && matches!(failure, ProbeFailure::Credentials(_))
}
