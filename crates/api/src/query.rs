//! Query strings: read by the server, written by the client, side by side so that they agree.

use axum::extract::Query;
use axum::http::Uri;
use mainstay_types::{Timestamp, parse_duration};

use crate::problem::nearest;
use crate::route::{
    AFTER_ID, DRY_RUN, EVENT_SERVICE, FOLLOW, GREP, IGNORE_CASE, LAST, LEVEL, LIMIT, LOG_SERVICE, OWN_LEVEL,
    Parameter, ParameterKind, ROTATE_SERVICE, Route, SINCE, STREAM, TIMEOUT, UNTIL, WAIT,
};
use crate::{CommandOptions, EventsQuery, LogsQuery, Problem, ProblemKind, ReloadOptions};

/// The query of one request, its names checked against the route's parameters.
pub(crate) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(crate) fn read(uri: &Uri, route: Route) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| bad("the query does not read; write name=value&name=value".to_owned()))?;
        let known: Vec<&str> = route.parameters().iter().map(|parameter| parameter.name).collect();
        for (place, (name, _)) in pairs.iter().enumerate() {
            let Some(parameter) = route.parameters().iter().find(|parameter| parameter.name == name) else {
                return Err(bad(format!(
                    "{} takes no query parameter {name:?}{}",
                    route.path(),
                    nearest(name, &known)
                )));
            };
            let again = pairs[..place].iter().any(|(earlier, _)| earlier == name);
            if again && parameter.kind != ParameterKind::Texts {
                return Err(bad(format!("{name} is given twice")));
            }
        }
        Ok(Self(pairs))
    }

    fn text(&self, parameter: &Parameter) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == parameter.name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, parameter: &Parameter) -> Result<bool, Problem> {
        match self.text(parameter) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => Err(bad(format!("{} is true or false, not {other:?}", parameter.name))),
        }
    }

    fn integer<T: TryFrom<i64>>(&self, parameter: &Parameter) -> Result<Option<T>, Problem> {
        self.text(parameter)
            .map(|text| {
                text.parse::<i64>()
                    .ok()
                    .filter(|number| *number >= 0)
                    .and_then(|number| T::try_from(number).ok())
                    .ok_or_else(|| {
                        bad(format!("{} is a whole number, 0 or more, not {text:?}", parameter.name))
                    })
            })
            .transpose()
    }

    fn time(&self, parameter: &Parameter) -> Result<Option<Timestamp>, Problem> {
        self.text(parameter)
            .map(|text| {
                text.parse().map_err(|_| {
                    bad(format!("{} is a time such as 2026-11-22T15:20:01Z, not {text:?}", parameter.name))
                })
            })
            .transpose()
    }

    pub(crate) fn follow(&self) -> Result<bool, Problem> {
        self.flag(&FOLLOW)
    }

    pub(crate) fn command(&self) -> Result<CommandOptions, Problem> {
        let wait = self.flag(&WAIT)?;
        let timeout = self
            .text(&TIMEOUT)
            .map(|text| parse_duration(text).map_err(|error| bad(format!("timeout: {error}"))))
            .transpose()?;
        if timeout.is_some() && !wait {
            return Err(bad("timeout has a meaning only together with wait=true".to_owned()));
        }
        Ok(CommandOptions { wait, timeout })
    }

    pub(crate) fn reload(&self) -> Result<ReloadOptions, Problem> {
        Ok(ReloadOptions { dry_run: self.flag(&DRY_RUN)?, command: self.command()? })
    }

    pub(crate) fn events(&self) -> Result<EventsQuery, Problem> {
        Ok(EventsQuery {
            after_id: self.integer(&AFTER_ID)?,
            limit: self.integer(&LIMIT)?,
            service: self.text(&EVENT_SERVICE).map(str::to_owned),
        })
    }

    pub(crate) fn level(&self) -> Result<String, Problem> {
        let level = self.text(&OWN_LEVEL).map(str::to_owned);
        level.ok_or_else(|| bad("level is missing: say which, as in level=debug".to_owned()))
    }

    /// The services whose files are to be closed; none means all.
    pub(crate) fn services_to_rotate(&self) -> Vec<String> {
        let services = self.0.iter().filter(|(name, _)| name == ROTATE_SERVICE.name);
        services.map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn logs(&self) -> Result<LogsQuery, Problem> {
        let stream = self
            .text(&STREAM)
            .map(|text| text.parse().map_err(|()| bad(format!("stream is stdout or stderr, not {text:?}"))));
        let level =
            self.text(&LEVEL).map(|text| text.parse().map_err(|error| bad(format!("level: {error}"))));
        let services = self.0.iter().filter(|(name, _)| name == LOG_SERVICE.name);
        let (grep, ignore_case) = (self.text(&GREP), self.flag(&IGNORE_CASE)?);
        if ignore_case && grep.is_none() {
            return Err(bad("ignore_case has a meaning only together with grep".to_owned()));
        }
        Ok(LogsQuery {
            service: services.map(|(_, value)| value.clone()).collect(),
            since: self.time(&SINCE)?,
            until: self.time(&UNTIL)?,
            last: self.integer(&LAST)?,
            grep: grep.map(str::to_owned),
            ignore_case,
            level: level.transpose()?,
            stream: stream.transpose()?,
        })
    }
}

