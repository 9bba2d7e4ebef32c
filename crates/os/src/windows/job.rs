//! Job objects: what keeps a tree of processes together, holds its limits, and ends it whole.
//!
//! <https://learn.microsoft.com/en-us/windows/win32/procthread/job-objects>. A job's handle is never inherited, so the system
//! closes the last one when the host dies, however that happens, and ends every process of the job with it
//! (`JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE`). No process may leave: breaking away is not allowed.

use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::time::Duration;

use windows_sys::Win32::Foundation::{ERROR_MORE_DATA, HANDLE};
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, IsProcessInJob, JOB_OBJECT_CPU_RATE_CONTROL_ENABLE,
    JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP, JOB_OBJECT_LIMIT_ACTIVE_PROCESS, JOB_OBJECT_LIMIT_JOB_MEMORY,
    JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOBOBJECT_ASSOCIATE_COMPLETION_PORT,
    JOBOBJECT_BASIC_ACCOUNTING_INFORMATION, JOBOBJECT_CPU_RATE_CONTROL_INFORMATION,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JOBOBJECTINFOCLASS, JobObjectAssociateCompletionPortInformation,
    JobObjectBasicAccountingInformation, JobObjectBasicProcessIdList, JobObjectCpuRateControlInformation,
    JobObjectExtendedLimitInformation, QueryInformationJobObject, SetInformationJobObject,
    TerminateJobObject,
};

use super::port::Port;
use super::system::{done, made};

/// Tries to read a list that grows meanwhile; each makes room for twice as many.
const LIST_TRIES: u32 = 16;
/// Bytes before the first number of a `JOBOBJECT_BASIC_PROCESS_ID_LIST`: two counts of four bytes.
const LIST_HEAD_BYTES: usize = 8;

/// What a job holds its processes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct JobLimits {
    /// Committed memory of all its processes together.
    pub(super) memory_bytes: Option<usize>,
    /// Processes at one time.
    pub(super) processes: Option<u32>,
    /// Processor time, in hundredths of a percent of the whole machine: 1 to 10,000.
    pub(super) cpu_rate: Option<u32>,
}

/// One job.
#[derive(Debug)]
pub(super) struct Job(OwnedHandle);

