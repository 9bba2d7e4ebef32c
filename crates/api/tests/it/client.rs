//! The client: every method against a server, and every way it can fail.

use std::time::Duration;

use mainstay_api::{
    Client, ClientError, CommandOptions, CommandOutcome, EventsQuery, LogsQuery, ReloadOptions, Verb,
};
use mainstay_os::{Accepted, ControlListener, ControlStream};
use mainstay_types::ExitCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::fake_host::{
    AMPLE, Asked, Host, event, line, reload_reply, rotated, service_status, status, wait_for,
};

const NOW: CommandOptions = CommandOptions { wait: false, timeout: None };

#[tokio::test]
async fn every_answer_reads_back() {
    let host = Host::start();
    let client = host.client();
    assert_eq!(client.status().await.unwrap(), status());
    assert_eq!(client.events(&EventsQuery::default()).await.unwrap(), [event(1), event(2)]);
    let query = LogsQuery { last: Some(20_000), grep: Some("é&".to_owned()), ..LogsQuery::default() };
    assert_eq!(client.logs(&query).await.unwrap().len(), 20_000);
    assert_eq!(host.plane.asked(), [Asked::Events(EventsQuery::default()), Asked::Logs(query)]);
    assert_eq!(client.metrics().await.unwrap(), "mainstay_up 1\n");
    assert_eq!(client.openapi().await.unwrap(), mainstay_api::openapi());

    let reply = client.command("web", Verb::Restart, &NOW).await.unwrap();
    assert_eq!((reply.outcome, reply.services), (CommandOutcome::Accepted, vec![service_status()]));
    let wait = CommandOptions { wait: true, timeout: Some(Duration::from_millis(500)) };
    let reply = client.command("web", Verb::Stop, &wait).await.unwrap();
    assert_eq!((reply.outcome, reply.outcome.exit_code()), (CommandOutcome::TimedOut, ExitCode::TimedOut));
    let asked = host.plane.asked();
    assert_eq!(asked[1], Asked::Command("web".to_owned(), Verb::Stop, wait));

    assert!(client.healthy().await.unwrap() && client.ready().await.unwrap());
    host.plane.set_up(false);
    assert!(!client.healthy().await.unwrap() && !client.ready().await.unwrap());
}

#[tokio::test]
async fn problems_come_through() {
    let host = Host::start();
    let client = host.client();
    for (service, verb, words, code) in [
        (
            "wbe",
            Verb::Start,
            "there is no service \"wbe\" in this stack: did you mean \"web\"?",
            ExitCode::NotFound,
        ),
        (
            "ü/..",
            Verb::Start,
            "there is no service \"ü/..\" in this stack: there are web, db-migrate",
            ExitCode::NotFound,
        ),
    ] {
        let error = client.command(service, verb, &NOW).await.unwrap_err();
        assert!(matches!(error, ClientError::Problem(_)), "{error:?}");
        assert_eq!((error.to_string().as_str(), error.exit_code()), (words, code));
    }
    let query = LogsQuery { grep: Some("(".to_owned()), ..LogsQuery::default() };
    let error = client.logs(&query).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.exit_code()), ("grep: unclosed group", ExitCode::Usage));
}

#[tokio::test]
async fn a_reload_is_asked_for_and_its_plan_reads() {
    let host = Host::start();
    let client = host.client();
    let dry = ReloadOptions { dry_run: true, command: CommandOptions::default() };
    assert_eq!(client.reload(&dry).await.unwrap(), reload_reply(true));
    assert_eq!(client.reload(&ReloadOptions::default()).await.unwrap(), reload_reply(false));
    let command = CommandOptions { wait: true, timeout: Some(Duration::from_secs(2)) };
    let waiting = ReloadOptions { dry_run: false, command };
    let error = client.reload(&waiting).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Usage);
    assert_eq!(error.to_string(), "/srv/shop/mainstay.toml:3: unknown key `comand`");
    let asked = [dry, ReloadOptions::default(), waiting].map(Asked::Reload);
    assert_eq!(host.plane.asked(), asked);
}

#[tokio::test]
async fn the_level_of_the_hosts_own_log_is_shown_and_set() {
    let host = Host::start();
    let client = host.client();
    let shown = client.log_level().await.unwrap();
    assert_eq!((shown.level.as_str(), shown.before), ("info", None));
    let set = client.set_log_level("warn,mainstay_host=debug").await.unwrap();
    assert_eq!((set.level.as_str(), set.before.as_deref()), ("warn,mainstay_host=debug", Some("info")));
    assert_eq!(host.plane.asked(), [Asked::SetLogLevel("warn,mainstay_host=debug".to_owned())]);
}

#[tokio::test]
async fn log_files_are_closed_on_request() {
    let host = Host::start();
    let services = ["web".to_owned(), "a/b".to_owned()];
    let reply = host.client().rotate_logs(&services).await.unwrap();
    assert_eq!(reply.replicas, rotated());
    assert_eq!(host.plane.asked(), [Asked::RotateLogs(services.to_vec())]);
}

