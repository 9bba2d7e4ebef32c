//! MySQL and MariaDB: the connection phase up to OK, then COM_QUIT (MySQL internals manual, "Connection Phase";
//! MariaDB knowledge base, "Connecting").
//!
//! The greeting is always answered: a server counts connections that leave in the middle, and in the end blocks the
//! machine they come from.

use mainstay_types::{CaFile, ProbeFailure};
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use super::login::Login;
use super::trust::{Encrypt, Trust, encrypt};
use super::wire::Wire;

const NAME: &str = "the MySQL protocol";
/// Largest packet that is taken; a greeting is about 100 bytes, a public key about 500.
const MAX_PACKET_BYTES: usize = 64 * 1024;
/// Longest message of the server that is passed on.
const MAX_WORDS_BYTES: usize = 200;
/// The user when the URL names none. Whether it exists does not matter then.
const NOBODY_IN_PARTICULAR: &str = "mainstay";

/// Capabilities: `CLIENT_*` of the manual.
const LONG_PASSWORD: u32 = 1;
const CONNECT_WITH_DB: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const SSL: u32 = 1 << 11;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;

/// utf8mb4_general_ci.
const CHARSET: u8 = 45;
const COM_QUIT: &[u8] = &[1, 0, 0, 0, 1];

/// Logs in and out.
pub(super) async fn check(
    mut wire: Wire,
    login: &Login,
    ca: Option<&CaFile>,
) -> Result<String, ProbeFailure> {
    let encrypt = encrypt(login, ca)?;
    let greeting = Greeting::receive(&mut wire).await?;
    match log_in(&mut wire, login, encrypt, &greeting).await {
        Ok(()) => {
            wire.close(COM_QUIT).await;
            Ok(format!("ready: {}", greeting.who))
        }
        Err(failure) => {
            wire.close(&[]).await;
            if super::is_ready_for_others(login, &failure) {
                return Ok(format!("ready: {}; not logged in, for the URL names no user", greeting.who));
            }
            Err(failure)
        }
    }
}

/// The server's first packet (HandshakeV10).
struct Greeting {
    /// `MariaDB 10.11.14`.
    who: String,
    capabilities: u32,
    challenge: Vec<u8>,
    plugin: Vec<u8>,
    sequence: u8,
}

impl Greeting {
    async fn receive(wire: &mut Wire) -> Result<Self, ProbeFailure> {
        let (sequence, packet) = read_packet(wire).await?;
        match &packet[..] {
            [0xff, error @ ..] => Err(refusal(wire, error)),
            [10, rest @ ..] => Self::read(wire, sequence, rest).ok_or_else(|| wire.not_speaking(NAME)),
            _ => Err(wire.not_speaking(NAME)),
        }
    }

    fn read(wire: &Wire, sequence: u8, packet: &[u8]) -> Option<Self> {
        let (version, rest) = take_text(packet)?;
        let (_thread, rest) = rest.split_at_checked(4)?;
        let (first, rest) = rest.split_at_checked(8)?;
        let (&[_, low_a, low_b, _charset, _, _, high_a, high_b, length], rest) =
            rest.split_first_chunk::<9>()?;
        let (_reserved, rest) = rest.split_at_checked(10)?;
        let (second, rest) = rest.split_at_checked(usize::from(length).saturating_sub(8).max(13))?;
        let plugin = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Self {
            who: who(&wire.shown(version, 64)),
            capabilities: u32::from_le_bytes([low_a, low_b, high_a, high_b]),
            challenge: challenge(&[first, second].concat()),
            plugin: plugin.to_vec(),
            sequence,
        })
    }
}

/// `5.5.5-10.11.14-MariaDB-0+deb12u2`: MariaDB puts a version before its own that old replicas accept.
fn who(version: &str) -> String {
    let own = version.strip_prefix("5.5.5-").unwrap_or(version);
    let number = own.split('-').next().unwrap_or(own);
    let product = if version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
    format!("{product} {number}")
}

/// A challenge has 20 bytes and ends with NUL.
fn challenge(bytes: &[u8]) -> Vec<u8> {
    bytes.strip_suffix(&[0]).unwrap_or(bytes).to_vec()
}

