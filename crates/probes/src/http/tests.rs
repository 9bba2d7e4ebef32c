//! Every way an HTTP server can fail a probe, by real servers on the loopback.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::*;

/// Long enough for a busy machine; a test that waits for it has failed.
const AMPLE: Duration = Duration::from_secs(20);
/// For tests whose point is that it runs out.
const SHORT: Duration = Duration::from_millis(300);

/// A server that does this with its first connection, once the request's head has been read.
async fn server<F, Fut>(host: &str, answer: F) -> HttpTarget
where
    F: FnOnce(TcpStream, String) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let target = target(listener.local_addr().unwrap(), "/health");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        answer(stream, String::from_utf8(head).unwrap()).await;
    });
    target
}

fn target(address: SocketAddr, path: &str) -> HttpTarget {
    let address = HostPort { host: address.ip().to_string(), port: address.port() };
    HttpTarget { tls: false, address, path: path.to_owned() }
}

/// A server that sends these bytes and closes.
async fn saying(bytes: &'static [u8]) -> HttpTarget {
    server("127.0.0.1", move |mut stream, _| async move {
        stream.write_all(bytes).await.unwrap();
    })
    .await
}

/// Asks without TLS for a status alone.
async fn asked(target: &HttpTarget, status: Option<u16>, timeout: Duration) -> Result<String, ProbeFailure> {
    check(&Question { target, status, body: None, ca: None }, timeout).await
}

fn protocol(words: &str) -> Result<String, ProbeFailure> {
    Err(ProbeFailure::Protocol(words.to_owned()))
}

#[tokio::test]
async fn statuses_are_judged_as_kubernetes_does() {
    for (head, wanted, passes) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..], None, true),
        (b"HTTP/1.1 204 No Content\r\n\r\n", None, true),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", None, true),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", None, true),
        (b"HTTP/1.1 399 x\r\ncontent-length: 0\r\n\r\n", None, true),
        (b"HTTP/1.1 400 x\r\ncontent-length: 0\r\n\r\n", None, false),
        (b"HTTP/1.1 199 x\r\ncontent-length: 0\r\n\r\n", Some(200), false),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", None, true),
        (b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n", Some(503), true),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Some(200), true),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Some(204), false),
    ] {
        let answer = asked(&saying(head).await, wanted, AMPLE).await;
        let head = String::from_utf8_lossy(head);
        assert_eq!(answer.is_ok(), passes, "{head:?} {wanted:?}: {answer:?}");
    }
}

#[tokio::test]
async fn the_request_is_one_a_plain_server_understands() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut target = server("127.0.0.1", |mut stream, head| async move {
        tell.send(head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    })
    .await;
    target.path = "/hé{a}?x=%20&y=1".to_owned();
    assert_eq!(asked(&target, None, AMPLE).await, Ok("HTTP 200".to_owned()));
    let head = told.await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get /h%c3%a9%7ba%7d?x=%20&y=1 http/1.1\r\n"), "{head}");
    for field in [
        format!("host: {}\r\n", target.address),
        "connection: close\r\n".to_owned(),
        "accept: */*\r\n".to_owned(),
        "accept-encoding: identity\r\n".to_owned(),
        concat!("user-agent: mainstay-probe/", env!("CARGO_PKG_VERSION"), "\r\n").to_owned(),
    ] {
        assert!(head.contains(&field), "{field:?} in {head}");
    }
}

#[test]
fn host_fields() {
    for (name, port, field) in [
        ("localhost", 80, "localhost"),
        ("localhost", 8080, "localhost:8080"),
        ("::1", 80, "[::1]"),
        ("::1", 8080, "[::1]:8080"),
        ("fe80::1%eth0", 8080, "[fe80::1]:8080"),
    ] {
        assert_eq!(host(&HostPort { host: name.to_owned(), port }, 80), field);
    }
}

#[tokio::test]
async fn an_ipv6_literal_is_asked() {
    let target = server("::1", |mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    })
    .await;
    assert_eq!(target.address.host, "::1");
    assert_eq!(asked(&target, None, AMPLE).await, Ok("HTTP 200".to_owned()));
}

#[tokio::test]
async fn nobody_there_is_refused() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let target = target(free, "/");
    assert_eq!(asked(&target, None, AMPLE).await, Err(ProbeFailure::Refused(target.address)));
}

#[tokio::test]
async fn a_failing_status_comes_with_the_body() {
    let target =
        saying(b"HTTP/1.1 503 x\r\ncontent-length: 25\r\n\r\nno\x1b[31m\r\n  database\0 yet\n").await;
    let failure = asked(&target, None, AMPLE).await.unwrap_err();
    assert_eq!(
        failure,
        ProbeFailure::HttpStatus { status: 503, wanted: None, body: "no [31m database yet".to_owned() }
    );
    assert_eq!(failure.to_string(), "HTTP 503: no [31m database yet");
}

