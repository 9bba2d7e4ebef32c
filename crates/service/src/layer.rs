//! The service's log as a layer of tracing-subscriber: an event becomes an entry with its fields.

use std::fmt;

use mainstay_types::Level;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::log::Log;

/// Writes every event it is given into the log of the service. Which these are is decided by the log's own level and by filters
/// of the subscriber.
#[derive(Clone, Debug)]
pub struct LogLayer {
    log: Log,
}

impl Log {
    /// A layer that writes here.
    ///
    /// ```
    /// # let log = mainstay_service::Log::of_process("clock");
    /// use tracing_subscriber::layer::SubscriberExt as _;
    /// let subscriber = tracing_subscriber::registry().with(log.layer());
    /// tracing::subscriber::with_default(subscriber, || tracing::info!(port = 80, "listening"));
    /// ```
    #[must_use]
    pub fn layer(&self) -> LogLayer {
        LogLayer { log: self.clone() }
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        self.log.takes(level(*metadata.level()))
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut seen = Seen::default();
        event.record(&mut seen);
        let metadata = event.metadata();
        let mut fields: Vec<(&str, &str)> =
            seen.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        fields.push(("target", metadata.target()));
        self.log.write(level(*metadata.level()), &seen.message, &fields);
    }
}

fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::TRACE => Level::Trace,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::INFO => Level::Info,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::ERROR => Level::Error,
    }
}

#[derive(Default)]
struct Seen {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Seen {
    fn take(&mut self, field: &Field, value: String) {
        if field.name() == "message" { self.message = value } else { self.fields.push((field.name(), value)) }
    }
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"));
    }
}
