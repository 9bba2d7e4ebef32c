//! Real programs under `mainstay run`: PostgreSQL, Redis, nginx, Node, Python, and the example shop whole; `mainstay run` under
//! runit and s6; log files as others read them, output sent on to rsyslog, and metrics as Prometheus reads them.
//!
//! A program that is not installed makes its test say so and pass; with MAINSTAY_REQUIRE_PEERS set, as in CI, it fails.

#[path = "../it/fixture.rs"]
#[allow(dead_code, reason = "shared with the other test program, which uses the rest")]
mod fixture;
mod log_files;
mod rsyslog;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fixture::{Fixture, SOON, alive};

/// Where a program is: on PATH, in the folders of system programs, or in Debian's folder of PostgreSQL.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
        versions.sort();
        // The system's own first: a server must find its files.
        folders.splice(0..0, versions.into_iter().rev());
    }
    folders.into_iter().map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The programs' paths, or `None` after saying that the test is skipped.
fn need<const N: usize>(programs: [&str; N]) -> Option<[PathBuf; N]> {
    let found = programs.map(find);
    let missing: Vec<&str> =
        programs.into_iter().zip(&found).filter(|(_, path)| path.is_none()).map(|(name, _)| name).collect();
    if missing.is_empty() {
        return Some(found.map(Option::unwrap));
    }
    assert!(
        std::env::var_os("MAINSTAY_REQUIRE_PEERS").is_none(),
        "not installed: {} (Debian: postgresql redis-server nginx-light nodejs python3 runit s6 prometheus zstd rsyslog)",
        missing.join(", ")
    );
    // Past the test harness, which keeps what a passing test prints to itself.
    let words = format!("skipped: not installed: {}\n", missing.join(", "));
    std::io::stderr().write_all(words.as_bytes()).unwrap();
    None
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn get(port: u16, path: &str) -> String {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder below the system's temporary one that the user `postgres` may use, gone with the test.
fn open_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("chmod").arg("1777").arg(dir.path()).status().unwrap();
    assert!(status.success());
    dir
}

/// The account PostgreSQL runs as: it refuses root.
fn database_user() -> String {
    if mainstay_os::is_root() { "postgres".to_owned() } else { std::env::var("USER").unwrap() }
}

/// `GET /metrics` as Prometheus itself reads it.
#[test]
fn prometheus_takes_the_metrics() {
    let Some([promtool]) = need(["promtool"]) else { return };
    let fixture = Fixture::new(
        r#"
        stack = "measured"
        [service.web]
        command = ["sh", "-c", "echo one; echo 'two \"quoted\"' >&2; exec sleep 1000"]
        log = { redact = ["two"] }
        [service."odd-name"]
        command = "sleep 1000"
        replicas = 2
        "#,
    );
    let mut host = fixture.run(&[]);
    host.wait_state("web", "ready");
    host.wait_for("both lines", SOON, |_| fixture.log("web").lines().nth(1).map(drop));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let mut socket = mainstay_os::connect_control(&fixture.path("run/measured.sock")).await.unwrap();
        let request = b"GET /metrics HTTP/1.0\r\nHost: mainstay\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut socket, request).await.unwrap();
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut socket, &mut answer).await.unwrap();
        answer
    });
    let (head, metrics) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200") && head.contains("text/plain"), "{head}");
    let mut check = std::process::Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    // It also says what its linter does not like, and then ends with 3.
    assert!(output.status.success(), "{}\n{metrics}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "mainstay_log_records_total{stack=\"measured\",service=\"web\",replica=\"0\",stream=\"stdout\"} 1",
        "mainstay_log_records_total{stack=\"measured\",service=\"web\",replica=\"0\",stream=\"stderr\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    host.stop();
}

#[test]
fn redis() {
    let Some([redis]) = need(["redis-server"]) else { return };
    let port = free_port();
    let fixture = Fixture::new(&format!(
        r#"
        [service.cache]
        command = ["{}", "--bind", "127.0.0.1", "--port", "{port}", "--save", ""]
        readiness = {{ tcp = "127.0.0.1:{port}" }}
        "#,
        text(&redis)
    ));
    let mut host = fixture.run(&[]);
    host.wait_state("cache", "ready");
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    connection.write_all(b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
    let (status, out) = host.stop();
    assert!(status.success(), "{out}");
    assert!(fixture.log("cache").contains("Redis is now ready to exit"), "it had time to end by itself");
}

#[test]
fn nginx_with_workers_finishes_in_order() {
    let Some([nginx]) = need(["nginx"]) else { return };
    let port = free_port();
    let fixture = Fixture::new(&format!(
        r#"
        [service.proxy]
        command = ["{}", "-p", ".", "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;"]
        readiness = {{ http = "http://127.0.0.1:{port}/health" }}
        stop = {{ signal = "SIGQUIT" }}
        "#,
        text(&nginx)
    ));
    let user = if mainstay_os::is_root() { "user root;" } else { "" };
    fixture.write(
        "nginx.conf",
        &format!(
            "{user} worker_processes 2; pid nginx.pid; events {{}}
            http {{ access_log /dev/stdout; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
            uwsgi_temp_path tmp; scgi_temp_path tmp;
            server {{ listen 127.0.0.1:{port}; location / {{ return 200 'fine'; }} }} }}"
        ),
    );
    let mut host = fixture.run(&[]);
    host.wait_state("proxy", "ready");
    assert!(get(port, "/page").ends_with("fine"));
    let main = host.main_pid("proxy");
    host.wait_for("the access log is captured", SOON, |_| {
        fixture.log("proxy").contains("GET /page").then_some(())
    });
    let exited = fixture.mainstay(&["stop", "proxy"]);
    assert!(exited.status.success());
    assert!(!alive(main));
    let exit = host.service("proxy")["replicas"][0]["last_exit"].clone();
    assert_eq!(exit["code"], 0, "it was not killed: {exit}");
    host.stop();
}

#[test]
fn nginx_reads_its_configuration_again() {
    let Some([nginx]) = need(["nginx"]) else { return };
    let port = free_port();
    let fixture = Fixture::new(&format!(
        r#"
        [service.proxy]
        command = ["{}", "-p", ".", "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;"]
        readiness = {{ http = "http://127.0.0.1:{port}/", body = "^one$", period = "1s" }}
        stop = {{ signal = "SIGQUIT" }}
        reload = {{ signal = "SIGHUP" }}
        "#,
        text(&nginx)
    ));
    let user = if mainstay_os::is_root() { "user root;" } else { "" };
    let conf = |body: &str| {
        fixture.write(
            "nginx.conf",
            &format!(
                "{user} pid nginx.pid; events {{}} http {{ access_log off; server {{ listen 127.0.0.1:{port};
                 location / {{ return 200 '{body}'; }} }} }}"
            ),
        );
    };
    conf("one");
    let mut host = fixture.run(&[]);
    host.wait_state("proxy", "ready");
    let pid = host.main_pid("proxy");
    conf("two");
    let output = fixture.mainstay(&["reload", "proxy"]);
    assert!(output.status.success(), "{}", fixture::stderr(&output));
    host.wait_for("the new configuration", SOON, |_| get(port, "/").ends_with("two").then_some(()));
    assert_eq!(host.main_pid("proxy"), pid);
    // Its probe asks for the old body: the verdict changes with what is served.
    host.wait_state("proxy", "unready");
    let reason = host.service("proxy")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("does not match") && reason.contains("two"), "{reason}");
    let (status, _) = host.stop();
    assert!(status.success());
}

