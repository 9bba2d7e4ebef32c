//! Makes one process: inside its job from birth, with the handles it is to have and no others, and with a console of its own
//! that has no window, so that a Ctrl event sent there reaches its tree alone.

use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Threading::{
    CREATE_NO_WINDOW, CREATE_SUSPENDED, CREATE_UNICODE_ENVIRONMENT, CreateProcessW, DETACHED_PROCESS,
    DeleteProcThreadAttributeList, EXTENDED_STARTUPINFO_PRESENT, InitializeProcThreadAttributeList,
    LPPROC_THREAD_ATTRIBUTE_LIST, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, PROC_THREAD_ATTRIBUTE_JOB_LIST,
    PROCESS_INFORMATION, ResumeThread, STARTF_USESTDHANDLES, STARTUPINFOEXW, STARTUPINFOW, TerminateProcess,
    UpdateProcThreadAttribute,
};

use super::KILLED;
use super::job::Job;
use super::system::{done, made};

/// What a new process is.
pub(super) struct Plan<'a> {
    /// The program's file, closed by NUL.
    pub(super) file: &'a [u16],
    /// Closed by NUL.
    pub(super) command_line: Vec<u16>,
    /// A block as `environment` makes it; `None` gives it the host's.
    pub(super) environment: Option<&'a [u16]>,
    /// Closed by NUL; `None` is the host's.
    pub(super) workdir: Option<&'a [u16]>,
    /// Standard input, output and error; inheritable.
    pub(super) standard: Option<&'a [OwnedHandle; 3]>,
    /// Further handles it inherits; inheritable.
    pub(super) inherited: &'a [OwnedHandle],
    /// The job it is born in; `None` for a helper of the host.
    pub(super) job: Option<&'a Job>,
}

/// A process that runs.
pub(super) struct Made {
    pub(super) process: OwnedHandle,
    pub(super) pid: u32,
}

/// The step that failed, with the system's answer.
pub(super) enum SpawnError {
    /// The process was not created.
    Create(io::Error),
    /// It did not get into its job; it has been ended before its first instruction.
    Job(io::Error),
}

/// Creates the process. It is suspended until it is certain to be in its job.
pub(super) fn spawn(mut plan: Plan<'_>) -> Result<Made, SpawnError> {
    let mut handles: Vec<HANDLE> =
        plan.standard.into_iter().flatten().map(AsRawHandle::as_raw_handle).collect();
    handles.extend(plan.inherited.iter().map(AsRawHandle::as_raw_handle));
    let jobs: Vec<HANDLE> = plan.job.into_iter().map(Job::handle).collect();
    let mut attributes = Attributes::new().map_err(SpawnError::Create)?;
    if !handles.is_empty() {
        attributes.set(PROC_THREAD_ATTRIBUTE_HANDLE_LIST, &handles).map_err(SpawnError::Create)?;
    }
    // A system without this attribute (before Windows 10) leaves it to the assignment below.
    if !jobs.is_empty() {
        let _ = attributes.set(PROC_THREAD_ATTRIBUTE_JOB_LIST, &jobs);
    }
    let mut startup = STARTUPINFOEXW {
        StartupInfo: STARTUPINFOW { cb: size_of::<STARTUPINFOEXW>() as u32, ..STARTUPINFOW::default() },
        lpAttributeList: attributes.list(),
    };
    if let Some([input, output, error]) = plan.standard {
        startup.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
        startup.StartupInfo.hStdInput = input.as_raw_handle();
        startup.StartupInfo.hStdOutput = output.as_raw_handle();
        startup.StartupInfo.hStdError = error.as_raw_handle();
    }
    // A helper has no console at all: it is to enter another one's.
    let console = if plan.job.is_some() { CREATE_NO_WINDOW } else { DETACHED_PROCESS };
    let mut information = PROCESS_INFORMATION::default();
    // SAFETY: the texts are closed by NUL and the block by two, as `Plan` says; the command line may be written to; all of
    // them, the attributes and the handles these name live through the call.
    // https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-createprocessw
    done(unsafe {
        CreateProcessW(
            plan.file.as_ptr(),
            plan.command_line.as_mut_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            i32::from(!handles.is_empty()),
            console | CREATE_SUSPENDED | CREATE_UNICODE_ENVIRONMENT | EXTENDED_STARTUPINFO_PRESENT,
            plan.environment.map_or(std::ptr::null(), |block| block.as_ptr().cast()),
            plan.workdir.map_or(std::ptr::null(), <[u16]>::as_ptr),
            (&raw const startup).cast(),
            &raw mut information,
        )
    })
    .map_err(SpawnError::Create)?;
    drop(attributes);
    let process = made(information.hProcess).map_err(SpawnError::Create)?;
    let thread = made(information.hThread).map_err(SpawnError::Create)?;
    let entered =
        plan.job.map_or(Ok(()), |job| if job.holds(&process)? { Ok(()) } else { job.assign(&process) });
    if let Err(error) = entered {
        terminate(&process);
        return Err(SpawnError::Job(error));
    }
    // SAFETY: the handle is the new process's first thread, open, with every right.
    // https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-resumethread
    if unsafe { ResumeThread(thread.as_raw_handle()) } == u32::MAX {
        let error = io::Error::last_os_error();
        terminate(&process);
        return Err(SpawnError::Create(error));
    }
    Ok(Made { process, pid: information.dwProcessId })
}

/// Ends one process; one that has ended already stays as it is.
pub(super) fn terminate(process: &OwnedHandle) {
    // SAFETY: the handle is open.
    // https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-terminateprocess
    let _ = unsafe { TerminateProcess(process.as_raw_handle(), KILLED) };
}

/// What is said about a new process beyond its start-up information; room for two things.
struct Attributes(Box<[usize]>);

impl Attributes {
    const COUNT: u32 = 2;

    fn new() -> io::Result<Self> {
        let mut bytes = 0;
        // SAFETY: without a list, the call only answers how many bytes it needs, by failing.
        // https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-initializeprocthreadattributelist
        unsafe { InitializeProcThreadAttributeList(std::ptr::null_mut(), Self::COUNT, 0, &raw mut bytes) };
        let mut list = vec![0_usize; bytes.div_ceil(size_of::<usize>())].into_boxed_slice();
        // SAFETY: the list has as many bytes as were asked for, aligned for pointers, and does not move until it is deleted.
        // https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-initializeprocthreadattributelist
        done(unsafe {
            InitializeProcThreadAttributeList(list.as_mut_ptr().cast(), Self::COUNT, 0, &raw mut bytes)
        })?;
        Ok(Self(list))
    }

    /// The handles must live, where they are, until the list is dropped: the system keeps their address.
    fn set(&mut self, attribute: u32, handles: &[HANDLE]) -> io::Result<()> {
        // SAFETY: the list is initialised; the caller keeps the handles where they are as long as the list is used.
        // https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-updateprocthreadattribute
        done(unsafe {
            UpdateProcThreadAttribute(
                self.list(),
                0,
                attribute as usize,
                handles.as_ptr().cast(),
                size_of_val(handles),
                std::ptr::null_mut(),
                std::ptr::null(),
            )
        })
    }

    fn list(&mut self) -> LPPROC_THREAD_ATTRIBUTE_LIST {
        self.0.as_mut_ptr().cast()
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: the list was initialised in `new` and is deleted here only.
        // https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-deleteprocthreadattributelist
        unsafe { DeleteProcThreadAttributeList(self.list()) };
    }
}
