//! From fork to exec: the new process makes itself what its service asks for, step by step, in the one order in which
//! every step still has the right it needs.
//!
//! Only system calls here: no allocation, no lock, nothing that could wait for a thread that was not copied.

use std::ffi::{c_char, c_int, c_long};
use std::os::fd::RawFd;

use mainstay_types::LaunchStep;

use crate::linux::wire::{Failure, UNLIMITED, step_number};

/// Everything the new process needs, prepared so that it has nothing to compute. Strings end with a zero byte.
pub(super) struct ChildPlan<'a> {
    /// The writing ends of its output.
    pub stdout: RawFd,
    pub stderr: RawFd,
    /// Where a failure is told; closes by itself when the program is executed.
    pub status: RawFd,
    /// Descriptors and the numbers they are to have. None of the former, and not `status`, is one of the latter.
    pub handed: &'a [(RawFd, RawFd)],
    /// Where the digits of this process's pid go, with room for [`PID_DIGITS`] and the end of the string; or null.
    pub listen_pid: *mut u8,
    /// RLIMIT_NOFILE, soft and hard.
    pub open_files: (u64, u64),
    /// RLIMIT_DATA and RLIMIT_NPROC, soft and hard alike.
    pub data_bytes: u64,
    pub processes: u64,
    /// The `cgroup.procs` of version 1 groups to enter.
    pub joins: &'a [*const c_char],
    /// User and group to become; `groups` apply with it.
    pub identity: Option<(u32, u32)>,
    pub groups: &'a [u32],
    pub workdir: *const c_char,
    /// Files to execute, the first that can be is taken.
    pub candidates: &'a [*const c_char],
    /// Both end with a null pointer.
    pub args: *const *const c_char,
    pub env: *const *const c_char,
}

/// Becomes the program or says why not; does not return. What the launcher prepared is inherited and not done again:
/// default signals, standard input from /dev/null, close-on-exec on all other descriptors.
pub(super) fn become_program(plan: &ChildPlan<'_>) -> ! {
    // SAFETY: setsid(2) takes no arguments.
    check(plan, LaunchStep::Session, unsafe { libc::setsid() }.into());
    // SAFETY: dup2(2) on descriptors this process has; the copies are not close-on-exec, which is what is wanted.
    check(plan, LaunchStep::Stdio, unsafe { libc::dup2(plan.stdout, 1) }.into());
    // SAFETY: as above.
    check(plan, LaunchStep::Stdio, unsafe { libc::dup2(plan.stderr, 2) }.into());
    for (descriptor, target) in plan.handed {
        // SAFETY: as above; what had the target's number is a copy of the launcher's that this process does not need.
        check(plan, LaunchStep::Listen, unsafe { libc::dup2(*descriptor, *target) }.into());
    }
    if !plan.listen_pid.is_null() {
        // Its own number as it sees it itself, in a pid namespace too.
        // SAFETY: getpid(2) takes no arguments.
        write_pid(plan.listen_pid, unsafe { libc::getpid() });
    }
    // While there is room for one more descriptor.
    for entrance in plan.joins {
        enter_group(plan, *entrance);
    }
    let limit = libc::rlimit { rlim_cur: plan.open_files.0, rlim_max: plan.open_files.1 };
    // SAFETY: setrlimit(2) reads one struct that lives here.
    check(plan, LaunchStep::Limits, unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }.into());
    for (resource, value) in [(libc::RLIMIT_DATA, plan.data_bytes), (libc::RLIMIT_NPROC, plan.processes)] {
        if value != UNLIMITED {
            let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
            // SAFETY: as above.
            check(plan, LaunchStep::Limits, unsafe { libc::setrlimit(resource, &raw const limit) }.into());
        }
    }
    if let Some((uid, gid)) = plan.identity {
        // The raw calls: the library's versions go round all threads, of which there are none.
        // SAFETY: setgroups(2) reads `len` numbers from the slice.
        let groups = unsafe { libc::syscall(libc::SYS_setgroups, plan.groups.len(), plan.groups.as_ptr()) };
        check(plan, LaunchStep::Groups, groups);
        // SAFETY: setresgid(2) takes numbers.
        check(plan, LaunchStep::Group, unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) });
        // SAFETY: setresuid(2) takes numbers.
        check(plan, LaunchStep::User, unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) });
    }
    // As the user: a folder only root may enter is no place for this service.
    // SAFETY: chdir(2) reads a string that ends with zero.
    check(plan, LaunchStep::Workdir, unsafe { libc::chdir(plan.workdir) }.into());
    execute(plan)
}

