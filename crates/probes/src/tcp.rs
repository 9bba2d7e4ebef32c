//! TCP probes: connect, and tell apart why not. HTTP probes connect through here too.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use mainstay_types::{HostPort, ProbeFailure, format_duration};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::looks::{Looks, NoLook};

/// After this time the next address is tried beside the one that has not answered: the Connection Attempt Delay of
/// RFC 8305, section 5.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried; a name with more is a large server farm, and the rest would tell nothing new.
const MAX_ADDRESSES: usize = 8;

/// Connects and closes.
pub(crate) async fn check(address: &HostPort, timeout: Duration) -> Result<String, ProbeFailure> {
    connect(address, &Limit::from_now(timeout)).await.map(|_| "connected".to_owned())
}

/// The time one probe has for all of its steps.
pub(crate) struct Limit {
    /// As the user wrote it, for messages.
    pub(crate) timeout: Duration,
    /// When it is over.
    pub(crate) deadline: Instant,
}

impl Limit {
    pub(crate) fn from_now(timeout: Duration) -> Self {
        let now = Instant::now();
        // A time limit beyond what the clock holds is none; thirty years stand for that, as in tokio itself.
        let far = Duration::from_secs(86_400 * 365 * 30);
        Self { timeout, deadline: now.checked_add(timeout).unwrap_or(now + far) }
    }
}

/// Resolves the name and connects to the first of its addresses that takes the connection.
pub(crate) async fn connect(address: &HostPort, limit: &Limit) -> Result<TcpStream, ProbeFailure> {
    let addresses = resolve(address, limit).await?;
    match timeout_at(limit.deadline, connect_any(&addresses)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Err(ProbeFailure::Refused(address.clone()))
        }
        Ok(Err(error)) => {
            Err(ProbeFailure::Unreachable { address: address.clone(), message: error.to_string() })
        }
        Err(_) => Err(ProbeFailure::ConnectTimedOut { address: address.clone(), within: limit.timeout }),
    }
}

async fn resolve(address: &HostPort, limit: &Limit) -> Result<Vec<SocketAddr>, ProbeFailure> {
    let dns = |message: String| ProbeFailure::Dns { host: address.host.clone(), message };
    let mut addresses = match lookup(&address.host, address.port, limit).await {
        Ok(found) => found.map_err(dns)?,
        Err(TimedOut) => {
            return Err(dns(format!(
                "no answer from the resolver within {}",
                format_duration(limit.timeout)
            )));
        }
    };
    addresses.truncate(MAX_ADDRESSES);
    if addresses.is_empty() { Err(dns("the name has no address".to_owned())) } else { Ok(addresses) }
}

/// The resolver has not answered in time.
#[derive(Debug)]
pub(crate) struct TimedOut;

/// Names that are being looked up: a resolver whose servers are silent holds a thread for tens of seconds
/// (resolv.conf(5): timeout times attempts times servers), and must not hold the runtime's own.
static NAMES: Looks<Result<Vec<IpAddr>, String>> = Looks::new();

/// All addresses the system's resolver gives for the name, or its reason.
pub(crate) async fn lookup(
    host: &str,
    port: u16,
    limit: &Limit,
) -> Result<Result<Vec<SocketAddr>, String>, TimedOut> {
    let with_port = |found: Vec<IpAddr>| found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(Ok(with_port(vec![ip])));
    }
    let name = host.to_owned();
    let ask = move |_: &Path| match (name.as_str(), 0).to_socket_addrs() {
        Ok(found) => Ok(found.map(|address| address.ip()).collect()),
        Err(error) => {
            let text = error.to_string();
            // The standard library's prefix says what our own text says already.
            Err(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned())
        }
    };
    match NAMES.look(Path::new(host), limit, ask).await {
        Ok(found) => Ok(found.map(with_port)),
        Err(NoLook::TimedOut) => Err(TimedOut),
        Err(NoLook::NoThread(error)) => Ok(Err(format!("cannot ask the resolver: {error}"))),
    }
}

/// The first connection that comes about. Addresses are begun in their order, the next one when the one before has
/// failed or has been silent for [`ATTEMPT_DELAY`]. When all fail: a refusal is told before any other answer, since
/// it proves that the machine is there and the service is not.
async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    if let [only] = addresses {
        return connect_one(*only).await;
    }
    let mut waiting = addresses.iter().copied();
    let mut attempts = JoinSet::new();
    let mut told: Option<io::Error> = None;
    loop {
        let more = match waiting.next() {
            Some(next) => {
                attempts.spawn(connect_one(next));
                waiting.len() > 0
            }
            None => false,
        };
        loop {
            let ended = tokio::select! {
                ended = attempts.join_next() => ended,
                () = tokio::time::sleep(ATTEMPT_DELAY), if more => break,
            };
            match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => {
                    if told.as_ref().is_none_or(|_| error.kind() == io::ErrorKind::ConnectionRefused) {
                        told = Some(error);
                    }
                }
                // An attempt is never aborted while it is waited for, and does not panic.
                Some(Err(_)) => {}
                None => {
                    return Err(told.unwrap_or_else(|| io::Error::other("no address could be tried")));
                }
            }
            if more {
                break;
            }
        }
    }
}

