//! Trouble with a log, in words for the event record.

use mainstay_logs::{Bound, Notice, WhenBlocked};
use mainstay_types::{ReplicaId, format_size};

/// Whose log, and what about it. What is no trouble goes into the host's own log, and is no event.
pub(crate) fn words(notice: &Notice) -> Option<(&ReplicaId, String)> {
    Some(match notice {
        Notice::FilesRemoved { replica, files, bytes, bound } => {
            let bound = match bound {
                Bound::Count => "keep",
                Bound::Age => "keep_age",
                Bound::ServiceTotal => "keep_total",
                Bound::StackTotal => "max_total",
            };
            tracing::debug!(service.name = %replica, files, bytes, bound, "old log files removed");
            return None;
        }
        Notice::WriteFailed { replica, path, error, when_blocked } => {
            let meanwhile = match when_blocked {
                WhenBlocked::Wait => "the program waits at its next output",
                WhenBlocked::Drop => "its lines are dropped and counted meanwhile",
            };
            let path = path.display();
            let words = format!(
                "cannot write {path}: {error}; {meanwhile}, and the log goes on by itself once it can be written"
            );
            (replica, words)
        }
        Notice::WriteRecovered { replica, path } => {
            (replica, format!("{} can be written again", path.display()))
        }
        Notice::LinesDropped { replica, lines, bytes } => {
            let plural = if *lines == 1 { "line was" } else { "lines were" };
            let size = format_size(*bytes);
            (replica, format!("{lines} {plural} dropped ({size}) while the log could not be written"))
        }
        Notice::SyncFailed { replica, path, error } => (
            replica,
            format!(
                "the disk does not confirm what is written to {}: {error}; look at the disk",
                path.display()
            ),
        ),
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
    })
}