/// Enters a control group of version 1: 0 is the writer itself. What it starts later is born inside.
fn enter_group(plan: &ChildPlan<'_>, entrance: *const c_char) {
    // SAFETY: open(2) reads a string that ends with zero.
    let file = unsafe { libc::open(entrance, libc::O_WRONLY | libc::O_CLOEXEC) };
    check(plan, LaunchStep::Cgroup, file.into());
    // SAFETY: write(2) reads one byte that lives as long as the program.
    check(plan, LaunchStep::Cgroup, unsafe { libc::write(file, b"0".as_ptr().cast(), 1) } as c_long);
    // SAFETY: close(2) of the descriptor opened above.
    unsafe { libc::close(file) };
}

/// Most digits of a pid: pid_t is a positive 32-bit number.
pub(super) const PID_DIGITS: usize = 10;

/// Writes decimal digits and a zero byte; formatting them by the library could allocate.
fn write_pid(place: *mut u8, pid: libc::pid_t) {
    let mut digits = [0_u8; PID_DIGITS];
    let (mut left, mut first) = (pid.unsigned_abs(), PID_DIGITS);
    while first > 0 && (left > 0 || first == PID_DIGITS) {
        first -= 1;
        digits[first] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    let count = PID_DIGITS - first;
    // SAFETY: the place has room for all digits and the zero, and belongs to this process's own copy of the memory.
    unsafe {
        std::ptr::copy_nonoverlapping(digits[first..].as_ptr(), place, count);
        *place.add(count) = 0;
    }
}

/// Tries the candidates as execvp(3) does: a missing one is passed over, a forbidden one is remembered, any other
/// answer is final. Unlike execvp it never feeds an unknown format to a shell.
fn execute(plan: &ChildPlan<'_>) -> ! {
    let mut failure = (libc::ENOENT, 0);
    for (number, candidate) in (0..).zip(plan.candidates) {
        // SAFETY: the string ends with zero, both lists end with a null pointer, and all of it was copied with the
        // launcher's memory.
        unsafe { libc::execve(*candidate, plan.args, plan.env) };
        match last_errno() {
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT
                if plan.candidates.len() > 1 => {}
            libc::EACCES if plan.candidates.len() > 1 => failure = (libc::EACCES, number),
            errno => {
                failure = (errno, number);
                break;
            }
        }
    }
    fail(plan, LaunchStep::Exec, failure.0, failure.1)
}

fn check(plan: &ChildPlan<'_>, step: LaunchStep, result: c_long) {
    if result < 0 {
        fail(plan, step, last_errno(), 0);
    }
}

fn fail(plan: &ChildPlan<'_>, step: LaunchStep, errno: c_int, candidate: u32) -> ! {
    let bytes = Failure { step: step_number(step), errno, candidate }.to_bytes();
    // SAFETY: write(2) reads the array; 12 bytes go into an empty pipe at once (pipe(7), PIPE_BUF).
    unsafe { libc::write(plan.status, bytes.as_ptr().cast(), bytes.len()) };
    // Codes apart from a program's own, for whoever traces this process.
    // SAFETY: _exit(2) ends this process without running anything of the launcher's.
    unsafe { libc::_exit(200 + step_number(step).cast_signed()) }
}

fn last_errno() -> c_int {
    // SAFETY: __errno_location answers this thread's own variable, always valid.
    unsafe { *libc::__errno_location() }
}
