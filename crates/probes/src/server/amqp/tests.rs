//! Against scripts; the words are RabbitMQ 3.10's.

use mainstay_types::ServerKind;

use super::*;
use crate::server::fake::{Step, holds_for_any_peer, play, survives_mutations};

const URL: &str = "amqp://app:hunter2@HOST/shop";

fn start(mechanisms: &str) -> Vec<u8> {
    // RabbitMQ's own order: its capabilities come first, and a list of everything a table may hold does no harm.
    let capabilities = [&short("basic.nack").unwrap()[..], b"t\x01"].concat();
    let properties = [
        &short("capabilities").unwrap()[..],
        b"F",
        &long(&capabilities),
        &short("number").unwrap(),
        b"I\0\0\0\x01",
        &short("nothing").unwrap(),
        b"V",
        &short("product").unwrap(),
        b"S",
        &long(b"RabbitMQ"),
        &short("version").unwrap(),
        b"S",
        &long(b"3.10.8"),
    ]
    .concat();
    method(
        START,
        &[b"\0\x09", &long(&properties)[..], &long(mechanisms.as_bytes()), &long(b"en_US")].concat(),
    )
}

fn tune() -> Vec<u8> {
    method(TUNE, &[7, 255, 0, 2, 0, 0, 0, 60])
}

fn close(code: u16, text: &str) -> Vec<u8> {
    method(CLOSE, &[&code.to_be_bytes()[..], &short(text).unwrap(), &[0, 10, 0, 40]].concat())
}

fn open_of(host: &str) -> Vec<u8> {
    method(OPEN, &[&short(host).unwrap()[..], &[0, 0]].concat())
}

/// Up to the login, which ends with the locale.
fn greeted(said: Vec<u8>) -> Vec<Step> {
    vec![
        Step::Hear(HEADER.to_vec()),
        Step::Say(start("AMQPLAIN PLAIN")),
        Step::Hear(b"\x05en_US\xCE".to_vec()),
        Step::Say(said),
    ]
}

#[tokio::test]
async fn passes_with_its_version_and_leaves_in_order() {
    for (url, host, login) in [
        (URL, "shop", &b"\0app\0hunter2"[..]),
        ("amqp://app:hunter2@HOST/%2f", "/", b"\0app\0hunter2"),
        ("amqp://app@HOST/", "/", b"\0app\0"),
        ("amqp://HOST", "/", b"\0guest\0guest"),
    ] {
        let left = method(CLOSE, b"\0\xc8\0\0\0\0\0");
        let mut steps = greeted(tune());
        steps.extend([
            Step::Hear(open_of(host)),
            // A heartbeat may come at any time.
            Step::Say(vec![HEARTBEAT_FRAME, 0, 0, 0, 0, 0, 0, FRAME_END]),
            Step::Say(method(OPEN_OK, &[0])),
            Step::Hear(left.clone()),
            Step::Say(method(CLOSE_OK, &[])),
            Step::Hang,
        ]);
        let (answer, heard) = play(ServerKind::Amqp, url, steps).await;
        assert_eq!(answer, Ok("ready: RabbitMQ 3.10.8".to_owned()));
        assert!(heard.ends_with(&left));
        let login = [b"\x05PLAIN", &long(login)[..]].concat();
        assert!(heard.windows(login.len()).any(|window| window == login), "{url}");
        let tuned = method(TUNE_OK, &[7, 255, 0, 2, 0, 0, 0, 0]);
        assert!(heard.windows(tuned.len()).any(|window| window == tuned), "{url}");
    }
}

#[tokio::test]
async fn each_answer_is_its_own() {
    let not_ready = |words: &str| Err(ProbeFailure::NotReady(words.to_owned()));
    let credentials = |words: &str| Err(ProbeFailure::Credentials(words.to_owned()));
    for (code, text, answer) in [
        (
            403,
            "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
            credentials(
                "Login was refused using authentication mechanism PLAIN. For details see the broker logfile. (403)",
            ),
        ),
        (530, "NOT_ALLOWED - vhost shop not found", credentials("vhost shop not found (530)")),
        (
            530,
            "NOT_ALLOWED - access to vhost 'shop' refused for user 'app'",
            credentials("access to vhost 'shop' refused for user 'app' (530)"),
        ),
        (
            530,
            "NOT_ALLOWED - access to vhost 'shop' refused for user 'app': connection limit (10) is reached",
            not_ready(
                "has no connection left (530: access to vhost 'shop' refused for user 'app': connection limit (10) is \
                 reached)",
            ),
        ),
        (530, "NOT_ALLOWED - vhost 'shop' is down", not_ready("is not up yet (530: vhost 'shop' is down)")),
        (
            541,
            "INTERNAL_ERROR - access to vhost 'shop' refused for user 'app': vhost 'shop' is down",
            not_ready(
                "is not up yet (541: access to vhost 'shop' refused for user 'app': vhost 'shop' is down)",
            ),
        ),
        (
            320,
            "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
            not_ready("is shutting down (320: broker forced connection closure with reason 'shutdown')"),
        ),
        (504, "CHANNEL_ERROR - odd", not_ready("refuses the connection: odd (504)")),
    ] {
        let confirmed = method(CLOSE_OK, &[]);
        // In answer to the login, and to the choice of the host.
        let mut late = greeted(tune());
        late.extend([Step::Hear(open_of("shop")), Step::Say(close(code, text))]);
        for mut steps in [greeted(close(code, text)), late] {
            steps.extend([Step::Hear(confirmed.clone()), Step::Hang]);
            let (after, heard) = play(ServerKind::Amqp, URL, steps).await;
            assert_eq!(after, answer, "{text}");
            assert!(heard.ends_with(&confirmed), "{text}");
        }
    }
    let mut steps = greeted(close(403, "ACCESS_REFUSED - no"));
    steps.push(Step::Hang);
    let (answer, _) = play(ServerKind::Amqp, "amqp://HOST", steps).await;
    let words = "ready: it speaks AMQP 0-9-1; not logged in, for the URL names no user";
    assert_eq!(answer, Ok(words.to_owned()));
}

