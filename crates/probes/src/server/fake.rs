//! A server for tests that plays a script over one connection.

use std::sync::Arc;
use std::time::Duration;

use mainstay_types::{CaFile, ProbeFailure, ServerKind, ServerUrl};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::wire::Stream;

/// Longer than any test of an answer takes.
pub(super) const AMPLE: Duration = Duration::from_secs(20);

/// One thing the fake does.
#[derive(Clone)]
pub(super) enum Step {
    /// Reads until what came ends with these bytes.
    Hear(Vec<u8>),
    /// Reads this many bytes.
    HearCount(usize),
    /// Sends them at once.
    Say(Vec<u8>),
    /// Sends what it makes of all that it heard.
    Answer(fn(&[u8]) -> Vec<u8>),
    /// Sends them one by one, with a pause before each.
    SaySlowly(Vec<u8>, Duration),
    /// Repeats the bytes until nobody takes them.
    SayForEver(Vec<u8>),
    /// Takes TLS from here on, with a certificate.
    StartTls(Arc<ServerConfig>),
    /// Sends no more, and still reads.
    Finish,
    /// Sends back all that comes.
    Echo,
    /// Holds the connection open and says nothing, until the other side closes.
    Hang,
}

/// What it heard in all, once the connection is over. After its last step it closes.
pub(super) struct Fake {
    pub(super) port: u16,
    pub(super) heard: JoinHandle<Vec<u8>>,
}

impl Fake {
    pub(super) async fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream: Box<dyn Stream> = Box::new(stream);
            let mut heard = Vec::new();
            for step in steps {
                match step {
                    Step::Hear(end) => {
                        while !heard.ends_with(&end) {
                            match stream.read_u8().await {
                                Ok(byte) => heard.push(byte),
                                Err(_) => return heard,
                            }
                        }
                    }
                    Step::HearCount(count) => {
                        let mut bytes = vec![0; count];
                        if stream.read_exact(&mut bytes).await.is_err() {
                            return heard;
                        }
                        heard.extend(bytes);
                    }
                    Step::Say(bytes) => {
                        if stream.write_all(&bytes).await.is_err() {
                            return heard;
                        }
                    }
                    Step::Answer(answer) => {
                        if stream.write_all(&answer(&heard)).await.is_err() {
                            return heard;
                        }
                    }
                    Step::SaySlowly(bytes, pause) => {
                        for byte in bytes {
                            tokio::time::sleep(pause).await;
                            if stream.write_u8(byte).await.is_err() {
                                return heard;
                            }
                        }
                    }
                    Step::SayForEver(bytes) => while stream.write_all(&bytes).await.is_ok() {},
                    Step::StartTls(config) => {
                        stream = match TlsAcceptor::from(config).accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return heard,
                        };
                    }
                    Step::Finish => {
                        let _ = stream.shutdown().await;
                    }
                    Step::Echo => {
                        let (mut reader, mut writer) = tokio::io::split(&mut stream);
                        let _ = tokio::io::copy(&mut reader, &mut writer).await;
                    }
                    Step::Hang => {
                        let _ = stream.read_to_end(&mut heard).await;
                    }
                }
            }
            heard
        });
        Self { port, heard }
    }

    /// The URL of it, with `HOST` for host and port.
    pub(super) fn url(&self, kind: ServerKind, text: &str) -> ServerUrl {
        let text = text.replace("HOST", &format!("127.0.0.1:{}", self.port));
        ServerUrl::parse(kind, &text).unwrap()
    }
}

/// Asks a fake that plays `steps`; the answer, and what the fake heard.
pub(super) async fn play(
    kind: ServerKind,
    url: &str,
    steps: Vec<Step>,
) -> (Result<String, ProbeFailure>, Vec<u8>) {
    play_trusting(kind, url, None, steps).await
}

/// The same with a `ca`.
pub(super) async fn play_trusting(
    kind: ServerKind,
    url: &str,
    ca: Option<&CaFile>,
    steps: Vec<Step>,
) -> (Result<String, ProbeFailure>, Vec<u8>) {
    let fake = Fake::start(steps).await;
    let answer = super::check(&fake.url(kind, url), ca, AMPLE).await;
    (answer, fake.heard.await.unwrap())
}

