//! Every way a gRPC server can answer a probe, by real servers on the loopback.

use h2::server::SendResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Long enough for a busy machine; a test that waits for it has failed.
const AMPLE: Duration = Duration::from_secs(20);
/// For tests whose point is that it runs out.
const SHORT: Duration = Duration::from_millis(300);

/// What a server does with the call.
#[derive(Clone)]
enum Does {
    /// Sends this message and these trailers.
    Answers(&'static [u8], &'static [(&'static str, &'static str)]),
    /// Has everything in the head.
    Refuses(u16, &'static [(&'static str, &'static str)]),
    /// Resets the call.
    Resets(Reason),
    /// Never answers.
    Hangs,
    /// Sends its message without an end.
    Floods,
}

/// A server of one connection; reports the path, the fields and the body of the call.
async fn server(does: Does) -> (HostPort, tokio::sync::oneshot::Receiver<(String, HeaderMap, Vec<u8>)>) {
    let (tell, told) = tokio::sync::oneshot::channel();
    let address = serve(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (request, answer) = connection.accept().await.unwrap().unwrap();
        let (head, mut body) = request.into_parts();
        tokio::spawn(async move {
            let mut question = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                question.extend_from_slice(&data);
            }
            let _ = tell.send((head.uri.path().to_owned(), head.headers, question));
            act(does, answer).await;
        });
        while let Some(Ok(_)) = connection.accept().await {}
    })
    .await;
    (address, told)
}

async fn act(does: Does, mut answer: SendResponse<Bytes>) {
    let fields = |pairs: &[(&'static str, &'static str)]| {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    };
    let head = |status, pairs| {
        let mut head = Response::builder().status(status).body(()).unwrap();
        *head.headers_mut() = fields(pairs);
        head
    };
    let kind = ("content-type", "application/grpc");
    match does {
        Does::Answers(message, trailers) => {
            let mut stream = answer.send_response(head(200, &[kind]), false).unwrap();
            stream.send_data(message.into(), false).unwrap();
            stream.send_trailers(fields(trailers)).unwrap();
        }
        Does::Refuses(status, pairs) => {
            answer.send_response(head(status, pairs), true).unwrap();
        }
        Does::Resets(reason) => answer.send_reset(reason),
        Does::Hangs => std::future::pending().await,
        Does::Floods => {
            let mut stream = answer.send_response(head(200, &[kind]), false).unwrap();
            // As much as the window of a connection holds.
            stream.send_data(vec![0; 60_000].into(), false).unwrap();
            std::future::pending::<()>().await;
        }
    }
}

/// A server that does this with its first connection.
async fn serve<F, Fut>(act: F) -> HostPort
where
    F: FnOnce(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { act(listener.accept().await.unwrap().0).await });
    HostPort { host: address.ip().to_string(), port: address.port() }
}

async fn words(does: Does, service: &str) -> String {
    let (address, _) = server(does).await;
    match check(&address, service, AMPLE).await {
        Ok(evidence) => evidence,
        Err(failure) => failure.to_string(),
    }
}

const OK: &[(&str, &str)] = &[("grpc-status", "0")];
const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";