#[tokio::test]
async fn a_broker_that_repeats_the_password_does_not_get_it_shown() {
    for (url, shown) in [
        (URL, "app and *** do not fit (403)"),
        // Who has the name as the password sees the name.
        ("amqp://hunter2:hunter2@HOST", "app and hunter2 do not fit (403)"),
    ] {
        let mut steps = greeted(close(403, "ACCESS_REFUSED - app and hunter2 do not fit"));
        steps.push(Step::Hang);
        let (answer, _) = play(ServerKind::Amqp, url, steps).await;
        assert_eq!(answer, Err(ProbeFailure::Credentials(shown.to_owned())));
    }
}

#[tokio::test]
async fn connections_closed_without_a_word_are_told_by_their_moment() {
    let (answer, _) = play(ServerKind::Amqp, URL, vec![Step::Hear(HEADER.to_vec())]).await;
    let words = "closes the connection before it says anything, as a broker does that is not up yet";
    assert_eq!(answer, Err(ProbeFailure::NotReady(words.to_owned())));
    let (answer, _) = play(ServerKind::Amqp, URL, greeted(Vec::new())).await;
    let words = "it closed the connection when it was told user and password";
    assert_eq!(answer, Err(ProbeFailure::Credentials(words.to_owned())));
    let mut steps = greeted(tune());
    steps.push(Step::Hear(open_of("shop")));
    let (answer, _) = play(ServerKind::Amqp, URL, steps).await;
    let words = "it closed the connection in the middle of its answer";
    assert_eq!(answer, Err(ProbeFailure::Protocol(words.to_owned())));
}

#[tokio::test]
async fn what_it_cannot_do_is_said() {
    let steps = vec![Step::Hear(HEADER.to_vec()), Step::Say(start("EXTERNAL AMQPLAIN")), Step::Hang];
    let (answer, _) = play(ServerKind::Amqp, URL, steps).await;
    let words = "it offers only EXTERNAL AMQPLAIN to log in, and a check can only do PLAIN";
    assert_eq!(answer, Err(ProbeFailure::Credentials(words.to_owned())));
    let steps = vec![Step::Hear(HEADER.to_vec()), Step::Say(b"AMQP\0\x01\0\0".to_vec())];
    let (answer, _) = play(ServerKind::Amqp, URL, steps).await;
    let words = "it does not speak AMQP 0-9-1, but AMQP 1.0.0";
    assert_eq!(answer, Err(ProbeFailure::Protocol(words.to_owned())));
    let url = format!("amqp://HOST/{}", "v".repeat(256));
    let mut steps = greeted(tune());
    steps.push(Step::Hang);
    let (answer, _) = play(ServerKind::Amqp, &url, steps).await;
    assert!(matches!(answer, Err(ProbeFailure::NotStarted(_))), "{answer:?}");
}

#[tokio::test]
async fn broken_answers_are_survived() {
    let transcript = [start("PLAIN"), tune(), method(OPEN_OK, &[0]), method(CLOSE_OK, &[])].concat();
    survives_mutations(ServerKind::Amqp, URL, &transcript).await;
    let refused = [start("PLAIN"), close(403, "ACCESS_REFUSED - no")].concat();
    survives_mutations(ServerKind::Amqp, "amqp://HOST", &refused).await;
}

#[tokio::test]
async fn any_peer_is_survived() {
    holds_for_any_peer(ServerKind::Amqp, URL, NAME).await;
    let whole = start("PLAIN");
    let arguments = &whole[11..whole.len() - 1];
    // Cut off anywhere, it is not a greeting, or lacks only what is not asked for.
    for end in 0..arguments.len() {
        let steps = vec![Step::Hear(HEADER.to_vec()), Step::Say(method(START, &arguments[..end]))];
        let (answer, _) = play(ServerKind::Amqp, URL, steps).await;
        assert!(
            matches!(answer, Err(ProbeFailure::Protocol(_) | ProbeFailure::Credentials(_))),
            "{end}: {answer:?}"
        );
    }
    for said in [
        method(OPEN_OK, &[0]),
        method(CLOSE, &[]),
        method(TUNE, &[0; 8]),
        vec![METHOD_FRAME, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        vec![METHOD_FRAME, 0, 1, 0, 0, 0, 0, FRAME_END],
        vec![METHOD_FRAME, 0, 0, 0, 0, 0, 0, FRAME_END],
        vec![METHOD_FRAME, 0, 0, 0, 0, 0, 1, 0, 0],
    ] {
        let steps = vec![Step::Hear(HEADER.to_vec()), Step::Say(said.clone()), Step::Hang];
        let (answer, _) = play(ServerKind::Amqp, URL, steps).await;
        assert!(matches!(answer, Err(ProbeFailure::Protocol(_))), "{said:?}: {answer:?}");
    }
}
