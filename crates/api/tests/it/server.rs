//! The connections: their bounds, their end, and server-sent events as they are on the wire.

use std::time::Duration;

use mainstay_api::{EventsQuery, MAX_CONNECTIONS, Notice};
use mainstay_os::{ControlStream, connect_control};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::fake_host::{AMPLE, Asked, Host, event, wait_for};

/// Reads until what came ends with `end`.
async fn read_until(stream: &mut ControlStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        text.push(timeout(AMPLE, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(text).unwrap()
}

async fn begin(host: &Host, request: &str) -> ControlStream {
    let mut stream = connect_control(&host.socket_path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn server_sent_events_on_the_wire() {
    let host = Host::start();
    for (request, asked) in [
        (
            "GET /v1/events?follow=true&limit=3 HTTP/1.1\r\nhost: x\r\n\r\n",
            EventsQuery { limit: Some(3), ..EventsQuery::default() },
        ),
        (
            "GET /v1/events HTTP/1.1\r\nhost: x\r\naccept: text/html, text/event-stream;q=0.9\r\n\r\n",
            EventsQuery::default(),
        ),
        (
            "GET /v1/events?follow=true&limit=3 HTTP/1.1\r\nhost: x\r\nlast-event-id: 41\r\n\r\n",
            EventsQuery { after_id: Some(41), ..EventsQuery::default() },
        ),
    ] {
        let mut stream = begin(&host, request).await;
        let head = read_until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
        assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
        assert!(head.contains("cache-control: no-cache\r\n"), "{head}");
        assert_eq!(host.plane.asked(), [Asked::FollowEvents(asked)]);
        host.plane.happens(event(42));
        let frame = read_until(&mut stream, "\n\n").await;
        let (_size, frame) = frame.split_once("\r\n").unwrap();
        let json = serde_json::to_string(&event(42)).unwrap();
        assert_eq!(frame, format!("id: 42\nevent: exited\ndata: {json}\n\n"));
        drop(stream);
        wait_for("the end of the stream", || host.plane.following() == 0).await;
    }
    let bad =
        "GET /v1/events?follow=true HTTP/1.1\r\nhost: x\r\nconnection: close\r\nlast-event-id: x\r\n\r\n";
    assert_eq!(host.raw(bad).await.problem()["detail"], "Last-Event-ID is no id of an event");
}

#[tokio::test]
async fn silence_is_filled_every_fifteen_seconds() {
    let host = Host::start();
    let mut stream = begin(&host, "GET /v1/logs?follow=true HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_until(&mut stream, "\n\n\r\n").await;
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let mut comment = [0; 6];
    stream.read_exact(&mut comment).await.unwrap();
    assert_eq!(&comment, b"3\r\n:\n\n");
    let silent = before.elapsed();
    assert!(silent >= Duration::from_secs(14) && silent <= Duration::from_secs(16), "{silent:?}");
}

#[tokio::test]
async fn one_connection_takes_many_requests() {
    let host = Host::start();
    let mut stream = connect_control(&host.socket_path).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let answer = read_until(&mut stream, "ok\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let host = Host::start();
    let mut idle = connect_control(&host.socket_path).await.unwrap();
    let mut half = begin(&host, "GET /heal").await;
    let mut done = begin(&host, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_until(&mut done, "ok\n").await;
    tokio::time::pause();
    for stream in [&mut idle, &mut half, &mut done] {
        let before = tokio::time::Instant::now();
        let mut rest = Vec::new();
        timeout(Duration::from_secs(120), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(before.elapsed() <= Duration::from_secs(35));
    }
}

#[tokio::test]
async fn too_many_connections_are_told_so() {
    let host = Host::start();
    let mut followers = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        followers.push(host.client().follow_events(&EventsQuery::default()).await.unwrap());
    }
    for _ in 0..3 {
        let answer = host.ask("GET", "/v1/status").await;
        let problem = answer.problem();
        assert_eq!((answer.status, &problem["type"]), (503, &"urn:mainstay:problem:unavailable".into()));
        assert!(problem["detail"].as_str().unwrap().starts_with("all 64 connections"), "{problem}");
    }
    // Said once, not three times.
    assert_eq!(*host.notices.lock().unwrap(), [Notice::ConnectionLimit { limit: MAX_CONNECTIONS }]);
    assert_eq!(host.plane.following(), MAX_CONNECTIONS);

    // A client that says nothing to its refusal does not keep others from theirs.
    let silent: Vec<_> =
        futures_util::future::join_all((0..100).map(|_| connect_control(&host.socket_path))).await;
    assert!(silent.iter().all(Result::is_ok));
    drop(silent);

    followers.truncate(MAX_CONNECTIONS / 2);
    wait_for("room", || host.plane.following() == MAX_CONNECTIONS / 2).await;
    let limit = tokio::time::Instant::now() + AMPLE;
    while host.client().status().await.is_err() {
        assert!(tokio::time::Instant::now() < limit, "there is room, and no answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn closing_ends_followers_and_removes_the_socket() {
    let mut host = Host::start();
    let mut follower = begin(&host, "GET /v1/events?follow=true HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_until(&mut follower, "\r\n\r\n").await;
    let mut idle = connect_control(&host.socket_path).await.unwrap();
    // Accepted in order: when the follower after it has its answer, the idle one is being served.
    let mut second = begin(&host, "GET /v1/events?follow=true HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_until(&mut second, "\r\n\r\n").await;
    host.stop();
    let mut rest = String::new();
    timeout(AMPLE, follower.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, "0\r\n\r\n", "the stream is ended, not cut off");
    rest.clear();
    timeout(AMPLE, idle.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, "");
    drop(second);
    timeout(AMPLE, &mut host.served).await.unwrap().unwrap();
    assert!(!host.socket_path.exists());
}

#[tokio::test]
async fn a_follower_that_does_not_read_does_not_hold_up_the_end() {
    let mut host = Host::start();
    let mut stuck = begin(&host, "GET /v1/logs?follow=true HTTP/1.1\r\nhost: x\r\n\r\n").await;
    read_until(&mut stuck, "\r\n\r\n").await;
    for _ in 0..16 {
        host.plane.writes(crate::fake_host::line(&"x".repeat(1_000_000)));
    }
    host.stop();
    timeout(AMPLE, &mut host.served).await.unwrap().unwrap();
}
