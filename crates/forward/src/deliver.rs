//! One attempt to hand records to a target, within its time limit.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_config::{Destination, Forward};
use mainstay_os::LocalDatagram;
use mainstay_probes::{Connection, Trust, lookup, reach};
use mainstay_types::{CaFile, HostPort, format_duration};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use crate::encode::{Context, journald, loki, otlp, syslog};
use crate::http::{Client, Rejected};
use crate::record::Record;
use crate::verdict::Answer;

/// Longest text of one record. Loki takes lines of 256 KiB by default; receivers of syslog cut what is too long for them.
const MOST_TEXT_BYTES: usize = 256 * 1024;
/// Longest text in one datagram, which holds 65,507 bytes over IPv4.
const MOST_DATAGRAM_TEXT_BYTES: usize = 60 * 1024;
/// How long one local datagram may wait for its receiver. The thread waits with it.
const LOCAL_PATIENCE: Duration = Duration::from_millis(200);

/// Longest text of one record for this target; a longer line goes in pieces.
pub(crate) const fn most_text_bytes(destination: &Destination) -> usize {
    match destination {
        Destination::SyslogUdp(_) | Destination::SyslogLocal(_) => MOST_DATAGRAM_TEXT_BYTES,
        Destination::Journald(_)
        | Destination::SyslogTcp(_)
        | Destination::SyslogTls(_)
        | Destination::Otlp(_)
        | Destination::Loki(_) => MOST_TEXT_BYTES,
    }
}

/// Hands records over. Keeps its connection until it breaks.
pub(crate) struct Deliverer {
    context: Context,
    timeout: Duration,
    way: Way,
}

enum Way {
    Local { path: Option<PathBuf>, format: LocalFormat, socket: Option<LocalDatagram> },
    Udp { address: HostPort, socket: Option<UdpSocket> },
    Stream { address: HostPort, tls: Option<Option<CaFile>>, connection: Option<Box<dyn Connection>> },
    Http { client: Client, format: HttpFormat },
}

#[derive(Clone, Copy)]
enum LocalFormat {
    Journald,
    Syslog,
}

#[derive(Clone, Copy)]
enum HttpFormat {
    Otlp,
    Loki,
}

impl Deliverer {
    pub(crate) fn new(target: &Forward, context: Context) -> Self {
        let local = |path: Option<&PathBuf>, format| Way::Local { path: path.cloned(), format, socket: None };
        let stream =
            |address: &HostPort, tls| Way::Stream { address: address.clone(), tls, connection: None };
        let http = |http: &mainstay_types::HttpTarget, format| {
            let client = Client {
                target: http.clone(),
                ca: target.ca.clone(),
                headers: target.headers.0.clone(),
                token_file: target.token_file.clone(),
                gzip: target.gzip,
                timeout: target.timeout,
                connection: None,
            };
            Way::Http { client, format }
        };
        let way = match &target.destination {
            Destination::Journald(path) => local(path.as_ref(), LocalFormat::Journald),
            Destination::SyslogLocal(path) => local(Some(path), LocalFormat::Syslog),
            Destination::SyslogUdp(address) => Way::Udp { address: address.clone(), socket: None },
            Destination::SyslogTcp(address) => stream(address, None),
            Destination::SyslogTls(address) => stream(address, Some(target.ca.clone())),
            Destination::Otlp(address) => http(address, HttpFormat::Otlp),
            Destination::Loki(address) => http(address, HttpFormat::Loki),
        };
        Self { context, timeout: target.timeout, way }
    }