/// A conversation that passes, or that ends in order for a URL without user, is broken in each of its bytes, in a few
/// ways each. Whatever comes of it, the check comes to an end, and with the right bytes it is a good one.
pub(super) async fn survives_mutations(kind: ServerKind, url: &str, transcript: &[u8]) {
    // All at once: the check takes it piece by piece.
    let steps = |bytes: Vec<u8>| vec![Step::Say(bytes), Step::Finish, Step::Hang];
    let (answer, _) = play(kind, url, steps(transcript.to_vec())).await;
    assert!(answer.is_ok(), "{answer:?}");
    for place in 0..transcript.len() {
        for change in [1, 0x20, 0x80, 0xff] {
            let mut broken = transcript.to_vec();
            broken[place] ^= change;
            let (answer, _) = play(kind, url, steps(broken)).await;
            if let Err(failure) = answer {
                assert!(!matches!(failure, ProbeFailure::TimedOut(_)), "{place} {change}: {failure}");
            }
        }
        let (answer, _) = play(kind, url, steps(transcript[..place].to_vec())).await;
        // Only the good-bye, or the version, may be missing.
        assert!(answer.is_err() || place > transcript.len() / 3, "{place}: {answer:?}");
    }
}

/// What must hold of every protocol: whatever the other side does, the check ends in time, in little memory, with the
/// right words, and without the password in them.
pub(super) async fn holds_for_any_peer(kind: ServerKind, url: &str, protocol: &str) {
    let not_speaking =
        |beginning: &str| format!("it does not speak {protocol}: its answer begins with {beginning:?}");
    let http =
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html></html>";
    let table: Vec<(Vec<Step>, String)> = vec![
        (
            // A MySQL server speaks first.
            vec![Step::HearCount(if kind == ServerKind::Mysql { 0 } else { 8 }), Step::Say(http.to_vec())],
            not_speaking("HTTP/1.1 400 Bad Request Content-Type: text/h…"),
        ),
        (
            vec![Step::Say(b"220 mail.example ESMTP ready\r\n".to_vec()), Step::Hang],
            not_speaking("220 mail.example ESMTP ready"),
        ),
        (
            vec![Step::Say(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), Step::Hang],
            not_speaking("SSH-2.0-OpenSSH_9.2"),
        ),
        (
            // A TLS alert: protocol_version.
            vec![Step::Say(vec![0x15, 3, 1, 0, 2, 2, 70]), Step::Say(vec![0; 64]), Step::Hang],
            format!("it does not speak {protocol} as it is, but TLS"),
        ),
    ];
    for (steps, words) in table {
        let (answer, _) = play(kind, url, steps).await;
        assert_eq!(answer, Err(ProbeFailure::Protocol(words)));
    }

    let patience = Duration::from_millis(300);
    for steps in [
        vec![Step::Hang],
        vec![Step::SaySlowly(vec![b'\n'; 1000], Duration::from_millis(20)), Step::Hang],
        vec![Step::SayForEver(vec![0xff; 4096])],
        vec![Step::SayForEver(b"abcdefgh".to_vec())],
        vec![Step::Say(vec![0x7f; 64]), Step::Hang],
        vec![Step::Echo],
    ] {
        let fake = Fake::start(steps).await;
        let before = tokio::time::Instant::now();
        let answer = super::check(&fake.url(kind, url), None, patience).await;
        // Its time, the farewell, and what a busy machine takes.
        assert!(before.elapsed() < patience + Duration::from_secs(5), "{:?}", before.elapsed());
        let failure = answer.unwrap_err();
        assert!(matches!(failure, ProbeFailure::TimedOut(_) | ProbeFailure::Protocol(_)), "{failure:?}");
        assert!(!format!("{failure} {failure:?}").contains("hunter2"), "{failure}");
    }
    let fake = Fake::start(vec![Step::Hang]).await;
    let answer = super::check(&fake.url(kind, url), None, patience).await;
    assert_eq!(answer, Err(ProbeFailure::TimedOut(patience)));

    let fake = Fake::start(Vec::new()).await;
    let url = fake.url(kind, url);
    fake.heard.abort();
    let _ = fake.heard.await;
    let refused = Err(ProbeFailure::Refused(url.address.clone()));
    assert_eq!(super::check(&url, None, AMPLE).await, refused);
}