async fn log_in(
    wire: &mut Wire,
    login: &Login,
    encrypt: Encrypt<'_>,
    greeting: &Greeting,
) -> Result<(), ProbeFailure> {
    let needed = PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;
    if greeting.capabilities & needed != needed {
        return Err(ProbeFailure::Protocol(format!("{} is too old: use 5.5 or later", greeting.who)));
    }
    let mut capabilities = needed | LONG_PASSWORD | TRANSACTIONS;
    if login.name.is_some() {
        capabilities |= CONNECT_WITH_DB;
    }
    let offers_tls = greeting.capabilities & SSL != 0;
    let trust = match encrypt {
        Encrypt::Never => None,
        Encrypt::IfOffered(trust) => Some(trust).filter(|_| offers_tls),
        Encrypt::Always(trust) if offers_tls => Some(trust),
        Encrypt::Always(_) => {
            return Err(wire.tls_failure(
                "the server offers none: give it a certificate (`ssl_cert`, `ssl_key`), or take `ca` and ssl-mode away here",
            ));
        }
    };
    if trust.is_some() {
        capabilities |= SSL;
    }
    let head =
        [&capabilities.to_le_bytes()[..], &0x0100_0000_u32.to_le_bytes(), &[CHARSET], &[0; 23]].concat();
    let mut sequence = greeting.sequence.wrapping_add(1);
    if let Some(trust) = trust {
        // Some methods send the password as it is within TLS.
        wire.hide_password(login);
        send(wire, sequence, &head).await?;
        wire.start_tls(trust, NAME).await?;
        sequence = sequence.wrapping_add(1);
    }

    let mut method = Method { trust, plugin: greeting.plugin.clone(), challenge: greeting.challenge.clone() };
    if !method.is_known() {
        // It asks again by the plugin of the user, if that is another one.
        method.plugin = b"mysql_native_password".to_vec();
    }
    let password = login.password.as_deref().unwrap_or_default().as_bytes();
    let response = method.first_answer(password).unwrap_or_default();
    let response_length = u8::try_from(response.len()).unwrap_or_default();
    let mut packet = head;
    packet.extend(text(login.user.as_deref().unwrap_or(NOBODY_IN_PARTICULAR))?);
    packet.push(response_length);
    packet.extend_from_slice(&response[..usize::from(response_length)]);
    if let Some(name) = &login.name {
        packet.extend(text(name)?);
    }
    packet.extend_from_slice(&method.plugin);
    packet.push(0);
    send(wire, sequence, &packet).await?;
    converse(wire, password, method).await
}

/// What follows the login, until OK or an error.
async fn converse(wire: &mut Wire, password: &[u8], mut method: Method<'_>) -> Result<(), ProbeFailure> {
    loop {
        let (sequence, packet) = read_packet(wire).await?;
        let next = sequence.wrapping_add(1);
        match &packet[..] {
            [0x00, ..] => return Ok(()),
            [0xff, error @ ..] => return Err(refusal(wire, error)),
            // AuthSwitchRequest; without a plugin it is the one of MySQL 4.0.
            [0xfe, rest @ ..] => {
                let (plugin, data) = take_text(rest).unwrap_or((b"mysql_old_password", &[]));
                method.plugin = plugin.to_vec();
                method.challenge = challenge(data);
                match method.first_answer(password) {
                    Some(answer) => send(wire, next, &answer).await?,
                    None => return Err(give_up(wire, next, &method).await),
                }
            }
            // caching_sha2_password: it knew the password's hash, and OK follows.
            [0x01, 3] => {}
            // It does not, and wants the password itself, which only TLS may carry as it is.
            [0x01, 4] if method.trust.is_some() => send(wire, next, &[password, &[0]].concat()).await?,
            [0x01, ..] => return Err(give_up(wire, next, &method).await),
            _ => return Err(wire.not_speaking(NAME)),
        }
    }
}

/// Leaves a login that cannot be done, in order: an empty answer is refused and counted as a wrong password.
async fn give_up(wire: &mut Wire, sequence: u8, method: &Method<'_>) -> ProbeFailure {
    let plugin = wire.shown(&method.plugin, 64);
    let _ = send(wire, sequence, &[]).await;
    let _ = read_packet(wire).await;
    let way_out = match (&method.plugin[..], method.trust) {
        (b"caching_sha2_password" | b"sha256_password", None) => {
            "only with TLS: switch it on in the server, and do not disable it in the URL"
        }
        (b"mysql_clear_password", _) => "only with TLS and a `ca`",
        _ => "not at all: give the check a user with another one",
    };
    ProbeFailure::Credentials(format!("it asks to log in by {plugin}, which a check does {way_out}"))
}

/// How to prove that one knows the password.
struct Method<'a> {
    /// Whom TLS trusts; `None` is without TLS.
    trust: Option<Trust<'a>>,
    plugin: Vec<u8>,
    challenge: Vec<u8>,
}

