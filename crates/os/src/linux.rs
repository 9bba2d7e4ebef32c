//! Linux: the body of this crate's promises. Needs Linux 5.7 (clone3 into a control group, pidfds), better 5.14 (cgroup.kill).

mod cgroup;
mod cgroup1;
mod child_signal;
mod confinement;
mod controllers;
mod cpu_quota;
mod explain;
mod identity;
mod launcher;
mod leftovers;
mod limits;
mod oom;
mod output;
mod processes;
mod procfs;
mod socket;
mod usage;
mod wire;

pub use confinement::limits_in_force_here;
pub use explain::check_executable;
pub use identity::{account, is_root, resolve_identity, uid, user_home};
pub use launcher::run_launcher_if_asked;
pub use leftovers::end_leftovers_of_earlier_host;
pub(crate) use limits::original_open_files_limit;
pub use limits::{keep_memory_small, raise_open_files_limit};
pub use output::{Output, OutputPipe};
pub use processes::Processes;
pub(crate) use std::os::fd::OwnedFd as OwnedDescriptor;
pub use usage::{pid_exists, tree_usage};