#[test]
fn node() {
    let Some([node]) = need(["node"]) else { return };
    let port = free_port();
    let fixture = Fixture::new(&format!(
        r#"
        [service.app]
        command = ["{}", "app.js", "{port}"]
        readiness = {{ http = "http://127.0.0.1:{port}/" }}
        "#,
        text(&node)
    ));
    fixture.write(
        "app.js",
        "const server = require('http').createServer((request, response) => {
             console.log('asked for ' + request.url);
             if (request.url === '/crash') throw new Error('asked to crash');
             response.end('hello from node');
         }).listen(Number(process.argv[2]), '127.0.0.1');
         process.on('SIGTERM', () => server.close(() => { console.log('closed'); process.exit(0); }));",
    );
    let mut host = fixture.run(&[]);
    host.wait_state("app", "ready");
    assert!(get(port, "/").ends_with("hello from node"));
    get_and_ignore(port, "/crash");
    host.wait_for("it comes back after its crash", SOON, |host| {
        let app = host.service("app");
        (app["replicas"][0]["restarts"] == 1 && app["state"] == "ready").then_some(())
    });
    let events = fixture.events();
    let exited = events.iter().find(|event| event["event"] == "exited").unwrap();
    let lines = exited["lines"].to_string();
    assert!(lines.contains("asked to crash"), "the event carries the last lines: {lines}");
    let (status, _) = host.stop();
    assert!(status.success());
    assert!(fixture.log("app").contains("closed"));
}

