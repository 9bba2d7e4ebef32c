//! Each route: what is answered, byte for byte where the contract fixes it.

use std::time::Duration;

use mainstay_api::{CommandOptions, EventsQuery, LogsQuery, OutputStream, Verb};
use serde_json::json;

use crate::fake_host::{Asked, Host, time};

#[tokio::test]
async fn status_is_the_contracts_shape() {
    let host = Host::start();
    let answer = host.ask("GET", "/v1/status").await;
    assert_eq!(answer.status, 200);
    // Compared as text: the names, their order, and null where there is nothing.
    let expected = concat!(
        r#"{"stack":"shop","host":{"pid":17,"version":"0.1.0","phase":"shutting-down","#,
        r#""started_at":"2026-11-22T15:20:00Z","unit":null,"file":{"path":"/srv/shop/mainstay.toml","loaded_at":"2026-11-22T15:20:00Z","changed":true},"applying":false},"services":["#,
        r#"{"name":"db-migrate","kind":"oneshot","phase":"initializing","state":"waiting","reason":null,"replicas":["#,
        r#"{"index":0,"pid":null,"state":"waiting","started_at":null,"restarts":0,"last_exit":null,"#,
        r#""cpu_percent":null,"memory_bytes":null,"status_text":null,"last_lines":null}],"stops_first":[],"limits":[],"listen":[]},"#,
        r#"{"name":"web","kind":"long-running","phase":"running","state":"ready","#,
        r#""reason":"readiness probe passed: HTTP 200","replicas":["#,
        r#"{"index":0,"pid":4212,"state":"ready","started_at":"2026-11-22T15:20:01Z","restarts":2,"#,
        r#""last_exit":{"code":null,"signal":"SIGKILL","description":"was ended by SIGKILL","at":"2026-11-22T15:19:59.5Z"},"#,
        r#""cpu_percent":1.5,"memory_bytes":8388608,"status_text":"3 clients","last_lines":["out of memory"]}],"stops_first":["worker"],"limits":[{"name":"memory","value":"512MiB","enforced_by":"cgroup","note":null}],"listen":[{"name":"http","address":"0.0.0.0:80","open":true}]}],"#,
        r#""forwards":[{"name":"central","to":"loki","url":"http://127.0.0.1:3100/loki/api/v1/push","sent":7,"lost":1,"#,
        r#""lost_more":false,"failures":2,"behind_bytes":4096,"failing":"it answered HTTP 503","#,
        r#""failing_since":"2026-11-22T15:20:00Z","sent_at":null}]}"#,
    );
    assert_eq!(answer.body, expected);
    assert!(answer.headers.contains("content-type: application/json\r\n"), "{answer:?}");
}

#[tokio::test]
async fn events_are_the_contracts_shape() {
    let host = Host::start();
    let answer = host.ask("GET", "/v1/events?after_id=5&limit=1&service=web").await;
    assert_eq!(answer.status, 200);
    let expected = concat!(
        r#"[{"at":"2026-11-22T15:20:01.123456789Z","id":1,"service":"web","replica":0,"event":"exited","#,
        r#""from":null,"to":null,"reason":"it exited with code 1 after 2s","pid":4212,"#,
        r#""exit":{"code":1,"signal":null,"description":"exited with code 1"},"ran_ms":2000,"requested":false,"#,
        r#""lines":["cannot bind"],"probe":null,"passed":null,"gate":null,"answer":null,"tries":null,"command":null}]"#,
    );
    assert_eq!(answer.body, expected);
    let query = EventsQuery { after_id: Some(5), limit: Some(1), service: Some("web".to_owned()) };
    assert_eq!(host.plane.asked(), [Asked::Events(query)]);
    assert_eq!(host.ask("GET", "/v1/events?limit=0").await.json(), json!([]));
}

#[tokio::test]
async fn logs_take_every_condition() {
    let host = Host::start();
    let target = "/v1/logs?service=web&service=db-migrate&since=2026-11-22T15:00:00Z\
                  &until=2026-11-22T16:00:00%2B00:00&last=1&grep=a%2Bb&ignore_case=true&level=warning&stream=stderr";
    let answer = host.ask("GET", target).await;
    assert_eq!(
        answer.body,
        r#"[{"at":"2026-11-22T15:20:01.123456789Z","service":"web","replica":1,"stream":"stderr","partial":false,"level":"error","time":null,"line":"line 0 é\t\"x\""}]"#
    );
    let query = LogsQuery {
        service: vec!["web".to_owned(), "db-migrate".to_owned()],
        since: Some(time("2026-11-22T15:00:00Z")),
        until: Some(time("2026-11-22T16:00:00Z")),
        last: Some(1),
        grep: Some("a+b".to_owned()),
        ignore_case: true,
        level: Some(mainstay_types::Level::Warn),
        stream: Some(OutputStream::Stderr),
    };
    assert_eq!(host.plane.asked(), [Asked::Logs(query)]);
    // A long list comes in parts, and is one list.
    let long = host.ask("GET", "/v1/logs?last=5000").await.json();
    assert_eq!(long.as_array().unwrap().len(), 5000);
    assert_eq!(long[4999]["line"], "line 4999 é\t\"x\"");
}