#[tokio::test]
async fn a_failing_status_is_told_even_when_its_body_never_ends() {
    let target = server("127.0.0.1", |mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 500 x\r\ncontent-length: 99\r\n\r\nhalf").await.unwrap();
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    assert_eq!(
        asked(&target, None, Duration::from_secs(2)).await,
        Err(ProbeFailure::HttpStatus { status: 500, wanted: None, body: "half".to_owned() })
    );
}

#[tokio::test]
async fn a_server_that_never_answers_times_out() {
    let target = server("127.0.0.1", |stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let before = Instant::now();
    assert_eq!(asked(&target, None, SHORT).await, Err(ProbeFailure::TimedOut(SHORT)));
    assert!(before.elapsed() >= SHORT);
}

#[tokio::test]
async fn byte_by_byte_does_not_stretch_the_time_limit() {
    for answer in [
        // Slow in its head, slow in its body.
        ("", "HTTP/1.1 200 OK\r\nx: "),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n", ""),
    ] {
        let target = server("127.0.0.1", move |mut stream, _| async move {
            stream.write_all(answer.0.as_bytes()).await.unwrap();
            for byte in answer.1.bytes().chain(std::iter::repeat(b'x')) {
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let before = Instant::now();
        assert_eq!(asked(&target, None, SHORT).await, Err(ProbeFailure::TimedOut(SHORT)));
        assert!(before.elapsed() < AMPLE / 2);
    }
}

#[tokio::test]
async fn what_is_no_http_is_shown() {
    let target = saying(b"SSH-2.0-OpenSSH_9.2p1\r\n").await;
    assert_eq!(
        asked(&target, None, AMPLE).await,
        protocol("it does not speak HTTP: its answer begins with \"SSH-2.0-OpenSSH_9.2p1\"")
    );
    let target = saying(&[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46]).await;
    assert_eq!(
        asked(&target, None, AMPLE).await,
        protocol("it speaks TLS, not plain HTTP: is https:// meant?")
    );
}

#[tokio::test]
async fn who_speaks_first_is_heard() {
    for (greeting, answer) in [
        (
            &b"220 mail.example ESMTP\r\n"[..],
            protocol("it does not speak HTTP: its answer begins with \"220 mail.example ESMTP\""),
        ),
        (
            b"HTTP/1.1 503 x\r\ncontent-length: 4\r\n\r\nfull",
            Err(ProbeFailure::HttpStatus { status: 503, wanted: None, body: "full".to_owned() }),
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(listener.local_addr().unwrap(), "/");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(greeting).await.unwrap();
            // Reads on, so that the close is orderly.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        });
        assert_eq!(asked(&target, None, AMPLE).await, answer);
    }
}

#[tokio::test]
async fn closing_without_an_answer_is_told() {
    let target = saying(b"").await;
    assert_eq!(asked(&target, None, AMPLE).await, protocol("it closed the connection before it answered"));
    let target = saying(b"HTTP/1.1 200 O").await;
    assert_eq!(asked(&target, None, AMPLE).await, protocol("it closed the connection before it answered"));
}

#[tokio::test]
async fn closing_in_the_body_is_told() {
    let target = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    assert_eq!(
        asked(&target, None, AMPLE).await,
        protocol("it closed the connection in the middle of its answer")
    );
}

#[tokio::test]
async fn a_reset_is_told() {
    let target = server("127.0.0.1", |stream, _| async move {
        // Closing with a linger of zero sends a reset (socket(7), SO_LINGER).
        stream.set_zero_linger().unwrap();
    })
    .await;
    assert_eq!(asked(&target, None, AMPLE).await, protocol("it reset the connection before it answered"));
}

#[tokio::test]
async fn closing_before_the_request_is_read_is_a_failure_of_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap(), "/");
    let accept = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    let answer = asked(&target, None, AMPLE).await;
    accept.await.unwrap();
    // Whether the kernel answers our request with a reset is a matter of which came first.
    let Err(ProbeFailure::Protocol(words)) = &answer else { panic!("{answer:?}") };
    assert!(words.ends_with("the connection before it answered"), "{words}");
}

#[tokio::test]
async fn of_a_huge_body_only_the_beginning_is_read() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let target = server("127.0.0.1", |mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await.unwrap();
        let mut sent = 0_u64;
        while stream.write_all(&[b'x'; 65_536]).await.is_ok() {
            sent += 65_536;
        }
        tell.send(sent).unwrap();
    })
    .await;
    assert_eq!(asked(&target, None, AMPLE).await, Ok("HTTP 200".to_owned()));
    let sent = told.await.unwrap();
    // What fits into the kernel's buffers leaves the server; nowhere near the whole gigabyte does.
    assert!(sent < 100_000_000, "{sent}");
}

#[tokio::test]
async fn a_huge_head_is_refused() {
    let target = server("127.0.0.1", |mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.unwrap();
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    assert_eq!(asked(&target, None, AMPLE).await, protocol("the head of its answer is larger than 16 KiB"));
}

#[tokio::test]
async fn an_excerpt_is_short() {
    let target = server("127.0.0.1", |mut stream, _| async move {
        let body = "é".repeat(3000);
        let head = format!("HTTP/1.1 500 x\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
    })
    .await;
    let Err(ProbeFailure::HttpStatus { body, .. }) = asked(&target, None, AMPLE).await else { panic!() };
    assert!(body.len() <= MAX_EXCERPT_BYTES && body.len() > MAX_EXCERPT_BYTES - 10, "{}", body.len());
    assert!(body.ends_with("é…"), "{body}");
}

/// Asks for a body that matches.
async fn matched(target: &HttpTarget, pattern: &str, timeout: Duration) -> Result<String, ProbeFailure> {
    check(&Question { target, status: None, body: Some(pattern), ca: None }, timeout).await
}

#[tokio::test]
async fn a_body_is_matched_after_the_status() {
    const HEALTHY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"status\": \"up\"}\n";
    let differs = |pattern: &str, body: &str| {
        Err(ProbeFailure::HttpBody { status: 200, pattern: pattern.to_owned(), body: body.to_owned() })
    };
    let passes = || Ok("HTTP 200, its body matches".to_owned());
    for (answer, pattern, outcome) in [
        (HEALTHY, r#""status":\s*"up""#, passes()),
        (HEALTHY, "^\\{", passes()),
        (HEALTHY, r"\}\n$", passes()),
        (HEALTHY, r"\}$", passes()),
        (b"HTTP/1.0 200 OK\r\n\r\nok\r\n", "^ok$", passes()),
        (b"HTTP/1.0 200 OK\r\n\r\nok\n\n", "^ok$", differs("^ok$", "ok")),
        (HEALTHY, "down", differs("down", "{\"status\": \"up\"}")),
        // Not a prefix of the whole.
        (HEALTHY, r#""up"$"#, differs(r#""up"$"#, "{\"status\": \"up\"}")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "x", differs("x", "")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "^$", passes()),
        // Until the end, and with bytes that are no text.
        (b"HTTP/1.0 200 OK\r\n\r\n\xff\xferea\0dy", r"rea\x00dy", passes()),
        (
            b"HTTP/1.1 500 x\r\ncontent-length: 2\r\n\r\nup",
            "up",
            Err(ProbeFailure::HttpStatus { status: 500, wanted: None, body: "up".to_owned() }),
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n\x1f\x8b",
            "up",
            protocol("HTTP 200, but its body is encoded (gzip) and cannot be matched"),
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nup",
            "up",
            protocol("it closed the connection in the middle of its answer"),
        ),
    ] {
        assert_eq!(matched(&saying(answer).await, pattern, AMPLE).await, outcome, "{pattern}");
    }
}

#[tokio::test]
async fn a_body_is_matched_across_its_parts() {
    let (go, may_go) = tokio::sync::oneshot::channel::<()>();
    let target = server("127.0.0.1", |mut stream, _| async move {
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        for part in ["4\r\nup a", "\r\n", "3\r\nnd ", "\r\n7\r\nrunning\r\n"] {
            stream.write_all(part.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        may_go.await.unwrap();
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    })
    .await;
    let (answer, ()) = tokio::join!(matched(&target, "^up and running$", AMPLE), async {
        tokio::task::yield_now().await;
        go.send(()).unwrap();
    });
    assert_eq!(answer, Ok("HTTP 200, its body matches".to_owned()));
}

#[tokio::test]
async fn only_the_first_mebibyte_is_matched() {
    for (before, passes) in
        [(MAX_MATCHED_BYTES - 2, true), (MAX_MATCHED_BYTES - 1, false), (5_000_000, false)]
    {
        let target = server("127.0.0.1", move |mut stream, _| async move {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", before + 2 + 9_000_000);
            let body = ["x".repeat(before), "up".to_owned(), "y".repeat(9_000_000)].concat();
            stream.write_all(head.as_bytes()).await.unwrap();
            // The client closes early.
            let _ = stream.write_all(body.as_bytes()).await;
        })
        .await;
        match matched(&target, "up", AMPLE).await {
            Ok(_) => assert!(passes, "{before}"),
            Err(ProbeFailure::HttpBody { status: 200, body, .. }) => {
                assert!(!passes && body.len() <= MAX_EXCERPT_BYTES, "{before}: {body}");
            }
            Err(other) => panic!("{before}: {other}"),
        }
    }
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_times_out_though_it_would_match() {
    let target = server("127.0.0.1", |mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nup").await.unwrap();
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    assert_eq!(matched(&target, "up", SHORT).await, Err(ProbeFailure::TimedOut(SHORT)));
}

#[tokio::test]
async fn a_pattern_that_is_none_is_told() {
    let nowhere = HttpTarget::parse("http://127.0.0.1:1/").unwrap();
    let Err(ProbeFailure::Protocol(words)) = matched(&nowhere, "(", AMPLE).await else { panic!() };
    assert!(words.starts_with("the body cannot be matched with \"(\": "), "{words}");
}
