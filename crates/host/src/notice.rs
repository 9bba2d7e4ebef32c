//! Trouble with a log, in words for the event record.

use mainstay_logs::Notice;
use mainstay_types::{ReplicaId, format_size};

/// Whose log, and what about it.
pub(crate) fn words(notice: &Notice) -> (&ReplicaId, String) {
    match notice {
        Notice::WriteFailed { replica, path, error } => (
            replica,
            format!(
                "cannot write {}: {error}; the program waits at its next output, and the log goes on by itself once it can be written",
                path.display()
            ),
        ),
        Notice::WriteRecovered { replica, path } => {
            (replica, format!("{} can be written again", path.display()))
        }
        Notice::LinesLost { replica, lines, bytes } => {
            let plural = if *lines == 1 { "line" } else { "lines" };
            (
                replica,
                format!(
                    "{lines} {plural} ({}) could not be written to the log and are lost",
                    format_size(*bytes)
                ),
            )
        }
        Notice::RotationFailed { replica, path, error } => {
            (replica, format!("cannot rotate {}: {error}; it grows on until it can be", path.display()))
        }
        Notice::CompressionFailed { replica, path, error } => (
            replica,
            format!("cannot tidy up {}: {error}; it is tried again after the next rotation", path.display()),
        ),
        Notice::PipeFailed { replica, stream, error } => {
            let what = stream.map_or("output", |stream| stream.as_str());
            (replica, format!("cannot read its {what} any more: {error}"))
        }
    }
}
