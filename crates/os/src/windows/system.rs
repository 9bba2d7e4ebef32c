//! What the other modules share: texts with their NUL, handles that close themselves, the answer of a call as a `Result`.

use std::ffi::OsStr;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::core::BOOL;

/// In UTF-16, closed by NUL. What follows a NUL within it is lost: callers have looked for one where it matters.
pub(super) fn wide(text: impl AsRef<OsStr>) -> Vec<u16> {
    text.as_ref().encode_wide().chain([0]).collect()
}

/// In UTF-16 alone.
pub(super) fn units(text: impl AsRef<OsStr>) -> Vec<u16> {
    text.as_ref().encode_wide().collect()
}

/// The system's answer after a call that gives zero when it failed.
pub(super) fn done(answer: BOOL) -> io::Result<()> {
    if answer == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes over what a call has just made; null and the invalid handle are its failures.
pub(super) fn made(handle: HANDLE) -> io::Result<OwnedHandle> {
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is open, new, and nobody else's: each caller passes the result of the call that made it.
    // https://learn.microsoft.com/en-us/windows/win32/sysinfo/handles-and-objects
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}
