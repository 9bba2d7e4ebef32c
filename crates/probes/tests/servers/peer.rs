//! Real servers in a folder of their own, as the account they are made for, on loopback, gone with the test.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time for a server to start or to end on a machine busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Where a program is: in Debian's folders of servers, in the folders of system programs, or on PATH.
fn find(program: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|entry| entry.path().join("bin")));
        folders.sort();
        folders.reverse();
    }
    // The one in /usr/sbin is for the system's own broker alone.
    folders.push(PathBuf::from("/usr/lib/rabbitmq/bin"));
    folders.extend(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
    folders.extend(std::env::split_paths(&std::env::var("PATH").unwrap_or_default()));
    folders.into_iter().map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The programs' paths, or `None` after saying that the test is skipped; with MAINSTAY_REQUIRE_PEERS set it fails.
pub(crate) fn need<const N: usize>(programs: [&str; N]) -> Option<[PathBuf; N]> {
    let found = programs.map(find);
    let missing: Vec<&str> =
        programs.into_iter().zip(&found).filter(|(_, path)| path.is_none()).map(|(name, _)| name).collect();
    if missing.is_empty() {
        return Some(found.map(Option::unwrap));
    }
    assert!(
        std::env::var_os("MAINSTAY_REQUIRE_PEERS").is_none(),
        "not installed: {} (Debian: postgresql redis-server mariadb-server rabbitmq-server)",
        missing.join(", ")
    );
    // Past the test harness, which keeps what a passing test prints to itself.
    let words = format!("skipped: not installed: {}\n", missing.join(", "));
    std::io::stderr().write_all(words.as_bytes()).unwrap();
    None
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The account a server runs as, and its folder.
pub(crate) struct Place {
    user: &'static str,
    dir: tempfile::TempDir,
}

impl Place {
    /// A folder below the system's temporary one. Root hands it to `user`, since most servers refuse root; anyone
    /// else is the user.
    pub(crate) fn new(user: &'static str) -> Self {
        let place = Self { user, dir: tempfile::tempdir().unwrap() };
        place.own("");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        self.own(name);
    }

    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// Gives what was made by the test to the server's account, and to nobody else: keys must be so.
    fn own(&self, name: &str) {
        let path = self.path(name);
        let run = |program: &str, argument: &str| {
            assert!(Command::new(program).arg(argument).arg(&path).status().unwrap().success());
        };
        if is_root() {
            run("chown", self.user);
        }
        run("chmod", "go=");
    }

    /// A command that runs as the server's account in its folder.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.arg(format!("--reuid={}", self.user)).args(["--regid", self.user, "--init-groups"]);
            command.arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.dir.path()).env("HOME", self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, which must be a good one.
    pub(crate) fn run(&self, program: &Path, args: &[&str]) {
        let output = self.command(program).args(args).output().unwrap();
        let words = || format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{} {args:?}: {}", program.display(), words());
    }

    /// Starts a server, whose output goes to the file `log`.
    pub(crate) fn start(&self, command: &mut Command, log: &str) -> Server {
        let out = File::options().append(true).create(true).open(self.path(log)).unwrap();
        let child = command.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Server { child }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn is_root() -> bool {
    text(&Command::new("id").arg("-u").output().unwrap().stdout).trim() == "0"
}

/// A running server, which ends when this is dropped.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            return;
        }
        self.signal("-TERM");
        if self.ended_within(Duration::from_secs(20)) {
            return;
        }
        // PostgreSQL waits for its clients on SIGTERM, and not on SIGINT.
        self.signal("-INT");
        if !self.ended_within(Duration::from_secs(10)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn ended_within(&mut self, limit: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if self.child.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A connection of someone else that takes up one of the server's places. What it says is sent, and one byte of
/// answer awaited.
pub(crate) fn occupy(port: u16, said: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(said).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    stream
}
