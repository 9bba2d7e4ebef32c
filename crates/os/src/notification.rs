//! What a program says about itself to the one that started it, read as sd_notify(3) has it.

use std::time::Duration;

use mainstay_types::Notification;

/// Longest message that is read, in bytes; systemd's own bound (`NOTIFY_BUFFER_MAX`). A longer one is ignored.
pub const MAX_NOTIFICATION_BYTES: usize = 4096;

/// Longest status that is kept, in characters.
const MAX_STATUS_CHARS: usize = 200;

/// Most remarks on one message.
const MAX_IGNORED: usize = 8;

/// No interval or extension is longer: a year means "no limit" in every practice, and sums of it stay in range.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// One message of a program.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// Who sent it, as the kernel attests; 0 for a process that this one cannot see. It may have ended since.
    pub pid: u32,
    /// The sender's user.
    pub uid: u32,
    /// In the order they were written.
    pub facts: Vec<Notification>,
    /// `MAINPID=`: the process that is to be taken for the main one from here on.
    pub main_pid: Option<u32>,
    /// What was said and not taken, in words; at most 8 remarks. Empty for words that need no remark.
    pub ignored: Vec<String>,
}

impl Message {
    /// Reads one datagram that came with `descriptors` descriptors. Lines that are not known say nothing, as sd_notify(3)
    /// promises to programs; lines that are known and malformed are remarked on.
    #[must_use]
    pub fn parse(datagram: &[u8], descriptors: usize) -> Self {
        let mut message = Self::default();
        if datagram.len() > MAX_NOTIFICATION_BYTES {
            message.ignore(format!("a message longer than {MAX_NOTIFICATION_BYTES} bytes"));
            return message;
        }
        let text = datagram.strip_suffix(b"\0").unwrap_or(datagram);
        if text.contains(&0) {
            message.ignore("a message with a zero byte".to_owned());
            return message;
        }
        let mut is_barrier = false;
        for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
            let Some(equals) = line.iter().position(|byte| *byte == b'=') else { continue };
            let (name, value) = (&line[..equals], &line[equals + 1..]);
            is_barrier |= name == b"BARRIER";
            message.take(name, value);
        }
        if descriptors > 0 && !is_barrier {
            message.ignore(format!("{descriptors} descriptors to be kept (FDSTORE), which were closed"));
        }
        message
    }

    fn take(&mut self, name: &[u8], value: &[u8]) {
        match (name, value) {
            (b"READY", b"1") => self.facts.push(Notification::Ready),
            (b"RELOADING", b"1") => self.facts.push(Notification::Reloading),
            (b"STOPPING", b"1") => self.facts.push(Notification::Stopping),
            (b"STATUS", _) => self.facts.push(Notification::Status(printable(value))),
            (b"WATCHDOG", b"1") => self.facts.push(Notification::Watchdog),
            (b"WATCHDOG", b"trigger") => self.facts.push(Notification::WatchdogTrigger),
            (b"WATCHDOG_USEC", _) => {
                let interval = self.micros(name, value);
                self.facts.extend(interval.map(Notification::WatchdogInterval));
            }
            (b"EXTEND_TIMEOUT_USEC", _) => {
                let longer = self.micros(name, value);
                self.facts.extend(longer.map(Notification::ExtendTimeout));
            }
            (b"MAINPID", _) => match number(value).and_then(|pid| i32::try_from(pid).ok()) {
                Some(pid) if pid > 0 => self.main_pid = Some(pid.unsigned_abs()),
                Some(_) | None => self.ignore(format!("MAINPID={} is no pid", printable(value))),
            },
            // The time belongs to RELOADING; a barrier ends by the closing of its descriptor. What else there is, is for
            // newer managers, or for other ones.
            _ => {}
        }
    }

    fn micros(&mut self, name: &[u8], value: &[u8]) -> Option<Duration> {
        let micros = number(value).map(|micros| Duration::from_micros(micros).min(LONGEST));
        if micros.is_none() {
            let name = String::from_utf8_lossy(name);
            self.ignore(format!("{name}={} is no number of microseconds", printable(value)));
        }
        micros
    }

    fn ignore(&mut self, remark: String) {
        if self.ignored.len() < MAX_IGNORED {
            self.ignored.push(remark);
        }
    }
}

