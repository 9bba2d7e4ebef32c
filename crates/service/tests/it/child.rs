//! An example as a child, with all it writes to standard error, and a socket that stands for the manager.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_testkit::child::example_path;
use mainstay_testkit::wait::{wait_for, wait_for_some};
use tokio::net::UnixDatagram;
use tokio::runtime::Runtime;

/// How long anything may take; a slow machine is no failure.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Program {
    child: Child,
    err: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Program {
    /// Starts an example with nothing of a manager in its environment but what `change` adds.
    pub(crate) fn start(example: &str, args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(example_path(example));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        for name in [
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
            "INVOCATION_ID",
            "JOURNAL_STREAM",
            "RUST_BACKTRACE",
        ] {
            command.env_remove(name);
        }
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stderr.take().unwrap();
        let err = Arc::new(Mutex::new(String::new()));
        let reader = std::thread::spawn({
            let err = Arc::clone(&err);
            move || {
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = pipe.read(&mut bytes) {
                    err.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
                }
            }
        });
        Self { child, err, reader: Some(reader) }
    }

    pub(crate) fn err(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, words: &str) {
        wait_for(&format!("{words:?} in {}", self.err()), SOON, || self.err().contains(words));
    }

    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Waits for the end; how it was, and all it wrote.
    #[track_caller]
    pub(crate) fn wait_end(&mut self) -> (ExitStatus, String) {
        let status = wait_for_some("the end", SOON, || self.child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        (status, self.err())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long a look waits for a message.
const LOOK: Duration = Duration::from_millis(50);

/// The socket of a manager, and what it heard.
pub(crate) struct Manager {
    runtime: Runtime,
    socket: UnixDatagram,
    dir: tempfile::TempDir,
    pub(crate) heard: Vec<String>,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = runtime.block_on(async { UnixDatagram::bind(path).unwrap() });
        Self { runtime, socket, dir, heard: Vec::new() }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("notify")
    }

    /// The next message, when one comes while it looks.
    fn next(&mut self) -> Option<String> {
        let mut bytes = [0; 4096];
        let received = self.runtime.block_on(async {
            let received = tokio::time::timeout(LOOK, self.socket.recv(&mut bytes)).await;
            received.ok().map(|length| length.unwrap())
        });
        let text = String::from_utf8_lossy(&bytes[..received?]).into_owned();
        self.heard.push(text.clone());
        Some(text)
    }

    /// Reads messages until one is as wanted, and gives it.
    #[track_caller]
    pub(crate) fn hear(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        wait_for_some(&format!("{what}, heard before: {:?}", self.heard), SOON, || {
            self.next().filter(|text| wanted(text))
        })
    }

    /// What is there already, without waiting for more than a look.
    pub(crate) fn drain(&mut self) -> &[String] {
        let from = self.heard.len();
        while self.next().is_some() {}
        &self.heard[from..]
    }
}
