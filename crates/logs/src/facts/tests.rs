//! Lines as real programs write them, and twins that only look like them.

use mainstay_types::{Level, Timestamp};
use proptest::prelude::*;

use super::{Facts, Levels, facts};
use crate::Stream;

const TRACE: Option<Level> = Some(Level::Trace);
const DEBUG: Option<Level> = Some(Level::Debug);
const INFO: Option<Level> = Some(Level::Info);
const WARN: Option<Level> = Some(Level::Warn);
const ERROR: Option<Level> = Some(Level::Error);
const FATAL: Option<Level> = Some(Level::Fatal);

fn check(line: &str, level: Option<Level>, at: &str) {
    let at = (!at.is_empty()).then(|| at.parse::<Timestamp>().unwrap());
    assert_eq!(facts(line.as_bytes()), Facts { level, at }, "{line}");
}

#[test]
fn json() {
    let at = "2026-11-22T15:20:01.123Z";
    for (line, level, at) in [
        // pino, bunyan
        (r#"{"level":30,"time":1795360801123,"pid":1,"hostname":"h","msg":"listening"}"#, INFO, at),
        (
            r#"{"name":"app","hostname":"h","pid":1,"level":50,"msg":"x","time":"2026-11-22T15:20:01.123Z","v":0}"#,
            ERROR,
            at,
        ),
        // zap, slog, zerolog, logrus
        (r#"{"level":"warn","ts":1795360801.123,"caller":"m.go:3","msg":"x"}"#, WARN, at),
        (r#"{"level":"dpanic","ts":"2026-11-22T15:20:01.123Z","msg":"x"}"#, FATAL, at),
        (r#"{"time":"2026-11-22T16:20:01.123+01:00","level":"ERROR+2","msg":"x"}"#, ERROR, at),
        (
            r#"{"level":"error","error":"refused","time":1795360801,"message":"x"}"#,
            ERROR,
            "2026-11-22T15:20:01Z",
        ),
        // Python, logback, ECS, Stackdriver, Serilog, .NET, MongoDB, GELF
        (r#"{"asctime": "2026-11-22 15:20:01,123", "levelname": "CRITICAL", "message": "x"}"#, FATAL, ""),
        (
            r#"{"@timestamp":"2026-11-22T15:20:01.123Z","@version":"1","message":"x","logger_name":"a","level":"WARN","level_value":30000}"#,
            WARN,
            at,
        ),
        (r#"{"@timestamp":"2026-11-22T15:20:01.123Z","log.level":"error","message":"x"}"#, ERROR, at),
        (
            r#"{"@timestamp":"2026-11-22T15:20:01.123Z","log":{"logger":"a","level":"error"},"message":"x"}"#,
            ERROR,
            at,
        ),
        (r#"{"severity":"WARNING","message":"x","timestamp":"2026-11-22T15:20:01.123Z"}"#, WARN, at),
        (r#"{"@t":"2026-11-22T15:20:01.123Z","@mt":"x {y}","@l":"Fatal","y":1}"#, FATAL, at),
        (
            r#"{"EventId":0,"LogLevel":"Information","Category":"A","Message":"x","State":{"level":"error"}}"#,
            INFO,
            "",
        ),
        (
            r#"{"t":{"$date":"2026-11-22T15:20:01.123+00:00"},"s":"W",  "c":"CONTROL", "id":1, "ctx":"m", "msg":"x"}"#,
            WARN,
            at,
        ),
        (r#"{"version":"1.1","host":"h","short_message":"x","level":3}"#, ERROR, ""),
        // Cut, or with the level last.
        (r#"{"msg":"an error was found: \"error\":\"level\"","level":"debug"}"#, DEBUG, ""),
        (r#"{"level":"error","msg":"cut off he"#, ERROR, ""),
        // Twins.
        (r#"{"msg":"error","status":"fatal"}"#, None, ""),
        (r#"{"message":"level=error","user":{"level":"error"}}"#, None, ""),
        (r#"{"level":"high","game":"x"}"#, None, ""),
        (r#"{"level":99}"#, None, ""),
        (r#"{"time":"tomorrow","took":1795360801}"#, None, ""),
        ("{ error: 'not JSON' }", None, ""),
        ("{}", None, ""),
        ("{\"", None, ""),
    ] {
        check(line, level, at);
    }
}

#[test]
fn logfmt() {
    for (line, level, at) in [
        (r#"time="2026-11-22T15:20:01Z" level=warning msg="a = b" n=3"#, WARN, "2026-11-22T15:20:01Z"),
        ("time=2026-11-22T15:20:01.123+01:00 level=INFO msg=hello", INFO, "2026-11-22T14:20:01.123Z"),
        (
            "ts=2026-11-22T15:20:01.123Z caller=main.go:1 level=error err=\"x y\"",
            ERROR,
            "2026-11-22T15:20:01.123Z",
        ),
        ("level=fatal", FATAL, ""),
        (r#"msg="level=error here" lvl=dbug"#, DEBUG, ""),
        ("logger=a t=2026-11-22T15:20:01Z level=eror msg=x", None, "2026-11-22T15:20:01Z"),
        // Twins.
        ("user=web level 9 reached", None, ""),
        ("the level=error flag is set", None, ""),
        ("PATH=/bin:/usr/bin", None, ""),
        ("a=b level=advanced", None, ""),
    ] {
        check(line, level, at);
    }
}

#[test]
fn text() {
    for (line, level, at) in [
        // PostgreSQL
        (
            "2026-11-22 15:20:01.123 UTC [77] LOG:  database system is ready to accept connections",
            INFO,
            "2026-11-22T15:20:01.123Z",
        ),
        (
            "2026-11-22 15:20:01.123 CET [77] shop@shop ERROR:  relation \"x\" does not exist at character 15",
            ERROR,
            "",
        ),
        (
            "2026-11-22 15:20:01.123 UTC [77] FATAL:  the database system is starting up",
            FATAL,
            "2026-11-22T15:20:01.123Z",
        ),
        ("2026-11-22 15:20:01.123 UTC [77] DEBUG2:  x", DEBUG, "2026-11-22T15:20:01.123Z"),
        ("2026-11-22 15:20:01.123 UTC [77] STATEMENT:  select ERROR", None, "2026-11-22T15:20:01.123Z"),
        // nginx, Apache, HAProxy, PHP
        (
            "2026/11/22 15:20:01 [error] 123#123: *1 open() \"/x\" failed (2: No such file or directory)",
            ERROR,
            "",
        ),
        ("2026/11/22 15:20:01 [notice] 1#1: start worker processes", INFO, ""),
        ("[Sun Nov 22 15:20:01.123456 2026] [core:error] [pid 1:tid 2] AH00037: x", ERROR, ""),
        ("[NOTICE]   (1) : New worker (8) forked", INFO, ""),
        ("[22-Nov-2026 15:20:01] WARNING: [pool www] x", WARN, ""),
        ("[22-Nov-2026 15:20:01 UTC] PHP Fatal error:  Uncaught Error", None, "2026-11-22T15:20:01Z"),
        ("PHP Fatal error:  Uncaught Error: x", FATAL, ""),
        ("PHP Warning:  x in y on line 3", WARN, ""),
        (
            "[2026-11-22T15:20:01.123456+00:00] app.CRITICAL: x {\"a\":1} []",
            FATAL,
            "2026-11-22T15:20:01.123456Z",
        ),
        // Redis, MySQL, RabbitMQ, Elasticsearch, Kafka, NATS, consul
        ("77:M 22 Nov 2026 15:20:01.123 # WARNING overcommit_memory is set to 0!", WARN, ""),
        ("77:M 22 Nov 2026 15:20:01.123 * Ready to accept connections tcp", INFO, ""),
        ("77:C 22 Nov 2026 15:20:01.123 - x", DEBUG, ""),
        (
            "2026-11-22T15:20:01.123456Z 0 [Warning] [MY-010068] [Server] CA certificate",
            WARN,
            "2026-11-22T15:20:01.123456Z",
        ),
        ("2026-11-22 15:20:01 0 [Note] mariadbd: ready for connections.", INFO, ""),
        (
            "2026-11-22T15:20:01.123456Z 0 [System] [MY-010931] [Server] ready",
            INFO,
            "2026-11-22T15:20:01.123456Z",
        ),
        ("2026-11-22 15:20:01.123456+00:00 [error] <0.9.0> x", ERROR, "2026-11-22T15:20:01.123456Z"),
        ("2026-11-22 15:20:01.123456+00:00 <0.9.0> [critical] x", FATAL, "2026-11-22T15:20:01.123456Z"),
        ("[2026-11-22T15:20:01,123][WARN ][o.e.n.Node] [name] x", WARN, ""),
        ("[2026-11-22 15:20:01,123] ERROR [KafkaServer id=1] x (kafka.server)", ERROR, ""),
        ("[1] 2026/11/22 15:20:01.123456 [INF] Server is ready", INFO, ""),
        ("2026-11-22T15:20:01.123Z [INFO]  agent: Synced node info", INFO, "2026-11-22T15:20:01.123Z"),
        // Python
        ("ERROR:root:it failed", ERROR, ""),
        ("2026-11-22 15:20:01,123 - myapp - ERROR - it failed", ERROR, ""),
        ("2026-11-22 15:20:01,123 INFO sqlalchemy.engine x", INFO, ""),
        ("2026-11-22 15:20:01.123 | WARNING  | __main__:<module>:1 - x", WARN, ""),
        ("INFO:     Uvicorn running on http://127.0.0.1:8000", INFO, ""),
        ("[2026-11-22 15:20:01 +0000] [123] [INFO] Listening at: x", INFO, "2026-11-22T15:20:01Z"),
        ("[2026-11-22 15:20:01,123: ERROR/MainProcess] consumer: x", ERROR, ""),
        ("[E 2026-11-22 15:20:01.123 ServerApp] x", ERROR, ""),
        ("Traceback (most recent call last):", ERROR, ""),
        ("ValueError: invalid literal", ERROR, ""),
        ("django.core.exceptions.ImproperlyConfigured: x", None, ""),
        // Java
        ("2026-11-22 15:20:01,123 WARN  [main] c.e.App: x", WARN, ""),
        ("15:20:01.123 [main] ERROR com.example.App - x", ERROR, ""),
        (
            "2026-11-22T15:20:01.123+01:00  INFO 1234 --- [main] c.e.App : Started",
            INFO,
            "2026-11-22T14:20:01.123Z",
        ),
        ("SEVERE: x", ERROR, ""),
        ("Exception in thread \"main\" java.lang.NullPointerException", ERROR, ""),
        ("java.lang.IllegalStateException: x", ERROR, ""),
        // Go
        ("E1122 15:20:01.123456    1234 file.go:12] x", ERROR, ""),
        ("I1122 15:20:01.123456       1 main.go:3] x", INFO, ""),
        ("2026-11-22T15:20:01.123Z\tERROR\tpkg/file.go:12\tx", ERROR, "2026-11-22T15:20:01.123Z"),
        ("2026/11/22 15:20:01 INFO hello n=3", INFO, ""),
        ("ERRO[0012] x", ERROR, ""),
        ("3:20PM WRN x", WARN, ""),
        ("panic: runtime error: index out of range", FATAL, ""),
        ("fatal error: all goroutines are asleep - deadlock!", FATAL, ""),
        // Rust
        ("[2026-11-22T15:20:01Z ERROR app::module] x", ERROR, "2026-11-22T15:20:01Z"),
        ("2026-11-22T15:20:01.123456Z  WARN app: x", WARN, "2026-11-22T15:20:01.123456Z"),
        (
            "\u{1b}[2m2026-11-22T15:20:01.123456Z\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m \u{1b}[2mapp\u{1b}[0m: x",
            ERROR,
            "2026-11-22T15:20:01.123456Z",
        ),
        (" INFO app: x", INFO, ""),
        ("thread 'main' panicked at src/main.rs:2:5:", ERROR, ""),
        ("thread 'main' (77) panicked at src/main.rs:2:5:", ERROR, ""),
        // .NET, Node, Ruby, Erlang
        ("fail: Microsoft.AspNetCore.Server[13]", ERROR, ""),
        ("crit: App[0]", FATAL, ""),
        ("info: Microsoft.Hosting.Lifetime[14]", INFO, ""),
        ("dbug: App[0]", DEBUG, ""),
        ("trce: App[0]", TRACE, ""),
        ("[15:20:01 ERR] x", ERROR, ""),
        ("Unhandled exception. System.Exception: x", FATAL, ""),
        ("2026-11-22T15:20:01.123Z error: x", ERROR, "2026-11-22T15:20:01.123Z"),
        ("npm ERR! code ELIFECYCLE", ERROR, ""),
        ("npm warn deprecated x", WARN, ""),
        ("Error: listen EADDRINUSE: address already in use :::8080", ERROR, ""),
        ("TypeError: x is not a function", ERROR, ""),
        ("E, [2026-11-22T15:20:01.123456 #123] ERROR -- : x", ERROR, ""),
        ("15:20:01.123 [warning] x", WARN, ""),
        ("=ERROR REPORT==== 22-Nov-2026::15:20:01 ===", ERROR, ""),
        // syslog, systemd, and tools
        ("<3>it failed", ERROR, ""),
        ("<6>all is well", INFO, ""),
        ("<34>1 2026-11-22T15:20:01.123Z host app 1 - - x", FATAL, "2026-11-22T15:20:01.123Z"),
        ("Nov 22 15:20:01 host app[123]: ERROR x", ERROR, ""),
        ("fatal: not a git repository", FATAL, ""),
        ("warning: unused variable", WARN, ""),
        ("[ERROR] 2026-11-22T15:20:01Z x", ERROR, "2026-11-22T15:20:01Z"),
        ("ERROR something happened", ERROR, ""),
        (
            "127.0.0.1 - - [22/Nov/2026:15:20:01 +0100] \"GET /error HTTP/1.1\" 500 12",
            None,
            "2026-11-22T14:20:01Z",
        ),
    ] {
        check(line, level, at);
    }
}

#[test]
fn what_only_looks_like_a_level_is_none() {
    for line in [
        "",
        " ",
        "no errors found",
        "0 errors, 0 warnings",
        "12 ERRORS",
        "Errors: 0",
        "errors: none",
        "ERROR count: 0",
        "error rate is 0.1 %",
        "error-free build",
        "Error handling is enabled",
        "warning signs were put up",
        "info desk is open",
        "the error: none",
        "retry on error: yes",
        "fatalities: 0",
        "GET /ERROR HTTP/1.1",
        "[errors] 3",
        "[main] no error",
        "[error while reading]",
        "(error) x",
        "<error> x",
        "<999>x",
        "<>x",
        "<b>error</b>",
        "  ERROR in an indented line",
        "E1 is a motorway",
        "I am here",
        "F, yes",
        "logging to /var/log/error.log",
        "status=error",
        "a.ERROR: x",
        "\u{1b}[31m",
        "DETAIL is important",
        "main.example.org (error)",
        "ErrorHandler: installed",
        "Info",
        "LOG me in",
        "Note the error",
        "system: up",
        "debugger: attached",
    ] {
        check(line, None, "");
    }
    for line in [
        "2026-11-22T15:20:01Z no ERROR was found",
        "2026-11-22T15:20:01Z GET /ERROR",
        "2026-11-22T15:20:01Z error rate 0",
    ] {
        check(line, None, "2026-11-22T15:20:01Z");
    }
}

#[test]
fn times_without_a_zone_or_of_no_day_are_not_told() {
    for line in [
        "2026-02-30T15:20:01Z x",
        "2026-11-22T25:20:01Z x",
        "2026-11-22 15:20:01 x",
        "2026-11-22T15:20:01+99:00 x",
        "2026-11-22T15:20:01Zulu x",
        "2026-11-22 x",
        "99/Nov/2026:15:20:01 +0000",
        r#"{"time":12}"#,
        r#"{"time":1e400}"#,
        r#"{"time":"1795360801.x"}"#,
    ] {
        assert_eq!(facts(line.as_bytes()).at, None, "{line}");
    }
    for (value, at) in [
        ("1795360801", "2026-11-22T15:20:01Z"),
        ("1795360801.5", "2026-11-22T15:20:01.5Z"),
        ("1795360801123.25", "2026-11-22T15:20:01.12325Z"),
        ("1795360801123456", "2026-11-22T15:20:01.123456Z"),
        ("1795360801123456789", "2026-11-22T15:20:01.123456789Z"),
        ("1.795360801e9", "2026-11-22T15:20:01Z"),
        ("\"2026-11-22 15:20:01.1 UTC\"", "2026-11-22T15:20:01.1Z"),
        ("\"2016-12-31T23:59:60Z\"", "2016-12-31T23:59:59Z"),
    ] {
        check(&format!(r#"{{"ts":{value}}}"#), None, at);
    }
}

#[test]
fn a_trace_goes_with_its_error() {
    let mut levels = Levels::default();
    let (out, err) = (Stream::Stdout, Stream::Stderr);
    for (stream, line, level) in [
        (err, "starting", None),
        (err, "2026-11-22 15:20:01,123 ERROR [main] c.e.App: failed", ERROR),
        (out, "INFO other stream", INFO),
        (err, "java.lang.IllegalStateException: x", ERROR),
        (err, "\tat com.example.App.main(App.java:3)", ERROR),
        (err, "Caused by: java.io.IOException", ERROR),
        (err, "", ERROR),
        (out, "  more", INFO),
        (out, "said without a level", None),
        (out, "  and more", None),
        (err, "2026-11-22 15:20:01,123 DEBUG [main] c.e.App: fine", DEBUG),
        (err, "of several lines", DEBUG),
        (err, "2026-11-22 15:20:01 a time and no level", None),
        (err, "goes with it", None),
        (err, "panic: boom", FATAL),
        (err, "", FATAL),
        (err, "goroutine 1 [running]:", FATAL),
        (err, "main.main()", FATAL),
        (err, "\t/src/main.go:4 +0x1d", FATAL),
        (err, "exit status 2", None),
        (err, r#"{"level":"error","time":1795360801}"#, ERROR),
        (err, "said beside JSON", None),
        (err, "2026-11-22 15:20:01.123 UTC [77] ERROR:  x", ERROR),
        (err, "2026-11-22 15:20:01.123 UTC [77] DETAIL:  y", ERROR),
    ] {
        assert_eq!(levels.next(stream, line.as_bytes()), level, "{line}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), line in r#"[\[{<"ELI:=, 0-9TZ./\\-]{0,60}"#) {
        let _ = facts(&bytes);
        let _ = facts(line.as_bytes());
    }
}
