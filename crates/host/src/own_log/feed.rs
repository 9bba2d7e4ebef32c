//! From an event of `tracing` to an entry of the log, on the thread of whoever has something to say.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use mainstay_types::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::Message;

/// Bytes kept of a message, and of a field's value.
const MAX_MESSAGE_BYTES: usize = 32 * 1024;
const MAX_VALUE_BYTES: usize = 2 * 1024;

/// One thing the host says.
pub(super) struct Entry {
    pub(super) at: Timestamp,
    pub(super) level: Level,
    /// The part of the host that says it.
    pub(super) target: &'static str,
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Entry {
    /// As text: `INFO  mainstay_host::host: host started process.pid=17 stack=shop`.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{:<5} {}: {}", self.level, self.target, self.message);
        for (name, value) in &self.fields {
            let plain =
                !value.is_empty() && value.chars().all(|c| !c.is_control() && !matches!(c, ' ' | '"' | '='));
            // Writing into a string cannot fail.
            let _ = if plain { write!(text, " {name}={value}") } else { write!(text, " {name}={value:?}") };
        }
        text
    }
}

/// Puts entries into the writer's queue, and counts those that find no place.
pub(super) struct Feed {
    queue: SyncSender<Message>,
    lost: Arc<AtomicUsize>,
}

impl Feed {
    pub(super) fn new(queue: SyncSender<Message>, lost: Arc<AtomicUsize>) -> Self {
        Self { queue, lost }
    }
}

impl<S: Subscriber> Layer<S> for Feed {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut entry = Entry {
            at: Timestamp::now(),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut Reading(&mut entry));
        match self.queue.try_send(Message::Entry(Box::new(entry))) {
            Ok(()) => {}
            // After its end nothing is written, and nothing is missed.
            Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Takes the values of an event over into its entry.
struct Reading<'a>(&'a mut Entry);

impl Visit for Reading<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            cut(value, MAX_MESSAGE_BYTES).clone_into(&mut self.0.message);
        } else {
            self.0.fields.push((field.name(), cut(value, MAX_VALUE_BYTES).to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_the_level_the_part_the_message_and_the_fields() {
        let entry = Entry {
            at: Timestamp::UNIX_EPOCH,
            level: Level::WARN,
            target: "mainstay_host::publish",
            message: "service failed".to_owned(),
            fields: vec![
                ("service.name", "web".to_owned()),
                ("reason", "it \"exited\"\nbadly".to_owned()),
                ("empty", String::new()),
            ],
        };
        assert_eq!(
            entry.text(),
            r#"WARN  mainstay_host::publish: service failed service.name=web reason="it \"exited\"\nbadly" empty="""#
        );
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(cut("aäa", 2), "a");
        assert_eq!(cut("aäa", 3), "aä");
        assert_eq!(cut("a", 3), "a");
    }
}