async fn connect_one(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    if is_connected_to_itself(&stream) { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(stream) }
}

/// A connection to a free port of this machine may be given that very port as its own and meet itself (the
/// simultaneous open of RFC 9293, 3.5). Nobody listens there then.
fn is_connected_to_itself(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) => local == peer,
        (Ok(_) | Err(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn to(address: SocketAddr) -> HostPort {
        HostPort { host: address.ip().to_string(), port: address.port() }
    }

    /// A port nobody listens on: taken, and given back while a connection through it lingers in no state.
    async fn free_address(host: &str) -> SocketAddr {
        TcpListener::bind((host, 0)).await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_listener_passes_on_both_address_families() {
        for host in ["127.0.0.1", "::1"] {
            let listener = TcpListener::bind((host, 0)).await.unwrap();
            let address = to(listener.local_addr().unwrap());
            assert_eq!(check(&address, SECOND).await, Ok("connected".to_owned()), "{host}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_refused() {
        let address = to(free_address("127.0.0.1").await);
        assert_eq!(check(&address, SECOND).await, Err(ProbeFailure::Refused(address)));
    }

    #[tokio::test]
    async fn a_name_tries_all_its_addresses() {
        // Debian's localhost is ::1 and 127.0.0.1; wherever it is only one of them, this still must pass.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = HostPort { host: "localhost".to_owned(), port };
        assert_eq!(check(&address, SECOND).await, Ok("connected".to_owned()));
    }

    #[tokio::test]
    async fn a_later_address_is_tried_when_an_earlier_one_refuses() {
        let refusing = free_address("127.0.0.1").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect_any(&[refusing, refusing, listener.local_addr().unwrap()]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_later_address_is_tried_when_an_earlier_one_is_silent() {
        let (_listener, _fillers, silent) = full_listener().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect_any(&[silent, listener.local_addr().unwrap()]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[tokio::test]
    async fn refused_is_told_before_other_answers() {
        let refusing = free_address("127.0.0.1").await;
        // 255.255.255.255 takes no TCP connection: the kernel refuses it as unreachable or not permitted.
        let unreachable: SocketAddr = "255.255.255.255:9".parse().unwrap();
        for order in [[refusing, unreachable], [unreachable, refusing]] {
            let error = connect_any(&order).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[tokio::test]
    async fn no_route_is_unreachable() {
        let address = HostPort { host: "255.255.255.255".to_owned(), port: 9 };
        let answer = check(&address, SECOND).await;
        assert!(matches!(answer, Err(ProbeFailure::Unreachable { .. })), "{answer:?}");
    }

    #[tokio::test]
    async fn an_unknown_name_is_a_matter_of_dns() {
        // RFC 6761, 6.4: names under .invalid never resolve.
        let address = HostPort { host: "nowhere.invalid".to_owned(), port: 9 };
        let answer = check(&address, Duration::from_secs(20)).await;
        let Err(ProbeFailure::Dns { host, message }) = answer else { panic!("{answer:?}") };
        assert_eq!(host, "nowhere.invalid");
        assert!(!message.is_empty());
    }

    #[tokio::test]
    async fn a_full_backlog_times_out_as_no_connection() {
        let (_listener, _fillers, silent) = full_listener().await;
        let limit = Duration::from_millis(300);
        let before = Instant::now();
        let answer = check(&to(silent), limit).await;
        assert_eq!(answer, Err(ProbeFailure::ConnectTimedOut { address: to(silent), within: limit }));
        assert!(before.elapsed() >= limit);
    }

    #[tokio::test]
    async fn a_connection_to_itself_is_seen() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.unwrap();
        assert!(is_connected_to_itself(&stream));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!is_connected_to_itself(&stream));
    }

    /// A listener whose backlog is full: the kernel drops further connection requests in silence.
    async fn full_listener() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut fillers = Vec::new();
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            fillers.push(stream);
            assert!(fillers.len() < 64, "a backlog of 1 is never full");
        }
        (listener, fillers, address)
    }
}
