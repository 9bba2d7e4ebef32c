//! Against scripts; the greeting is MariaDB 10.11's.

use std::sync::Arc;

use mainstay_types::ServerKind;

use super::*;
use crate::server::fake::{Step, holds_for_any_peer, play, play_trusting, survives_mutations};
use crate::tls::testing::Authority;

const URL: &str = "mysql://app:hunter2@HOST/shop";
const MARIADB: &str = "5.5.5-10.11.14-MariaDB-0+deb12u2";
const NATIVE: &str = "mysql_native_password";
const SHA2: &str = "caching_sha2_password";
/// Bytes 1 to 20.
const CHALLENGE: [u8; 20] =
    *b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14";

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

fn greeting(version: &str, plugin: &str) -> Vec<u8> {
    let capabilities = [0xfe, 0xf7, 45, 2, 0, 0xff, 0x81, 21];
    let payload = [
        &[10][..],
        version.as_bytes(),
        &[0, 31, 0, 0, 0],
        &CHALLENGE[..8],
        &[0],
        &capabilities,
        &[0; 10],
        &CHALLENGE[8..],
        &[0],
        plugin.as_bytes(),
        &[0],
    ];
    packet(0, &payload.concat())
}

fn error(sequence: u8, code: u16, state: &str, message: &str) -> Vec<u8> {
    packet(sequence, &[&[0xff][..], &code.to_le_bytes(), state.as_bytes(), message.as_bytes()].concat())
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];

/// The end of what is sent to a server that greets so.
fn login_end(plugin: &str) -> Vec<u8> {
    [b"shop\0", plugin.as_bytes(), &[0]].concat()
}

async fn after_login(url: &str, said: Vec<u8>) -> (Result<String, ProbeFailure>, Vec<u8>) {
    let steps = vec![
        Step::Say(greeting(MARIADB, NATIVE)),
        Step::Hear(b"mysql_native_password\0".to_vec()),
        Step::Say(said),
        Step::Hang,
    ];
    play(ServerKind::Mysql, url, steps).await
}

#[tokio::test]
async fn passes_with_its_version_and_leaves_in_order() {
    let (answer, heard) = after_login(URL, packet(2, OK)).await;
    assert_eq!(answer, Ok("ready: MariaDB 10.11.14".to_owned()));
    let proof = native(b"hunter2", &CHALLENGE);
    let end = [b"\0app\0\x14", &proof[..], &login_end(NATIVE), COM_QUIT].concat();
    assert!(heard.ends_with(&end), "{heard:?}");
    assert_eq!(heard[3], 1, "the number after the greeting's");
    assert_eq!(usize::from(heard[0]), heard.len() - 4 - COM_QUIT.len());

    let steps = vec![
        Step::Say(greeting("8.0.36", SHA2)),
        Step::Hear(login_end(SHA2)),
        Step::Say(packet(2, &[1, 3])),
        Step::Say(packet(3, OK)),
        Step::Hang,
    ];
    let (answer, heard) = play(ServerKind::Mysql, URL, steps).await;
    assert_eq!(answer, Ok("ready: MySQL 8.0.36".to_owned()));
    let proof = caching_sha2(b"hunter2", &CHALLENGE);
    assert!(heard.ends_with(&[b"\0app\0\x20", &proof[..], &login_end(SHA2), COM_QUIT].concat()), "{heard:?}");
}

