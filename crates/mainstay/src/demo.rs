//! `mainstay run --demo`: a stack that needs nothing installed. Its three programs are in here too; they do what such
//! programs do, and one of them fails now and then.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mainstay_config::{Input, Stack};
use mainstay_host::Paths;
use mainstay_types::ExitCode;

use crate::context::env;
use crate::failure::Failure;

/// The demonstration's own `mainstay.toml`.
const FILE: &str = include_str!("demo.toml");

/// What the greeting adds.
pub(crate) const WHAT_TO_WATCH: &str =
    "watch: setup completes, web starts and is ready a moment later, then worker may start;
worker fails now and then, waits, and comes back. In another terminal:
  mainstay --stack demo status      mainstay --stack demo logs -f      mainstay --stack demo restart web";

/// A demonstration that can be run.
pub(crate) struct Demo {
    pub(crate) stack: Arc<Stack>,
    pub(crate) paths: Paths,
}

/// Finds a free port and fills in the file.
pub(crate) fn prepare() -> anyhow::Result<Demo> {
    let exe = std::env::current_exe().context("cannot find the mainstay program itself")?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .context("cannot find a free port on 127.0.0.1")?
        .port();
    let variables = |name: &str| match name {
        "DEMO_EXE" => Some(exe.to_string_lossy().into_owned()),
        "DEMO_PORT" => Some(port.to_string()),
        _ => None,
    };
    // Everything in the file is absolute, so the folder only serves as the working folder.
    let dir = std::env::temp_dir();
    let file = dir.join("mainstay-demo.toml");
    let stack = mainstay_config::parse(&Input { text: FILE, file: Path::new(&file), env: &variables })
        .map_err(|diagnostics| anyhow::anyhow!("{}", diagnostics.render(false)))?;
    let paths = Paths::of(&stack.name, &env);
    Ok(Demo { stack: Arc::new(stack), paths })
}

/// Plays one of the programs.
pub(crate) fn play(role: &str) -> Result<(), Failure> {
    let played = match role {
        "setup" => setup(),
        "web" => web(),
        "worker" => worker(),
        other => Err(anyhow::anyhow!("there is no demo program {other:?}: there are setup, web, worker")),
    };
    played.map_err(|error| Failure::new(ExitCode::Failed, format!("{error:#}")))
}

fn port() -> anyhow::Result<u16> {
    let text = std::env::var("DEMO_PORT").context("DEMO_PORT is not set")?;
    text.parse().with_context(|| format!("DEMO_PORT is no port: {text:?}"))
}

fn setup() -> anyhow::Result<()> {
    for step in ["making folders", "loading the catalogue", "done"] {
        println!("setup: {step}");
        sleep(Duration::from_millis(400));
    }
    Ok(())
}

/// Serves `GET /health` and `GET /work`, one connection at a time.
fn web() -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port()?)).context("cannot listen")?;
    let begun = Instant::now();
    let warm_up = Duration::from_millis(1500);
    println!("listening on {}, warming up", listener.local_addr()?);
    let mut served = 0_u64;
    for connection in listener.incoming() {
        let mut connection = connection?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut request = [0_u8; 1024];
        let read = connection.read(&mut request).unwrap_or(0);
        let line = String::from_utf8_lossy(&request[..read]).lines().next().unwrap_or_default().to_owned();
        let (status, body) = if begun.elapsed() < warm_up {
            ("503 Service Unavailable", "still warming up\n".to_owned())
        } else if line.starts_with("GET /work") {
            served += 1;
            println!("handed out job {served}");
            ("200 OK", format!("job {served}\n"))
        } else {
            ("200 OK", "fine\n".to_owned())
        };
        let answer =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        // A client that has gone needs no answer.
        let _ = connection.write_all(answer.as_bytes());
    }
    Ok(())
}

/// Fetches jobs, and fails at the fifth.
fn worker() -> anyhow::Result<()> {
    let port = port()?;
    println!("worker {} begins", std::process::id());
    for done in 1..=5 {
        sleep(Duration::from_millis(1200));
        let Some(job) = fetch(port).context("cannot fetch work")? else {
            println!("no work at the moment");
            continue;
        };
        if done == 5 {
            eprintln!("{job}: the data does not add up");
            bail!("{job} failed, as one job in five does in this demonstration");
        }
        println!("{job} done");
    }
    Ok(())
}

/// The next job; `None` when the server has none to give now.
fn fetch(port: u16) -> anyhow::Result<Option<String>> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.write_all(b"GET /work HTTP/1.1\r\nHost: demo\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok(head.starts_with("HTTP/1.1 200").then(|| body.trim().to_owned()))
}