impl Method<'_> {
    fn is_known(&self) -> bool {
        self.first_answer(&[]).is_some()
    }

    /// The first answer to the challenge; `None` when this method, or this method without TLS, is not spoken here.
    fn first_answer(&self, password: &[u8]) -> Option<Vec<u8>> {
        match &self.plugin[..] {
            b"mysql_native_password" | b"caching_sha2_password" if password.is_empty() => Some(Vec::new()),
            b"mysql_native_password" => Some(native(password, &self.challenge)),
            b"caching_sha2_password" => Some(caching_sha2(password, &self.challenge)),
            b"sha256_password" if self.trust.is_some() => Some([password, &[0]].concat()),
            // A server that anyone may be could ask for this one to learn the password.
            b"mysql_clear_password" if matches!(self.trust, Some(Trust::Signed(_))) => {
                Some([password, &[0]].concat())
            }
            _ => None,
        }
    }
}

/// `SHA1(password) XOR SHA1(challenge + SHA1(SHA1(password)))`.
fn native(password: &[u8], challenge: &[u8]) -> Vec<u8> {
    let hash = |bytes: &[u8]| hash(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let once = hash(password);
    xor(&once, &hash(&[challenge, &hash(&once)].concat()))
}

/// `SHA256(password) XOR SHA256(SHA256(SHA256(password)) + challenge)`.
fn caching_sha2(password: &[u8], challenge: &[u8]) -> Vec<u8> {
    let hash = |bytes: &[u8]| hash(&SHA256, bytes);
    let once = hash(password);
    xor(&once, &hash(&[&hash(&once)[..], challenge].concat()))
}

fn hash(algorithm: &'static Algorithm, bytes: &[u8]) -> Vec<u8> {
    digest(algorithm, bytes).as_ref().to_vec()
}

fn xor(left: &[u8], right: &[u8]) -> Vec<u8> {
    left.iter().zip(right).map(|(left, right)| left ^ right).collect()
}

/// An ERR packet in its kinds; the numbers are those of MySQL's "Server Error Message Reference" and MariaDB's
/// "MariaDB Error Codes".
fn refusal(wire: &Wire, error: &[u8]) -> ProbeFailure {
    let [low, high, rest @ ..] = error else { return wire.not_speaking(NAME) };
    let code = u16::from_le_bytes([*low, *high]);
    // `#` and an SQLSTATE of five characters, once the server knows that the client speaks the protocol of 4.1.
    let (state, message) = match rest {
        [b'#', rest @ ..] if rest.len() >= 5 => rest.split_at(5),
        _ => (&[][..], rest),
    };
    let message = wire.shown(message, MAX_WORDS_BYTES);
    match code {
        1040 | 1203 | 1226 => ProbeFailure::NotReady(format!("has no connection left ({code}: {message})")),
        1129 => ProbeFailure::NotReady(format!(
            "blocks this machine after too many broken connections ({code}): `mysqladmin flush-hosts` unblocks it"
        )),
        1053 | 1077 => ProbeFailure::NotReady(format!("is shutting down ({code})")),
        1044 | 1045 | 1049 | 1130 | 1251 | 1275 | 1524 | 1698 | 1820 | 1862 | 3118 | 3159 | 4151 => {
            ProbeFailure::Credentials(format!("{message} ({code})"))
        }
        _ if state == b"28000" => ProbeFailure::Credentials(format!("{message} ({code})")),
        _ => ProbeFailure::NotReady(format!("refuses the connection: {message} ({code})")),
    }
}

/// Number and payload of one packet.
async fn read_packet(wire: &mut Wire) -> Result<(u8, Vec<u8>), ProbeFailure> {
    let [a, b, c, sequence] = wire.read(4).await?.try_into().unwrap_or([0; 4]);
    let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    // Another protocol's text gives lengths of millions here.
    if length > MAX_PACKET_BYTES {
        return Err(wire.not_speaking(NAME));
    }
    Ok((sequence, wire.read(length).await?))
}

async fn send(wire: &mut Wire, sequence: u8, payload: &[u8]) -> Result<(), ProbeFailure> {
    // Ours hold parts of one URL; what is longer than a packet may be is cut off by nobody here but refused there.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let packet = [&length[..3], &[sequence], payload].concat();
    Ok(wire.write(&packet).await?)
}

/// Text and NUL.
fn text(text: &str) -> Result<Vec<u8>, ProbeFailure> {
    if text.contains('\0') {
        return Err(ProbeFailure::NotStarted("cannot ask as the URL says: it has a NUL (%00)".to_owned()));
    }
    Ok([text.as_bytes(), &[0]].concat())
}

fn take_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests;
