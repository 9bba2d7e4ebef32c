//! A program that goes wrong on request: what the tests supervise. Also serves as the launcher's binary.
//!
//! `misbehave help` lists what it can do. It ends by itself after ten minutes at the latest, so that a failed test
//! leaves nothing behind for long.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const HELP: &str = "\
misbehave exit CODE [--after MS]         ends with CODE
misbehave sleep                          runs until it is ended
misbehave ignore-term                    prints 'ready', takes every request to end and does not
misbehave daemonise                      leaves a child in a session of its own behind and ends with 0
misbehave grandchildren N [--setsid]     prints their pids, waits
misbehave hold-pipe                      ends with 0; a child keeps its output open
misbehave spam BYTES                     writes that much, in lines of 100 bytes
misbehave lines N                        writes N numbered lines, odd ones to stderr
misbehave env                            writes its environment, sorted
misbehave print TEXT...                  writes it
misbehave crash                          aborts
misbehave fork-storm N                   N generations of children, each leaving the next one behind
misbehave fork-bomb                      every process of it starts more, for ever; 'refused' when that fails first
misbehave eat-memory MIB [--in-child]    uses that much, itself or in a child, and waits; 'refused' and 1 when it cannot
misbehave burn                           uses all the processor time of one core
misbehave http PORT [--fail-after N] [--status CODE] [--ready-after MS]
";

/// Nothing here lives longer.
const LONGEST_LIFE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    mainstay_os::run_launcher_if_asked();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match act(&words) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("misbehave: {error}\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn act(words: &[&str]) -> io::Result<u8> {
    match words {
        ["exit", code, rest @ ..] => {
            std::thread::sleep(option_ms(rest, "--after")?);
            number(code).map(|code| code as u8)
        }
        ["sleep"] => Ok(sleep()),
        ["ignore-term"] => ignore_term(),
        ["daemonise"] => daemonise(),
        ["grandchildren", count, rest @ ..] => grandchildren(number(count)?, rest.contains(&"--setsid")),
        ["hold-pipe"] => {
            own(&["sleep"]).spawn()?;
            Ok(0)
        }
        ["spam", bytes] => spam(number(bytes)?),
        ["lines", count] => lines(number(count)?),
        ["env"] => env(),
        ["print", text @ ..] => {
            println!("{}", text.join(" "));
            Ok(0)
        }
        ["crash"] => std::process::abort(),
        ["fork-storm", generations] => fork_storm(number(generations)?),
        ["fork-bomb"] => fork_bomb(),
        ["eat-memory", mebibytes, rest @ ..] => eat_memory(mebibytes, rest.contains(&"--in-child")),
        ["burn"] => burn(),
        ["http", port, rest @ ..] => http(number(port)?, rest),
        ["help"] => {
            print!("{HELP}");
            Ok(0)
        }
        _ => Err(io::Error::other(format!("cannot do {words:?}"))),
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| io::Error::other(format!("{text:?} is no number")))
}

fn option(words: &[&str], name: &str) -> io::Result<Option<u64>> {
    let place = words.iter().position(|word| *word == name);
    place.and_then(|place| words.get(place + 1)).map(|value| number(value)).transpose()
}

fn option_ms(words: &[&str], name: &str) -> io::Result<Duration> {
    Ok(Duration::from_millis(option(words, name)?.unwrap_or(0)))
}

fn sleep() -> u8 {
    std::thread::sleep(LONGEST_LIFE);
    0
}

/// This program once more.
fn own(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "misbehave".into()));
    command.args(words);
    command
}

/// This program in a session of its own, through setsid(1) of util-linux; Windows has nothing like it.
fn own_in_session(words: &[&str]) -> Command {
    if std::env::consts::FAMILY == "windows" {
        return own(words);
    }
    let mut command = Command::new("setsid");
    command.arg(std::env::current_exe().unwrap_or_else(|_| "misbehave".into())).args(words);
    command
}

fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

fn ignore_term() -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        mainstay_os::on_stop_request(|name| println!("ignored {name}"))?;
        println!("ready");
        tokio::time::sleep(LONGEST_LIFE).await;
        Ok(0)
    })
}

