//! Against scripts; the lines are Redis 7's own unless said otherwise.

use mainstay_types::ServerKind;

use super::*;
use crate::server::fake::{Step, holds_for_any_peer, play, survives_mutations};

const URL: &str = "redis://app:hunter2@HOST/3";
const AUTH: &[u8] = b"*3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$7\r\nhunter2\r\n";
const SELECT: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n";
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const INFO: &[u8] = b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n";

fn say(text: &str) -> Step {
    Step::Say(text.as_bytes().to_vec())
}

fn hear(bytes: &[u8]) -> Step {
    Step::Hear(bytes.to_vec())
}

fn bulk(text: &str) -> Step {
    say(&format!("${}\r\n{text}\r\n", text.len()))
}

#[tokio::test]
async fn logs_in_selects_pings_and_tells_who_it_is() {
    for (info, evidence) in [
        (bulk("# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n"), "PONG from Redis 7.0.15"),
        (bulk("# Server\r\nredis_version:7.2.4\r\nvalkey_version:8.0.1\r\n"), "PONG from Valkey 8.0.1"),
        (say("-NOPERM User app has no permissions to run the 'info' command\r\n"), "PONG from Redis"),
        (say("$-1\r\n"), "PONG from Redis"),
    ] {
        let steps = vec![
            hear(AUTH),
            say("+OK\r\n"),
            hear(SELECT),
            say("+OK\r\n"),
            hear(PING),
            say("+PONG\r\n"),
            hear(INFO),
            info,
            Step::Hang,
        ];
        let (answer, heard) = play(ServerKind::Redis, URL, steps).await;
        assert_eq!(answer, Ok(evidence.to_owned()));
        assert_eq!(heard, [AUTH, SELECT, PING, INFO].concat());
    }
    let steps = vec![hear(PING), say("+PONG\r\n"), hear(INFO)];
    let (answer, heard) = play(ServerKind::Redis, "redis://HOST", steps).await;
    assert_eq!(answer, Ok("PONG from Redis".to_owned()));
    assert_eq!(heard, [PING, INFO].concat());
    let auth = b"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n";
    let steps = vec![hear(auth), say("+OK\r\n"), hear(PING), say("+PONG\r\n"), hear(INFO), say("+\r\n")];
    let (answer, _) = play(ServerKind::Redis, "redis://:x@HOST", steps).await;
    assert_eq!(answer, Ok("PONG from Redis".to_owned()));
}

#[tokio::test]
async fn each_answer_is_its_own() {
    let not_ready = |words: &str| Err(ProbeFailure::NotReady(words.to_owned()));
    let credentials = |words: &str| Err(ProbeFailure::Credentials(words.to_owned()));
    for (url, line, answer) in [
        (
            URL,
            "-LOADING Redis is loading the dataset in memory",
            not_ready("is loading its data (LOADING Redis is loading the dataset in memory)"),
        ),
        (
            "redis://HOST",
            "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            not_ready(
                "is a replica that has lost its primary (MASTERDOWN Link with MASTER is down and \
                 replica-serve-stale-data is set to 'no'.)",
            ),
        ),
        (
            "redis://HOST",
            "-ERR max number of clients reached",
            not_ready("has no connection left (ERR max number of clients reached)"),
        ),
        (
            "redis://HOST",
            "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            not_ready(
                "is busy with a script (BUSY Redis is busy running a script. You can only call SCRIPT KILL or \
                 SHUTDOWN NOSAVE.)",
            ),
        ),
        ("redis://HOST", "-ODD x", not_ready("refuses the question: ODD x")),
        (
            "redis://HOST",
            "-NOAUTH Authentication required.",
            credentials("it asks for a password, and the URL has none (NOAUTH)"),
        ),
        (
            URL,
            "-WRONGPASS invalid username-password pair or user is disabled.",
            credentials("WRONGPASS invalid username-password pair or user is disabled."),
        ),
        // Redis 5.
        (URL, "-ERR invalid password", credentials("invalid password")),
        (
            URL,
            "-ERR Client sent AUTH, but no password is set",
            credentials("Client sent AUTH, but no password is set"),
        ),
        ("redis://HOST/99", "-ERR DB index is out of range", credentials("DB index is out of range")),
        (
            "redis://HOST",
            "-NOPERM this user has no permissions to run the 'ping' command",
            credentials("NOPERM this user has no permissions to run the 'ping' command"),
        ),
    ] {
        // Some are said before anything is asked.
        for asked in [Step::HearCount(8), say("")] {
            let steps = vec![asked, say(line), say("\r\n"), Step::Hang];
            assert_eq!(play(ServerKind::Redis, url, steps).await.0, answer, "{line}");
        }
    }
}

#[tokio::test]
async fn a_server_that_repeats_the_password_does_not_get_it_shown() {
    let line = "-ERR unknown command 'AUTH', with args beginning with: 'app' 'hunter2' \r\n";
    let (answer, _) = play(ServerKind::Redis, URL, vec![hear(AUTH), say(line), Step::Hang]).await;
    let words = "refuses the question: ERR unknown command 'AUTH', with args beginning with: 'app' '***'";
    assert_eq!(answer, Err(ProbeFailure::NotReady(words.to_owned())));
}

#[tokio::test]
async fn an_empty_password_is_one() {
    let auth = b"*2\r\n$4\r\nAUTH\r\n$0\r\n\r\n";
    let steps = vec![hear(auth), say("-WRONGPASS invalid\r\n"), Step::Hang];
    let (answer, _) = play(ServerKind::Redis, "redis://:@HOST", steps).await;
    assert_eq!(answer, Err(ProbeFailure::Credentials("WRONGPASS invalid".to_owned())));
}

#[tokio::test]
async fn a_database_is_a_number() {
    let (answer, _) = play(ServerKind::Redis, "redis://HOST/shop", vec![Step::Hang]).await;
    assert!(matches!(answer, Err(ProbeFailure::NotStarted(_))), "{answer:?}");
}

#[tokio::test]
async fn broken_answers_are_survived() {
    let transcript = b"+OK\r\n+OK\r\n+PONG\r\n$22\r\nredis_version:7.0.15\r\n\r\n";
    survives_mutations(ServerKind::Redis, URL, transcript).await;
}

#[tokio::test]
async fn any_peer_is_survived() {
    holds_for_any_peer(ServerKind::Redis, URL, NAME).await;
    for said in [
        "$18446744073709551615\r\n",
        "$99999999999\r\n",
        "$-5\r\n",
        "$\r\n",
        "*1\r\n",
        ":1\r\n",
        "\r\n",
        "+OK\r\n",
    ] {
        let (answer, _) =
            play(ServerKind::Redis, "redis://HOST", vec![hear(PING), say(said), Step::Hang]).await;
        assert!(matches!(answer, Err(ProbeFailure::Protocol(_))), "{said:?}: {answer:?}");
    }
    let (answer, _) = play(ServerKind::Redis, "redis://HOST", vec![hear(PING)]).await;
    assert_eq!(answer, Err(ProbeFailure::Protocol("it closed the connection before it answered".to_owned())));
}