fn bad(detail: String) -> Problem {
    Problem::new(ProblemKind::BadRequest, detail)
}

/// A path with its query, being written.
pub(crate) struct Target(String);

impl Target {
    pub(crate) fn new(route: Route) -> Self {
        Self(route.path().to_owned())
    }

    /// The target of a command for this service.
    pub(crate) fn of_service(route: Route, service: &str) -> Self {
        Self(route.path().replace("{name}", &encoded(service)))
    }

    pub(crate) fn reload(mut self, options: &ReloadOptions) -> Self {
        if options.dry_run {
            self.add(&DRY_RUN, "true");
        }
        self.command(&options.command)
    }

    pub(crate) fn command(mut self, options: &CommandOptions) -> Self {
        if options.wait {
            self.add(&WAIT, "true");
            if let Some(timeout) = options.timeout {
                // Milliseconds are the finest unit there is; a shorter time must not become none.
                let ms = timeout.as_millis().max(1);
                self.add(&TIMEOUT, &format!("{ms}ms"));
            }
        }
        self
    }

    pub(crate) fn events(mut self, query: &EventsQuery) -> Self {
        self.add_some(&AFTER_ID, query.after_id);
        self.add_some(&LIMIT, query.limit);
        self.add_some(&EVENT_SERVICE, query.service.as_deref());
        self
    }

    pub(crate) fn logs(mut self, query: &LogsQuery) -> Self {
        for service in &query.service {
            self.add(&LOG_SERVICE, service);
        }
        self.add_some(&SINCE, query.since);
        self.add_some(&UNTIL, query.until);
        self.add_some(&LAST, query.last);
        self.add_some(&GREP, query.grep.as_deref());
        if query.ignore_case {
            self.add(&IGNORE_CASE, "true");
        }
        self.add_some(&LEVEL, query.level);
        self.add_some(&STREAM, query.stream);
        self
    }

    pub(crate) fn services_to_rotate(mut self, services: &[String]) -> Self {
        for service in services {
            self.add(&ROTATE_SERVICE, service);
        }
        self
    }

    pub(crate) fn level(mut self, level: &str) -> Self {
        self.add(&OWN_LEVEL, level);
        self
    }

    pub(crate) fn follow(mut self) -> Self {
        self.add(&FOLLOW, "true");
        self
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }

