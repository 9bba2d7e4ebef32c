//! What a host says about itself to the service manager that started it, in the words of sd_notify(3).
//!
//! Nothing waits here: a manager that does not read is not told, and the host goes on.

use std::io;
use std::time::Duration;

use crate::platform;

/// Longest message. The manager itself takes a page (`NOTIFY_BUFFER_MAX` of systemd).
pub const MAX_SAYING_BYTES: usize = 4096;

/// The socket the service manager listens on; only there when it started this process and wants to be told.
pub const NOTIFY_VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells the service manager `saying`: lines such as `READY=1`. Answers whether there is one that wants to be told.
///
/// # Errors
/// A message that is too long, an address that is none, a socket nobody reads, and one that is full.
pub fn notify_manager(saying: &str) -> io::Result<bool> {
    let Some(address) = std::env::var_os(NOTIFY_VARIABLE).filter(|address| !address.is_empty()) else {
        return Ok(false);
    };
    if saying.len() > MAX_SAYING_BYTES {
        let text = format!("a message to the service manager has at most {MAX_SAYING_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    platform::send_notification(&address, saying.as_bytes())?;
    Ok(true)
}

/// How long the service manager waits for a sign of life before it takes this process for hung (sd_watchdog_enabled(3));
/// `None` when it does not, or when it means another process.
#[must_use]
pub fn manager_watchdog() -> Option<Duration> {
    watchdog(|name| std::env::var(name).ok(), std::process::id())
}

fn watchdog(variable: impl Fn(&str) -> Option<String>, own_pid: u32) -> Option<Duration> {
    if variable("WATCHDOG_PID").is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let micros = variable("WATCHDOG_USEC")?.parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_the_process_it_names() {
        let with = |usec: Option<&str>, pid: Option<&str>| {
            let (usec, pid) = (usec.map(str::to_owned), pid.map(str::to_owned));
            watchdog(
                move |name| match name {
                    "WATCHDOG_USEC" => usec.clone(),
                    "WATCHDOG_PID" => pid.clone(),
                    _ => None,
                },
                7,
            )
        };
        assert_eq!(with(Some("2000000"), None), Some(Duration::from_secs(2)));
        assert_eq!(with(Some("2000000"), Some("7")), Some(Duration::from_secs(2)));
        assert_eq!(with(Some("2000000"), Some("8")), None);
        assert_eq!(with(Some("2000000"), Some("x")), None);
        assert_eq!(with(Some("0"), None), None);
        assert_eq!(with(Some("-1"), None), None);
        assert_eq!(with(None, Some("7")), None);
    }
}
