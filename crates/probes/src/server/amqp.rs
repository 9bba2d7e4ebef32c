//! AMQP 0-9-1 brokers such as RabbitMQ: the handshake of `connection` up to open-ok, then close (AMQP 0-9-1
//! specification, 2.2.4 and 4.2; RabbitMQ's own answers: rabbitmq.com, "Authentication Failure Notifications").

use mainstay_types::{CaFile, ProbeFailure};

use super::login::Login;
use super::trust::Trust;
use super::wire::{Broken, BrokenKind, Wire};

const NAME: &str = "AMQP 0-9-1";
/// The protocol header, with the version asked for.
const HEADER: &[u8] = b"AMQP\0\0\x09\x01";
/// Largest frame that is taken; RabbitMQ's own is 128 KiB, and its greeting about half a KiB.
const MAX_FRAME_BYTES: usize = 128 * 1024;
/// Longest text of the broker that is passed on.
const MAX_WORDS_BYTES: usize = 200;
/// The user and password every client library takes when the URL names none: RabbitMQ's first user.
const GUEST: &str = "guest";

/// Class `connection`, and its methods.
const CONNECTION: u16 = 10;
const START: u16 = 10;
const START_OK: u16 = 11;
const TUNE: u16 = 30;
const TUNE_OK: u16 = 31;
const OPEN: u16 = 40;
const OPEN_OK: u16 = 41;
const CLOSE: u16 = 50;
const CLOSE_OK: u16 = 51;

const METHOD_FRAME: u8 = 1;
const HEARTBEAT_FRAME: u8 = 8;
const FRAME_END: u8 = 0xCE;

/// Logs in, opens the virtual host, and closes.
pub(super) async fn check(
    mut wire: Wire,
    login: &Login,
    ca: Option<&CaFile>,
) -> Result<String, ProbeFailure> {
    if login.tls {
        wire.start_tls(Trust::Signed(ca), NAME).await?;
    }
    match open(&mut wire, login).await {
        Ok(who) => {
            let close = [&200_u16.to_be_bytes()[..], &short("")?, &[0; 4]].concat();
            let left = async {
                wire.write(&method(CLOSE, &close)).await?;
                while read_method(&mut wire).await?.0 != CLOSE_OK {}
                Ok::<_, ProbeFailure>(())
            };
            // The answer is known; how the good-bye is taken changes nothing.
            let _ = left.await;
            wire.close(&[]).await;
            Ok(format!("ready: {who}"))
        }
        Err(Ended::Closed { code, text }) => {
            let text = wire.shown(&text, MAX_WORDS_BYTES);
            wire.close(&method(CLOSE_OK, &[])).await;
            let failure = refusal(code, &text);
            if super::is_ready_for_others(login, &failure) {
                return Ok("ready: it speaks AMQP 0-9-1; not logged in, for the URL names no user".to_owned());
            }
            Err(failure)
        }
        Err(Ended::Failed(failure)) => Err(failure),
    }
}

/// How the handshake ends when it does not succeed.
enum Ended {
    /// By connection.close, which is to be confirmed.
    Closed {
        code: u16,
        text: Vec<u8>,
    },
    Failed(ProbeFailure),
}

