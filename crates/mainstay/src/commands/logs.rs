//! `mainstay logs`: the services' output, read from the files, so that it works whether or not a host runs.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anstyle::Style;
use mainstay_host::chain;
use mainstay_logs::read::{self, Query, ReadError, Selection};
use mainstay_logs::{LogLine, Stream};
use mainstay_types::{ExitCode, ServiceName, Timestamp};

use crate::cli::{Global, LogStream};
use crate::context::addressed;
use crate::failure::Failure;
use crate::terminal::{DIM, paint, printable, service_style};
use crate::times::local_time;

/// Lines shown when neither a number nor a condition is given.
const DEFAULT_LINES: usize = 100;
/// Pause between two looks for new lines while following.
const FOLLOW_PAUSE: Duration = Duration::from_millis(50);

/// What the command line asks for.
pub(crate) struct Asked<'a> {
    pub(crate) services: &'a [String],
    /// The host's own log instead of theirs.
    pub(crate) host: bool,
    pub(crate) follow: bool,
    pub(crate) lines: Option<usize>,
    pub(crate) since: Option<&'a str>,
    pub(crate) until: Option<&'a str>,
    pub(crate) stream: Option<LogStream>,
    pub(crate) grep: Option<&'a str>,
    pub(crate) level: Option<&'a str>,
}

/// Prints lines, and with `follow` goes on with new ones.
pub(crate) fn logs(global: &Global, asked: &Asked<'_>) -> Result<(), Failure> {
    if asked.level.is_some() {
        return Err(Failure::new(
            ExitCode::Usage,
            "--level is not supported yet\n  next: --grep finds text in lines",
        ));
    }
    let addressed = addressed(global)?;
    let dir = if asked.host { addressed.paths.own_log_dir() } else { addressed.paths.logs_dir() };
    let known = read::services(&dir).map_err(|error| Failure::new(ExitCode::Failed, chain(&error)))?;
    for name in asked.services {
        if !known.iter().any(|service| service.as_str() == name) {
            let have = if known.is_empty() {
                "nothing has been written yet".to_owned()
            } else {
                let names: Vec<&str> = known.iter().map(ServiceName::as_str).collect();
                format!("there are logs of {}", names.join(", "))
            };
            let message = format!("there is no log of {name:?} in {}: {have}", dir.display());
            return Err(Failure::new(ExitCode::NotFound, message));
        }
    }
    if asked.host && known.is_empty() {
        let message = format!("there is no log of a host of the stack {}: none has run here", addressed.name);
        return Err(Failure::new(ExitCode::NotFound, message));
    }
    let query = query(asked, &known)?;
    let styles: BTreeMap<String, Style> =
        known.iter().enumerate().map(|(place, name)| (name.to_string(), service_style(place))).collect();
    let mut page = Page {
        json: global.json,
        styles,
        width: known.iter().map(|name| name.as_str().len()).max().unwrap_or(4),
    };
    if !asked.follow {
        return page.print_all(read::read(&dir, &query)).map(|_| ());
    }
    let (backlog, mut follower) = read::follow(&dir, &query);
    if !page.print_all(backlog)? {
        return Ok(());
    }
    loop {
        for line in follower.poll().map_err(|error| failed(&error))? {
            if !page.print(&line) {
                return Ok(());
            }
        }
        std::thread::sleep(FOLLOW_PAUSE);
    }
}

fn failed(error: &ReadError) -> Failure {
    Failure::new(ExitCode::Failed, chain(error))
}

fn query(asked: &Asked<'_>, known: &[ServiceName]) -> Result<Query, Failure> {
    let now = Timestamp::now();
    let when = |name: &str, text: Option<&str>| {
        text.map(|text| mainstay_logs::parse_when(text, now))
            .transpose()
            .map_err(|error| Failure::new(ExitCode::Usage, format!("{name}: {}", chain(&error))))
    };
    let grep = asked
        .grep
        .map(regex::bytes::Regex::new)
        .transpose()
        .map_err(|error| Failure::new(ExitCode::Usage, format!("--grep: {error}")))?;
    let bounded = asked.since.is_some() || asked.until.is_some() || asked.grep.is_some();
    Ok(Query {
        since: when("--since", asked.since)?,
        until: when("--until", asked.until)?,
        grep,
        stream: asked.stream.map(|stream| match stream {
            LogStream::Stdout => Stream::Stdout,
            LogStream::Stderr => Stream::Stderr,
        }),
        last: asked.lines.or(if bounded { None } else { Some(DEFAULT_LINES) }),
        replicas: if asked.services.is_empty() {
            Selection::All
        } else {
            let wanted = |name: &&ServiceName| asked.services.iter().any(|asked| asked == name.as_str());
            Selection::Services(known.iter().filter(wanted).cloned().collect())
        },
    })
}

struct Page {
    json: bool,
    styles: BTreeMap<String, Style>,
    width: usize,
}

impl Page {
    /// Prints them all; false when nobody reads any more.
    fn print_all(
        &mut self,
        lines: impl Iterator<Item = Result<LogLine, ReadError>>,
    ) -> Result<bool, Failure> {
        for line in lines {
            if !self.print(&line.map_err(|error| failed(&error))?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Prints one line; false when nobody reads any more.
    fn print(&mut self, line: &LogLine) -> bool {
        let mut out = anstream::stdout().lock();
        if self.json {
            let entry = mainstay_host::log_entry(line);
            // The entry is made of strings and numbers only; such a value always becomes JSON.
            return writeln!(out, "{}", serde_json::to_string(&entry).unwrap_or_default()).is_ok();
        }
        let style = self.styles.get(line.replica.service.as_str()).copied().unwrap_or_default();
        let mark = match line.stream {
            Stream::Stdout => "|",
            Stream::Stderr => "!",
        };
        let name = line.replica.to_string();
        self.width = self.width.max(name.len());
        let head = format!("{style}{name:<width$} {mark}{style:#}", width = self.width);
        let time = paint(DIM, &local_time(line.at));
        writeln!(out, "{time} {head} {}", printable(&line.text)).is_ok()
    }
}
