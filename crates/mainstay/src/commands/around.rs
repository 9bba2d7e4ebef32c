//! `mainstay logs --around FAILURE`: what all services wrote around a failure, with the events in between and the
//! moment marked. Read from the files and the event record, so that it works whether or not a host runs.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use mainstay_api::Event;
use mainstay_host::{EventFilter, EventStoreError, chain};
use mainstay_logs::read::{self, Query, ReadError, Selection};
use mainstay_logs::{LogLine, Stream};
use mainstay_types::{ExitCode, Level, Timestamp, format_duration};

use crate::cli::{Global, LogStream};
use crate::commands::events;
use crate::commands::logs::pattern;
use crate::context::{Addressed, addressed};
use crate::failure::Failure;
use crate::terminal::{BAD, BOLD, DIM, has_colors, paint, program_line, service_style};
use crate::times::local_time;

/// Time shown before and after the failure when none is given.
const DEFAULT_WINDOW: Duration = Duration::from_secs(10);
/// Longest time before and after: a day holds what led to a failure.
const MAX_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// Events read from the record at once.
const PAGE: i64 = 1000;

/// What the command line asks for.
pub(crate) struct Asked<'a> {
    /// Whose failure `last` is; empty is anybody's.
    pub(crate) services: &'a [String],
    /// `last`, or the id of an event.
    pub(crate) failure: &'a str,
    pub(crate) window: Option<Duration>,
    pub(crate) stream: Option<LogStream>,
    pub(crate) grep: Option<&'a str>,
    pub(crate) ignore_case: bool,
    pub(crate) level: Option<Level>,
}

/// Prints everything around the failure.
pub(crate) fn around(global: &Global, asked: &Asked<'_>) -> Result<(), Failure> {
    let window = asked.window.unwrap_or(DEFAULT_WINDOW);
    if window > MAX_WINDOW {
        let message = format!("--window {}: at most 24h", format_duration(window));
        return Err(Failure::new(ExitCode::Usage, message));
    }
    let grep = pattern(asked.grep, asked.ignore_case)?;
    let wanted = Wanted::read(asked.failure)?;
    let addressed = addressed(global)?;
    let record = Record::open(&addressed)?;
    let moment = record.find(wanted, asked.services, &addressed)?;
    // Out of range only at the ends of time.
    let from = moment.at.checked_sub(window).unwrap_or(Timestamp::MIN);
    let to = moment.at.checked_add(window).unwrap_or(Timestamp::MAX);
    let events = record.around(&moment, from, to)?;

    let dir = addressed.paths.logs_dir();
    let known = read::services(&dir).map_err(|error| failed(&error))?;
    let mut page = Page {
        json: global.json,
        known: known.iter().map(ToString::to_string).collect(),
        width: known.iter().map(|name| name.as_str().len()).max().unwrap_or(4),
    };
    if !page.head(&moment, window) {
        return Ok(());
    }
    let query = Query {
        since: Some(from),
        until: Some(to),
        grep,
        stream: asked.stream.map(|stream| match stream {
            LogStream::Stdout => Stream::Stdout,
            LogStream::Stderr => Stream::Stderr,
        }),
        level: asked.level,
        last: None,
        replicas: Selection::All,
    };
    let mut events = events.into_iter().peekable();
    for line in read::read(&dir, &query) {
        let line = line.map_err(|error| failed(&error))?;
        // Output is told before what came of it.
        while let Some(event) = events.next_if(|event| event.at < line.at) {
            if !page.event(&event, &moment) {
                return Ok(());
            }
        }
        if !page.line(&line) {
            return Ok(());
        }
    }
    for event in events {
        if !page.event(&event, &moment) {
            return Ok(());
        }
    }
    Ok(())
}

fn failed(error: &ReadError) -> Failure {
    Failure::new(ExitCode::Failed, chain(error))
}

/// Which moment is asked for.
#[derive(Clone, Copy)]
enum Wanted {
    Last,
    Id(i64),
}

impl Wanted {
    fn read(text: &str) -> Result<Self, Failure> {
        if text == "last" {
            return Ok(Self::Last);
        }
        let id = text.strip_prefix('#').unwrap_or(text).parse().ok().filter(|id| *id > 0);
        id.map(Self::Id).ok_or_else(|| {
            let message = format!(
                "--around {text:?} is neither `last` nor the id of an event\n  next: `mainstay events -v` shows ids"
            );
            Failure::new(ExitCode::Usage, message)
        })
    }
}

/// The stack's event record.
struct Record<'a> {
    path: std::path::PathBuf,
    newest: i64,
    stack: &'a str,
}

impl<'a> Record<'a> {
    fn open(addressed: &'a Addressed) -> Result<Self, Failure> {
        let path = addressed.paths.events_path();
        let stack = addressed.name.as_str();
        if !path.exists() {
            let message = format!("the stack {stack} has no events: it has never run here");
            return Err(Failure::new(ExitCode::NotFound, message));
        }
        let filter = EventFilter { last: Some(1), ..EventFilter::default() };
        let newest = mainstay_host::read_events(&path, &filter).map_err(|error| unread(&error))?;
        let newest = newest.last().map_or(0, |event| event.id);
        Ok(Self { path, newest, stack })
    }

