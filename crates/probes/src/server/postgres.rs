//! PostgreSQL, protocol 3.0: start-up and authentication up to ReadyForQuery, then Terminate (PostgreSQL manual,
//! chapter "Frontend/Backend Protocol").

use bytes::BytesMut;
use mainstay_types::{CaFile, ProbeFailure};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;

use super::login::Login;
use super::trust::{Encrypt, encrypt};
use super::wire::Wire;

const NAME: &str = "PostgreSQL";
/// Largest message that is taken; the server's own bound before authentication is 64 KiB for ours.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Longest message of the server that is passed on.
const MAX_WORDS_BYTES: usize = 200;
/// The user when the URL names none. Whether it exists does not matter then.
const NOBODY_IN_PARTICULAR: &str = "postgres";

/// Logs in and out. A standby that takes readers passes.
pub(super) async fn check(
    mut wire: Wire,
    login: &Login,
    ca: Option<&CaFile>,
) -> Result<String, ProbeFailure> {
    begin_tls(&mut wire, encrypt(login, ca)?).await?;
    let facts = match log_in(&mut wire, login).await {
        Ok(facts) => facts,
        Err(failure) => {
            wire.close(&[]).await;
            if super::is_ready_for_others(login, &failure) {
                return Ok(format!("ready: {NAME}; not logged in, for the URL names no user"));
            }
            return Err(failure);
        }
    };
    let mut terminate = BytesMut::new();
    frontend::terminate(&mut terminate);
    wire.close(&terminate).await;
    let version = facts.version.split_whitespace().next().unwrap_or_default();
    let standby = if facts.standby { ", a standby for readers only" } else { "" };
    Ok(format!("ready: {NAME} {version}{standby}"))
}

/// SSLRequest and what follows from its answer, one byte ("SSL Session Encryption").
async fn begin_tls(wire: &mut Wire, encrypt: Encrypt<'_>) -> Result<(), ProbeFailure> {
    let (trust, must) = match encrypt {
        Encrypt::Never => return Ok(()),
        Encrypt::IfOffered(trust) => (trust, false),
        Encrypt::Always(trust) => (trust, true),
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    wire.write(&request).await?;
    match wire.read(1).await?[..] {
        [b'S'] => wire.start_tls(trust, NAME).await,
        [b'N'] if must => Err(wire.tls_failure(
            "the server offers none (its setting `ssl` is off): switch it on there, or take `ca` and sslmode away here",
        )),
        [b'N'] => Ok(()),
        // A server that cannot start a process for the connection says so in the form of protocol 2: text and NUL.
        [b'E'] => {
            let mut text = Vec::new();
            while text.len() < MAX_WORDS_BYTES {
                match wire.read(1).await?[..] {
                    [0] => {
                        let words = wire.shown(&text, MAX_WORDS_BYTES);
                        return Err(ProbeFailure::NotReady(format!("takes no connection: {words}")));
                    }
                    ref more => text.extend_from_slice(more),
                }
            }
            Err(wire.not_speaking(NAME))
        }
        _ => Err(wire.not_speaking(NAME)),
    }
}

/// What the server tells of itself by ParameterStatus.
#[derive(Default)]
struct Facts {
    version: String,
    standby: bool,
}

async fn log_in(wire: &mut Wire, login: &Login) -> Result<Facts, ProbeFailure> {
    let user = login.user.as_deref().unwrap_or(NOBODY_IN_PARTICULAR);
    let database = login.name.as_deref().unwrap_or(user);
    let parameters = [
        ("user", user),
        ("database", database),
        ("application_name", "mainstay"),
        ("client_encoding", "UTF8"),
    ];
    send(wire, |buffer| frontend::startup_message(parameters, buffer)).await?;

    let mut facts = Facts::default();
    let mut scram: Option<ScramSha256> = None;
    let mut let_in = false;
    loop {
        let (tag, body) = read_message(wire).await?;
        match (tag, &body[..]) {
            // AuthenticationOk. With SCRAM it comes after the server has proven itself.
            (b'R', [0, 0, 0, 0]) if scram.is_none() => let_in = true,
            (b'R', [0, 0, 0, 3]) => {
                let password = password(login)?;
                wire.hide_password(login);
                send(wire, |buffer| frontend::password_message(password.as_bytes(), buffer)).await?;
            }
            (b'R', [0, 0, 0, 5, a, b, c, d]) => {
                let hash = md5_hash(user.as_bytes(), password(login)?.as_bytes(), [*a, *b, *c, *d]);
                send(wire, |buffer| frontend::password_message(hash.as_bytes(), buffer)).await?;
            }
            (b'R', [0, 0, 0, 10, mechanisms @ ..]) => {
                let password = password(login)?;
                if !mechanisms.split(|byte| *byte == 0).any(|name| name == SCRAM_SHA_256.as_bytes()) {
                    return Err(unknown_method(&wire.shown(mechanisms, MAX_WORDS_BYTES)));
                }
                let begun = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                send(wire, |buffer| frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), buffer))
                    .await?;
                scram = Some(begun);
            }
            (b'R', [0, 0, 0, 11, challenge @ ..]) => {
                let Some(mut begun) = scram.take() else { return Err(wire.not_speaking(NAME)) };
                let challenge = challenge.to_vec();
                // Thousands of hashes, by the server's choice; the library bounds it.
                let (begun, proof) = wire
                    .aside(move || {
                        let proof = begun.update(&challenge);
                        (begun, proof)
                    })
                    .await?;
                proof.map_err(|error| scram_failure(&error))?;
                send(wire, |buffer| frontend::sasl_response(begun.message(), buffer)).await?;
                scram = Some(begun);
            }
            (b'R', [0, 0, 0, 12, proof @ ..]) => {
                let Some(mut begun) = scram.take() else { return Err(wire.not_speaking(NAME)) };
                begun.finish(proof).map_err(|error| scram_failure(&error))?;
            }
            (b'R', [0, 0, 0, 7 | 8]) => return Err(unknown_method("GSSAPI")),
            (b'R', [0, 0, 0, 9]) => return Err(unknown_method("SSPI")),
            (b'E', fields) => return Err(refusal(wire, fields)),
            (b'S', parameter) => note(&mut facts, parameter),
            // Notice, BackendKeyData, NegotiateProtocolVersion.
            (b'N' | b'K' | b'v', _) => {}
            (b'Z', _) if let_in => return Ok(facts),
            _ => return Err(wire.not_speaking(NAME)),
        }
    }
}

