//! Which limits job objects hold here, and a service's limits in a job's words.

use std::sync::OnceLock;

use super::job::{Job, JobLimits};
use crate::{Enforced, LimitStatus, ResourceLimits};

/// What was found when it was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Kept {
    pub(super) memory: bool,
    pub(super) processes: bool,
    pub(super) cpu: bool,
}

/// Tried once, on a job without processes: a limit counts as kept when the system takes it and then says that it has it. Wine
/// takes them and forgets them.
pub(super) fn kept() -> Kept {
    static KEPT: OnceLock<Kept> = OnceLock::new();
    *KEPT.get_or_init(|| {
        let Ok(job) = Job::new() else { return Kept::default() };
        let limits = JobLimits { memory_bytes: Some(1 << 30), processes: Some(1000), cpu_rate: None };
        let (memory, processes) =
            job.set_limits(limits).and_then(|()| job.limits_held()).unwrap_or((false, false));
        let cpu = job.set_limits(JobLimits { cpu_rate: Some(5000), ..limits }).is_ok();
        Kept { memory, processes, cpu }
    })
}

/// Which of these limits are in force, and by what.
#[must_use]
pub fn limits_in_force_here(limits: &ResourceLimits, _switches_user: bool) -> Vec<LimitStatus> {
    in_force(limits, kept())
}

fn in_force(limits: &ResourceLimits, kept: Kept) -> Vec<LimitStatus> {
    crate::limits::statuses(limits, |name| {
        let is_kept = match name {
            "memory" => kept.memory,
            "pids" => kept.processes,
            "cpu" => kept.cpu,
            _ => {
                let why = "Windows has no limit of open files".to_owned();
                return Enforced::No { why };
            }
        };
        if is_kept {
            Enforced::Job
        } else {
            Enforced::No { why: "the job objects of this system do not keep it".to_owned() }
        }
    })
}

/// What a job is to hold: what would not be kept is left out, as [`limits_in_force_here`] says.
pub(super) fn job_limits(limits: &ResourceLimits, kept: Kept, processors: usize) -> JobLimits {
    let memory_bytes = limits.memory_bytes.filter(|_| kept.memory);
    let processes = limits.pids.filter(|_| kept.processes);
    JobLimits {
        memory_bytes: memory_bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        processes: processes.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        cpu_rate: limits.cpu_millis.filter(|_| kept.cpu).map(|millis| {
            // From thousandths of one processor to hundredths of a percent of all.
            let rate = millis.saturating_mul(10) / u64::try_from(processors.max(1)).unwrap_or(u64::MAX);
            u32::try_from(rate.clamp(1, 10_000)).unwrap_or(10_000)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Kept = Kept { memory: true, processes: true, cpu: true };

    #[test]
    fn limits_in_the_words_of_a_job() {
        let limits = ResourceLimits {
            open_files: Some(5),
            memory_bytes: Some(64 << 20),
            pids: Some(7),
            cpu_millis: Some(500),
        };
        let expected = JobLimits { memory_bytes: Some(64 << 20), processes: Some(7), cpu_rate: Some(1250) };
        assert_eq!(job_limits(&limits, ALL, 4), expected);
        assert_eq!(job_limits(&limits, Kept::default(), 4), JobLimits::default());
        let more = ResourceLimits { cpu_millis: Some(64_000), ..ResourceLimits::default() };
        assert_eq!(job_limits(&more, ALL, 4).cpu_rate, Some(10_000));
        let words = |kept| -> Vec<String> {
            in_force(&limits, kept).iter().map(|one| format!("{} {}", one.name, one.enforced)).collect()
        };
        assert_eq!(
            words(ALL),
            [
                "open_files not in force: Windows has no limit of open files",
                "memory by job object",
                "pids by job object",
                "cpu by job object"
            ]
        );
        assert!(words(Kept::default())[1].ends_with("do not keep it"));
    }
}
