//! SIGHUP in a real terminal and without one: a wish to reload, or the loss of the terminal.

#![cfg(target_os = "linux")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::LIMIT;
use mainstay_testkit::wait::wait_for;

const WORDS: &str = "CONTRACT_HANGUP_WORDS";

/// Writes a line for each request; ends when asked to stop.
#[test]
#[ignore = "run by the tests that send it signals"]
fn as_a_program_of_its_own() {
    let Some(path) = std::env::var_os(WORDS) else { return };
    let say = move |word: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        writeln!(file, "{word}").unwrap();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (stop, mut stopped) = tokio::sync::mpsc::unbounded_channel();
        mainstay_os::on_stop_request(move |name| stop.send(name).unwrap()).unwrap();
        let reload = say.clone();
        mainstay_os::on_reload_request(move || reload("reload")).unwrap();
        say("ready");
        while let Ok(Some(name)) = tokio::time::timeout(LIMIT * 2, stopped.recv()).await {
            say(&format!("stop {name}"));
            if name == "SIGTERM" {
                break;
            }
        }
    });
}

/// A program in a terminal of its own, whose other end python holds.
struct InTerminal {
    python: Child,
    pid: u32,
    words: PathBuf,
    dir: tempfile::TempDir,
}

impl InTerminal {
    /// `before` are words of a command line that executes the program.
    fn start(before: &[&str]) -> Self {
        // The test may have been started with the signal ignored, which its children would inherit.
        let script = "import os, pty, signal, sys\n\
                      signal.signal(signal.SIGHUP, signal.SIG_DFL)\n\
                      pid, master = pty.fork()\n\
                      if pid == 0: os.execv(sys.argv[1], sys.argv[1:])\n\
                      print(pid, flush=True)\n\
                      sys.stdin.readline()\n\
                      os.close(master)\n\
                      os.waitpid(pid, 0)\n";
        let dir = tempfile::tempdir().unwrap();
        let words = dir.path().join("words");
        let mut python = Command::new("/usr/bin/python3")
            .args(["-ISc", script])
            .args(before)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "as_a_program_of_its_own", "--ignored"])
            .current_dir(dir.path())
            .env(WORDS, &words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(python.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let started = Self { python, pid: line.trim().parse().unwrap(), words, dir };
        wait_for("it to be ready", LIMIT, || started.words() == ["ready"]);
        started
    }

    fn words(&self) -> Vec<String> {
        words(&self.words)
    }

    /// The terminal's other end goes away.
    fn close(&mut self) {
        self.python.stdin.take().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for InTerminal {
    fn drop(&mut self) {
        signal(self.pid, "TERM");
        drop(self.python.stdin.take());
        self.python.wait().unwrap();
        // Until here: what it writes lies there.
        let _ = &self.dir;
    }
}

fn words(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn signal(pid: u32, name: &str) {
    Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
}

#[test]
fn in_a_terminal() {
    let shell = ["/bin/sh", "-c", "exec \"$@\" < /dev/null > out 2>&1", "sh"];
    // With the terminal on its descriptors, and with it as the controlling terminal alone.
    for before in [&[][..], &shell[..]] {
        let mut program = InTerminal::start(before);
        signal(program.pid, "HUP");
        wait_for("a reload", LIMIT, || program.words() == ["ready", "reload"]);
        program.close();
        wait_for("a stop", LIMIT, || program.words() == ["ready", "reload", "stop SIGHUP"]);
        // A second one, as of a shell that passes it on, says nothing more; only a signal of another kind does.
        signal(program.pid, "HUP");
        signal(program.pid, "INT");
        wait_for("its answer", LIMIT, || program.words().len() > 3);
        assert_eq!(program.words()[3], "stop Ctrl-C");
    }
}

#[test]
fn by_nohup() {
    let mut program = InTerminal::start(&["/usr/bin/nohup"]);
    program.close();
    // The first ones may be taken for the terminal's, or be one with it.
    wait_for("a reload", LIMIT, || {
        signal(program.pid, "HUP");
        std::thread::sleep(Duration::from_millis(5));
        program.words().len() > 1
    });
    assert!(program.words()[1..].iter().all(|word| word == "reload"), "{:?}", program.words());
}

#[test]
fn without_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("words");
    // Nothing but a process of its own session: no terminal of this test's, if it has one.
    let mut program = Command::new("setsid")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "as_a_program_of_its_own", "--ignored"])
        .env(WORDS, &path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("it to be ready", LIMIT, || words(&path) == ["ready"]);
    for count in 1..=3 {
        signal(program.id(), "HUP");
        wait_for("a reload", LIMIT, || words(&path).len() == count + 1);
    }
    signal(program.id(), "TERM");
    program.wait().unwrap();
    assert_eq!(words(&path), ["ready", "reload", "reload", "reload", "stop SIGTERM"]);
}
