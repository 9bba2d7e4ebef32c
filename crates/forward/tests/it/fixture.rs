//! A folder of logs written as capture writes it, targets that behave as they are told, and a forwarder between them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use mainstay_config::{Destination, Forward, ForwardBackoff, ForwardBatch, Headers};
use mainstay_forward::{Forwarder, ForwarderOptions, Notice};
use mainstay_types::{HostPort, HttpTarget, ServiceName, StackName, Timestamp};
use serde_json::Value;

/// Time for anything that should happen at once, generous for a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Waits until `probe` gives something.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

/// The logs and the places of one stack.
pub(crate) struct Logs {
    dir: tempfile::TempDir,
    next: AtomicI64,
    notices: Arc<Mutex<Vec<Notice>>>,
}

impl Logs {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("logs")).unwrap();
        Self { dir, next: AtomicI64::new(0), notices: Arc::default() }
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join(inside)
    }

    fn current(&self, replica: &str) -> PathBuf {
        self.path("logs").join(replica).join("current.log")
    }

    /// Appends lines of standard output.
    pub(crate) fn write(&self, replica: &str, lines: &[&str]) {
        let records: Vec<String> = lines.iter().map(|line| format!("stdout F {line}")).collect();
        self.write_records(replica, &records.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Appends records as they stand in the file, without their times.
    pub(crate) fn write_records(&self, replica: &str, records: &[&str]) {
        let path = self.current(replica);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut text = String::new();
        for record in records {
            let at =
                Timestamp::from_millisecond(1_795_360_801_000 + self.next.fetch_add(1, Ordering::Relaxed));
            text.push_str(&format!("{:.9} {record}\n", at.unwrap()));
        }
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Closes the current file under the time of its first line, compressed or not.
    pub(crate) fn rotate(&self, replica: &str, compress: bool) {
        let current = self.current(replica);
        let text = fs::read(&current).unwrap();
        let stem = String::from_utf8(text[..30].to_vec()).unwrap().replace(':', "-");
        let plain = current.with_file_name(format!("{stem}.log"));
        fs::rename(&current, &plain).unwrap();
        if compress {
            let packed = fs::File::create(current.with_file_name(format!("{stem}.log.zst"))).unwrap();
            assert!(mainstay_logs::pack(&mut &text[..], &mut &packed, || true).unwrap());
            fs::remove_file(plain).unwrap();
        }
    }

    /// Removes the oldest closed file, as retention does.
    pub(crate) fn remove_oldest(&self, replica: &str) {
        let mut files: Vec<PathBuf> = fs::read_dir(self.path("logs").join(replica))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.ends_with("current.log"))
            .collect();
        files.sort();
        fs::remove_file(&files[0]).unwrap();
    }

    pub(crate) fn start(&self, target: &Forward) -> Forwarder {
        let notices = Arc::clone(&self.notices);
        Forwarder::start(ForwarderOptions {
            stack: StackName::parse("shop").unwrap(),
            host: Some("machine-1".to_owned()),
            target: target.clone(),
            logs_dir: self.path("logs"),
            state_dir: self.path("forward"),
            seed: 7,
            notices: Arc::new(move |notice| notices.lock().unwrap().push(notice)),
        })
        .unwrap()
    }

    pub(crate) fn notices(&self) -> Vec<Notice> {
        self.notices.lock().unwrap().clone()
    }
}

/// Has it end, and waits for that.
pub(crate) fn end(forwarder: Forwarder) {
    forwarder.stop();
    assert!(forwarder.wait(SOON));
    drop(forwarder);
}

/// A target with short waits.
pub(crate) fn target(destination: Destination) -> Forward {
    Forward {
        name: name("central"),
        destination,
        services: Vec::new(),
        stdout: true,
        stderr: true,
        level: None,
        labels: [("env".to_owned(), "test".to_owned())].into(),
        headers: Headers::default(),
        token_file: None,
        ca: None,
        gzip: true,
        spool_bytes: 64 << 20,
        batch: ForwardBatch { records: 1000, bytes: 1 << 20, wait: Duration::from_millis(10) },
        timeout: Duration::from_secs(10),
        backoff: ForwardBackoff {
            first: Duration::from_millis(20),
            factor: 1.5,
            max: Duration::from_millis(100),
            jitter: 0.2,
        },
    }
}

pub(crate) fn loki(address: &str) -> Forward {
    target(Destination::Loki(HttpTarget::parse(&format!("http://{address}/loki/api/v1/push")).unwrap()))
}

pub(crate) fn otlp(address: &str) -> Forward {
    target(Destination::Otlp(HttpTarget::parse(&format!("http://{address}/v1/logs")).unwrap()))
}

pub(crate) fn address(text: &str) -> HostPort {
    HostPort::parse(text).unwrap()
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Request {
    /// The lines of a push to Loki, or of an OTLP request, in its order.
    pub(crate) fn lines(&self) -> Vec<String> {
        let texts = |values: &Value, pointer: &str| -> Vec<String> {
            let text = |value: &Value| value.pointer(pointer).unwrap().as_str().unwrap().to_owned();
            values.as_array().unwrap().iter().map(text).collect()
        };
        if let Some(streams) = self.body["streams"].as_array() {
            streams.iter().flat_map(|stream| texts(&stream["values"], "/1")).collect()
        } else {
            let resources = self.body["resourceLogs"].as_array().unwrap();
            resources
                .iter()
                .flat_map(|resource| texts(&resource["scopeLogs"][0]["logRecords"], "/body/stringValue"))
                .collect()
        }
    }
}

type Reply = Box<dyn FnMut(&Request) -> String + Send>;

/// A server of HTTP that keeps what it was sent, and answers as it is told.
pub(crate) struct Server {
    pub(crate) address: String,
    shared: Arc<Shared>,
}

struct Shared {
    /// Requests that were answered with success.
    taken: Mutex<Vec<Request>>,
    asked: Mutex<Vec<Request>>,
    reply: Mutex<Reply>,
    closed: (Mutex<bool>, Condvar),
}

/// `204 No Content`.
pub(crate) fn yes() -> String {
    status("204 No Content", "", "")
}

pub(crate) fn status(line: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {line}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

impl Server {
    pub(crate) fn start(reply: impl FnMut(&Request) -> String + Send + 'static) -> Self {
        Self::start_at("127.0.0.1:0", reply)
    }

    pub(crate) fn start_at(at: &str, reply: impl FnMut(&Request) -> String + Send + 'static) -> Self {
        // The address of one that went away may be held for a moment.
        let listener = wait_for("the address is free", || TcpListener::bind(at).ok());
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            taken: Mutex::default(),
            asked: Mutex::default(),
            reply: Mutex::new(Box::new(reply)),
            closed: (Mutex::new(false), Condvar::new()),
        });
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if *for_thread.closed.0.lock().unwrap() {
                    return;
                }
                let shared = Arc::clone(&for_thread);
                std::thread::spawn(move || serve(stream.unwrap(), &shared));
            }
        });
        Self { address, shared }
    }

    /// Every line it said yes to, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.shared.taken.lock().unwrap().iter().flat_map(Request::lines).collect()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub(crate) fn wait_lines(&self, count: usize) -> Vec<String> {
        wait_for("the lines arrive", || {
            let lines = self.lines();
            (lines.len() >= count).then_some(lines)
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.shared.closed.0.lock().unwrap() = true;
        // Wakes the listener.
        let _ = TcpStream::connect(&self.address);
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length, mut gzip) = (String::new(), 0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            gzip |= lower.trim() == "content-encoding: gzip";
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        if gzip {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
            body = plain;
        }
        let request = Request { head, body: serde_json::from_slice(&body).unwrap() };
        shared.asked.lock().unwrap().push(request.clone());
        let reply = (shared.reply.lock().unwrap())(&request);
        if *shared.closed.0.lock().unwrap() {
            return;
        }
        if reply.starts_with("HTTP/1.1 2") {
            shared.taken.lock().unwrap().push(request);
        }
        if writer.write_all(reply.as_bytes()).is_err() || !reply.starts_with("HTTP/1.1") {
            return;
        }
    }
}

/// `a0`, `a1`, ...
pub(crate) fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

pub(crate) fn texts(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

/// An address of this machine at which nobody listens.
pub(crate) fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
