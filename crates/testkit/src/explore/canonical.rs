//! One number for all states that behave alike: the debug text of a state, with everything taken out that only names
//! or dates it.
//!
//! Moments become distances from now, and those so far in the past that nothing counts that far become one. Ids are
//! numbered by their first appearance. Maps lose their order, which is the order of the ids. Fields that nothing is
//! decided by (texts for people, counters that make ids) are left out. What a field of the machine is not known here
//! is kept: a state told apart for nothing costs time, two states taken for one would cost a finding.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

use mainstay_types::Moment;

/// Fields by which nothing is decided, with the type that has them.
const DROPPED: [(&str, &str); 27] = [
    ("StackMachine", "stack"),
    ("StackMachine", "graph"),
    // Waits drawn at random stand for each other; how far they are from now still counts.
    ("StackMachine", "random"),
    ("StackMachine", "next_spawn"),
    ("StackMachine", "next_check"),
    ("StackMachine", "next_task"),
    ("StackMachine", "now"),
    ("Replica", "since"),
    ("Replica", "reason"),
    ("Replica", "restarts"),
    ("Replica", "last_exit"),
    ("Slot", "down_reason"),
    ("Preparing", "reason"),
    ("Ending", "cause"),
    ("Track", "last_failure"),
    ("Running", "status"),
    ("Stopping", "asked_at"),
    ("Stopping", "tried"),
    ("BeforeStop", "ends_at"),
    ("Closing", "begun_at"),
    ("Closing", "ends_at"),
    ("Closing", "killed"),
    ("Killed", "after"),
    ("Exited", "ran"),
    ("Down", "asked_at"),
    ("Asked", "tries"),
    ("Task", "begun_at"),
];

/// Waits drawn at random differ by less than this without being told apart: the shortest fixed time in the stacks
/// explored is longer.
const GRAIN: Duration = Duration::from_millis(10);

/// The number of a state, by its debug text at `now`. Nothing counts further back than `memory`.
pub(super) fn digest(text: &str, now: Moment, memory: Duration) -> u64 {
    let mut reader = Reader { text, at: 0, now, memory, ids: HashMap::new() };
    let mut plain = String::with_capacity(text.len() / 2);
    while reader.at < text.len() {
        reader.value(&mut plain);
        // A closing bracket without an opening one, or a comma at the top: taken as it is.
        plain.push(',');
        reader.at += 1;
    }
    let mut hasher = DefaultHasher::new();
    plain.hash(&mut hasher);
    hasher.finish()
}

struct Reader<'a> {
    text: &'a str,
    /// Byte offset.
    at: usize,
    now: Moment,
    memory: Duration,
    ids: HashMap<&'a str, usize>,
}