fn get_and_ignore(port: u16, path: &str) {
    if let Ok(mut connection) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
        // The server dies of the question; its answer does not matter.
        let _ = write!(connection, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        let _ = connection.read_to_string(&mut String::new());
    }
}

#[test]
fn python_that_buffers_its_output_loses_nothing_at_its_end() {
    let Some([python]) = need(["python3"]) else { return };
    let fixture = Fixture::new(&format!(
        r#"
        [service.quiet]
        command = ["{}", "quiet.py"]
        "#,
        text(&python)
    ));
    fixture.write(
        "quiet.py",
        "import signal, sys, time
print('held back in a buffer')
open('started', 'w').close()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True: time.sleep(1)
",
    );
    let mut host = fixture.run(&[]);
    host.wait_for("it has printed", SOON, |_| fixture.path("started").exists().then_some(()));
    assert!(!fixture.log("quiet").contains("held back"), "Python keeps output for a pipe back until its end");
    host.stop();
    assert!(fixture.log("quiet").contains("stdout F held back in a buffer"), "{}", fixture.log("quiet"));
}

#[test]
fn postgresql_starts_recovers_from_a_crash_and_shuts_down_clean() {
    let Some([postgres, initdb, ready]) = need(["postgres", "initdb", "pg_isready"]) else { return };
    let (port, folder, user) = (free_port(), open_folder(), database_user());
    let data = folder.path().join("db");
    let fixture = Fixture::new(&format!(
        r#"
        [service.init]
        command = ["{}", "--auth=trust", "--no-sync", "-D", "{data}"]
        kind = "oneshot"
        workdir = "/"
        user = "{user}"
        [service.db]
        command = ["{}", "-D", "{data}", "-p", "{port}", "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        workdir = "/"
        user = "{user}"
        needs = [{{ service = "init", is = "completed" }}]
        readiness = {{ exec = ["{}", "-q", "-h", "127.0.0.1", "-p", "{port}"], timeout = "5s" }}
        stop = {{ signal = "SIGINT", grace = "30s" }}
        restart = {{ backoff = {{ first = "10ms" }} }}
        "#,
        text(&initdb),
        text(&postgres),
        text(&ready),
        data = text(&data),
    ));
    let mut host = fixture.run(&[]);
    host.wait_state("db", "ready");
    let pid = host.main_pid("db");
    fixture::signal(pid, "KILL");
    host.wait_for("it recovers", Duration::from_secs(60), |host| {
        let db = host.service("db");
        (db["replicas"][0]["restarts"].as_u64() > Some(0) && db["state"] == "ready").then_some(())
    });
    let (status, out) = host.stop();
    assert!(status.success(), "{out}");
    let log = fixture.log("db");
    assert!(log.contains("database system was not properly shut down"), "the crash was a crash: {log}");
    assert!(log.contains("database system is shut down"), "{log}");
}

/// The words of the gate while the server starts up, and the start when it is done.
#[test]
fn waiting_for_postgresql_says_how_far_it_is() {
    let Some([initdb, postgres]) = need(["initdb", "postgres"]) else { return };
    let data = open_folder();
    let (port, user) = (free_port(), database_user());
    let folder = data.path().join("db");
    let fixture = Fixture::new(&format!(
        r#"
        [service.init]
        kind = "oneshot"
        command = ["sh", "-c", """
            {initdb} -D {folder} --auth=trust --username=shop --no-sync && touch {folder}/recovery.signal"""]
        workdir = "/"
        user = "{user}"
        [service.db]
        command = ["{postgres}", "-D", "{folder}", "-p", "{port}", "-c", "listen_addresses=127.0.0.1",
            "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "hot_standby=off",
            "-c", "restore_command=until [ -e {data}/go ]; do sleep 0.1; done; false"]
        workdir = "/"
        user = "{user}"
        needs = [{{ service = "init" }}]
        stop = {{ signal = "SIGINT" }}
        [service.app]
        command = "sleep 1000"
        needs = [{{ postgres = "postgres://shop@127.0.0.1:{port}/postgres", within = "2m" }}]
        [service.stranger]
        command = "sleep 1001"
        needs = [{{ postgres = "postgres://shop:secret@127.0.0.1:{port}/nowhere" }}]
        "#,
        initdb = text(&initdb),
        postgres = text(&postgres),
        folder = text(&folder),
        data = text(data.path()),
    ));
    let mut host = fixture.run(&[]);
    let limit = Duration::from_secs(60);
    host.wait_for("start-up", limit, |host| {
        let reason = host.service("app")["reason"].as_str().unwrap().to_owned();
        (reason.contains("it answers, but") && reason.contains("57P03") && reason.contains("tries"))
            .then_some(())
    });
    std::fs::write(data.path().join("go"), "").unwrap();
    host.wait_for("the start", limit, |host| (host.state("app") == "ready").then_some(()));
    // Ready is not let in: another answer.
    host.wait_for("the missing database", limit, |host| {
        let reason = host.service("stranger")["reason"].as_str().unwrap().to_owned();
        assert!(!reason.contains("secret"), "{reason}");
        (reason.contains("does not let us in") && reason.contains("nowhere")).then_some(())
    });
    let (status, out) = host.stop();
    assert!(status.success(), "{out}");
}

/// The wall clock jumps a day forward and a day back: nothing restarts, and a wait is as long as it was to be.
#[test]
fn a_clock_that_jumps_changes_no_timer() {
    let library = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    ]
    .into_iter()
    .find(|path| Path::new(path).is_file());
    let Some(library) = library else {
        assert!(std::env::var_os("MAINSTAY_REQUIRE_PEERS").is_none(), "not installed: libfaketime");
        eprintln!("skipped: not installed: libfaketime");
        return;
    };
    let mut fixture = Fixture::new(
        r#"
        [service.steady]
        command = "sleep 1000"
        liveness = { exec = ["true"], period = "1s", timeout = "20s", failure_threshold = 1 }
        [service.flaky]
        command = "sleep 1001"
        restart = { backoff = { first = "2s", jitter = 0.0, factor = 1.0 }, give_up = { failures = 0 } }
        "#,
    );
    let clock = fixture.path("clock");
    std::fs::write(&clock, "+0").unwrap();
    for (name, value) in [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", text(&clock)),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ] {
        fixture.env.push((name.to_owned(), value.to_owned()));
    }
    let mut host = fixture.run(&[]);
    host.wait_state("steady", "ready");
    host.wait_state("flaky", "ready");
    let steady = host.main_pid("steady");
    let started =
        |host: &mut fixture::Running<'_>| host.status()["host"]["started_at"].as_str().unwrap().to_owned();
    let before = started(&mut host);
    for offset in ["+1d", "-1d"] {
        let pid = host.main_pid("flaky");
        fixture::signal(pid, "KILL");
        host.wait_state("flaky", "backoff");
        let begun = std::time::Instant::now();
        std::fs::write(&clock, offset).unwrap();
        host.wait_for("the next start", SOON, |host| {
            (host.state("flaky") == "ready" && host.main_pid("flaky") != pid).then_some(())
        });
        // A jump forward does not shorten the wait; one back does not make it a day.
        assert!(begun.elapsed() > Duration::from_millis(1000), "{offset}: {:?}", begun.elapsed());
        let now: String = fixture.events().last().unwrap()["at"].as_str().unwrap().to_owned();
        assert_ne!(now[..10], before[..10], "{offset}: the clock of the host has jumped");
    }
    assert_eq!(host.main_pid("steady"), steady);
    assert_eq!(host.service("steady")["replicas"][0]["restarts"], 0);
    let (status, _) = host.stop();
    assert!(status.success());
}

