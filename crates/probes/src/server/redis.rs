//! Redis and Valkey, RESP2: AUTH, SELECT, PING, and INFO for the version (the Redis serialization protocol
//! specification, and `redis.io/commands` of each).

use mainstay_types::{CaFile, ProbeFailure};

use super::login::Login;
use super::trust::Trust;
use super::wire::Wire;

const NAME: &str = "Redis";
/// Longest line that is taken; a simple string or an error is one.
const MAX_LINE_BYTES: usize = 4096;
/// Largest text that is taken; `INFO server` is about 1 KiB.
const MAX_BULK_BYTES: usize = 64 * 1024;
/// Longest error that is passed on.
const MAX_WORDS_BYTES: usize = 200;

/// Logs in, chooses the database, and asks for a PONG.
pub(super) async fn check(
    mut wire: Wire,
    login: &Login,
    ca: Option<&CaFile>,
) -> Result<String, ProbeFailure> {
    let database = match &login.name {
        Some(name) => Some(name.parse::<u32>().map_err(|_| {
            ProbeFailure::NotStarted(format!(
                "cannot ask: its URL names the database {name:?}, and Redis numbers them"
            ))
        })?),
        None => None,
    };
    if login.tls {
        wire.start_tls(Trust::Signed(ca), NAME).await?;
    }
    let answer = ask(&mut wire, login, database).await;
    // Redis notes nothing of a client that closes; QUIT is deprecated since 7.2.
    wire.close(&[]).await;
    answer
}

async fn ask(wire: &mut Wire, login: &Login, database: Option<u32>) -> Result<String, ProbeFailure> {
    if let Some(password) = &login.password {
        wire.hide_password(login);
        match &login.user {
            Some(user) => command(wire, &["AUTH", user, password], login).await?,
            None => command(wire, &["AUTH", password], login).await?,
        };
    }
    if let Some(number) = database {
        command(wire, &["SELECT", &number.to_string()], login).await?;
    }
    let pong = command(wire, &["PING"], login).await?;
    if pong != b"PONG" {
        return Err(wire.not_speaking(NAME));
    }
    // Who may not ask for it is let in all the same.
    let info = command(wire, &["INFO", "server"], login).await.unwrap_or_default();
    Ok(who(&String::from_utf8_lossy(&info)))
}

/// `PONG from Redis 7.0.15`. Valkey tells a Redis version too, the one it is compatible with.
fn who(info: &str) -> String {
    let fact = |name: &str| {
        let mut lines = info.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(|value| crate::printable(value.as_bytes(), 32))
    };
    match (fact("valkey_version"), fact("redis_version")) {
        (Some(version), _) => format!("PONG from Valkey {version}"),
        (None, Some(version)) => format!("PONG from {NAME} {version}"),
        (None, None) => format!("PONG from {NAME}"),
    }
}

/// Sends one command and reads its answer: the simple or the bulk string.
async fn command(wire: &mut Wire, words: &[&str], login: &Login) -> Result<Vec<u8>, ProbeFailure> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    wire.write(request.as_bytes()).await?;
    // The first byte tells another protocol, which may never end a line.
    let kind = wire.read(1).await?;
    if !matches!(kind[..], [b'+' | b'-' | b'$']) {
        return Err(wire.not_speaking(NAME));
    }
    let Some(line) = wire.read_line(MAX_LINE_BYTES).await? else { return Err(wire.not_speaking(NAME)) };
    match kind[..] {
        [b'-'] => Err(refusal(&wire.shown(&line, MAX_WORDS_BYTES), login)),
        [b'$'] => {
            let length = std::str::from_utf8(&line).ok().and_then(|text| text.parse::<usize>().ok());
            let Some(length) = length.filter(|length| *length <= MAX_BULK_BYTES) else {
                return Err(wire.not_speaking(NAME));
            };
            let mut text = wire.read(length + 2).await?;
            text.truncate(length);
            Ok(text)
        }
        _ => Ok(line),
    }
}

/// An error in its kinds; its first word is the kind.
fn refusal(error: &str, login: &Login) -> ProbeFailure {
    let (kind, words) = error.split_once(' ').unwrap_or((error, ""));
    match kind {
        "LOADING" => ProbeFailure::NotReady(format!("is loading its data ({error})")),
        "MASTERDOWN" => ProbeFailure::NotReady(format!("is a replica that has lost its primary ({error})")),
        "BUSY" => ProbeFailure::NotReady(format!("is busy with a script ({error})")),
        "MISCONF" => ProbeFailure::NotReady(format!("cannot save its data ({error})")),
        "NOAUTH" if login.password.is_none() => {
            ProbeFailure::Credentials("it asks for a password, and the URL has none (NOAUTH)".to_owned())
        }
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => ProbeFailure::Credentials(error.to_owned()),
        // Without a kind of their own: a wrong password before Redis 6, a password for a server that has none, a
        // number of a database there is not, and no connection left.
        "ERR" if words.starts_with("max number of clients") => {
            ProbeFailure::NotReady(format!("has no connection left ({error})"))
        }
        "ERR"
            if words.starts_with("invalid password")
                || words.starts_with("AUTH ")
                || words.starts_with("Client sent AUTH")
                || words.starts_with("DB index")
                || words.starts_with("invalid DB index") =>
        {
            ProbeFailure::Credentials(words.to_owned())
        }
        _ => ProbeFailure::NotReady(format!("refuses the question: {error}")),
    }
}

#[cfg(test)]
mod tests;