impl<E: Into<ProbeFailure>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Up to open-ok; gives the broker's name and version.
async fn open(wire: &mut Wire, login: &Login) -> Result<String, Ended> {
    wire.write(HEADER).await?;
    let start = match read_method(wire).await {
        Ok((START, arguments)) => arguments,
        Ok((method, arguments)) => return Err(unexpected(wire, method, &arguments)),
        Err(Unread::Broken(Broken {
            kind: BrokenKind::Closed | BrokenKind::Reset, answered: false, ..
        })) => {
            let words = "closes the connection before it says anything, as a broker does that is not up yet";
            return Err(ProbeFailure::NotReady(words.to_owned()).into());
        }
        Err(unread) => return Err(Ended::Failed(unread.into())),
    };
    let start = Start::read(&start).ok_or_else(|| wire.not_speaking(NAME))?;
    if !start.mechanisms.split(|byte| *byte == b' ').any(|name| name == b"PLAIN") {
        let offered = wire.shown(start.mechanisms, MAX_WORDS_BYTES);
        return Err(ProbeFailure::Credentials(format!(
            "it offers only {offered} to log in, and a check can only do PLAIN"
        ))
        .into());
    }
    wire.hide_password(login);
    wire.write(&method(START_OK, &start_ok(login)?)).await?;

    let tune = match read_method(wire).await {
        Ok((TUNE, arguments)) if arguments.len() == 8 => arguments,
        Ok((method, arguments)) => return Err(unexpected(wire, method, &arguments)),
        // 2.2.4: a broker that is not told of authentication_failure_close, or does not know it, closes without a word.
        Err(Unread::Broken(Broken { kind: BrokenKind::Closed | BrokenKind::Reset, .. })) => {
            let words = "it closed the connection when it was told user and password";
            return Err(ProbeFailure::Credentials(words.to_owned()).into());
        }
        Err(unread) => return Err(Ended::Failed(unread.into())),
    };
    // Its own bounds, and no heartbeats: we are gone before the first.
    let mut answer = method(TUNE_OK, &[&tune[..6], &[0, 0]].concat());
    let host = login.name.as_deref().unwrap_or("/");
    answer.extend(method(OPEN, &[&short(host)?[..], &short("")?, &[0]].concat()));
    wire.write(&answer).await?;
    match read_method(wire).await {
        Ok((OPEN_OK, _)) => Ok(start.who),
        Ok((method, arguments)) => Err(unexpected(wire, method, &arguments)),
        Err(unread) => Err(Ended::Failed(unread.into())),
    }
}

/// Who is there, and who we are. `authentication_failure_close` asks for a reason rather than a closed connection.
fn start_ok(login: &Login) -> Result<Vec<u8>, ProbeFailure> {
    let user = login.user.as_deref().unwrap_or(GUEST);
    let password = match (&login.password, &login.user) {
        (Some(password), _) => password.as_str(),
        (None, None) => GUEST,
        (None, Some(_)) => "",
    };
    let capabilities = [&short("authentication_failure_close")?[..], b"t\x01"].concat();
    let properties = [
        &short("product")?[..],
        b"S",
        &long(b"mainstay"),
        &short("capabilities")?,
        b"F",
        &long(&capabilities),
    ]
    .concat();
    // RFC 4616: authorization identity (none), user, password.
    let response = [b"\0", user.as_bytes(), b"\0", password.as_bytes()].concat();
    Ok([&long(&properties)[..], &short("PLAIN")?, &long(&response), &short("en_US")?].concat())
}

/// The broker's connection.start.
struct Start<'a> {
    /// `RabbitMQ 3.10.8`.
    who: String,
    /// Separated by blanks.
    mechanisms: &'a [u8],
}

impl<'a> Start<'a> {
    fn read(arguments: &'a [u8]) -> Option<Self> {
        let [_, _, rest @ ..] = arguments else { return None };
        let (properties, rest) = take_long(rest)?;
        let (mechanisms, _) = take_long(rest)?;
        let fact = |name: &[u8]| text_of(properties, name).map(|text| crate::printable(text, 64));
        let product = fact(b"product").unwrap_or_else(|| "an AMQP 0-9-1 broker".to_owned());
        let who = match fact(b"version") {
            Some(version) => format!("{product} {version}"),
            None => product,
        };
        Some(Self { who, mechanisms })
    }
}

/// The text under `name` in a table; what cannot be read ends the search. Types and lengths: RabbitMQ's "AMQP 0-9-1
/// Errata", section 3.
fn text_of<'a>(mut table: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    while let [length, rest @ ..] = table {
        let (key, rest) = rest.split_at_checked(usize::from(*length))?;
        let (kind, rest) = rest.split_first()?;
        let (value, rest) = match kind {
            b't' | b'b' | b'B' => rest.split_at_checked(1)?,
            b's' | b'u' => rest.split_at_checked(2)?,
            b'I' | b'i' | b'f' => rest.split_at_checked(4)?,
            b'D' => rest.split_at_checked(5)?,
            b'l' | b'd' | b'T' => rest.split_at_checked(8)?,
            b'V' => rest.split_at_checked(0)?,
            b'S' | b'x' | b'A' | b'F' => take_long(rest)?,
            _ => return None,
        };
        if key == name && *kind == b'S' {
            return Some(value);
        }
        table = rest;
    }
    None
}

/// Why no method could be read.
enum Unread {
    Broken(Broken),
    NotSpeaking(ProbeFailure),
}

