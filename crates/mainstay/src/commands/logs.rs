//! `mainstay logs`: the services' output, read from the files, so that it works whether or not a host runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anstyle::Style;
use mainstay_host::chain;
use mainstay_logs::read::{self, FOLLOW_PACE, Follower, Query, ReadError, Selection, Watch};
use mainstay_logs::{LogLine, Stream};
use mainstay_types::{ExitCode, Level, ServiceName, Timestamp};
use regex::bytes::{Regex, RegexBuilder};

use crate::cli::{Global, LogStream};
use crate::context::{Addressed, addressed};
use crate::failure::Failure;
use crate::terminal::{DIM, has_colors, paint, program_line, service_style};
use crate::times::local_time;

/// Lines shown when neither a number nor a condition is given.
const DEFAULT_LINES: usize = 100;
/// Text that is put together before it is written.
const PAGE_BYTES: usize = 64 * 1024;
/// With an end in time, lines are waited for that much longer: they are written a moment after their time.
const LATE_LINES: Duration = Duration::from_millis(250);

/// Troubles that are remembered as told.
const MOST_TROUBLES: usize = 64;

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
    pub(crate) ignore_case: bool,
    pub(crate) level: Option<Level>,
}

/// Prints lines, and with `follow` goes on with new ones.
pub(crate) fn logs(global: &Global, asked: &Asked<'_>) -> Result<(), Failure> {
    let query = query(asked)?;
    let addressed = addressed(global)?;
    let dir = if asked.host { addressed.paths.own_log_dir() } else { addressed.paths.logs_dir() };
    let known = known(asked, &addressed, &dir)?;
    if asked.host && known.is_empty() {
        let message = format!("there is no log of a host of the stack {}: none has run here", addressed.name);
        return Err(Failure::new(ExitCode::NotFound, message));
    }
    let query = Query {
        replicas: if asked.services.is_empty() {
            Selection::All
        } else {
            let wanted = |name: &&ServiceName| asked.services.iter().any(|asked| asked == name.as_str());
            Selection::Services(known.iter().filter(wanted).cloned().collect())
        },
        ..query
    };
    let styles: BTreeMap<String, Style> =
        known.iter().enumerate().map(|(place, name)| (name.to_string(), service_style(place))).collect();
    let mut page = Page {
        json: global.json,
        colored: has_colors(),
        styles,
        width: known.iter().map(|name| name.as_str().len()).max().unwrap_or(4),
        text: Vec::new(),
        broken: 0,
    };
    if !asked.follow {
        page.print_all(read::read(&dir, &query));
        return page.outcome();
    }
    let (wake, woken) = sync_channel(1);
    let watch = Watch::new(&dir, &query.replicas, move || {
        // One that waits already says it all.
        let _ = wake.try_send(());
    });
    let mut following = Following { watch, woken, verbose: global.verbose > 0, told: BTreeSet::new() };
    let pause = following.renew();
    let (backlog, follower) = read::follow(&dir, &query);
    if page.print_all(backlog) {
        following.run(&mut page, follower, pause, query.until);
    }
    page.outcome()
}

/// The services that may be named: those of the file, and those that have written something.
fn known(asked: &Asked<'_>, addressed: &Addressed, dir: &Path) -> Result<Vec<ServiceName>, Failure> {
    let written = read::services(dir).map_err(|error| Failure::new(ExitCode::Failed, chain(&error)))?;
    if asked.host {
        return Ok(written);
    }
    for name in asked.services {
        if written.iter().any(|service| service.as_str() == name) {
            continue;
        }
        if addressed.declared.iter().any(|service| service.as_str() == name) {
            if !asked.follow {
                anstream::eprintln!("{name} has written nothing yet");
            }
            continue;
        }
        let have = if written.is_empty() {
            "nothing has been written yet".to_owned()
        } else {
            let names: Vec<&str> = written.iter().map(ServiceName::as_str).collect();
            format!("there are logs of {}", names.join(", "))
        };
        let message = format!("there is no log of {name:?} in {}: {have}", dir.display());
        return Err(Failure::new(ExitCode::NotFound, message));
    }
    let mut known = written;
    known.extend(addressed.declared.iter().cloned());
    known.sort();
    known.dedup();
    Ok(known)
}

fn query(asked: &Asked<'_>) -> Result<Query, Failure> {
    let now = Timestamp::now();
    let usage = |message: String| Failure::new(ExitCode::Usage, message);
    let when = |name: &str, text: Option<&str>| {
        text.map(|text| mainstay_logs::parse_when(text, now))
            .transpose()
            .map_err(|error| usage(format!("{name}: {}", chain(&error))))
    };
    let (since, until) = (when("--since", asked.since)?, when("--until", asked.until)?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(usage(format!(
            "--since {} is later than --until {}: no line can be both\n  next: exchange them",
            local_time(since),
            local_time(until)
        )));
    }
    if let Some(until) = until.filter(|until| asked.follow && *until < now) {
        return Err(usage(format!(
            "--until {} has passed, nothing new can be followed\n  next: leave --follow out",
            local_time(until)
        )));
    }
    let grep = pattern(asked.grep, asked.ignore_case)?;
    let bounded = since.is_some() || until.is_some() || grep.is_some() || asked.level.is_some();
    Ok(Query {
        since,
        until,
        grep,
        stream: asked.stream.map(|stream| match stream {
            LogStream::Stdout => Stream::Stdout,
            LogStream::Stderr => Stream::Stderr,
        }),
        level: asked.level,
        last: asked.lines.or(if bounded { None } else { Some(DEFAULT_LINES) }),
        replicas: Selection::All,
    })
}

