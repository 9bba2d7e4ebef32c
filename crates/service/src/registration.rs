//! The registration of a unit with systemd: read, made, taken away, each step read back. For [`crate::Installation`], and for
//! mainstay's own command line. What it says is decided in `mainstay-unit`; here files are written and the manager is asked.

mod manager;
mod place;
mod steps;
mod systemctl;

pub use manager::{ManagerError, ServiceManager, Verb};
pub use place::Place;
pub use steps::{Asked, StepError, install, set_enablement, uninstall};
pub use systemctl::{Systemctl, lingers};
