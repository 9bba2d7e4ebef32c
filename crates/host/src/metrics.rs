//! What a host counts, in the Prometheus text format, version 0.0.4; pure.
//!
//! Source of the format: <https://prometheus.io/docs/instrumenting/exposition_formats/>. Names are
//! `mainstay_<thing>_<unit>`, those of counters end in `_total`; labels are the names of the stack, of its services and of
//! those whose logs are still there, so their number is bounded by the file and the log folder.

use std::fmt::{Display, Write as _};

use mainstay_logs::Counts;
use mainstay_types::{ReplicaId, StackName};

/// What a family of samples is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Only grows, until the host ends.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A page of metrics being written.
#[derive(Default, Debug)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// Writes one family with its samples: labels with their values, and the number.
    pub(crate) fn family<'a, V: Display>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        samples: impl IntoIterator<Item = (Vec<(&'a str, String)>, V)>,
    ) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a text never fails.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let _ = writeln!(self.text, "{name}{{{}}} {value}", labels.join(","));
        }
    }

    /// The page.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Adds what became of the output of every replica.
pub(crate) fn logs(page: &mut Page, stack: &StackName, counts: &[(ReplicaId, Counts)]) {
    let labels = |replica: &ReplicaId| {
        vec![
            ("stack", stack.to_string()),
            ("service", replica.service.to_string()),
            ("replica", replica.index.to_string()),
        ]
    };
    let with_stream = |replica: &ReplicaId, index: usize| {
        let mut labels = labels(replica);
        labels.push(("stream", mainstay_logs::Stream::ALL[index].to_string()));
        labels
    };
    for (name, help, number) in [
        (
            "mainstay_log_records_total",
            "Lines of output taken in; a line longer than max_line counts once for each of its parts.",
            (|counts, index| counts.lines[index]) as fn(&Counts, usize) -> u64,
        ),
        ("mainstay_log_bytes_total", "Bytes of output taken in, without line breaks.", |counts, index| {
            counts.bytes[index]
        }),
    ] {
        let samples = counts.iter().flat_map(|(replica, counts)| {
            [0, 1].map(|index| (with_stream(replica, index), number(counts, index)))
        });
        page.family(name, Kind::Counter, help, samples);
    }
    for (name, kind, help, number) in [
        (
            "mainstay_log_dropped_lines_total",
            Kind::Counter,
            "Lines of output that are in no file: dropped as asked for while the log could not be written, or lost.",
            (|counts| counts.dropped_lines) as fn(&Counts) -> u64,
        ),
        (
            "mainstay_log_dropped_bytes_total",
            Kind::Counter,
            "Bytes of the lines that are in no file.",
            |counts| counts.dropped_bytes,
        ),
        ("mainstay_log_redactions_total", Kind::Counter, "Places in output that were masked.", |counts| {
            counts.masked
        }),
        (
            "mainstay_log_write_failures_total",
            Kind::Counter,
            "Times a log file began to refuse what was written.",
            |counts| counts.write_failures,
        ),
        ("mainstay_log_rotations_total", Kind::Counter, "Log files closed.", |counts| counts.rotations),
        (
            "mainstay_log_removed_files_total",
            Kind::Counter,
            "Closed log files removed because of keep, keep_age, keep_total or max_total.",
            |counts| counts.removed_files,
        ),
        (
            "mainstay_log_removed_bytes_total",
            Kind::Counter,
            "Bytes that the removed log files took on the disk.",
            |counts| counts.removed_bytes,
        ),
        (
            "mainstay_log_blocked",
            Kind::Gauge,
            "1 while the log file cannot be written, 0 otherwise.",
            |counts| u64::from(counts.blocked),
        ),
    ] {
        let samples = counts.iter().map(|(replica, counts)| (labels(replica), number(counts)));
        page.family(name, kind, help, samples);
    }
}

#[cfg(test)]
mod tests {
    use mainstay_types::ServiceName;

    use super::*;

    #[test]
    fn a_replica_has_a_sample_of_each_number() {
        let replica = ReplicaId { service: ServiceName::parse("web").unwrap(), index: 1 };
        let counts =
            Counts { lines: [3, 4], dropped_lines: 2, removed_bytes: 7, blocked: true, ..Counts::default() };
        let mut page = Page::default();
        logs(&mut page, &StackName::parse("shop").unwrap(), &[(replica, counts)]);
        let text = page.into_text();
        for line in [
            "# TYPE mainstay_log_records_total counter",
            "mainstay_log_records_total{stack=\"shop\",service=\"web\",replica=\"1\",stream=\"stderr\"} 4",
            "mainstay_log_dropped_lines_total{stack=\"shop\",service=\"web\",replica=\"1\"} 2",
            "mainstay_log_removed_bytes_total{stack=\"shop\",service=\"web\",replica=\"1\"} 7",
            "# TYPE mainstay_log_blocked gauge",
            "mainstay_log_blocked{stack=\"shop\",service=\"web\",replica=\"1\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn what_would_break_the_format_is_escaped() {
        let mut page = Page::default();
        page.family("x", Kind::Gauge, "two\nlines", [(vec![("a", "q\"b\\\n".to_owned())], 1)]);
        assert_eq!(page.into_text(), "# HELP x two\\nlines\n# TYPE x gauge\nx{a=\"q\\\"b\\\\\\n\"} 1\n");
    }
}
