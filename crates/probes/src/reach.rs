//! The way to a server, for those who have more to say to it than a check has.

use std::net::SocketAddr;
use std::time::Duration;

use mainstay_types::{CaFile, HostPort, ProbeFailure, format_duration};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::tcp::{self, Limit, TimedOut};
use crate::tls;

/// A connection, with TLS or without.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// TLS of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// Whom to trust; `None` is the system's authorities.
    pub ca: Option<&'a CaFile>,
    /// The one protocol asked for inside (ALPN); none when it is empty.
    pub alpn: &'a [u8],
}

/// Looks the name up, connects to the first of its addresses that takes the connection, and shakes hands, all within the
/// time allowed. Without `trust` there is no TLS.
pub async fn reach(
    address: &HostPort,
    trust: Option<Trust<'_>>,
    timeout: Duration,
) -> Result<Box<dyn Connection>, ProbeFailure> {
    let limit = Limit::from_now(timeout);
    let Some(Trust { ca, alpn }) = trust else {
        return Ok(Box::new(tcp::connect(address, &limit).await?));
    };
    let config = tls::client_config_within(address, ca, &limit).await?;
    let stream = tcp::connect(address, &limit).await?;
    Ok(Box::new(tls::connect(stream, address, &config, alpn, &limit).await?))
}

/// The addresses of a server, within the time allowed; one at least.
pub async fn lookup(address: &HostPort, timeout: Duration) -> Result<Vec<SocketAddr>, ProbeFailure> {
    let dns = |message: String| ProbeFailure::Dns { host: address.host.clone(), message };
    match tcp::lookup(&address.host, address.port, &Limit::from_now(timeout)).await {
        Ok(Ok(found)) if found.is_empty() => Err(dns("the name has no address".to_owned())),
        Ok(found) => found.map_err(dns),
        Err(TimedOut) => Err(dns(format!("no answer from the resolver within {}", format_duration(timeout)))),
    }
}