    /// Tries once. Where the protocol has no answers, what the system took counts as taken.
    pub(crate) async fn deliver(&mut self, records: &[Record]) -> Answer {
        let Self { context, timeout, way } = self;
        match way {
            Way::Http { client, format } => {
                let (body, rejected): (_, Rejected) = match format {
                    HttpFormat::Otlp => (otlp::request(records, context), otlp::rejected),
                    HttpFormat::Loki => (loki::push(records, context), |_| None),
                };
                client.post(body.to_string().into_bytes(), rejected).await
            }
            Way::Stream { address, tls, connection } => {
                let mut bytes = Vec::new();
                for record in records {
                    syslog::counted(&syslog::message(record, context), &mut bytes);
                }
                let trust = tls.as_ref().map(|ca| Trust { ca: ca.as_ref(), alpn: b"" });
                match stream(address, trust, connection, &bytes, *timeout).await {
                    Ok(()) => Answer::Taken,
                    Err(words) => {
                        *connection = None;
                        Answer::Failed { taken: 0, words }
                    }
                }
            }
            Way::Udp { address, socket } => {
                let mut taken = 0;
                match udp(address, socket, records, context, *timeout, &mut taken).await {
                    Ok(()) => Answer::Taken,
                    Err(words) => {
                        *socket = None;
                        Answer::Failed { taken, words }
                    }
                }
            }
            Way::Local { path, format, socket } => {
                let mut taken = 0;
                match local(path.as_deref(), *format, socket, records, context, &mut taken) {
                    Ok(()) => Answer::Taken,
                    Err(error) => {
                        *socket = None;
                        let path =
                            path.as_deref().map_or("journald's socket".into(), |path| path.to_string_lossy());
                        let why = if error.kind() == std::io::ErrorKind::WouldBlock {
                            "its receiver takes nothing".to_owned()
                        } else {
                            error.to_string()
                        };
                        Answer::Failed { taken, words: format!("cannot write to {path}: {why}") }
                    }
                }
            }
        }
    }
}

async fn stream(
    address: &HostPort,
    trust: Option<Trust<'_>>,
    kept: &mut Option<Box<dyn Connection>>,
    bytes: &[u8],
    limit: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    if let Some(connection) = kept {
        // A receiver of syslog says nothing; when there is something to read, it is the end.
        let mut some = [0; 64];
        if timeout(Duration::ZERO, connection.read(&mut some))
            .await
            .is_ok_and(|read| !matches!(read, Ok(1..)))
        {
            *kept = None;
        }
    }
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(reach(address, trust, limit).await.map_err(|failure| failure.to_string())?),
    };
    let write = async {
        connection.write_all(bytes).await?;
        connection.flush().await
    };
    match timeout_at(deadline, write).await {
        Ok(outcome) => outcome.map_err(|error| format!("the connection to {address} broke: {error}")),
        Err(_) => Err(format!("{address} took nothing for {}", format_duration(limit))),
    }
}

async fn udp(
    address: &HostPort,
    kept: &mut Option<UdpSocket>,
    records: &[Record],
    context: &Context,
    limit: Duration,
    taken: &mut usize,
) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    let words = |error: std::io::Error| format!("cannot send to {address}: {error}");
    let socket = match kept {
        Some(socket) => socket,
        None => {
            let to = lookup(address, limit).await.map_err(|failure| failure.to_string())?[0];
            let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(from).await.map_err(words)?;
            socket.connect(to).await.map_err(words)?;
            kept.insert(socket)
        }
    };
    for record in records {
        let message = syslog::message(record, context);
        match timeout_at(deadline, socket.send(&message)).await {
            Ok(outcome) => _ = outcome.map_err(words)?,
            Err(_) => return Err(format!("the system took no datagram for {}", format_duration(limit))),
        }
        *taken += 1;
    }
    Ok(())
}

fn local(
    path: Option<&std::path::Path>,
    format: LocalFormat,
    kept: &mut Option<LocalDatagram>,
    records: &[Record],
    context: &Context,
    taken: &mut usize,
) -> std::io::Result<()> {
    let socket = match kept {
        Some(socket) => socket,
        None => kept.insert(LocalDatagram::connect(path, LOCAL_PATIENCE)?),
    };
    for record in records {
        match format {
            LocalFormat::Journald => socket.send_or_hand_over(&journald::entry(record, context))?,
            LocalFormat::Syslog => socket.send(&syslog::message(record, context))?,
        }
        *taken += 1;
    }
    Ok(())
}