impl From<Broken> for Unread {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<Unread> for ProbeFailure {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Broken(broken) => broken.into(),
            Unread::NotSpeaking(failure) => failure,
        }
    }
}

/// The next method of class `connection` with its arguments; heartbeats are passed over.
async fn read_method(wire: &mut Wire) -> Result<(u16, Vec<u8>), Unread> {
    loop {
        let not_speaking = |wire: &Wire| Unread::NotSpeaking(wire.not_speaking(NAME));
        let header: [u8; 7] = wire.read(7).await?.try_into().unwrap_or([0; 7]);
        if header.starts_with(b"AMQP") {
            // 4.2.2: a broker that speaks another version answers with that version's header, one byte longer.
            let last = wire.read(1).await?;
            let [.., major, minor] = header;
            let revision = last.first().copied().unwrap_or_default();
            return Err(Unread::NotSpeaking(ProbeFailure::Protocol(format!(
                "it does not speak {NAME}, but AMQP {major}.{minor}.{revision}"
            ))));
        }
        let [kind, channel @ .., a, b, c, d] = header;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let known = kind == METHOD_FRAME || kind == HEARTBEAT_FRAME;
        if !known || channel != [0, 0] || length > MAX_FRAME_BYTES {
            return Err(not_speaking(wire));
        }
        let mut payload = wire.read(length + 1).await?;
        if payload.pop() != Some(FRAME_END) {
            return Err(not_speaking(wire));
        }
        match payload[..] {
            _ if kind == HEARTBEAT_FRAME => {}
            [c, d, m, n, ref arguments @ ..] if u16::from_be_bytes([c, d]) == CONNECTION => {
                return Ok((u16::from_be_bytes([m, n]), arguments.to_vec()));
            }
            _ => return Err(not_speaking(wire)),
        }
    }
}

/// Another method than the one that is due: connection.close has a reason, anything else is wrong.
fn unexpected(wire: &Wire, method: u16, arguments: &[u8]) -> Ended {
    match (method, arguments) {
        (CLOSE, [a, b, length, rest @ ..]) => Ended::Closed {
            code: u16::from_be_bytes([*a, *b]),
            text: rest[..rest.len().min(usize::from(*length))].to_vec(),
        },
        _ => Ended::Failed(wire.not_speaking(NAME)),
    }
}

/// connection.close in its kinds: the reply codes of the specification, 1.1, and the words RabbitMQ gives with 530,
/// which stands for a virtual host that is missing, forbidden, down or full.
fn refusal(code: u16, text: &str) -> ProbeFailure {
    // "NOT_ALLOWED - vhost shop not found": the name of the code says nothing more.
    let words = text.split_once(" - ").map_or(text, |(_, words)| words);
    match code {
        530 if words.contains("limit") => {
            ProbeFailure::NotReady(format!("has no connection left ({code}: {words})"))
        }
        530 if words.contains("is down") => {
            ProbeFailure::NotReady(format!("is not up yet ({code}: {words})"))
        }
        403 | 530 => ProbeFailure::Credentials(format!("{words} ({code})")),
        320 => ProbeFailure::NotReady(format!("is shutting down ({code}: {words})")),
        541 => ProbeFailure::NotReady(format!("is not up yet ({code}: {words})")),
        _ => ProbeFailure::NotReady(format!("refuses the connection: {words} ({code})")),
    }
}

fn method(id: u16, arguments: &[u8]) -> Vec<u8> {
    let payload = [&CONNECTION.to_be_bytes()[..], &id.to_be_bytes(), arguments].concat();
    let mut frame = vec![METHOD_FRAME, 0, 0];
    frame.extend(long(&payload));
    frame.push(FRAME_END);
    frame
}

/// A short string; one that is too long can only be the virtual host of the URL.
fn short(text: &str) -> Result<Vec<u8>, ProbeFailure> {
    let Ok(length) = u8::try_from(text.len()) else {
        return Err(ProbeFailure::NotStarted(
            "cannot ask: its URL names a virtual host of more than 255 bytes".to_owned(),
        ));
    };
    Ok([&[length], text.as_bytes()].concat())
}

/// Bytes after their length.
fn long(bytes: &[u8]) -> Vec<u8> {
    // Ours are from one URL, far below 4 GiB.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

fn take_long(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests;