#[tokio::test]
async fn health_is_told_as_it_is_reported() {
    for (message, told) in [
        (SERVING, "SERVING"),
        (b"\0\0\0\0\x02\x08\x00", "it answers, but reports UNKNOWN"),
        // proto3 leaves out what is zero.
        (b"\0\0\0\0\x00", "it answers, but reports UNKNOWN"),
        (b"\0\0\0\0\x02\x08\x02", "it answers, but reports NOT_SERVING"),
        (b"\0\0\0\0\x02\x08\x03", "it answers, but reports SERVICE_UNKNOWN"),
        (b"\0\0\0\0\x03\x08\xc8\x01", "it answers, but reports the unknown status 200"),
        // With fields of a later version: a string, a varint, four and eight bytes.
        (b"\0\0\0\0\x06\x12\x02ab\x08\x01", "SERVING"),
        (b"\0\0\0\0\x12\x18\x05\x25abcd\x08\x01\x29abcdefgh", "SERVING"),
        (b"\0\0\0\0\x11\x18\x05\x25abcd\x08\x01\x29abcdefg", "its answer is no HealthCheckResponse"),
        (b"", "its answer is no HealthCheckResponse"),
        (b"\0\0\0\0\x02\x08", "its answer is no HealthCheckResponse"),
        (b"\x01\0\0\0\x02\x08\x01", "its answer is no HealthCheckResponse"),
        (b"\0\0\0\0\x02\x0b\x01", "its answer is no HealthCheckResponse"),
        (b"\0\0\0\0\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "its answer is no HealthCheckResponse"),
        (b"\0\0\0\0\x03\x12\x7fa", "its answer is no HealthCheckResponse"),
    ] {
        assert_eq!(words(Does::Answers(message, OK), "").await, told, "{message:?}");
    }
}

#[tokio::test]
async fn the_call_is_one_of_the_standard() {
    let long = "x".repeat(200);
    for (service, message) in [
        ("", b"\0\0\0\0\0".to_vec()),
        ("shop", b"\0\0\0\0\x06\x0a\x04shop".to_vec()),
        (&long, [&b"\0\0\0\0\xcb\x0a\xc8\x01"[..], long.as_bytes()].concat()),
    ] {
        let (address, told) = server(Does::Answers(SERVING, OK)).await;
        assert_eq!(check(&address, service, AMPLE).await, Ok("SERVING".to_owned()));
        let (path, fields, question) = told.await.unwrap();
        assert_eq!((path.as_str(), question), ("/grpc.health.v1.Health/Check", message));
        for (name, value) in
            [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "20000m")]
        {
            assert_eq!(fields[name], value);
        }
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    const KIND: (&str, &str) = ("content-type", "application/grpc+proto");
    for (service, fields, told) in [
        ("", &[KIND, ("grpc-status", "12")][..], "it has no health service (grpc.health.v1)"),
        (
            "shop",
            &[KIND, ("grpc-status", "5"), ("grpc-message", "unknown%20service%0a%zz")],
            "it does not know the service \"shop\": unknown service %zz",
        ),
        ("", &[KIND, ("grpc-status", "5")], "its health service tells nothing of the server as a whole"),
        ("", &[KIND, ("grpc-status", "4")], "no answer within 20s"),
        (
            "",
            &[KIND, ("grpc-status", "14"), ("grpc-message", "draining")],
            "it answers, but says UNAVAILABLE: draining",
        ),
        (
            "",
            &[KIND, ("grpc-status", "16"), ("grpc-message", "who?")],
            "the call failed with UNAUTHENTICATED: who?",
        ),
        ("", &[KIND, ("grpc-status", "13"), ("grpc-message", "")], "the call failed with INTERNAL"),
        ("", &[KIND, ("grpc-status", "99")], "the call failed with status 99"),
        ("", &[KIND], "it ended its answer without a grpc-status"),
    ] {
        assert_eq!(words(Does::Refuses(200, fields), service).await, told, "{fields:?}");
    }
    // The same in trailers.
    let unimplemented: &[_] = &[("grpc-status", "12"), ("grpc-message", "")];
    assert_eq!(
        words(Does::Answers(b"", unimplemented), "").await,
        "it has no health service (grpc.health.v1)"
    );
    assert_eq!(words(Does::Answers(SERVING, &[]), "").await, "it ended its answer without a grpc-status");
}

#[tokio::test]
async fn other_http_2_is_told() {
    assert_eq!(
        words(Does::Refuses(404, &[("content-type", "text/html")]), "").await,
        "it speaks HTTP/2, but not gRPC: it answers HTTP 404 with text/html"
    );
    assert_eq!(
        words(Does::Refuses(204, &[]), "").await,
        "it speaks HTTP/2, but not gRPC: it answers HTTP 204 with nothing"
    );
    assert_eq!(words(Does::Resets(Reason::REFUSED_STREAM), "").await, "it reset the call (REFUSED_STREAM)");
    assert_eq!(
        words(Does::Floods, "").await,
        "its answer is larger than 4 KiB, which no answer about health is"
    );
}

#[tokio::test]
async fn what_is_no_http_2_is_told() {
    for (answer, reset, told) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], false, "it speaks HTTP/1, not gRPC (HTTP/2)"),
        (
            b"\x15\x03\x03\x00\x02\x02\x0a",
            false,
            "it speaks TLS, which the check does not: ask a port without TLS",
        ),
        (
            b"220 mail.example ESMTP\r\n",
            false,
            "it does not speak HTTP/2: its answer begins with \"220 mail.example ESMTP\"",
        ),
        // SETTINGS, and GOAWAY of no call with ENHANCE_YOUR_CALM (RFC 9113, 6.5 and 6.8).
        (
            b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b",
            false,
            "it ended the connection before it answered (ENHANCE_YOUR_CALM)",
        ),
        (b"", false, "it closed the connection before it answered"),
        (b"", true, "it reset the connection before it answered"),
    ] {
        let address = serve(move |mut stream| async move {
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await.unwrap();
            stream.write_all(answer).await.unwrap();
            if reset {
                // Closing with a linger of zero sends a reset (socket(7), SO_LINGER).
                stream.set_zero_linger().unwrap();
                return;
            }
            stream.shutdown().await.unwrap();
            // Reads on, so that the close is orderly.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        })
        .await;
        let answered = check(&address, "", AMPLE).await;
        assert_eq!(answered, Err(ProbeFailure::Protocol(told.to_owned())));
    }
}

#[tokio::test]
async fn who_does_not_answer_times_out() {
    let (address, _) = server(Does::Hangs).await;
    assert_eq!(check(&address, "", SHORT).await, Err(ProbeFailure::TimedOut(SHORT)));
    // Takes the connection, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = HostPort { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
    assert_eq!(check(&address, "", SHORT).await, Err(ProbeFailure::TimedOut(SHORT)));
    drop(listener);
    assert_eq!(check(&address, "", AMPLE).await, Err(ProbeFailure::Refused(address)));
}
