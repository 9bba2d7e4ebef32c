//! Requests to end, or to read the file again, that come from outside the program.

#[cfg(target_os = "linux")]
#[path = "linux/stop_request.rs"]
mod body;
#[cfg(not(target_os = "linux"))]
#[path = "windows/stop_request.rs"]
mod body;

#[cfg(target_os = "linux")]
pub(crate) use body::{Hangups, Meaning as Hangup};
pub use body::{on_reload_request, on_stop_request};
