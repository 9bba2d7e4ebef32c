//! The thread that writes the host's own log.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

use mainstay_logs::LineFile;
use mainstay_os::Journal;
use mainstay_types::{ReplicaId, ServiceName, Timestamp};
use tracing::Level;

use super::feed::Entry;
use super::{KEPT_FILES, Message, NAME, ROTATE_BYTES};

/// Entries written at once.
const BATCH: usize = 256;

/// The file of the host's own log.
pub(super) fn file(dir: &Path) -> LineFile {
    let service = ServiceName::parse(NAME).unwrap_or_else(|_| unreachable!("the name is a good one"));
    LineFile::new(dir, &ReplicaId { service, index: 0 }, ROTATE_BYTES, KEPT_FILES)
}

/// Takes entries to where they go.
pub(super) struct Writer {
    file: LineFile,
    journal: Option<Journal>,
    stderr: bool,
    /// Entries that found the queue full.
    lost: Arc<AtomicUsize>,
    /// Entries that the file could not take since it last could, and why.
    unwritten: Option<(usize, String)>,
}

impl Writer {
    pub(super) fn new(dir: &Path, journal: Option<Journal>, stderr: bool, lost: Arc<AtomicUsize>) -> Self {
        // Standard error that is the journal would have everything a second time.
        let stderr = stderr && journal.is_none();
        Self { file: file(dir), journal, stderr, lost, unwritten: None }
    }

    /// Writes until it is told to end, or nobody is left who could say something.
    pub(super) fn run(mut self, inbox: &Receiver<Message>) {
        while let Ok(first) = inbox.recv() {
            let mut entries = Vec::new();
            let mut ends = false;
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Entry(entry) => entries.push(*entry),
                    Message::End => ends = true,
                }
                if !ends && entries.len() < BATCH {
                    next = inbox.try_recv().ok();
                }
            }
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let words = format!("{lost} entries of the host's own log are lost: too many came at once");
                entries.push(of_the_log_itself(words));
            }
            self.write(&entries);
            if ends {
                return;
            }
        }
    }

    fn write(&mut self, entries: &[Entry]) {
        let texts: Vec<(Timestamp, String)> = entries.iter().map(|entry| (entry.at, entry.text())).collect();
        self.write_file(&texts);
        if self.stderr {
            let mut stderr = std::io::stderr().lock();
            for (_, text) in &texts {
                // Nobody may be reading; here and below the file has it.
                let _ = writeln!(stderr, "{text}");
            }
        }
        if let Some(journal) = &self.journal {
            for entry in entries {
                let _ = journal.send(journal_fields(entry));
            }
        }
    }

    fn write_file(&mut self, texts: &[(Timestamp, String)]) {
        let gap = self.unwritten.as_ref().map(|(count, error)| {
            of_the_log_itself(format!("{count} entries could not be written here and are lost: {error}"))
        });
        let gap = gap.map(|entry| (entry.at, entry.text()));
        let lines = gap.iter().chain(texts).map(|(at, text)| (*at, text.as_str()));
        match self.file.append(lines) {
            Ok(()) => self.unwritten = None,
            Err(error) => {
                let before = self.unwritten.take().map_or(0, |(count, _)| count);
                self.unwritten = Some((before + texts.len(), error.to_string()));
            }
        }
    }
}

fn of_the_log_itself(message: String) -> Entry {
    Entry {
        at: Timestamp::now(),
        level: Level::WARN,
        target: "mainstay_host::own_log",
        message,
        fields: Vec::new(),
    }
}

/// The entry as the journal has it (systemd.journal-fields(7)); levels are those of syslog(3).
fn journal_fields(entry: &Entry) -> impl Iterator<Item = (&str, &str)> {
    let priority = match entry.level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    };
    let head = [
        ("MESSAGE", entry.message.as_str()),
        ("PRIORITY", priority),
        ("SYSLOG_IDENTIFIER", "mainstay"),
        ("TARGET", entry.target),
    ];
    head.into_iter().chain(entry.fields.iter().map(|(name, value)| (*name, value.as_str())))
}

#[cfg(test)]
mod tests {
    use mainstay_logs::read::{Query, read};

    use super::*;

    fn texts(dir: &Path) -> Vec<String> {
        read(dir, &Query::default()).map(|line| String::from_utf8(line.unwrap().text).unwrap()).collect()
    }

    #[test]
    fn what_a_full_disk_did_not_take_is_counted_and_told_once_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own");
        // A file in the place of the folder: nothing can be written, as on a full disk.
        std::fs::write(&own, "").unwrap();
        let mut writer = Writer::new(&own, None, false, Arc::default());
        writer.write(&[of_the_log_itself("one".to_owned()), of_the_log_itself("two".to_owned())]);
        writer.write(&[of_the_log_itself("three".to_owned())]);
        std::fs::remove_file(&own).unwrap();
        writer.write(&[of_the_log_itself("four".to_owned())]);
        writer.write(&[of_the_log_itself("five".to_owned())]);
        let written = texts(&own);
        assert_eq!(written.len(), 3, "{written:?}");
        assert!(written[0].contains("3 entries could not be written here and are lost: "), "{written:?}");
        assert!(written[1].ends_with(": four") && written[2].ends_with(": five"), "{written:?}");
    }

    #[test]
    fn what_found_the_queue_full_is_counted_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let lost = Arc::new(AtomicUsize::new(7));
        let (queue, inbox) = std::sync::mpsc::sync_channel(4);
        queue.send(Message::Entry(Box::new(of_the_log_itself("last words".to_owned())))).unwrap();
        queue.send(Message::End).unwrap();
        Writer::new(dir.path(), None, false, lost).run(&inbox);
        let written = texts(dir.path());
        assert!(written[0].ends_with(": last words"), "{written:?}");
        assert!(written[1].contains("7 entries of the host's own log are lost"), "{written:?}");
    }

    #[test]
    fn the_journal_has_fields() {
        let mut entry = of_the_log_itself("hello".to_owned());
        entry.fields.push(("service.name", "web".to_owned()));
        let fields: Vec<_> = journal_fields(&entry).collect();
        assert!(
            fields.contains(&("PRIORITY", "4")) && fields.contains(&("service.name", "web")),
            "{fields:?}"
        );
    }
}