#[test]
fn proofs_are_those_of_the_protocol() {
    // What the server keeps is the double hash: SHA1(SHA1("hunter2")), and the proof must give the single one back.
    let sha1 = |bytes: &[u8]| hash(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let stored = sha1(&sha1(b"hunter2"));
    let single = xor(&native(b"hunter2", &CHALLENGE), &sha1(&[&CHALLENGE[..], &stored].concat()));
    assert_eq!(sha1(&single), stored);
    let sha256 = |bytes: &[u8]| hash(&SHA256, bytes);
    let stored = sha256(&sha256(b"hunter2"));
    let single = xor(&caching_sha2(b"hunter2", &CHALLENGE), &sha256(&[&stored[..], &CHALLENGE].concat()));
    assert_eq!(sha256(&single), stored);
}

#[tokio::test]
async fn another_method_is_switched_to() {
    let switch = packet(2, &[&[0xfe][..], NATIVE.as_bytes(), &[0], &[7; 20], &[0]].concat());
    let proof = native(b"hunter2", &[7; 20]);
    let steps = vec![
        Step::Say(greeting("8.0.36", SHA2)),
        Step::Hear(login_end(SHA2)),
        Step::Say(switch),
        Step::Hear(packet(3, &proof)),
        Step::Say(packet(4, OK)),
        Step::Hang,
    ];
    let (answer, _) = play(ServerKind::Mysql, URL, steps).await;
    assert_eq!(answer, Ok("ready: MySQL 8.0.36".to_owned()));

    for (said, words) in [
        (
            packet(2, b"\xfeclient_ed25519\0abc"),
            "it asks to log in by client_ed25519, which a check does not at all: give the check a user with another one",
        ),
        (
            packet(2, &[0xfe]),
            "it asks to log in by mysql_old_password, which a check does not at all: give the check a user with another one",
        ),
        (
            packet(2, b"\xfemysql_clear_password\0"),
            "it asks to log in by mysql_clear_password, which a check does only with TLS and a `ca`",
        ),
    ] {
        let steps = vec![
            Step::Say(greeting(MARIADB, NATIVE)),
            Step::Hear(login_end(NATIVE)),
            Step::Say(said),
            // An empty answer, so that the server does not count a broken connection.
            Step::Hear(packet(3, &[])),
            Step::Say(error(4, 1045, "#28000", "Access denied")),
            Step::Hang,
        ];
        let (answer, heard) = play(ServerKind::Mysql, URL, steps).await;
        assert_eq!(answer, Err(ProbeFailure::Credentials(words.to_owned())));
        assert!(heard.ends_with(&packet(3, &[])));
    }
}

/// A greeting that offers TLS.
fn greeting_with_tls(plugin: &str) -> Vec<u8> {
    let mut bytes = greeting("8.0.36", plugin);
    let capabilities = 4 + 1 + "8.0.36\0".len() + 4 + 8 + 1;
    assert_eq!(bytes[capabilities..capabilities + 2], [0xfe, 0xf7]);
    bytes[capabilities + 1] |= 0x08;
    bytes
}

#[tokio::test]
async fn over_tls_a_password_may_be_sent_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (ca, server) = (authority.file(folder.path()), Arc::new(authority.identity("127.0.0.1").server()));
    let in_clear = b"hunter2\0";
    let steps = |plugin: &str, said: &[u8], answer: Vec<u8>| {
        vec![
            Step::Say(greeting_with_tls(plugin)),
            // SSLRequest.
            Step::HearCount(4 + 32),
            Step::StartTls(Arc::clone(&server)),
            Step::Hear(login_end(plugin)),
            Step::Say(packet(3, said)),
            Step::Hear(answer),
            Step::Say(packet(5, OK)),
            Step::Hang,
        ]
    };
    let ready = Ok("ready: MySQL 8.0.36".to_owned());
    // Not known to the server yet; and another method.
    let full = || steps(SHA2, &[1, 4], packet(4, in_clear));
    let switched = || steps(NATIVE, b"\xfesha256_password\0\x01\x02\0", packet(4, in_clear));
    let clear = || steps(NATIVE, b"\xfemysql_clear_password\0", packet(4, in_clear));
    for (ca, steps) in [(None, full()), (Some(&ca), full()), (None, switched()), (Some(&ca), clear())] {
        let (answer, heard) = play_trusting(ServerKind::Mysql, URL, ca, steps).await;
        assert_eq!(answer, ready);
        assert!(heard.ends_with(COM_QUIT));
    }
    // To one that may be anyone the password is not told because it asks for that.
    let steps = steps(NATIVE, b"\xfemysql_clear_password\0", packet(4, &[]));
    let (answer, heard) = play(ServerKind::Mysql, URL, steps).await;
    assert!(matches!(answer, Err(ProbeFailure::Credentials(_))), "{answer:?}");
    assert!(!heard.windows(7).any(|window| window == b"hunter2"));
}