#[test]
fn the_shop_whole() {
    let Some([postgres, _, _, _, _, _]) =
        need(["postgres", "initdb", "pg_isready", "psql", "redis-server", "python3"])
    else {
        return;
    };
    let (port, folder) = (free_port(), open_folder());
    let mut fixture = Fixture::new("");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop");
    for name in ["mainstay.toml", "shop.py"] {
        std::fs::copy(example.join(name), fixture.path(name)).unwrap();
    }
    for (name, value) in [
        ("SHOP_PORT", port.to_string()),
        ("SHOP_DB_PORT", free_port().to_string()),
        ("SHOP_CACHE_PORT", free_port().to_string()),
        ("SHOP_DB_USER", database_user()),
        ("SHOP_DATA", text(folder.path()).to_owned()),
        ("PG_BIN", text(postgres.parent().unwrap()).to_owned()),
    ] {
        fixture.env.push((name.to_owned(), value));
    }
    let check = fixture.mainstay(&["check"]);
    assert!(check.status.success(), "{}", fixture::stderr(&check));
    let mut host = fixture.run(&[]);
    host.wait_for("the shop is open", Duration::from_secs(90), |host| {
        (host.state("web") == "ready").then_some(())
    });
    assert!(get(port, "/").ends_with("visit 1\n"));
    assert!(get(port, "/").ends_with("visit 2\n"));

    // The cache dies and comes back; the shop goes on.
    let cache = host.main_pid("cache");
    fixture::signal(cache, "KILL");
    host.wait_for("the cache is back", SOON, |host| {
        let cache_now = host.service("cache");
        (cache_now["state"] == "ready" && cache_now["replicas"][0]["pid"].as_u64() != Some(cache.into()))
            .then_some(())
    });
    host.wait_for("visits go on", SOON, |_| get(port, "/").ends_with("visit 3\n").then_some(()));

    let (status, out) = host.stop();
    assert!(status.success(), "{out}");
    let said = fixture.log("db");
    assert!(
        said.contains("database system is shut down"),
        "the database was not stopped in order: {said}\n{out}"
    );
    let events = fixture.events();
    let stopped = |service: &str| {
        events
            .iter()
            .rposition(|event| event["service"] == service && event["to"] == "stopped")
            .unwrap_or_else(|| panic!("{service} never stopped"))
    };
    assert!(stopped("web") < stopped("db") && stopped("web") < stopped("cache"));

    // What the database holds survives the next start.
    let mut again = fixture.run(&[]);
    again.wait_for("the shop is open again", Duration::from_secs(90), |host| {
        (host.state("web") == "ready").then_some(())
    });
    assert!(get(port, "/").ends_with("visit 4\n"));
    again.stop();
}

