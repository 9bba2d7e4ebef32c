//! Real programs under `mainstay run`: PostgreSQL, Redis, nginx, Node, Python, and the example shop whole.
//!
//! A program that is not installed makes its test say so and pass; with MAINSTAY_REQUIRE_PEERS set, as in CI, it fails.

#[path = "../it/fixture.rs"]
#[allow(dead_code, reason = "shared with the other test program, which uses the rest")]
mod fixture;

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
        "not installed: {} (Debian: postgresql redis-server nginx-light nodejs python3)",
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
    assert!(fixture.log("db").contains("database system is shut down"), "the database was stopped in order");
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