    fn add_some(&mut self, parameter: &Parameter, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(parameter, &value.to_string());
        }
    }

    fn add(&mut self, parameter: &Parameter, value: &str) {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(parameter.name);
        self.0.push('=');
        self.0.push_str(&encoded(value));
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986, 2.3).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{OutputStream, Verb};

    const COMMAND: Route = Route::Command(Verb::Start);

    fn read(target: &str, route: Route) -> Result<Pairs, Problem> {
        Pairs::read(&target.parse().unwrap(), route)
    }

    #[test]
    fn what_is_written_reads_back() {
        let logs = LogsQuery {
            service: vec!["web".to_owned(), "b&=? %+é".to_owned()],
            since: Some("2026-11-22T15:20:01.123456789Z".parse().unwrap()),
            until: Some("2026-11-22T16:00:00Z".parse().unwrap()),
            last: Some(0),
            grep: Some(r"a+b\d{2}&x=#1 ü".to_owned()),
            ignore_case: true,
            level: Some(mainstay_types::Level::Warn),
            stream: Some(OutputStream::Stderr),
        };
        for logs in [logs, LogsQuery::default()] {
            let pairs = read(&Target::new(Route::Logs).logs(&logs).into_string(), Route::Logs).unwrap();
            assert_eq!(pairs.logs(), Ok(logs));
            assert_eq!(pairs.follow(), Ok(false));
        }
        for services in [vec![], vec!["web".to_owned(), "b&=? %+é".to_owned()]] {
            let target = Target::new(Route::RotateLogs).services_to_rotate(&services).into_string();
            assert_eq!(read(&target, Route::RotateLogs).unwrap().services_to_rotate(), services);
        }
        let events =
            EventsQuery { after_id: Some(i64::MAX), limit: Some(7), service: Some("a/b".to_owned()) };
        for events in [events, EventsQuery::default()] {
            let target = Target::new(Route::Events).events(&events).follow().into_string();
            let pairs = read(&target, Route::Events).unwrap();
            assert_eq!((pairs.events(), pairs.follow()), (Ok(events), Ok(true)));
        }
        for options in [
            CommandOptions::default(),
            CommandOptions { wait: true, timeout: None },
            CommandOptions { wait: true, timeout: Some(Duration::from_millis(90_500)) },
        ] {
            let target = Target::of_service(COMMAND, "web").command(&options).into_string();
            assert_eq!(read(&target, COMMAND).unwrap().command(), Ok(options));
        }
        let tiny = CommandOptions { wait: true, timeout: Some(Duration::from_nanos(1)) };
        let target = Target::of_service(COMMAND, "web").command(&tiny).into_string();
        assert_eq!(
            read(&target, COMMAND).unwrap().command().unwrap().timeout,
            Some(Duration::from_millis(1))
        );
    }

    #[test]
    fn what_does_not_read_is_told() {
        for (route, target, words) in [
            (
                COMMAND,
                "/?wiat=true",
                "/v1/services/{name}/start takes no query parameter \"wiat\": did you mean \"wait\"?",
            ),
            (COMMAND, "/?wait=yes", "wait is true or false, not \"yes\""),
            (COMMAND, "/?wait=true&wait=true", "wait is given twice"),
            (COMMAND, "/?timeout=1s", "timeout has a meaning only together with wait=true"),
            (
                COMMAND,
                "/?wait&timeout=10",
                "timeout: \"10\" has no unit: write 10s for seconds, 10ms for milliseconds, 10m for minutes",
            ),
            (Route::Events, "/?after_id=-1", "after_id is a whole number, 0 or more, not \"-1\""),
            (Route::Events, "/?limit=4294967296", "limit is a whole number, 0 or more, not \"4294967296\""),
            (Route::Events, "/?service=a&service=b", "service is given twice"),
            (Route::Logs, "/?since=10m", "since is a time such as 2026-11-22T15:20:01Z, not \"10m\""),
            (Route::Logs, "/?stream=out", "stream is stdout or stderr, not \"out\""),
            (
                Route::Logs,
                "/?level=loud",
                "level: \"loud\" is none of trace, debug, info, warn, error, fatal",
            ),
            (Route::Logs, "/?ignore_case=true", "ignore_case has a meaning only together with grep"),
            (Route::Logs, "/?follow=1", "follow is true or false, not \"1\""),
            (
                Route::RotateLogs,
                "/?all=1",
                "/v1/logs/rotate takes no query parameter \"all\": there are service",
            ),
            (Route::SetLogLevel, "/", "level is missing: say which, as in level=debug"),
            (Route::Status, "/?x=1", "/v1/status takes no query parameter \"x\""),
        ] {
            let answer = Pairs::read(&target.parse().unwrap(), route).and_then(|pairs| match route {
                Route::Events => pairs.events().map(drop),
                Route::Logs => pairs.logs().and(pairs.follow()).map(drop),
                Route::Command(_) => pairs.command().map(drop),
                Route::Reload => pairs.reload().map(drop),
                Route::SetLogLevel => pairs.level().map(drop),
                Route::Status
                | Route::RotateLogs
                | Route::LogLevel
                | Route::Metrics
                | Route::Healthz
                | Route::Readyz
                | Route::OpenApi => Ok(()),
            });
            let problem = answer.unwrap_err();
            assert_eq!((problem.status, problem.to_string().as_str()), (400, words), "{target}");
        }
    }
}
