//! What a program says about itself, in the words of sd_notify(3).

use std::time::Duration;

/// One fact of a notification. A datagram may hold several; `MAINPID` and descriptors are the operating system's matter
/// and never come this far.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Notification {
    /// `READY=1`, or a newline on the readiness descriptor: start-up or a reload is done.
    Ready,
    /// `RELOADING=1`: it reads its configuration again; `READY=1` follows.
    Reloading,
    /// `STOPPING=1`: it is on its way down.
    Stopping,
    /// `STATUS=…`: one line for people, at most 200 characters, made printable.
    Status(String),
    /// `WATCHDOG=1`: it is alive.
    Watchdog,
    /// `WATCHDOG=trigger`: it asks to be treated as if the watchdog had run out.
    WatchdogTrigger,
    /// `WATCHDOG_USEC=…`: the interval of the watchdog from here on; zero ends it.
    WatchdogInterval(Duration),
    /// `EXTEND_TIMEOUT_USEC=…`: start-up, reload or stop take at least this much longer, from now.
    ExtendTimeout(Duration),
}