impl Job {
    /// Makes one without a name, that ends with its last handle.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: null means default security, an uninheritable handle, and no name.
        // https://learn.microsoft.com/en-us/windows/win32/api/jobapi2/nf-jobapi2-createjobobjectw
        let job = Self(made(unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) })?);
        job.set_limits(JobLimits::default())?;
        Ok(job)
    }

    pub(super) fn handle(&self) -> HANDLE {
        self.0.as_raw_handle()
    }

    /// Sets these limits in the place of earlier ones, always with the end of its processes at the end of the job.
    pub(super) fn set_limits(&self, limits: JobLimits) -> io::Result<()> {
        let mut extended = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        extended.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        if let Some(bytes) = limits.memory_bytes {
            extended.BasicLimitInformation.LimitFlags |= JOB_OBJECT_LIMIT_JOB_MEMORY;
            extended.JobMemoryLimit = bytes;
        }
        if let Some(processes) = limits.processes {
            extended.BasicLimitInformation.LimitFlags |= JOB_OBJECT_LIMIT_ACTIVE_PROCESS;
            extended.BasicLimitInformation.ActiveProcessLimit = processes;
        }
        self.set(JobObjectExtendedLimitInformation, &extended)?;
        if let Some(rate) = limits.cpu_rate {
            let mut cpu = JOBOBJECT_CPU_RATE_CONTROL_INFORMATION {
                ControlFlags: JOB_OBJECT_CPU_RATE_CONTROL_ENABLE | JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP,
                ..JOBOBJECT_CPU_RATE_CONTROL_INFORMATION::default()
            };
            cpu.Anonymous.CpuRate = rate;
            self.set(JobObjectCpuRateControlInformation, &cpu)?;
        }
        Ok(())
    }

    /// The limits of memory and processes that the system says it holds.
    pub(super) fn limits_held(&self) -> io::Result<(bool, bool)> {
        let held: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = self.get(JobObjectExtendedLimitInformation)?;
        let flags = held.BasicLimitInformation.LimitFlags;
        Ok((flags & JOB_OBJECT_LIMIT_JOB_MEMORY != 0, flags & JOB_OBJECT_LIMIT_ACTIVE_PROCESS != 0))
    }

    /// Lets the port know what happens in the job, under `key`.
    pub(super) fn report_to(&self, port: &Port, key: usize) -> io::Result<()> {
        let information = JOBOBJECT_ASSOCIATE_COMPLETION_PORT {
            // A number the system gives back as it is; it is no address of anything here.
            CompletionKey: std::ptr::without_provenance_mut(key),
            CompletionPort: port.handle(),
        };
        self.set(JobObjectAssociateCompletionPortInformation, &information)
    }

    /// Puts a process into it.
    pub(super) fn assign(&self, process: &OwnedHandle) -> io::Result<()> {
        // SAFETY: both handles are open, and their owners are borrowed.
        // https://learn.microsoft.com/en-us/windows/win32/api/jobapi2/nf-jobapi2-assignprocesstojobobject
        done(unsafe { AssignProcessToJobObject(self.handle(), process.as_raw_handle()) })
    }

    /// Whether a process is in it.
    pub(super) fn holds(&self, process: &OwnedHandle) -> io::Result<bool> {
        let mut answer = 0;
        // SAFETY: both handles are open, and their owners are borrowed; the answer lives through the call.
        // https://learn.microsoft.com/en-us/windows/win32/api/jobapi/nf-jobapi-isprocessinjob
        done(unsafe { IsProcessInJob(process.as_raw_handle(), self.handle(), &raw mut answer) })?;
        Ok(answer != 0)
    }

    /// Ends every process of it with this code, in one step that none escapes.
    pub(super) fn terminate(&self, code: u32) -> io::Result<()> {
        // SAFETY: the handle is open.
        // https://learn.microsoft.com/en-us/windows/win32/api/jobapi2/nf-jobapi2-terminatejobobject
        done(unsafe { TerminateJobObject(self.handle(), code) })
    }

    /// Its live processes.
    pub(super) fn pids(&self) -> io::Result<Vec<u32>> {
        let word = size_of::<usize>();
        let mut room = 64;
        for _ in 0..LIST_TRIES {
            // The numbers are as wide as an address, and so is their alignment.
            let mut list = vec![0_usize; LIST_HEAD_BYTES / word + room];
            let bytes = u32::try_from(list.len() * word).unwrap_or(u32::MAX);
            // SAFETY: the list has that many bytes, aligned as the structure is, and lives through the call.
            // https://learn.microsoft.com/en-us/windows/win32/api/jobapi2/nf-jobapi2-queryinformationjobobject
            let answer = done(unsafe {
                QueryInformationJobObject(
                    self.handle(),
                    JobObjectBasicProcessIdList,
                    list.as_mut_ptr().cast(),
                    bytes,
                    std::ptr::null_mut(),
                )
            });
            match answer {
                Ok(()) => {
                    let counts: Vec<u8> =
                        list.iter().flat_map(|one| one.to_ne_bytes()).take(LIST_HEAD_BYTES).collect();
                    let count = counts
                        .get(4..8)
                        .and_then(|bytes| bytes.try_into().ok())
                        .map_or(0, u32::from_ne_bytes);
                    let numbers = list.iter().skip(LIST_HEAD_BYTES / word).take(count as usize);
                    // A process number has 32 bits; the system stores it wider.
                    return Ok(numbers.filter_map(|pid| u32::try_from(*pid).ok()).collect());
                }
                Err(error) if error.raw_os_error() == Some(ERROR_MORE_DATA.cast_signed()) => room *= 2,
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the list of its processes grows faster than it can be read"))
    }

    /// Processor time of all processes that are or were in it.
    pub(super) fn cpu(&self) -> io::Result<Duration> {
        let accounting: JOBOBJECT_BASIC_ACCOUNTING_INFORMATION =
            self.get(JobObjectBasicAccountingInformation)?;
        let ticks = accounting.TotalUserTime.saturating_add(accounting.TotalKernelTime);
        // In units of 100 ns.
        Ok(Duration::from_nanos(u64::try_from(ticks).unwrap_or(0).saturating_mul(100)))
    }

    fn set<T>(&self, class: JOBOBJECTINFOCLASS, information: &T) -> io::Result<()> {
        let bytes = u32::try_from(size_of::<T>()).unwrap_or(u32::MAX);
        // SAFETY: the handle is open; every caller names the class that its structure belongs to, which lives through the call.
        // https://learn.microsoft.com/en-us/windows/win32/api/jobapi2/nf-jobapi2-setinformationjobobject
        done(unsafe {
            SetInformationJobObject(self.handle(), class, std::ptr::from_ref(information).cast(), bytes)
        })
    }

    fn get<T: Default>(&self, class: JOBOBJECTINFOCLASS) -> io::Result<T> {
        let mut information = T::default();
        let bytes = u32::try_from(size_of::<T>()).unwrap_or(u32::MAX);
        // SAFETY: the handle is open; every caller names the class that its structure of plain numbers belongs to, which lives
        // through the call.
        // https://learn.microsoft.com/en-us/windows/win32/api/jobapi2/nf-jobapi2-queryinformationjobobject
        done(unsafe {
            QueryInformationJobObject(
                self.handle(),
                class,
                std::ptr::from_mut(&mut information).cast(),
                bytes,
                std::ptr::null_mut(),
            )
        })?;
        Ok(information)
    }
}
