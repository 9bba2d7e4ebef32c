//! From records to the bytes each kind of target takes; pure.

pub(crate) mod journald;
pub(crate) mod loki;
pub(crate) mod otlp;
pub(crate) mod syslog;

use std::collections::BTreeMap;

use mainstay_types::{Level, StackName};

/// What is the same for every record of a target.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) stack: StackName,
    /// The name of this machine, where it has one.
    pub(crate) host: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// The severity of syslog (RFC 5424, 6.2.1), which is journald's priority too. What says nothing is information.
const fn severity(level: Option<Level>) -> u8 {
    match level {
        Some(Level::Fatal) => 2,
        Some(Level::Error) => 3,
        Some(Level::Warn) => 4,
        Some(Level::Info) | None => 6,
        Some(Level::Debug | Level::Trace) => 7,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn context() -> Context {
        Context {
            stack: StackName::parse("shop").unwrap(),
            host: Some("machine-1".to_owned()),
            labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
        }
    }

    #[test]
    fn severities_are_those_of_syslog() {
        let severities: Vec<u8> = Level::ALL.into_iter().map(|level| severity(Some(level))).collect();
        assert_eq!(severities, [7, 7, 6, 4, 3, 2]);
        assert_eq!(severity(None), 6);
    }
}
