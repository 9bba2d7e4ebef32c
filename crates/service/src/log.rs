//! The log of a service: one line and its fields, written where this start's log goes.
//!
//! Into the journal with its fields when standard error is the journal; into the Event Log under the SCM; else to standard error,
//! one line an entry. Nothing waits but a write to standard error: what the journal does not take at once goes there.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_os::{Gravity, Journal, SystemLog};
use mainstay_types::{Level, Timestamp};

/// The numbers of entries in the Event Log, by gravity; `docs/library.md` has them for who filters by them.
const EVENT_IDS: [u16; 3] = [1, 2, 3];
/// Most fields of one entry; what is beyond is counted in it.
const MAX_FIELDS: usize = 64;

/// The log of a service. Cheap to clone; all clones write to the same place.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    least: Level,
    sink: Mutex<Sink>,
}

#[derive(Debug)]
enum Sink {
    Journal(Journal),
    System(SystemLog),
    Stderr,
}

impl Log {
    /// The log of this process, under the name of its service: entries of at least [`Level::Info`].
    #[must_use]
    pub fn of_process(name: &str) -> Self {
        Self::with_level(name, Level::Info)
    }

    /// The same, with entries of at least `least`.
    #[must_use]
    pub fn with_level(name: &str, least: Level) -> Self {
        let stream = std::env::var("JOURNAL_STREAM").ok();
        let sink = Journal::of_stderr(stream.as_deref()).map_or(Sink::Stderr, Sink::Journal);
        Self { inner: Arc::new(Inner { name: name.to_owned(), least, sink: Mutex::new(sink) }) }
    }

    /// Writes one entry.
    ///
    /// ```
    /// # let log = mainstay_service::Log::of_process("clock");
    /// use mainstay_service::Level;
    /// log.write(Level::Info, "a client is there", &[("client", "10.0.0.7"), ("port", "80")]);
    /// ```
    pub fn write(&self, level: Level, text: &str, fields: &[(&str, &str)]) {
        if level < self.inner.least {
            return;
        }
        let name = &self.inner.name;
        // A thread that panicked while it wrote has left nothing half done that the next entry would need.
        let sink = self.inner.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = match &*sink {
            Sink::Journal(journal) => journal.send(journal_fields(name, level, text, fields)).is_ok(),
            Sink::System(log) => {
                let (gravity, id) = gravity(level);
                log.report(id, gravity, &words(text, fields)).is_ok()
            }
            Sink::Stderr => false,
        };
        if !taken {
            let line =
                format!("{} {} {name}: {}\n", Timestamp::now(), level_word(level), words(text, fields));
            // There is nobody left to tell when this cannot be written, either.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    /// [`Level::Info`].
    pub fn info(&self, text: &str) {
        self.write(Level::Info, text, &[]);
    }

    /// [`Level::Warn`].
    pub fn warn(&self, text: &str) {
        self.write(Level::Warn, text, &[]);
    }

    /// [`Level::Error`].
    pub fn error(&self, text: &str) {
        self.write(Level::Error, text, &[]);
    }

    /// From here on into the system's own log of services, where there is one: this start is the SCM's.
    pub(crate) fn to_system_log(&self) -> std::io::Result<()> {
        if let Some(log) = SystemLog::open(&self.inner.name)? {
            *self.inner.sink.lock().unwrap_or_else(PoisonError::into_inner) = Sink::System(log);
        }
        Ok(())
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn takes(&self, level: Level) -> bool {
        level >= self.inner.least
    }
}

/// `PRIORITY` as syslog(3) counts; names as journald takes them from outside: none begins with an underscore, and the ones that
/// are set here are not set again.
fn journal_fields<'a>(
    name: &'a str,
    level: Level,
    text: &'a str,
    fields: &'a [(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let priority = match level {
        Level::Trace | Level::Debug => "7",
        Level::Info => "6",
        Level::Warn => "4",
        Level::Error => "3",
        Level::Fatal => "2",
    };
    let own = [("MESSAGE", text), ("PRIORITY", priority), ("SYSLOG_IDENTIFIER", name)];
    let given = fields.iter().take(MAX_FIELDS).map(|(key, value)| (key.trim_start_matches('_'), *value));
    let given = given.filter(|(key, _)| {
        key.starts_with(|first: char| first.is_ascii_alphabetic())
            && own.iter().all(|(own, _)| !own.eq_ignore_ascii_case(key))
    });
    own.into_iter().chain(given).collect()
}

/// `a client is there client=10.0.0.7 words="a b"`, on one line.
fn words(text: &str, fields: &[(&str, &str)]) -> String {
    let mut line = escaped(text);
    for (key, value) in fields.iter().take(MAX_FIELDS) {
        let plain = !value.is_empty()
            && value.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"\"=\\".contains(c));
        // Writing to a string cannot fail.
        let _ = if plain { write!(line, " {key}={value}") } else { write!(line, " {key}={value:?}") };
    }
    if fields.len() > MAX_FIELDS {
        let _ = write!(line, " fields_left_out={}", fields.len() - MAX_FIELDS);
    }
    line
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if c == '\n' {
            line.push_str("\\n");
        } else if !c.is_control() || c == '\t' {
            line.push(c);
        }
        line
    })
}

const fn gravity(level: Level) -> (Gravity, u16) {
    match level {
        Level::Trace | Level::Debug | Level::Info => (Gravity::Information, EVENT_IDS[0]),
        Level::Warn => (Gravity::Warning, EVENT_IDS[1]),
        Level::Error | Level::Fatal => (Gravity::Error, EVENT_IDS[2]),
    }
}

const fn level_word(level: Level) -> &'static str {
    match level {
        Level::Trace => "TRACE",
        Level::Debug => "DEBUG",
        Level::Info => "INFO",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
        Level::Fatal => "FATAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line() {
        assert_eq!(
            words("a\nb\u{1b}[1m", &[("n", "1"), ("s", "x y"), ("e", "")]),
            r#"a\nb[1m n=1 s="x y" e="""#
        );
        let many = vec![("k", "v"); MAX_FIELDS + 2];
        assert!(words("x", &many).ends_with(" k=v fields_left_out=2"));
    }

    #[test]
    fn the_journal_gets_fields_it_takes() {
        let fields = [("client.ip", "::1"), ("_PID", "1"), ("message", "forged"), ("1st", "x")];
        assert_eq!(
            journal_fields("clock", Level::Warn, "hello", &fields),
            [
                ("MESSAGE", "hello"),
                ("PRIORITY", "4"),
                ("SYSLOG_IDENTIFIER", "clock"),
                ("client.ip", "::1"),
                ("PID", "1")
            ]
        );
    }
}
