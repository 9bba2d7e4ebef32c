//! The Event Log: entries of a source with stable numbers.

use std::io;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::EventLog::{
    DeregisterEventSource, EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, EVENTLOG_WARNING_TYPE,
    RegisterEventSourceW, ReportEventW,
};

use crate::Gravity;
use crate::event_log::entry_units;

/// The Event Log, open for one source. Entries of a source nobody has registered are kept as well; the viewer then
/// shows their text with a remark that the description is missing.
#[derive(Debug)]
pub struct SystemLog(HANDLE);

// SAFETY: the handle is a number that any thread may use (the functions that take it name no thread), and it is closed
// once, in `drop`.
unsafe impl Send for SystemLog {}

impl SystemLog {
    /// Opens the local log for entries of `source`; always `Some`.
    ///
    /// # Errors
    /// When the service of the Event Log does not answer.
    pub fn open(source: &str) -> io::Result<Option<Self>> {
        let source = entry_units(source);
        // SAFETY: the server is null for this machine, the source a text closed by NUL that lives through the call.
        // https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-registereventsourcew
        let handle = unsafe { RegisterEventSourceW(std::ptr::null(), source.as_ptr()) };
        if handle.is_null() { Err(io::Error::last_os_error()) } else { Ok(Some(Self(handle))) }
    }

    /// Writes one entry with its number. May wait for the service of the Event Log.
    ///
    /// # Errors
    /// When the service refuses it, or does not answer.
    pub fn report(&self, id: u16, gravity: Gravity, text: &str) -> io::Result<()> {
        let kind = match gravity {
            Gravity::Information => EVENTLOG_INFORMATION_TYPE,
            Gravity::Warning => EVENTLOG_WARNING_TYPE,
            Gravity::Error => EVENTLOG_ERROR_TYPE,
        };
        let text = entry_units(text);
        let texts = [text.as_ptr()];
        // SAFETY: the handle is open until `drop`; no security identifier and no raw data are given; the one text is
        // closed by NUL, and it and the list of it live through the call.
        // https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-reporteventw
        let done = unsafe {
            ReportEventW(
                self.0,
                kind,
                0,
                u32::from(id),
                std::ptr::null_mut(),
                1,
                0,
                texts.as_ptr(),
                std::ptr::null(),
            )
        };
        if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for SystemLog {
    fn drop(&mut self) {
        // SAFETY: the handle came from `RegisterEventSourceW` and is closed here only.
        // https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-deregistereventsource
        unsafe { DeregisterEventSource(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_every_gravity_are_taken() {
        let log = SystemLog::open("mainstay-test").unwrap().unwrap();
        for gravity in [Gravity::Information, Gravity::Warning, Gravity::Error] {
            log.report(1, gravity, "an entry with \u{e4} and \u{1F600}").unwrap();
        }
    }
}
