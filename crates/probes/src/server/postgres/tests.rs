//! Against scripts; the bytes are PostgreSQL 15's own.

use std::time::Duration;

use mainstay_types::ServerKind;

use super::*;
use crate::server::fake::{Step, holds_for_any_peer, play, survives_mutations};

const URL: &str = "postgres://app:hunter2@HOST/shop?sslmode=disable";

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn error(code: &str, text: &str) -> Vec<u8> {
    let body = format!("SFATAL\0VFATAL\0C{code}\0M{text}\0Fpostmaster.c\0L2380\0RProcessStartupPacket\0\0");
    message(b'E', body.as_bytes())
}

fn ready(extra: &[u8]) -> Vec<u8> {
    [
        &message(b'R', &[0; 4])[..],
        &message(b'S', b"in_hot_standby\0off\0"),
        &message(b'S', b"server_version\x0015.18 (Debian 15.18-0+deb12u1)\0"),
        extra,
        &message(b'K', &[0; 8]),
        &message(b'Z', b"I"),
    ]
    .concat()
}

const STARTUP_END: &[u8] = b"client_encoding\0UTF8\0\0";
const TERMINATE: &[u8] = b"X\0\0\0\x04";

async fn after_startup(url: &str, said: Vec<u8>) -> (Result<String, ProbeFailure>, Vec<u8>) {
    let steps = vec![Step::Hear(STARTUP_END.to_vec()), Step::Say(said), Step::Hang];
    play(ServerKind::Postgres, url, steps).await
}

#[tokio::test]
async fn each_answer_is_its_own() {
    let not_ready = |words: &str| Err(ProbeFailure::NotReady(words.to_owned()));
    let credentials = |words: &str| Err(ProbeFailure::Credentials(words.to_owned()));
    for (code, text, answer) in [
        ("57P03", "the database system is starting up", not_ready("is still starting up (57P03)")),
        ("57P03", "the database system is shutting down", not_ready("is shutting down (57P03)")),
        ("57P03", "the database system is in recovery mode", not_ready("is recovering from a crash (57P03)")),
        (
            "57P03",
            "the database system is not yet accepting connections",
            not_ready("is in recovery, and not far enough to take connections (57P03)"),
        ),
        (
            "57P03",
            "the database system is not accepting connections",
            not_ready("is in recovery and takes no connections (57P03)"),
        ),
        (
            "57P03",
            "das Datenbanksystem startet",
            not_ready("takes no connections yet: das Datenbanksystem startet (57P03)"),
        ),
        ("57P01", "terminating connection", not_ready("is shutting down (57P01)")),
        (
            "53300",
            "sorry, too many clients already",
            not_ready("has no connection left (53300: sorry, too many clients already)"),
        ),
        ("XX000", "oops", not_ready("refuses the connection: oops (XX000)")),
        (
            "28P01",
            "password authentication failed for user \"app\"",
            credentials("password authentication failed for user \"app\" (28P01)"),
        ),
        ("28000", "no pg_hba.conf entry", credentials("no pg_hba.conf entry (28000)")),
        (
            "3D000",
            "database \"shop\" does not exist",
            credentials("database \"shop\" does not exist (3D000)"),
        ),
        ("42501", "permission denied", credentials("permission denied (42501)")),
    ] {
        assert_eq!(after_startup(URL, error(code, text)).await.0, answer, "{code} {text}");
    }
}

#[tokio::test]
async fn passes_with_its_version_and_leaves_in_order() {
    let (answer, heard) = after_startup(URL, ready(&[])).await;
    assert_eq!(answer, Ok("ready: PostgreSQL 15.18".to_owned()));
    assert!(heard.ends_with(TERMINATE), "{heard:?}");
    let startup = b"user\0app\0database\0shop\0application_name\0mainstay\0client_encoding\0UTF8\0\0";
    assert_eq!(heard[8..], [startup, TERMINATE].concat());

    let (answer, _) = after_startup(URL, ready(&message(b'S', b"in_hot_standby\0on\0"))).await;
    assert_eq!(answer, Ok("ready: PostgreSQL 15.18, a standby for readers only".to_owned()));
}

#[tokio::test]
async fn a_url_without_user_asks_for_readiness_alone() {
    let url = "postgres://HOST?sslmode=disable";
    for refusal in [error("28P01", "x"), error("3D000", "x"), message(b'R', &[0, 0, 0, 3])] {
        let (answer, _) = after_startup(url, refusal).await;
        assert_eq!(answer, Ok("ready: PostgreSQL; not logged in, for the URL names no user".to_owned()));
    }
    let (answer, _) = after_startup(url, error("57P03", "the database system is starting up")).await;
    assert_eq!(answer, Err(ProbeFailure::NotReady("is still starting up (57P03)".to_owned())));
}

#[tokio::test]
async fn passwords_are_sent_as_asked() {
    let md5 = md5_hash(b"app", b"hunter2", [1, 2, 3, 4]);
    for (asked, sent) in [
        (message(b'R', &[0, 0, 0, 3]), message(b'p', b"hunter2\0")),
        (message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]), message(b'p', format!("{md5}\0").as_bytes())),
    ] {
        let steps = vec![
            Step::Hear(STARTUP_END.to_vec()),
            Step::Say(asked),
            Step::Hear(sent),
            Step::Say(ready(&[])),
            Step::Hang,
        ];
        let (answer, _) = play(ServerKind::Postgres, URL, steps).await;
        assert_eq!(answer, Ok("ready: PostgreSQL 15.18".to_owned()));
    }
}