#[tokio::test]
async fn following_tells_what_happens() {
    let host = Host::start();
    let client = host.client();
    let query = EventsQuery { after_id: Some(7), ..EventsQuery::default() };
    let mut events = client.follow_events(&query).await.unwrap();
    assert_eq!(host.plane.asked(), [Asked::FollowEvents(query)]);
    assert_eq!(events.next().await.unwrap().unwrap(), event(8));
    for id in 9..12 {
        host.plane.happens(event(id));
        assert_eq!(timeout(AMPLE, events.next()).await.unwrap().unwrap().unwrap(), event(id));
    }
    let mut lines = client.follow_logs(&LogsQuery::default()).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), line("before"));
    let long = "ü\r\n".repeat(100_000);
    host.plane.writes(line(&long));
    assert_eq!(timeout(AMPLE, lines.next()).await.unwrap().unwrap().unwrap(), line(&long));

    // Whoever stops following frees the host of it.
    assert_eq!(host.plane.following(), 2);
    drop((events, lines));
    wait_for("the end of both streams", || host.plane.following() == 0).await;
}

#[tokio::test]
async fn a_follower_goes_on_after_a_dropped_wait() {
    let host = Host::start();
    let mut events = host.client().follow_events(&EventsQuery::default()).await.unwrap();
    for id in 1..5 {
        assert!(timeout(Duration::from_millis(10), events.next()).await.is_err(), "nothing has happened yet");
        host.plane.happens(event(id));
        assert_eq!(timeout(AMPLE, events.next()).await.unwrap().unwrap().unwrap(), event(id));
    }
}

#[tokio::test]
async fn the_end_of_the_host_ends_the_stream() {
    let mut host = Host::start();
    let mut events = host.client().follow_events(&EventsQuery::default()).await.unwrap();
    host.plane.happens(event(1));
    host.stop();
    let served = &mut host.served;
    timeout(AMPLE, served).await.unwrap().unwrap();
    assert_eq!(timeout(AMPLE, events.next()).await.unwrap().unwrap().unwrap(), event(1));
    assert!(timeout(AMPLE, events.next()).await.unwrap().is_none());
    assert!(events.next().await.is_none(), "and stays ended");
}

#[tokio::test]
async fn a_killed_host_is_an_error_of_the_stream() {
    let host = Host::start();
    let mut events = host.client().follow_events(&EventsQuery::default()).await.unwrap();
    host.served.abort();
    let error = timeout(AMPLE, events.next()).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Protocol(_)), "{error:?}");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn no_host_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(dir.path().join("shop.sock"));
    for error in
        [client.status().await.unwrap_err(), client.follow_events(&EventsQuery::default()).await.unwrap_err()]
    {
        assert!(matches!(error, ClientError::NotRunning { .. }), "{error:?}");
        assert_eq!(error.exit_code(), ExitCode::NotFound);
        assert!(error.to_string().contains("shop"), "{error}");
    }
}

/// A listener that does this with its first connection, and a client of it.
fn strange_host<F, Fut>(answer: F) -> (Client, tempfile::TempDir)
where
    F: FnOnce(ControlStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.sock");
    let listener = ControlListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let Accepted::Stream(mut stream) = listener.accept().await.unwrap() else { panic!() };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        answer(stream).await;
    });
    (Client::new(path), dir)
}

#[tokio::test]
async fn strange_answers_are_told() {
    for (answer, words) in [
        ("", "the connection to the host broke: connection closed before message completed"),
        ("hello\r\n\r\n", "the connection to the host broke: invalid HTTP version parsed"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            "the host's answer does not read: missing field `stack`",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", "the connection to the host broke"),
        (
            "HTTP/1.1 500 x\r\ncontent-length: 2\r\n\r\nno",
            "the host answered 500 Internal Server Error without saying why",
        ),
    ] {
        let host =
            strange_host(move |mut stream| async move { stream.write_all(answer.as_bytes()).await.unwrap() });
        let (client, _dir) = host;
        let error = client.status().await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol(_)), "{error:?}");
        assert!(error.to_string().starts_with(words), "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn a_stream_that_makes_no_sense_ends_with_an_error() {
    let frames = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {}\n\ndata: {}\n\n";
    let host =
        strange_host(move |mut stream| async move { stream.write_all(frames.as_bytes()).await.unwrap() });
    let (client, _dir) = host;
    let mut events = client.follow_events(&EventsQuery::default()).await.unwrap();
    let error = events.next().await.unwrap().unwrap_err();
    assert!(error.to_string().starts_with("what the host tells does not read: missing field"), "{error}");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_host_that_never_answers_times_out() {
    let host = strange_host(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let (client, _dir) = host;
    // From here on, time passes as soon as nothing else can happen.
    tokio::time::pause();
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut(_)), "{error:?}");
    assert_eq!(error.exit_code(), ExitCode::TimedOut);
}