/// The folder that `install --init` makes, under the supervisor it is made for: up, started again after a kill, and down
/// with the whole stack.
fn under_a_supervisor(init: &str, supervisor: &Path, end: &str) {
    let fixture = Fixture::new("stack = \"supervised\"\n[service.web]\ncommand = [\"sleep\", \"100000\"]\n");
    let made = fixture.mainstay(&["install", "--init", init, "--output", "sv"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut supervisor = std::process::Command::new(supervisor)
        .arg(fixture.path("sv/mainstay-supervised"))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let host = |other_than: u64| {
        let begun = std::time::Instant::now();
        loop {
            let answer = fixture.mainstay(&["status", "--json"]);
            let status: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
            let ready = status["services"][0]["state"] == "ready";
            if let Some(pid) = status["host"]["pid"].as_u64().filter(|pid| ready && *pid != other_than) {
                let service = status["services"][0]["replicas"][0]["pid"].as_u64().unwrap();
                return (pid, u32::try_from(service).unwrap());
            }
            assert!(begun.elapsed() < SOON, "the stack does not come up: {status}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let (first, _) = host(0);
    fixture::signal(u32::try_from(first).unwrap(), "KILL");
    let (_, service) = host(first);
    fixture::signal(supervisor.id(), end);
    let begun = std::time::Instant::now();
    while supervisor.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < SOON, "the supervisor does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!alive(service), "the service outlived its stack");
}

#[test]
fn runit_runs_the_folder_made_for_it() {
    let Some([runsv]) = need(["runsv"]) else { return };
    // runsv(8): TERM takes the service down, and the supervisor ends after it.
    under_a_supervisor("runit", &runsv, "TERM");
}

#[test]
fn s6_runs_the_folder_made_for_it() {
    let Some([s6]) = need(["s6-supervise"]) else { return };
    // s6-supervise(8): TERM brings the service down and exits.
    under_a_supervisor("s6", &s6, "TERM");
}
