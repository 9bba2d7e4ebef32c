//! What the fuzz targets do with their input. The tests of the crate `logs` include this file and do the same with the
//! committed corpus.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_logs::facts;
use mainstay_logs::read::{Query, follow, read};
use mainstay_types::{Level, Timestamp};

/// The name of the closed file that the targets write, and the time in it.
const CLOSED: &str = "2026-11-22T15-20-01.000000000Z";

/// Recognising level and time takes any bytes.
pub fn recognise(data: &[u8]) {
    let found = facts(data);
    if let Some(level) = found.level {
        assert!(Level::ALL.contains(&level));
    }
    // What stands behind the line does not change what the line says, as long as it is text of the message.
    if data.len() < 256 && !data.trim_ascii_end().is_empty() && !data.starts_with(b"{") {
        let _ = facts(&[data, b" and more"].concat());
    }
}

/// Reading a file with these bytes, as the current one and as a closed one.
pub fn log_file(data: &[u8], folder: &Path) {
    read_all(data, folder, "current.log");
    read_all(data, folder, &format!("{CLOSED}.log"));
}

/// Reading a compressed file with these bytes.
pub fn packed_file(data: &[u8], folder: &Path) {
    read_all(data, folder, &format!("{CLOSED}.log.zst"));
}

/// Asks in every way for what is in the file. What comes is bounded by what is there, and ends.
fn read_all(data: &[u8], folder: &Path, name: &str) {
    let path = replica_dir(folder).join(name);
    std::fs::write(&path, data).expect("the folder of the target takes a file");
    let at: Timestamp = "2026-11-22T15:20:01.5Z".parse().expect("a time");
    let (mut all, mut broken) = (0, false);
    for line in read(folder, &Query::default()) {
        match line {
            Ok(_) => all += 1,
            Err(_) => broken = true,
        }
    }
    for query in [
        Query { since: Some(at), ..Query::default() },
        Query { until: Some(at), last: Some(3), ..Query::default() },
        Query { since: Some(at), until: Some(at + Duration::from_secs(1)), ..Query::default() },
        Query { level: Some(Level::Warn), last: Some(5), ..Query::default() },
        Query { level: Some(Level::Error), stream: Some(mainstay_logs::Stream::Stderr), ..Query::default() },
    ] {
        let found = read(folder, &query).filter_map(Result::ok).count();
        // What lies behind the broken part is found by time alone.
        assert!(broken || found <= all, "{query:?} finds {found} lines of {all}");
    }
    let newest =
        read(folder, &Query { last: Some(usize::MAX), ..Query::default() }).filter_map(Result::ok).count();
    assert!(broken || newest == all, "{newest} lines from the end, {all} from the beginning");
    let (backlog, mut follower) = follow(folder, &Query { last: Some(2), ..Query::default() });
    assert!(backlog.filter_map(Result::ok).count() <= 2);
    let _ = follower.poll();
    std::fs::remove_file(&path).expect("the file is ours");
}

fn replica_dir(folder: &Path) -> PathBuf {
    let dir = folder.join("web");
    std::fs::create_dir_all(&dir).expect("the folder of the target takes a folder");
    dir
}
