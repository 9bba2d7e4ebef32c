//! A capture in a folder of its own, and waiting for what it does.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mainstay_logs::read::{Query, read};
use mainstay_logs::{
    Bound, Capture, CaptureOptions, CapturePolicy, Fsync, LogLine, Notice, Stream, Tap, WhenBlocked,
};
use mainstay_types::{ReplicaId, ServiceName, SpawnId};
use tokio::io::{AsyncWriteExt, DuplexStream};

/// Longest wait for anything: far more than needed, so that a busy machine fails no test.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) const POLICY: CapturePolicy = CapturePolicy {
    rotate_bytes: 1 << 20,
    rotate_age: None,
    keep: 100_000,
    keep_age: None,
    keep_total_bytes: u64::MAX,
    compress: true,
    max_line_bytes: 64 * 1024,
    when_blocked: WhenBlocked::Wait,
    fsync: Fsync::Never,
    masks: None,
};

pub(crate) struct Logs {
    folder: tempfile::TempDir,
    notices: Arc<Mutex<Vec<Notice>>>,
}

pub(crate) fn replica(name: &str, index: u32) -> ReplicaId {
    ReplicaId { service: ServiceName::parse(name).unwrap(), index }
}

pub(crate) fn web() -> ReplicaId {
    replica("web", 0)
}

impl Logs {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), notices: Arc::default() }
    }

    /// Below this folder.
    pub(crate) fn below(dir: &std::path::Path) -> Self {
        Self { folder: tempfile::tempdir_in(dir).unwrap(), notices: Arc::default() }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("state").join("logs")
    }

    pub(crate) fn start(&self) -> Capture {
        self.start_with(None)
    }

    pub(crate) fn start_with(&self, tap: Option<Arc<dyn Tap>>) -> Capture {
        Capture::start(CaptureOptions { tap, ..self.options() }).unwrap()
    }

    pub(crate) fn options(&self) -> CaptureOptions {
        let notices = self.notices.clone();
        CaptureOptions::new(self.dir(), Arc::new(move |notice| notices.lock().unwrap().push(notice)))
    }

    /// What was told of trouble.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        let is_trouble = |notice: &Notice| !matches!(notice, Notice::FilesRemoved { .. });
        self.notices.lock().unwrap().iter().filter(|notice| is_trouble(notice)).cloned().collect()
    }

    /// How many closed files were told to be removed because of this bound, and their bytes.
    pub(crate) fn removed(&self, bound: Bound) -> (u64, u64) {
        let mut sum = (0, 0);
        for notice in self.notices.lock().unwrap().iter() {
            if let Notice::FilesRemoved { files, bytes, bound: by, .. } = notice
                && *by == bound
            {
                sum = (sum.0 + files, sum.1 + bytes);
            }
        }
        sum
    }

    pub(crate) fn lines(&self, query: &Query) -> Vec<LogLine> {
        read(&self.dir(), query).collect::<Result<_, _>>().unwrap()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        texts(&self.lines(&Query::default()))
    }

    /// Names in a replica's folder, sorted.
    pub(crate) fn files(&self, replica: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.dir().join(replica)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub(crate) fn texts(lines: &[LogLine]) -> Vec<String> {
    lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect()
}

/// The writing ends of a program.
pub(crate) struct Output {
    pub(crate) stdout: DuplexStream,
    pub(crate) stderr: DuplexStream,
}

impl Output {
    pub(crate) async fn write(&mut self, stream: Stream, bytes: impl AsRef<[u8]>) {
        let pipe = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        pipe.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn out(&mut self, bytes: impl AsRef<[u8]>) {
        self.write(Stream::Stdout, bytes).await;
    }
}

/// A program whose pipes hold this many bytes.
pub(crate) fn attach(
    capture: &Capture,
    replica: &ReplicaId,
    spawn: u64,
    policy: CapturePolicy,
    pipe_bytes: usize,
) -> Output {
    let (stdout, stdout_end) = tokio::io::duplex(pipe_bytes);
    let (stderr, stderr_end) = tokio::io::duplex(pipe_bytes);
    capture.attach(replica.clone(), SpawnId(spawn), policy, move || Ok((stdout_end, stderr_end)));
    Output { stdout, stderr }
}

/// Waits until the condition gives a value; panics with what it last said.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(status) if begun.elapsed() > LIMIT => panic!("waited in vain for {what}: {status}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Runs a test's future on a runtime of its own, with a limit.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(2 * LIMIT, test).await.unwrap() })
}
