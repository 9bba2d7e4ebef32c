//! MariaDB: starting, ready, full; its users, databases and certificates.

use mainstay_types::{ProbeOutcome, ServerKind};

use crate::peer::{Place, free_port, need, occupy};
use crate::{ask, ask_until, certificates, credentials, is_refused, not_ready, passed, tls_words};

const KIND: ServerKind = ServerKind::Mysql;

#[tokio::test]
async fn mariadb() {
    let Some([mariadbd, install]) = need(["mariadbd", "mariadb-install-db"]) else { return };
    let place = Place::new("mysql");
    certificates(&place);
    let (data, port) = (place.text("data"), free_port());
    place.run(&install, &["--no-defaults", "--skip-test-db", &format!("--datadir={data}")]);
    // Without a user of no name, who is anyone.
    place.write(
        "init.sql",
        "CREATE DATABASE shop;\nCREATE DATABASE secret;\n\
         CREATE USER app@'127.0.0.1' IDENTIFIED BY 'hunter2';\nGRANT ALL ON shop.* TO app@'127.0.0.1';\n\
         CREATE USER open@'127.0.0.1';\n\
         CREATE USER locked@'127.0.0.1' IDENTIFIED BY 'hunter2' ACCOUNT LOCK;\n\
         CREATE USER local@'127.0.0.1' IDENTIFIED VIA unix_socket;\n\
         CREATE USER over_tls@'127.0.0.1' IDENTIFIED BY 'hunter2' REQUIRE SSL;\n",
    );
    let url = |user: &str, rest: &str| format!("mysql://{user}127.0.0.1:{port}{rest}");
    let app = url("app:hunter2@", "/shop");
    assert!(is_refused(&ask(KIND, &app, None).await));
    let mut command = place.command(&mariadbd);
    command
        .args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=10"])
        .args(["--log-warnings=9", "--ssl-cert=../server.pem", "--ssl-key=../server.key"])
        .args([format!("--datadir={data}"), format!("--socket={}", place.text("socket"))])
        .args([format!("--port={port}"), format!("--init-file={}", place.text("init.sql"))]);
    let server = place.start(&mut command, "log");
    let (before, outcome) = ask_until(KIND, &app, ProbeOutcome::is_passed).await;
    assert!(before.iter().all(is_refused), "{before:?}\n{}", place.read("log"));
    let version = String::from_utf8(std::process::Command::new(&mariadbd).arg("-V").output().unwrap().stdout);
    let version = version.unwrap();
    let (_, version) = version.split_once("Ver ").unwrap();
    let who = format!("MariaDB {}", version.split('-').next().unwrap());
    let ready = passed(&format!("ready: {who}"));
    assert_eq!(outcome, ready);

    for (user, rest, outcome) in [
        ("app:hunter2@", "", ready.clone()),
        ("app:hunter2@", "/shop?ssl-mode=DISABLED", ready.clone()),
        ("app:hunter2@", "/shop?ssl-mode=REQUIRED", ready.clone()),
        ("open@", "", ready.clone()),
        ("over_tls:hunter2@", "", ready.clone()),
        (
            "over_tls:hunter2@",
            "?sslmode=disable",
            credentials("Access denied for user 'over_tls'@'127.0.0.1' (using password: YES) (1045)"),
        ),
        (
            "app:hunter3@",
            "/shop",
            credentials("Access denied for user 'app'@'127.0.0.1' (using password: YES) (1045)"),
        ),
        (
            "app@",
            "/shop",
            credentials("Access denied for user 'app'@'127.0.0.1' (using password: NO) (1045)"),
        ),
        (
            "app:hunter2@",
            "/secret",
            credentials("Access denied for user 'app'@'127.0.0.1' to database 'secret' (1044)"),
        ),
        ("local@", "", credentials("Access denied for user 'local'@'127.0.0.1' (1698)")),
        ("locked:hunter2@", "", credentials("Access denied, this account is locked (4151)")),
        ("", "", passed(&format!("ready: {who}; not logged in, for the URL names no user"))),
    ] {
        assert_eq!(ask(KIND, &url(user, rest), None).await, outcome, "{user} {rest}");
    }
    // Nobody is missed, although it tells of every client that breaks off.
    let log = place.read("log");
    assert!(!log.contains("Aborted connection"), "{log}");
    let own = place.path("ca.pem");
    assert_eq!(ask(KIND, &app, Some(&own)).await, ready);
    let outcome = ask(KIND, &app, Some(&place.path("other-ca.pem"))).await;
    assert!(tls_words(&outcome).contains("not signed by an authority in "), "{outcome}");
    // Ten clients that have been greeted: the next is let in to be told, which is the place kept for an
    // administrator; with that one taken too, the next is told instead of greeted.
    let full = not_ready("has no connection left (1040: Too many connections)");
    let mut occupants: Vec<_> = (0..10).map(|_| occupy(port, b"")).collect();
    ask_until(KIND, &app, |outcome| *outcome == full).await;
    occupants.push(occupy(port, b""));
    ask_until(KIND, &app, |outcome| *outcome == full).await;
    drop(occupants);
    ask_until(KIND, &app, |outcome| *outcome == ready).await;
    server.stop();
}
