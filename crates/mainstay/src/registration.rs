//! The registration of a stack with the system's service manager, as `status` shows it, and what of the stack it depends on. The
//! steps themselves are `mainstay_service::registration`'s.

mod network;
mod report;

pub(crate) use network::needs_network;
pub(crate) use report::{Report, report};
