//! How far a target has come, on disk: `STATE/forward/NAME.json`, level 1. Written beside and renamed, so that it is whole or
//! the one before.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use mainstay_logs::read::{FilePlace, Missing, Place};
use mainstay_types::{ReplicaId, ServiceName, Timestamp};
use serde::{Deserialize, Serialize};

/// The level this version writes and reads.
const LEVEL: u32 = 1;
/// Largest file that is read; a replica takes about 200 bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Where a target's place is kept.
#[must_use]
pub fn state_path(dir: &Path, target: &ServiceName) -> PathBuf {
    dir.join(format!("{target}.json"))
}

/// Why a place could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system does not let us.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// `read`, `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} is damaged ({message}): everything that is kept is sent again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

/// How far one replica has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) place: Place,
    /// Missing in front of that place, and not told to the target yet.
    pub(crate) missing: Missing,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    level: u32,
    replicas: BTreeMap<String, StoredReplica>,
}

#[derive(Serialize, Deserialize)]
struct StoredReplica {
    done: Option<Timestamp>,
    file: Option<StoredFile>,
    #[serde(default)]
    missing_lines: u64,
    #[serde(default)]
    missing_bytes: u64,
    #[serde(default)]
    missing_more: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredFile {
    first_at: Option<Timestamp>,
    offset: u64,
}

/// Reads what was kept; `None` when nothing was.
pub(crate) fn read(path: &Path) -> Result<Option<BTreeMap<ReplicaId, Kept>>, StateError> {
    let io = |source| StateError::Io { what: "read", path: path.to_owned(), source };
    let damaged = |message: String| StateError::Damaged { path: path.to_owned(), message };
    let mut bytes = Vec::new();
    match std::fs::File::open(path) {
        Ok(file) => _ = file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    }
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if stored.level != LEVEL {
        return Err(damaged(format!("its level is {}, and this version reads {LEVEL}", stored.level)));
    }
    let mut found = BTreeMap::new();
    for (name, replica) in stored.replicas {
        let id = replica_id(&name).ok_or_else(|| damaged(format!("{name:?} names no replica")))?;
        let file = replica.file.map(|StoredFile { first_at, offset }| FilePlace { first_at, offset });
        let missing = Missing {
            lines: replica.missing_lines,
            bytes: replica.missing_bytes,
            more: replica.missing_more,
        };
        found.insert(id, Kept { place: Place { done: replica.done, file }, missing });
    }
    Ok(Some(found))
}

fn replica_id(name: &str) -> Option<ReplicaId> {
    let (service, index) = match name.split_once('.') {
        None => (name, 0),
        Some((service, index)) => (service, index.parse().ok()?),
    };
    Some(ReplicaId { service: ServiceName::parse(service).ok()?, index })
}

/// Keeps it.
pub(crate) fn write(path: &Path, kept: &BTreeMap<ReplicaId, Kept>) -> Result<(), StateError> {
    let io = |source| StateError::Io { what: "write", path: path.to_owned(), source };
    let replicas = kept.iter().map(|(replica, Kept { place, missing })| {
        let file = place.file.map(|FilePlace { first_at, offset }| StoredFile { first_at, offset });
        let stored = StoredReplica {
            done: place.done,
            file,
            missing_lines: missing.lines,
            missing_bytes: missing.bytes,
            missing_more: missing.more,
        };
        (replica.to_string(), stored)
    });
    let stored = Stored { level: LEVEL, replicas: replicas.collect() };
    let mut text = serde_json::to_vec(&stored).map_err(|error| io(error.into()))?;
    text.push(b'\n');
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(io)?;
    }
    let beside = path.with_extension("json.tmp");
    std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path)).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_what_is_damaged_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = state_path(&dir.path().join("forward"), &ServiceName::parse("central").unwrap());
        assert_eq!(read(&path).unwrap(), None);
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let web = ReplicaId { service: ServiceName::parse("web").unwrap(), index: 3 };
        let file = FilePlace { first_at: Some(at("2026-11-22T15:20:01.000000001Z")), offset: 77 };
        let place = Place { done: Some(at("2026-11-22T15:20:00Z")), file: Some(file) };
        let missing = Missing { lines: 5, bytes: 600, more: true };
        let db = ReplicaId { service: ServiceName::parse("db").unwrap(), index: 0 };
        let kept = BTreeMap::from([(web, Kept { place, missing }), (db, Kept::default())]);
        write(&path, &kept).unwrap();
        assert_eq!(read(&path).unwrap(), Some(kept));
        for damaged in [
            "",
            "{",
            "{\"level\":2,\"replicas\":{}}",
            "{\"level\":1,\"replicas\":{\"a b\":{\"done\":null,\"file\":null}}}",
        ] {
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(read(&path), Err(StateError::Damaged { .. })), "{damaged}");
        }
    }
}