/// The expression of `--grep`.
pub(crate) fn pattern(grep: Option<&str>, ignore_case: bool) -> Result<Option<Regex>, Failure> {
    grep.map(|grep| RegexBuilder::new(grep).case_insensitive(ignore_case).build())
        .transpose()
        .map_err(|error| Failure::new(ExitCode::Usage, format!("--grep: {error}")))
}

/// Waits for new lines.
struct Following {
    watch: Watch,
    woken: Receiver<()>,
    verbose: bool,
    /// The troubles told since the last line: the same is not told again and again.
    told: BTreeSet<String>,
}

impl Following {
    fn renew(&mut self) -> Option<Duration> {
        let pause = self.watch.renew();
        if let Some(trouble) = self.watch.trouble().filter(|_| self.verbose) {
            anstream::eprintln!(
                "the system does not tell when the logs change, looking now and then: {trouble}"
            );
            // Once is enough.
            self.verbose = false;
        }
        pause
    }

    /// False when it was told already.
    fn tell(&mut self, words: String) -> bool {
        if self.told.len() == MOST_TROUBLES {
            self.told.clear();
        }
        if self.told.contains(&words) {
            return false;
        }
        anstream::eprintln!("{words}");
        self.told.insert(words)
    }

    /// Prints what comes until the time is over or nobody reads any more.
    fn run(
        mut self,
        page: &mut Page,
        mut follower: Follower,
        mut pause: Option<Duration>,
        until: Option<Timestamp>,
    ) {
        loop {
            // Asked before the files are: what is written up to then is seen.
            let over = until.is_some_and(|until| Timestamp::now() > until + LATE_LINES);
            let looked = Instant::now();
            let mut found = false;
            let lines = follower.poll().unwrap_or_else(|error| {
                // Behind a trouble there may be lines.
                found = self.tell(chain(&error));
                Vec::new()
            });
            if !lines.is_empty() {
                found = true;
                self.told.clear();
            }
            if !lines.into_iter().all(|line| page.add(&line)) || !page.flush() || (over && !found) {
                return;
            }
            if !found {
                let left = until.map(|until| {
                    Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default()
                        + LATE_LINES
                });
                let woken = match pause.into_iter().chain(left).min() {
                    None => self.woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(limit) => self.woken.recv_timeout(limit),
                };
                if woken == Err(RecvTimeoutError::Disconnected) {
                    // Nothing wakes any more; then it is the time alone.
                    std::thread::sleep(LATE_LINES);
                }
            }
            std::thread::sleep(FOLLOW_PACE.saturating_sub(looked.elapsed()));
            pause = self.renew();
        }
    }
}

struct Page {
    json: bool,
    colored: bool,
    styles: BTreeMap<String, Style>,
    width: usize,
    /// Not written yet.
    text: Vec<u8>,
    /// How often something could not be read.
    broken: usize,
}

impl Page {
    /// Prints them all, and what could not be read; false when nobody reads any more.
    fn print_all(&mut self, lines: impl Iterator<Item = Result<LogLine, ReadError>>) -> bool {
        for line in lines {
            match line {
                Ok(line) => {
                    if !self.add(&line) {
                        return false;
                    }
                }
                Err(error) => {
                    self.broken += 1;
                    anstream::eprintln!("{}", chain(&error));
                }
            }
        }
        self.flush()
    }

    /// Whether everything could be read.
    fn outcome(&self) -> Result<(), Failure> {
        match self.broken {
            0 => Ok(()),
            count => {
                let files = if count == 1 { "one place".to_owned() } else { format!("{count} places") };
                let message = format!("lines are missing: {files} could not be read, see above");
                Err(Failure::new(ExitCode::Failed, message))
            }
        }
    }

    /// Adds one line; false when nobody reads any more.
    fn add(&mut self, line: &LogLine) -> bool {
        // Writing to memory does not fail.
        let _ = if self.json {
            let entry = mainstay_host::log_entry(line);
            // The entry is made of strings and numbers only; such a value always becomes JSON.
            writeln!(self.text, "{}", serde_json::to_string(&entry).unwrap_or_default())
        } else {
            let style = self.styles.get(line.replica.service.as_str()).copied().unwrap_or_default();
            let mark = match line.stream {
                Stream::Stdout => "|",
                Stream::Stderr => "!",
            };
            let name = line.replica.to_string();
            self.width = self.width.max(name.len());
            let head = format!("{style}{name:<width$} {mark}{style:#}", width = self.width);
            let time = paint(DIM, &local_time(line.at));
            writeln!(self.text, "{time} {head} {}", program_line(&line.text, self.colored))
        };
        self.text.len() < PAGE_BYTES || self.flush()
    }

    /// Writes what was added; false when nobody reads any more.
    fn flush(&mut self) -> bool {
        let mut out = anstream::stdout().lock();
        let written = out.write_all(&self.text).and_then(|()| out.flush());
        self.text.clear();
        written.is_ok()
    }
}
