//! Work in the background: the calling thread takes the processor and the disk when nobody else wants them.

use rustix::process::setpriority_process;

/// The least of nice(2).
const LEAST_NICE: i32 = 19;
/// ioprio_set(2), from the kernel's `linux/ioprio.h`: the calling thread, the class that waits for an idle disk, and where
/// the class stands in the number.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
const IOPRIO_CLASS_IDLE: libc::c_int = 3;
const IOPRIO_CLASS_SHIFT: libc::c_int = 13;

/// Gives the calling thread, and no other, the lowest ordinary priority: nice 19, `SCHED_BATCH` (sched(7): it does not
/// preempt when it wakes), and the idle class of the disk. What the system refuses is left as it is.
pub fn lower_thread_priority() {
    // On Linux the number 0 is the calling thread (setpriority(2), NOTES).
    let _ = setpriority_process(None, LEAST_NICE);
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: sched_setscheduler(2) reads the parameters it is given, for the calling thread (0).
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    let idle = IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT;
    // SAFETY: ioprio_set(2) takes three numbers and touches no memory of this process; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, idle) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields 19 (nice) and 41 (policy) of /proc/self/task/TID/stat (proc(5)).
    fn nice_and_policy() -> (String, String) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        (fields[19 - 3].to_owned(), fields[41 - 3].to_owned())
    }

    #[test]
    fn only_the_calling_thread_is_lowered() {
        let before = nice_and_policy();
        let lowered = std::thread::spawn(|| {
            lower_thread_priority();
            // SAFETY: ioprio_get(2) takes two numbers and touches no memory of this process.
            let class = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) };
            (nice_and_policy(), class >> IOPRIO_CLASS_SHIFT)
        });
        let (lowered, class) = lowered.join().unwrap();
        assert_eq!(lowered, ("19".to_owned(), libc::SCHED_BATCH.to_string()));
        assert_eq!(class, libc::c_long::from(IOPRIO_CLASS_IDLE));
        assert_eq!(nice_and_policy(), before);
    }
}
