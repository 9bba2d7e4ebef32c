//! A stack in a folder of its own, and a `mainstay run` that ends with the test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Time for anything that should happen at once, generous for a machine busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The folder of one test: the file, the state, the socket.
pub(crate) struct Fixture {
    dir: tempfile::TempDir,
    /// More environment for every command.
    pub(crate) env: Vec<(String, String)>,
}

impl Fixture {
    /// A folder with this `mainstay.toml`. `@misbehave` in it is the program that misbehaves on request.
    pub(crate) fn new(toml: &str) -> Self {
        let fixture = Self { dir: tempfile::tempdir().unwrap(), env: Vec::new() };
        fixture.write("mainstay.toml", toml);
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let misbehave = mainstay_testkit::child::misbehave_path();
        std::fs::write(self.path(name), text.replace("@misbehave", misbehave.to_str().unwrap())).unwrap();
    }

    /// A `mainstay` command about this stack.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("MAINSTAY_STATE_DIR", self.path("state"))
            .env("MAINSTAY_RUNTIME_DIR", self.path("run"))
            .env_remove("MAINSTAY_FILE")
            .env("NO_COLOR", "1")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, two minutes at most.
    pub(crate) fn mainstay(&self, args: &[&str]) -> Output {
        let mut child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (out, err) = (read_all(out), read_all(err));
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > Duration::from_secs(120) {
                signal(pid, "KILL");
                child.wait().unwrap();
                let out = String::from_utf8_lossy(&out.join().unwrap()).into_owned();
                panic!("mainstay {args:?} did not end: {out}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
    }

    /// Starts `mainstay run`, its output in files.
    pub(crate) fn run(&self, args: &[&str]) -> Running<'_> {
        let out = self.path("run.out");
        let err = self.path("run.err");
        let child = self
            .command(&[&["run"], args].concat())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        Running { fixture: self, child, out, err }
    }

    /// What a log file of a replica holds.
    pub(crate) fn log(&self, replica: &str) -> String {
        let path = self.path("state/logs").join(replica).join("current.log");
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// All events of the record.
    pub(crate) fn events(&self) -> Vec<Value> {
        let output = self.mainstay(&["events", "--json", "-n", "100000"]);
        assert!(output.status.success(), "events: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// A host in the foreground. Killed, with all it supervises, when dropped.
pub(crate) struct Running<'a> {
    fixture: &'a Fixture,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running<'_> {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn out(&self) -> String {
        read(&self.out)
    }

    pub(crate) fn err(&self) -> String {
        read(&self.err)
    }

    /// `status --json`, once the host answers.
    pub(crate) fn status(&mut self) -> Value {
        let mut last = String::new();
        self.wait_for("the host answers", SOON, |running| {
            let output = running.fixture.mainstay(&["status", "--json"]);
            last = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
        })
    }

    pub(crate) fn service(&mut self, name: &str) -> Value {
        let status = self.status();
        status["services"].as_array().unwrap().iter().find(|service| service["name"] == name).unwrap().clone()
    }

    pub(crate) fn state(&mut self, name: &str) -> String {
        self.service(name)["state"].as_str().unwrap().to_owned()
    }

    pub(crate) fn main_pid(&mut self, name: &str) -> u32 {
        self.wait_for("it has a pid", SOON, |running| running.service(name)["replicas"][0]["pid"].as_u64())
            .try_into()
            .unwrap()
    }

    pub(crate) fn wait_state(&mut self, name: &str, state: &str) {
        self.wait_for(&format!("{name} is {state}"), SOON, |running| {
            (running.state(name) == state).then_some(())
        });
    }

    /// Waits until `probe` gives something; fails with what the host printed.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = probe(self) {
                return found;
            }
            assert!(
                begun.elapsed() < limit,
                "not within {limit:?}: {what}\n--- stdout\n{}\n--- stderr\n{}",
                self.out(),
                self.err()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the end of the host.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        self.wait_for("the host ends", Duration::from_secs(60), |running| running.child.try_wait().unwrap())
    }

    /// Asks for an orderly stop and waits for it.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let status = self.wait_end();
        (status, self.out())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The launcher ends the services when its host is gone.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal by name.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// Whether a process of this pid is there and no zombie.
pub(crate) fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit(") ").next().and_then(|rest| rest.chars().next()))
        .is_some_and(|state| state != 'Z' && state != 'X')
}

fn read_all(mut pipe: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// The text of a finished command's stderr.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The text of a finished command's stdout.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