impl<'a> Reader<'a> {
    /// One value, up to the comma or bracket that ends it.
    fn value(&mut self, out: &mut String) {
        let mut word = self.at;
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            match byte {
                b',' | b'}' | b']' | b')' => return,
                b'"' => self.string(out),
                b'{' => self.braces(self.text[word..self.at].trim_end(), out),
                b'[' => self.list(']', out),
                b'(' => match &self.text[word..self.at] {
                    "Moment" => self.moment(out),
                    "SpawnId" | "GateCheckId" | "TaskId" => self.id(word, out),
                    _ => self.list(')', out),
                },
                b' ' => {
                    out.push(' ');
                    self.at += 1;
                    if self.text.as_bytes().get(self.at) != Some(&b'{') {
                        word = self.at;
                    }
                    continue;
                }
                _ => {
                    let plain = |byte: &u8| !br#" ,}])"{[("#.contains(byte);
                    let length =
                        self.text.as_bytes()[self.at..].iter().take_while(|byte| plain(byte)).count();
                    out.push_str(&self.text[self.at..self.at + length]);
                    self.at += length;
                    continue;
                }
            }
            word = self.at;
        }
    }

    fn string(&mut self, out: &mut String) {
        let from = self.at;
        self.at += 1;
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            self.at += if *byte == b'\\' { 2 } else { 1 };
            if *byte == b'"' {
                break;
            }
        }
        out.push_str(&self.text[from..self.at]);
    }

    fn list(&mut self, end: char, out: &mut String) {
        self.at += 1;
        out.push('(');
        while !self.closes(end) {
            self.value(out);
            self.comma();
            out.push(',');
        }
        out.push(')');
    }

    /// Fields of a struct, or entries of a map or set: their order does not count.
    fn braces(&mut self, owner: &str, out: &mut String) {
        self.at += 1;
        let mut entries = Vec::new();
        while !self.closes('}') {
            let mut entry = String::new();
            let key = self.text[self.at..].split([':', ',', '{', '(', '}']).next().unwrap_or_default();
            let dropped = DROPPED.contains(&(owner, key.trim()));
            if dropped {
                self.skip();
            } else {
                self.value(&mut entry);
            }
            self.comma();
            entries.push(entry);
        }
        entries.sort_unstable();
        out.push('{');
        for entry in entries {
            out.push_str(&entry);
            out.push(',');
        }
        out.push('}');
    }

    /// Leaves out one value.
    fn skip(&mut self) {
        let mut open = 0;
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            match byte {
                b'"' => {
                    self.string(&mut String::new());
                    continue;
                }
                b'{' | b'[' | b'(' => open += 1,
                b',' if open == 0 => return,
                b'}' | b']' | b')' => {
                    if open == 0 {
                        return;
                    }
                    open -= 1;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn closes(&mut self, end: char) -> bool {
        while self.text[self.at..].starts_with(' ') {
            self.at += 1;
        }
        let closes = self.at >= self.text.len() || self.text[self.at..].starts_with(end);
        self.at += usize::from(closes);
        closes
    }

    fn comma(&mut self) {
        self.at += usize::from(self.text[self.at..].starts_with(','));
    }

    /// `Moment(1.5s)`: how far from now, in grains.
    fn moment(&mut self, out: &mut String) {
        let inside = self.inside();
        let moment = Moment::after_start(duration(inside));
        let text = if moment > self.now {
            format!("+{}", moment.since(self.now).as_nanos().div_ceil(GRAIN.as_nanos()))
        } else {
            format!("-{}", self.now.since(moment).min(self.memory).as_nanos().div_ceil(GRAIN.as_nanos()))
        };
        out.push_str(&text);
    }

    fn id(&mut self, from: usize, out: &mut String) {
        self.inside();
        let fresh = self.ids.len();
        let number = *self.ids.entry(&self.text[from..self.at]).or_insert(fresh);
        out.push_str(&number.to_string());
    }

    /// What stands in these parentheses; goes behind them.
    fn inside(&mut self) -> &'a str {
        let rest = &self.text[self.at + 1..];
        let inside = rest.split(')').next().unwrap_or_default();
        self.at += inside.len() + 2;
        inside
    }
}

/// As `Duration` writes itself in debug texts.
fn duration(text: &str) -> Duration {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "s" => 1e9,
        "ms" => 1e6,
        "µs" => 1e3,
        _ => 1.0,
    };
    // Whole nanoseconds of less than 100 days fit a float exactly.
    let nanos = digits.parse::<f64>().map_or(0.0, |number| (number * unit).round());
    Duration::from_nanos(nanos as u64)
}

#[cfg(test)]
mod tests {
    use mainstay_lifecycle::GateCheckId;
    use mainstay_types::SpawnId;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::after_start(Duration::from_millis(ms))
    }

    fn number<T: std::fmt::Debug>(value: &T, now: u64) -> u64 {
        digest(&format!("{value:?}"), at(now), Duration::from_secs(10))
    }

    #[test]
    fn what_only_names_or_dates_a_state_does_not_count() {
        let one = (SpawnId(1), Some(at(1500)), "a, (b) {c: \"d");
        let same = (SpawnId(9), Some(at(2500)), "a, (b) {c: \"d");
        assert_eq!(number(&one, 1000), number(&same, 2000));
        let old = |ms| number(&at(ms), 60_000);
        assert_eq!(old(1), old(2000));
        assert_ne!(old(1), old(59_000));
        let map = |a, b| std::collections::BTreeMap::from([(SpawnId(a), "x"), (SpawnId(b), "y")]);
        let with_ids = |first: u64, second: u64| ((SpawnId(first), SpawnId(second)), map(first, second));
        assert_eq!(number(&with_ids(1, 2), 0), number(&with_ids(5, 4), 0));
    }

    #[test]
    fn everything_else_counts() {
        let base = (SpawnId(1), GateCheckId(1), at(1500), vec![1, 2], "x");
        let others = [
            number(&(SpawnId(1), GateCheckId(1), at(1600), vec![1, 2], "x"), 0),
            number(&(SpawnId(1), GateCheckId(1), at(1500), vec![2, 1], "x"), 0),
            number(&(SpawnId(1), GateCheckId(1), at(1500), vec![1, 2], "y"), 0),
            number(&(SpawnId(1), SpawnId(1), at(1500), vec![1, 2], "x"), 0),
        ];
        assert!(!others.contains(&number(&base, 0)));
    }

    #[test]
    fn reads_every_unit() {
        for duration in
            [Duration::from_nanos(7), Duration::from_micros(1500), Duration::from_millis(1_234_567)]
        {
            assert_eq!(super::duration(&format!("{duration:?}")), duration);
        }
    }
}
