//! The registration of a stack with the system's service manager: read, made, taken away. What it says is decided in
//! `mainstay-unit`; here files are written and the service manager is asked.

mod manager;
mod place;
mod report;
mod steps;
mod systemctl;

pub(crate) use manager::{ManagerError, ServiceManager, Verb};
pub(crate) use place::Place;
pub(crate) use report::{Report, report};
pub(crate) use steps::{Asked, StepError, install, set_enablement, uninstall};
pub(crate) use systemctl::{Systemctl, lingers};
