//! The names in a log folder, and what is there.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use mainstay_types::{ReplicaId, ServiceName, Timestamp};

use crate::stamp::{file_stem, parse_file_stem};

/// The file being written.
pub(crate) const CURRENT: &str = "current.log";

/// Extension of a closed file.
pub(crate) const PLAIN: &str = ".log";
/// Extension of a closed and compressed file.
pub(crate) const PACKED: &str = ".log.zst";
/// Extension of a file being compressed.
pub(crate) const PACKING: &str = ".log.zst.tmp";

/// A closed file: named by the time of its first line, which no other file of the folder shares.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Closed {
    /// The time of its first line.
    pub(crate) first_at: Timestamp,
    /// The plain file is there. It is complete, and wins over a compressed one beside it.
    pub(crate) plain: bool,
    /// A compressed one is there.
    pub(crate) packed: bool,
}

/// The path of a closed file in one of its forms.
pub(crate) fn closed_path(dir: &Path, first_at: Timestamp, extension: &str) -> PathBuf {
    dir.join(file_stem(first_at) + extension)
}

/// The closed files of a replica's folder, oldest first; no folder has none. Files with other names are left alone.
pub(crate) fn closed_files(dir: &Path) -> io::Result<Vec<Closed>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        // A file in its place has none either.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut found: Vec<Closed> = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let (stem, packed) = if let Some(stem) = name.strip_suffix(PACKED) {
            (stem, true)
        } else if let Some(stem) = name.strip_suffix(PLAIN) {
            (stem, false)
        } else {
            continue;
        };
        let Some(first_at) = parse_file_stem(stem) else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        found.push(Closed { first_at, plain: !packed, packed });
    }
    found.sort_unstable();
    found.dedup_by(|later, earlier| {
        let same = later.first_at == earlier.first_at;
        if same {
            earlier.plain |= later.plain;
            earlier.packed |= later.packed;
        }
        same
    });
    Ok(found)
}

/// The folder of a replica.
pub(crate) fn replica_dir(root: &Path, replica: &ReplicaId) -> PathBuf {
    root.join(replica.to_string())
}

/// The replica a folder belongs to: `web`, `web.3`.
pub(crate) fn replica_of(folder: &OsStr) -> Option<ReplicaId> {
    let name = folder.to_str()?;
    let (service, index) = match name.split_once('.') {
        None => (name, 0),
        Some((service, index)) => (service, index.parse().ok().filter(|index| *index > 0)?),
    };
    let replica = ReplicaId { service: ServiceName::parse(service).ok()?, index };
    (replica.to_string() == name).then_some(replica)
}

/// Every replica that has a folder, sorted; no folder of logs has none.
pub(crate) fn replicas(root: &Path) -> io::Result<Vec<ReplicaId>> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A link to a folder is as good as one; a file in its place has no lines.
        if let Some(replica) = replica_of(&entry.file_name())
            && (entry.file_type().is_ok_and(|kind| kind.is_dir()) || entry.path().is_dir())
        {
            found.push(replica);
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_name_replicas() {
        for (folder, index) in [("web", Some(0)), ("web.3", Some(3)), ("web.0", None), ("web.03", None)] {
            let found = replica_of(OsStr::new(folder));
            assert_eq!(found.as_ref().map(|replica| replica.index), index, "{folder}");
            assert!(found.is_none_or(|replica| replica.to_string() == folder));
        }
        for bad in ["", ".", "we b", "web.x", "web.1.2"] {
            assert_eq!(replica_of(OsStr::new(bad)), None, "{bad}");
        }
    }

    #[test]
    fn closed_files_come_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "2026-11-22T15-20-02.000000000Z.log",
            "2026-11-22T15-20-01.000000000Z.log.zst",
            "2026-11-22T15-20-02.000000000Z.log.zst",
            "2026-11-22T15-20-03.000000000Z.log.zst.tmp",
            "current.log",
            "notes.log",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = closed_files(dir.path()).unwrap();
        let shapes: Vec<_> = found.iter().map(|file| (file.plain, file.packed)).collect();
        assert_eq!(shapes, [(false, true), (true, true)]);
        assert!(closed_files(&dir.path().join("absent")).unwrap().is_empty());
    }
}