#[tokio::test]
async fn commands_say_how_they_ended() {
    let host = Host::start();
    let options = |wait, timeout| CommandOptions { wait, timeout };
    for (target, status, done, outcome, asked) in [
        ("start", 202, false, "accepted", (Verb::Start, options(false, None))),
        ("stop?wait=false", 202, false, "accepted", (Verb::Stop, options(false, None))),
        ("restart?wait=true", 200, true, "done", (Verb::Restart, options(true, None))),
        (
            "start?wait&timeout=2m",
            200,
            false,
            "failed",
            (Verb::Start, options(true, Some(Duration::from_secs(120)))),
        ),
        (
            "stop?wait=true&timeout=10ms",
            200,
            false,
            "timed_out",
            (Verb::Stop, options(true, Some(Duration::from_millis(10)))),
        ),
    ] {
        let answer = host.ask("POST", &format!("/v1/services/web/{target}")).await;
        assert_eq!(answer.status, status, "{target}");
        let reply = answer.json();
        assert_eq!((&reply["done"], &reply["outcome"]), (&json!(done), &json!(outcome)), "{target}");
        assert_eq!(reply["message"], format!("web: {}", asked.0));
        assert_eq!(reply["services"][0]["name"], "web");
        assert_eq!(host.plane.asked(), [Asked::Command("web".to_owned(), asked.0, asked.1)]);
    }
}

#[tokio::test]
async fn problems_are_problem_documents() {
    let host = Host::start();
    for (method, target, expected) in [
        (
            "POST",
            "/v1/services/wbe/start",
            json!({
                "type": "urn:mainstay:problem:no-such-service", "title": "no such service", "status": 404,
                "detail": "there is no service \"wbe\" in this stack: did you mean \"web\"?",
            }),
        ),
        (
            "POST",
            "/v1/reload?wait&timeout=2s",
            json!({
                "type": "urn:mainstay:problem:invalid-file", "title": "the file is not valid", "status": 422,
                "detail": "/srv/shop/mainstay.toml:3: unknown key `comand`",
            }),
        ),
        (
            "POST",
            "/v1/services/%ff/start",
            json!({
                "type": "urn:mainstay:problem:bad-request", "title": "the request does not read", "status": 400,
                "detail": "the name of the service in the path is no UTF-8",
            }),
        ),
        (
            "POST",
            "/v1/services/web/explode",
            json!({
                "type": "urn:mainstay:problem:no-such-route", "title": "no such path", "status": 404,
                "detail": "there is no path /v1/services/web/explode; GET /openapi.json lists those there are",
            }),
        ),
        (
            "DELETE",
            "/v1/status",
            json!({
                "type": "urn:mainstay:problem:method-not-allowed", "title": "method not allowed here", "status": 405,
                "detail": "/v1/status does not take DELETE; GET /openapi.json lists what it takes",
            }),
        ),
        (
            "GET",
            "/v1/logs?grep=(",
            json!({
                "type": "urn:mainstay:problem:bad-request", "title": "the request does not read", "status": 400,
                "detail": "grep: unclosed group",
            }),
        ),
        (
            "GET",
            "/v1/logs?tail=5",
            json!({
                "type": "urn:mainstay:problem:bad-request", "title": "the request does not read", "status": 400,
                "detail": "/v1/logs takes no query parameter \"tail\": \
                           there are service, since, until, last, grep, ignore_case, level, stream, follow",
            }),
        ),
    ] {
        let answer = host.ask(method, target).await;
        assert_eq!(answer.problem(), expected, "{method} {target}");
    }
    assert!(host.ask("GET", "/").await.problem()["detail"].as_str().unwrap().contains("/openapi.json"));
    let allowed = host.ask("PUT", "/v1/services/web/start").await;
    assert_eq!((allowed.status, allowed.headers.contains("allow: post\r\n")), (405, true), "{allowed:?}");
}

#[tokio::test]
async fn large_bodies_are_refused_and_small_ones_ignored() {
    let host = Host::start();
    let head = "POST /v1/services/web/start HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length:";
    let answer = host.raw(&format!("{head} 65537\r\n\r\n")).await;
    assert_eq!((answer.status, &answer.problem()["title"]), (413, &json!("the body is too large")));
    assert_eq!(host.raw(&format!("{head} 2\r\n\r\n{{}}")).await.status, 202);
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let host = Host::start();
    assert_eq!(host.raw("hello\r\n\r\n").await.status, 400);
    let huge = format!("GET /v1/status HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(15_500));
    assert_eq!(host.raw(&huge.replace("host: x", "host: x\r\nconnection: close")).await.status, 200);
    let long = format!("GET /v1/status HTTP/1.1\r\nhost: x\r\nx: {}", "x".repeat(16_384));
    assert_eq!(host.raw(&long).await.status, 431);
}

#[tokio::test]
async fn health_and_metrics() {
    let host = Host::start();
    for target in ["/healthz", "/readyz"] {
        let answer = host.ask("GET", target).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"), "{target}");
    }
    let metrics = host.ask("GET", "/metrics").await;
    assert_eq!((metrics.status, metrics.body.as_str()), (200, "mainstay_up 1\n"));
    assert!(metrics.headers.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    host.plane.set_up(false);
    for (target, status) in [("/healthz", 503), ("/readyz", 503), ("/metrics", 501)] {
        let answer = host.ask("GET", target).await;
        assert_eq!(answer.problem()["status"], status, "{target}");
    }
}
