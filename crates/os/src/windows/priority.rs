//! Work in the background: the calling thread takes the processor and the disk when nobody else wants them.

use windows_sys::Win32::System::Threading::{
    GetCurrentThread, SetThreadPriority, THREAD_MODE_BACKGROUND_BEGIN,
};

/// Gives the calling thread, and no other, background mode: the lowest priority of processor, disk and memory. What the
/// system refuses is left as it is.
/// <https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-setthreadpriority>
pub fn lower_thread_priority() {
    // SAFETY: the handle is the constant that stands for the calling thread; it needs no closing.
    let thread = unsafe { GetCurrentThread() };
    // SAFETY: SetThreadPriority takes a handle and a number; this mode is for the calling thread, which it is.
    unsafe { SetThreadPriority(thread, THREAD_MODE_BACKGROUND_BEGIN) };
}