#[tokio::test]
async fn what_it_cannot_do_is_said() {
    let no_password = "it asks for a password, and the URL has none";
    let gss = "it asks to log in by GSSAPI, which a check cannot; allow it scram-sha-256 in pg_hba.conf";
    let other =
        "it asks to log in by SCRAM-SHA-512, which a check cannot; allow it scram-sha-256 in pg_hba.conf";
    for (url, asked, words) in [
        ("postgres://app@HOST/?sslmode=disable", message(b'R', &[0, 0, 0, 3]), no_password),
        (URL, message(b'R', &[0, 0, 0, 7]), gss),
        (URL, message(b'R', b"\0\0\0\x0aSCRAM-SHA-512\0\0"), other),
    ] {
        assert_eq!(after_startup(url, asked).await.0, Err(ProbeFailure::Credentials(words.to_owned())));
    }
    let (answer, _) =
        play(ServerKind::Postgres, "postgres://a%00b@HOST?sslmode=disable", vec![Step::Hang]).await;
    assert!(matches!(answer, Err(ProbeFailure::NotStarted(_))), "{answer:?}");
}

#[tokio::test]
async fn a_false_server_does_not_pass_scram() {
    // It lets us in without having shown that it knows the password.
    let begin = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let (answer, _) = after_startup(URL, [begin.clone(), ready(&[])].concat()).await;
    assert!(matches!(answer, Err(ProbeFailure::Protocol(_))), "{answer:?}");
    // A thousand million rounds are not done.
    let steps = vec![
        Step::Hear(STARTUP_END.to_vec()),
        Step::Say(begin),
        // SASLInitialResponse: `p`, its length, the mechanism, the length of `n,,n=,r=` and a nonce of 24 characters.
        Step::HearCount(1 + 4 + 14 + 4 + 8 + 24),
        Step::Answer(|heard| {
            let nonce = String::from_utf8(heard[heard.len() - 24..].to_vec()).unwrap();
            let challenge = format!("\0\0\0\x0br={nonce}xyz,s=c2FsdA==,i=1000000000");
            message(b'R', challenge.as_bytes())
        }),
        Step::Hang,
    ];
    let (answer, _) = play(ServerKind::Postgres, URL, steps).await;
    let Err(ProbeFailure::Protocol(words)) = answer else { panic!("{answer:?}") };
    assert!(words.contains("iteration count exceeds"), "{words}");
}

#[tokio::test]
async fn tls_is_asked_for_as_the_mode_says() {
    let no = vec![
        Step::HearCount(8),
        Step::Say(b"N".to_vec()),
        Step::Hear(STARTUP_END.to_vec()),
        Step::Say(ready(&[])),
    ];
    let (answer, heard) = play(ServerKind::Postgres, "postgres://app@HOST", no.clone()).await;
    assert_eq!(answer, Ok("ready: PostgreSQL 15.18".to_owned()));
    assert_eq!(heard[..8], [0, 0, 0, 8, 4, 210, 22, 47]);
    let (answer, _) = play(ServerKind::Postgres, "postgres://app@HOST?sslmode=require", no).await;
    let Err(ProbeFailure::Tls { message, .. }) = answer else { panic!("{answer:?}") };
    assert!(message.contains("`ca`"), "{message}");

    let (answer, _) = play(
        ServerKind::Postgres,
        "postgres://app@HOST",
        vec![Step::HearCount(8), Step::Say(b"SX".to_vec())],
    )
    .await;
    assert!(matches!(answer, Err(ProbeFailure::Protocol(_))), "{answer:?}");

    let fork = b"Ecould not fork new process for connection: Cannot allocate memory\n\0".to_vec();
    let (answer, _) =
        play(ServerKind::Postgres, "postgres://app@HOST", vec![Step::HearCount(8), Step::Say(fork)]).await;
    let words = "takes no connection: could not fork new process for connection: Cannot allocate memory";
    assert_eq!(answer, Err(ProbeFailure::NotReady(words.to_owned())));
}

#[tokio::test]
async fn a_slow_server_may_use_all_its_time() {
    let steps = vec![
        Step::Hear(STARTUP_END.to_vec()),
        Step::SaySlowly(ready(&[]), Duration::from_millis(1)),
        Step::Hang,
    ];
    let (answer, _) = play(ServerKind::Postgres, URL, steps).await;
    assert_eq!(answer, Ok("ready: PostgreSQL 15.18".to_owned()));
}

#[tokio::test]
async fn broken_answers_are_survived() {
    let transcript = [message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]), ready(&[])].concat();
    survives_mutations(ServerKind::Postgres, URL, &transcript).await;
    let refused = [message(b'R', &[0, 0, 0, 3]), error("28P01", "no")].concat();
    survives_mutations(ServerKind::Postgres, "postgres://:x@HOST?sslmode=disable", &refused).await;
}

#[tokio::test]
async fn any_peer_is_survived() {
    holds_for_any_peer(ServerKind::Postgres, URL, NAME).await;
    // Also where the first question is for TLS.
    holds_for_any_peer(ServerKind::Postgres, "postgres://app:hunter2@HOST", NAME).await;
    let (answer, _) = after_startup(URL, message(b'Z', b"I")).await;
    assert!(matches!(answer, Err(ProbeFailure::Protocol(_))), "ready without having let us in: {answer:?}");
    for length in [0, 3, 65_537, u32::MAX] {
        let (answer, _) = after_startup(URL, [&b"R"[..], &length.to_be_bytes(), &[0; 64]].concat()).await;
        assert!(matches!(answer, Err(ProbeFailure::Protocol(_))), "{length}: {answer:?}");
    }
    let notices = vec![Step::Hear(STARTUP_END.to_vec()), Step::SayForEver(message(b'N', &[b'x'; 1000]))];
    let (answer, _) = play(ServerKind::Postgres, URL, notices).await;
    let words = "it said more than 256 KiB and did not come to an end";
    assert_eq!(answer, Err(ProbeFailure::Protocol(words.to_owned())));
}