/// The child is in a session of its own, and once this process has ended it has no living parent in the service.
fn daemonise() -> io::Result<u8> {
    let child = silent(&mut own_in_session(&["sleep"])).spawn()?;
    println!("{}", child.id());
    Ok(0)
}

fn grandchildren(count: u64, own_session: bool) -> io::Result<u8> {
    let make = || if own_session { own_in_session(&["sleep"]) } else { own(&["sleep"]) };
    let children = (0..count).map(|_| silent(&mut make()).spawn()).collect::<io::Result<Vec<Child>>>()?;
    for child in &children {
        println!("{}", child.id());
    }
    println!("ready");
    Ok(sleep())
}

fn spam(bytes: u64) -> io::Result<u8> {
    let mut out = io::stdout().lock();
    let mut line = [b'x'; 100];
    line[99] = b'\n';
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left.min(100)).unwrap_or(100);
        out.write_all(&line[100 - now..])?;
        left -= now as u64;
    }
    out.flush()?;
    Ok(0)
}

fn lines(count: u64) -> io::Result<u8> {
    for line in 0..count {
        if line.is_multiple_of(2) {
            writeln!(io::stdout(), "line {line}")?;
        } else {
            writeln!(io::stderr(), "line {line}")?;
        }
    }
    Ok(0)
}

fn env() -> io::Result<u8> {
    let mut all: Vec<String> = std::env::vars_os()
        .map(|(name, value)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
        .collect();
    all.sort_unstable();
    for line in all {
        writeln!(io::stdout(), "{line}")?;
    }
    Ok(0)
}

/// Each generation starts the next in a session of its own and ends: whoever wants to kill it must be faster.
fn fork_storm(generations: u64) -> io::Result<u8> {
    if generations > 0 {
        silent(&mut own_in_session(&["fork-storm", &(generations - 1).to_string()])).spawn()?;
    }
    Ok(0)
}

/// Only a limit of processes bounds it; the one that started it must have set one.
fn fork_bomb() -> io::Result<u8> {
    let end = Instant::now() + LONGEST_LIFE;
    let mut children = Vec::new();
    let mut refused = false;
    while Instant::now() < end {
        match silent(&mut own(&["fork-bomb"])).spawn() {
            Ok(child) => children.push(child),
            Err(_) => {
                if !refused {
                    println!("refused");
                    refused = true;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    Ok(0)
}

fn eat_memory(mebibytes: &str, in_child: bool) -> io::Result<u8> {
    if in_child {
        let status = silent(&mut own(&["eat-memory", mebibytes])).status()?;
        println!("the child ended: {status}");
        return Ok(sleep());
    }
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    for _ in 0..number(mebibytes)? {
        let mut piece = Vec::new();
        if piece.try_reserve_exact(1 << 20).is_err() {
            println!("refused");
            return Ok(1);
        }
        // Written, so that there is memory behind it.
        for _ in 0..256 {
            piece.extend_from_slice(&[1; 4096]);
        }
        eaten.push(piece);
    }
    println!("eaten");
    Ok(sleep())
}

fn burn() -> io::Result<u8> {
    let end = Instant::now() + LONGEST_LIFE;
    println!("ready");
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    Ok(0)
}

/// Answers every request: 503 until ready, then the status, and after so many answers never again.
fn http(port: u64, words: &[&str]) -> io::Result<u8> {
    let fail_after = option(words, "--fail-after")?.unwrap_or(u64::MAX);
    let status = option(words, "--status")?.unwrap_or(200);
    let ready_at = Instant::now() + option_ms(words, "--ready-after")?;
    let port = u16::try_from(port).map_err(|_| io::Error::other("a port is at most 65535"))?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("listening on {}", listener.local_addr()?);
    let end = Instant::now() + LONGEST_LIFE;
    for (answered, connection) in (0..).zip(listener.incoming()) {
        let code = if Instant::now() < ready_at {
            503
        } else if answered >= fail_after {
            500
        } else {
            status
        };
        // A client that goes away is its own affair.
        let _ = answer(connection?, code);
        if Instant::now() > end {
            break;
        }
    }
    Ok(0)
}

fn answer(mut connection: TcpStream, code: u64) -> io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    write!(connection, "HTTP/1.1 {code} misbehave\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n")
}