/// Decimal digits alone, as systemd reads them but for blanks.
fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// One line for people: no control characters and none that turn the direction of writing, cut to its length.
fn printable(value: &[u8]) -> String {
    let plain = |char: char| match char {
        '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        char if char.is_control() => char::REPLACEMENT_CHARACTER,
        char => char,
    };
    String::from_utf8_lossy(value).chars().map(plain).take(MAX_STATUS_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_of_sd_notify() {
        use Notification::{
            ExtendTimeout, Ready, Reloading, Status, Stopping, Watchdog, WatchdogInterval, WatchdogTrigger,
        };
        let status = |text: &str| Status(text.to_owned());
        let micros = Duration::from_micros;
        let long = "é".repeat(300);
        let table: Vec<(&[u8], Vec<Notification>)> = vec![
            (b"READY=1", vec![Ready]),
            (b"READY=1\n", vec![Ready]),
            (b"READY=1\0", vec![Ready]),
            (b"READY=1\r\nSTATUS=up\r\n", vec![Ready, status("up")]),
            (b"RELOADING=1\nMONOTONIC_USEC=123", vec![Reloading]),
            (b"STOPPING=1\nSTATUS=bye", vec![Stopping, status("bye")]),
            (b"STATUS=", vec![status("")]),
            (b"STATUS=a=b", vec![status("a=b")]),
            (b"STATUS=\x1b[31mred\x07\ttab \xff", vec![status("\u{fffd}[31mred\u{fffd} tab \u{fffd}")]),
            ("STATUS=\u{202e}x".as_bytes(), vec![status("\u{fffd}x")]),
            (b"WATCHDOG=1", vec![Watchdog]),
            (b"WATCHDOG=trigger", vec![WatchdogTrigger]),
            (b"WATCHDOG_USEC=20000000", vec![WatchdogInterval(micros(20_000_000))]),
            (b"WATCHDOG_USEC=0", vec![WatchdogInterval(Duration::ZERO)]),
            (b"EXTEND_TIMEOUT_USEC=5", vec![ExtendTimeout(micros(5))]),
            (b"EXTEND_TIMEOUT_USEC=18446744073709551615", vec![ExtendTimeout(LONGEST)]),
            (b"READY=0\nREADY\nready=1\n READY=1\nREADY=1 \nX_OWN=1\nERRNO=2\nBUSERROR=x\n=1\n\n", vec![]),
            (b"FDPOLL=0\nNOTIFYACCESS=all\nVARLINKERROR=x", vec![]),
            (b"", vec![]),
        ];
        for (text, facts) in table {
            let message = Message::parse(text, 0);
            assert_eq!(message, Message { facts, ..Message::default() }, "{}", text.escape_ascii());
        }
        let message = Message::parse(format!("STATUS={long}").as_bytes(), 0);
        assert_eq!(message.facts, [status(&long[..400])]);
    }

    #[test]
    fn main_processes_and_remarks() {
        let message = Message::parse(b"READY=1\nMAINPID=4242", 0);
        assert_eq!((message.main_pid, message.facts.len(), message.ignored.len()), (Some(4242), 1, 0));
        for (text, descriptors, remark) in [
            (&b"MAINPID=0"[..], 0, "MAINPID=0 is no pid"),
            (b"MAINPID=-1", 0, "MAINPID=-1 is no pid"),
            (b"MAINPID=4294967296", 0, "MAINPID=4294967296 is no pid"),
            (b"WATCHDOG_USEC=+5", 0, "WATCHDOG_USEC=+5 is no number of microseconds"),
            (b"EXTEND_TIMEOUT_USEC=", 0, "EXTEND_TIMEOUT_USEC= is no number of microseconds"),
            (b"READY=1\0STATUS=x", 0, "a message with a zero byte"),
            (b"FDSTORE=1\nFDNAME=x", 2, "2 descriptors to be kept (FDSTORE), which were closed"),
        ] {
            let expected = Message { ignored: vec![remark.to_owned()], ..Message::default() };
            assert_eq!(Message::parse(text, descriptors), expected);
        }
        assert_eq!(Message::parse(b"BARRIER=1", 1), Message::default());
        assert_eq!(Message::parse(&b"MAINPID=x\n".repeat(100), 0).ignored.len(), MAX_IGNORED);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_bounds(datagram: Vec<u8>, descriptors in 0..254_usize) {
            let message = Message::parse(&datagram, descriptors);
            prop_assert!(message.ignored.len() <= MAX_IGNORED);
            prop_assert!(message.facts.len() <= datagram.len() / 7);
            for fact in message.facts {
                if let Notification::Status(text) = fact {
                    prop_assert!(text.chars().count() <= MAX_STATUS_CHARS && !text.chars().any(char::is_control));
                }
            }
        }

        #[test]
        fn lines_are_read_one_by_one(lines in prop::collection::vec(
            prop::sample::select(vec![
                "READY=1", "STOPPING=1", "RELOADING=1", "STATUS=x", "WATCHDOG=1", "WATCHDOG_USEC=7", "FOO=1", "MAINPID=x",
            ]), 0..20)) {
            let whole = Message::parse(lines.join("\n").as_bytes(), 0);
            let single: Vec<Notification> =
                lines.iter().flat_map(|line| Message::parse(line.as_bytes(), 0).facts).collect();
            prop_assert_eq!(whole.facts, single);
        }
    }
}