async fn send(
    wire: &mut Wire,
    message: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
) -> Result<(), ProbeFailure> {
    let mut buffer = BytesMut::new();
    // Text that cannot be sent holds a NUL, which a URL can spell.
    message(&mut buffer)
        .map_err(|error| ProbeFailure::NotStarted(format!("cannot ask as the URL says: {error}")))?;
    Ok(wire.write(&buffer).await?)
}

/// One message: its type, and its body of bounded length.
async fn read_message(wire: &mut Wire) -> Result<(u8, Vec<u8>), ProbeFailure> {
    let [tag, length @ ..] = wire.read(5).await?.try_into().unwrap_or([0; 5]);
    // The length counts itself.
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    // Another protocol's text gives lengths of a thousand million here.
    if !(4..=MAX_MESSAGE_BYTES).contains(&length) || !b"RESNKvZ".contains(&tag) {
        return Err(wire.not_speaking(NAME));
    }
    Ok((tag, wire.read(length - 4).await?))
}

fn password(login: &Login) -> Result<&str, ProbeFailure> {
    login
        .password
        .as_deref()
        .ok_or_else(|| ProbeFailure::Credentials("it asks for a password, and the URL has none".to_owned()))
}

fn unknown_method(method: &str) -> ProbeFailure {
    ProbeFailure::Credentials(format!(
        "it asks to log in by {method}, which a check cannot; allow it scram-sha-256 in pg_hba.conf"
    ))
}

fn scram_failure(error: &std::io::Error) -> ProbeFailure {
    ProbeFailure::Protocol(format!("the server does not prove that it knows the password (SCRAM): {error}"))
}

fn note(facts: &mut Facts, parameter: &[u8]) {
    let mut parts = parameter.split(|byte| *byte == 0);
    let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return };
    match name {
        b"server_version" => facts.version = crate::printable(value, MAX_WORDS_BYTES),
        b"in_hot_standby" => facts.standby = value == b"on",
        _ => {}
    }
}

/// An ErrorResponse in its kinds; the codes are those of the manual's appendix "PostgreSQL Error Codes".
fn refusal(wire: &Wire, fields: &[u8]) -> ProbeFailure {
    let field = |wanted: u8| {
        let found = fields.split(|byte| *byte == 0).find(|field| field.first() == Some(&wanted));
        found.map_or(String::new(), |field| wire.shown(&field[1..], MAX_WORDS_BYTES))
    };
    let (code, message) = (field(b'C'), field(b'M'));
    match code.as_str() {
        "" => wire.not_speaking(NAME),
        "57P03" => ProbeFailure::NotReady(format!("{} ({code})", not_now(&message))),
        "57P01" | "57P02" => ProbeFailure::NotReady(format!("is shutting down ({code})")),
        "53300" => ProbeFailure::NotReady(format!("has no connection left ({code}: {message})")),
        // 28: invalid authorization. 3D000: no such database. 42501: no right to connect to it. 55000: it is one
        // that takes no connections.
        "3D000" | "42501" | "55000" => ProbeFailure::Credentials(format!("{message} ({code})")),
        _ if code.starts_with("28") => ProbeFailure::Credentials(format!("{message} ({code})")),
        _ => ProbeFailure::NotReady(format!("refuses the connection: {message} ({code})")),
    }
}

/// Tells the states of cannot_connect_now apart, which only differ in their words (`CAC_*` in the server's
/// postmaster). The words may be in the server's language; then they are passed on.
fn not_now(message: &str) -> String {
    let states = [
        ("starting up", "is still starting up"),
        ("shutting down", "is shutting down"),
        ("in recovery mode", "is recovering from a crash"),
        ("not yet accepting connections", "is in recovery, and not far enough to take connections"),
        ("not accepting connections", "is in recovery and takes no connections"),
    ];
    states
        .iter()
        .find(|(words, _)| message.contains(words))
        .map_or_else(|| format!("takes no connections yet: {message}"), |(_, state)| (*state).to_owned())
}

#[cfg(test)]
mod tests;