#[tokio::test]
async fn a_password_is_not_sent_in_clear() {
    let steps = vec![
        Step::Say(greeting("8.0.36", SHA2)),
        Step::Hear(login_end(SHA2)),
        Step::Say(packet(2, &[1, 4])),
        Step::Hang,
    ];
    let fake = crate::server::fake::Fake::start(steps).await;
    let url = fake.url(ServerKind::Mysql, URL);
    let answer = crate::server::check(&url, None, std::time::Duration::from_secs(1)).await;
    let words = "it asks to log in by caching_sha2_password, which a check does only with TLS: switch it on in the server, \
         and do not disable it in the URL";
    assert_eq!(answer, Err(ProbeFailure::Credentials(words.to_owned())));
    let heard = fake.heard.await.unwrap();
    assert!(!heard.windows(7).any(|window| window == b"hunter2"));
}

#[tokio::test]
async fn each_answer_is_its_own() {
    let not_ready = |words: &str| Err(ProbeFailure::NotReady(words.to_owned()));
    let credentials = |words: &str| Err(ProbeFailure::Credentials(words.to_owned()));
    for (code, state, message, answer) in [
        (
            1040,
            "#08004",
            "Too many connections",
            not_ready("has no connection left (1040: Too many connections)"),
        ),
        (
            1129,
            "",
            "Host '127.0.0.1' is blocked because of many connection errors",
            not_ready(
                "blocks this machine after too many broken connections (1129): `mysqladmin flush-hosts` unblocks it",
            ),
        ),
        (1053, "#08S01", "Server shutdown in progress", not_ready("is shutting down (1053)")),
        (3032, "#HY000", "in offline mode", not_ready("refuses the connection: in offline mode (3032)")),
        (
            1045,
            "#28000",
            "Access denied for user 'app'@'localhost' (using password: YES)",
            credentials("Access denied for user 'app'@'localhost' (using password: YES) (1045)"),
        ),
        (1049, "#42000", "Unknown database 'shop'", credentials("Unknown database 'shop' (1049)")),
        (1698, "#28000", "Access denied", credentials("Access denied (1698)")),
        (3999, "#28000", "no", credentials("no (3999)")),
    ] {
        let (after, _) = after_login(URL, error(2, code, state, message)).await;
        assert_eq!(after, answer, "{code}");
        // Instead of the greeting; the machine is judged before the user.
        let at_once = vec![Step::Say(error(0, code, state, message)), Step::Hang];
        assert_eq!(play(ServerKind::Mysql, URL, at_once).await.0, answer, "{code} at once");
    }
    let (answer, _) = after_login("mysql://HOST", error(2, 1045, "#28000", "Access denied")).await;
    assert_eq!(answer, Ok("ready: MariaDB 10.11.14; not logged in, for the URL names no user".to_owned()));
}

#[tokio::test]
async fn tls_that_is_not_offered_is_missed_only_when_asked_for() {
    let (answer, _) = after_login("mysql://app@HOST?ssl-mode=REQUIRED", Vec::new()).await;
    let Err(ProbeFailure::Tls { message, .. }) = answer else { panic!("{answer:?}") };
    assert!(message.contains("`ca`"), "{message}");
}

#[tokio::test]
async fn broken_answers_are_survived() {
    let login = packet(2, &[&[0xfe][..], SHA2.as_bytes(), &[0], &[7; 20], &[0]].concat());
    let transcript = [greeting("8.0.36", SHA2), login, packet(4, &[1, 3]), packet(5, OK)].concat();
    survives_mutations(ServerKind::Mysql, URL, &transcript).await;
}

#[tokio::test]
async fn any_peer_is_survived() {
    holds_for_any_peer(ServerKind::Mysql, URL, NAME).await;
    let whole = greeting(MARIADB, NATIVE);
    for end in 5..whole.len() - NATIVE.len() - 1 {
        let cut = packet(0, &whole[4..end]);
        let (answer, _) = play(ServerKind::Mysql, URL, vec![Step::Say(cut), Step::Hang]).await;
        assert!(matches!(answer, Err(ProbeFailure::Protocol(_))), "{end}: {answer:?}");
    }
    for said in [packet(2, &[]), packet(2, &[0xff, 1]), packet(2, &[9]), vec![0xff; 64]] {
        let (answer, _) = after_login(URL, said.clone()).await;
        assert!(matches!(answer, Err(ProbeFailure::Protocol(_))), "{said:?}: {answer:?}");
    }
}
