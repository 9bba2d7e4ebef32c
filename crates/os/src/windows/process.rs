//! One process, looked at from outside: whether it lives, how it ended, what it uses, what its file is called.

use std::io;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use windows_sys::Win32::Foundation::{FILETIME, WAIT_OBJECT_0};
use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
use windows_sys::Win32::System::Threading::{
    GetExitCodeProcess, GetProcessTimes, OpenProcess, PROCESS_ACCESS_RIGHTS, PROCESS_NAME_WIN32,
    PROCESS_QUERY_INFORMATION, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE,
    QueryFullProcessImageNameW, WaitForSingleObject,
};

use super::system::{done, made};

/// Longest path, in UTF-16 units.
const MAX_PATH_UNITS: usize = 32_768;

/// Holds the process that has this number now, to be waited for and asked. Wine tells more to whom may ask all; of a process of
/// another account, only a little may be asked.
pub(super) fn open(pid: u32) -> io::Result<OwnedHandle> {
    open_for(pid, PROCESS_QUERY_INFORMATION | PROCESS_SYNCHRONIZE)
        .or_else(|_| open_for(pid, PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE))
}

fn open_for(pid: u32, rights: PROCESS_ACCESS_RIGHTS) -> io::Result<OwnedHandle> {
    // SAFETY: the call takes only numbers; its handle is not inherited.
    // https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-openprocess
    made(unsafe { OpenProcess(rights, 0, pid) })
}

/// Whether it has ended.
pub(super) fn has_ended(process: &OwnedHandle) -> bool {
    ended_within(process, Duration::ZERO)
}

/// Waits for its end, so long at most.
pub(super) fn ended_within(process: &OwnedHandle, limit: Duration) -> bool {
    let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX - 1);
    // SAFETY: the handle is open, with the right to be waited for.
    // https://learn.microsoft.com/en-us/windows/win32/api/synchapi/nf-synchapi-waitforsingleobject
    unsafe { WaitForSingleObject(process.as_raw_handle(), millis) == WAIT_OBJECT_0 }
}

/// Its exit code, once it has ended.
pub(super) fn exit_code(process: &OwnedHandle) -> io::Result<i32> {
    let mut code = 0_u32;
    // SAFETY: the handle is open, with the right to be asked; the place lives through the call.
    // https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-getexitcodeprocess
    done(unsafe { GetExitCodeProcess(process.as_raw_handle(), &raw mut code) })?;
    Ok(code.cast_signed())
}

/// Processor time it has used.
pub(super) fn cpu(process: &OwnedHandle) -> io::Result<Duration> {
    let [_, kernel, user] = times(process)?;
    Ok(kernel.saturating_add(user))
}

/// How long ago it was created, by the machine's clock.
pub(super) fn age(process: &OwnedHandle) -> io::Result<Duration> {
    let [created, ..] = times(process)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + UNIX_EPOCH_SINCE_1601;
    Ok(now.saturating_sub(created))
}

/// From the beginning of Windows' calendar to that of Unix.
/// <https://learn.microsoft.com/en-us/windows/win32/sysinfo/converting-a-time-t-value-to-a-file-time>
const UNIX_EPOCH_SINCE_1601: Duration = Duration::from_secs(11_644_473_600);

/// When it was created, since 1601, and the processor time it has used in the kernel and outside.
fn times(process: &OwnedHandle) -> io::Result<[Duration; 3]> {
    let (mut created, mut exited) = (FILETIME::default(), FILETIME::default());
    let (mut kernel, mut user) = (FILETIME::default(), FILETIME::default());
    // SAFETY: the handle is open, with the right to be asked; the four places live through the call.
    // https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-getprocesstimes
    done(unsafe {
        GetProcessTimes(
            process.as_raw_handle(),
            &raw mut created,
            &raw mut exited,
            &raw mut kernel,
            &raw mut user,
        )
    })?;
    // In units of 100 ns.
    let ticks = |time: FILETIME| u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    let duration = |ticks: u64| Duration::new(ticks / 10_000_000, (ticks % 10_000_000) as u32 * 100);
    Ok([created, kernel, user].map(|time| duration(ticks(time))))
}

/// Memory of it that is in the machine's memory now.
pub(super) fn memory_bytes(process: &OwnedHandle) -> io::Result<u64> {
    let mut counters = PROCESS_MEMORY_COUNTERS::default();
    let bytes = size_of::<PROCESS_MEMORY_COUNTERS>() as u32;
    // SAFETY: the handle is open, with the right to be asked; the structure has as many bytes as is said.
    // https://learn.microsoft.com/en-us/windows/win32/api/psapi/nf-psapi-getprocessmemoryinfo
    done(unsafe { K32GetProcessMemoryInfo(process.as_raw_handle(), &raw mut counters, bytes) })?;
    Ok(counters.WorkingSetSize as u64)
}

/// Its program's file.
pub(super) fn file(process: &OwnedHandle) -> io::Result<PathBuf> {
    let mut path = vec![0_u16; MAX_PATH_UNITS];
    let mut length = MAX_PATH_UNITS as u32;
    // SAFETY: the handle is open, with the right to be asked; the buffer has as many units as is said.
    // https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-queryfullprocessimagenamew
    done(unsafe {
        QueryFullProcessImageNameW(
            process.as_raw_handle(),
            PROCESS_NAME_WIN32,
            path.as_mut_ptr(),
            &raw mut length,
        )
    })?;
    Ok(std::ffi::OsString::from_wide(path.get(..length as usize).unwrap_or_default()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_an_age_and_a_file() {
        let own = open(std::process::id()).unwrap();
        let age = age(&own).unwrap();
        assert!(age < Duration::from_secs(3600), "{age:?}");
        let name = file(&own).unwrap().file_name().unwrap().to_owned();
        assert_eq!(name, std::env::current_exe().unwrap().file_name().unwrap());
        assert!(!has_ended(&own));
    }
}
