//! Linux has no log of that kind: see `crate::event_log`.

use std::convert::Infallible;
use std::io;

use crate::Gravity;

/// The system's log of services. There is none on Linux.
#[derive(Debug)]
pub struct SystemLog(Infallible);

impl SystemLog {
    /// `None`: what the host has to say goes to its standard error, and with it into the journal.
    ///
    /// # Errors
    /// Never.
    pub const fn open(_source: &str) -> io::Result<Option<Self>> {
        Ok(None)
    }

    /// Writes one entry.
    ///
    /// # Errors
    /// Never: there is no such log.
    pub const fn report(&self, _id: u16, _gravity: Gravity, _text: &str) -> io::Result<()> {
        match self.0 {}
    }
}