    fn find(&self, wanted: Wanted, services: &[String], addressed: &Addressed) -> Result<Event, Failure> {
        let of_asked = |event: &Event| {
            services.is_empty() || event.service.as_ref().is_some_and(|name| services.contains(name))
        };
        match wanted {
            Wanted::Id(id) => {
                let event = between(&self.path, id, id)?.pop().ok_or_else(|| {
                    let message = format!(
                        "the stack {} has no event #{id}; the newest is #{}\n  next: `mainstay events -v` shows ids",
                        self.stack, self.newest
                    );
                    Failure::new(ExitCode::NotFound, message)
                })?;
                if of_asked(&event) {
                    return Ok(event);
                }
                let message = format!(
                    "event #{id} is about {}, not about {}",
                    event.service.as_deref().unwrap_or("the whole stack"),
                    services.join(", ")
                );
                Err(Failure::new(ExitCode::Usage, message))
            }
            Wanted::Last => {
                let mut seen = std::collections::BTreeSet::new();
                let mut last = self.newest;
                while last > 0 {
                    let page = between(&self.path, last - PAGE + 1, last)?;
                    if page.is_empty() {
                        // Older ones are no longer kept.
                        break;
                    }
                    seen.extend(page.iter().filter_map(|event| event.service.clone()));
                    let found = page.into_iter().rev().find(|event| event.is_failure() && of_asked(event));
                    if let Some(event) = found {
                        return Ok(event);
                    }
                    last -= PAGE;
                }
                self.none_found(services, &seen, addressed)
            }
        }
    }

    fn none_found(
        &self,
        services: &[String],
        seen: &std::collections::BTreeSet<String>,
        addressed: &Addressed,
    ) -> Result<Event, Failure> {
        let known = read::services(&addressed.paths.logs_dir()).map_err(|error| failed(&error))?;
        let is_known = |name: &str| seen.contains(name) || known.iter().any(|known| known.as_str() == name);
        if let Some(stranger) = services.iter().find(|name| !is_known(name)) {
            let names: Vec<&str> = seen.iter().map(String::as_str).collect();
            let message =
                format!("nothing is recorded of {stranger:?}: there are events of {}", names.join(", "));
            return Err(Failure::new(ExitCode::NotFound, message));
        }
        let whose =
            if services.is_empty() { format!("the stack {}", self.stack) } else { services.join(", ") };
        let message = format!(
            "no failure of {whose} is recorded\n  next: --around ID shows what was around any other event"
        );
        Err(Failure::new(ExitCode::Failed, message))
    }

    /// The events of this span, the one in question among them.
    fn around(&self, moment: &Event, from: Timestamp, to: Timestamp) -> Result<Vec<Event>, Failure> {
        let mut events = vec![moment.clone()];
        let mut last = moment.id - 1;
        while last > 0 {
            let page = between(&self.path, last - PAGE + 1, last)?;
            let reaches_before = page.first().is_none_or(|event| event.at < from);
            events.splice(0..0, page);
            if reaches_before {
                break;
            }
            last -= PAGE;
        }
        let mut first = moment.id + 1;
        while first <= self.newest {
            let page = between(&self.path, first, first + PAGE - 1)?;
            let reaches_behind = page.last().is_none_or(|event| event.at > to);
            events.extend(page);
            if reaches_behind {
                break;
            }
            first += PAGE;
        }
        events.retain(|event| event.at >= from && event.at <= to);
        Ok(events)
    }
}

fn between(path: &Path, first: i64, last: i64) -> Result<Vec<Event>, Failure> {
    mainstay_host::events_between(path, first, last).map_err(|error| unread(&error))
}

fn unread(error: &EventStoreError) -> Failure {
    Failure::new(ExitCode::Failed, chain(error))
}

struct Page {
    json: bool,
    known: Vec<String>,
    width: usize,
}

impl Page {
    /// Says what is shown; false when nobody reads any more, here and below.
    fn head(&self, moment: &Event, window: Duration) -> bool {
        if self.json {
            return true;
        }
        let words = format!(
            "around event #{} of {}, {} before and after:",
            moment.id,
            moment.service.as_ref().map_or_else(|| "the stack".to_owned(), |_| events::name(moment)),
            format_duration(window)
        );
        writeln!(anstream::stdout(), "{}", paint(BOLD, &words)).is_ok()
    }

    fn line(&mut self, line: &LogLine) -> bool {
        let mut out = anstream::stdout().lock();
        if self.json {
            let entry = mainstay_host::log_entry(line);
            // The entry is made of strings and numbers only; such a value always becomes JSON. Here and below.
            return writeln!(out, "{}", serde_json::to_string(&entry).unwrap_or_default()).is_ok();
        }
        let name = line.replica.to_string();
        let mark = match line.stream {
            Stream::Stdout => "|",
            Stream::Stderr => "!",
        };
        let head = self.who(line.replica.service.as_str(), &name, mark);
        writeln!(
            out,
            "{} {head} {}",
            paint(DIM, &local_time(line.at)),
            program_line(&line.text, has_colors())
        )
        .is_ok()
    }

    fn event(&mut self, event: &Event, moment: &Event) -> bool {
        let mut out = anstream::stdout().lock();
        if self.json {
            return writeln!(out, "{}", serde_json::to_string(event).unwrap_or_default()).is_ok();
        }
        let marked = event.id == moment.id;
        let head = self.who(event.service.as_deref().unwrap_or_default(), &events::name(event), "*");
        let what = events::what(event);
        let time = local_time(event.at);
        if marked {
            let id = paint(BAD, &format!(">>> #{}", event.id));
            writeln!(out, "{} {head} {id} {what}", paint(BAD, &time)).is_ok()
        } else {
            writeln!(out, "{} {head} {what}", paint(DIM, &time)).is_ok()
        }
    }

    fn who(&mut self, service: &str, name: &str, mark: &str) -> String {
        let style = self
            .known
            .iter()
            .position(|known| known == service)
            .map_or_else(anstyle::Style::default, service_style);
        self.width = self.width.max(name.len());
        format!("{style}{name:<width$} {mark}{style:#}", width = self.width)
    }
}
