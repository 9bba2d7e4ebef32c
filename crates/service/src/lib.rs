//! Makes a Rust program a native service. It implements one trait, and runs unchanged under systemd, under the service control
//! manager (SCM) of Windows, under a mainstay host and in a console.
//!
//! Role: a library for programs. May use: `types`, `unit`, `os`. May be used by: programs; `mainstay` for registration.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::time::Duration;
//!
//! use mainstay_service::{Context, Event, Failure, Service};
//!
//! struct Clock;
//!
//! impl Service for Clock {
//!     fn run(&mut self, context: &Context) -> Result<(), Failure> {
//!         loop {
//!             match context.next_event(Duration::from_secs(1)) {
//!                 None => context.log().info("tick"),
//!                 Some(Event::Reload) => context.status("read the settings again"),
//!                 Some(Event::Stop) => return Ok(()),
//!                 Some(_) => {}
//!             }
//!         }
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     mainstay_service::run("clock", Clock)
//! }
//! ```
//!
//! What the library does for it:
//!
//! - readiness, status lines, progress of a long start or stop, signs of life for a watchdog: [`Context`];
//! - a stop with a deadline from SIGTERM, Ctrl-C, the SCM, a shutdown: [`Context::stop_token`]; a second Ctrl-C ends it at once;
//! - reloads, pauses, changes of sessions and power: [`Event`];
//! - the four phases as a checked state machine: [`Standing`], [`Context::phase`];
//! - an exit code that says whether it failed; a panic is a failure, with its words in the log: [`Failure`];
//! - a log that goes to the journal, the Event Log or standard error, with fields: [`Log`].
//!
//! With the feature `tokio` a service may be asynchronous:
//!
//! ```no_run
//! # #[cfg(feature = "tokio")] mod example {
//! use mainstay_service::{AsyncService, Context, Event, Failure};
//!
//! struct Clock;
//!
//! impl AsyncService for Clock {
//!     async fn run(&mut self, context: &Context) -> Result<(), Failure> {
//!         let mut ticks = tokio::time::interval(std::time::Duration::from_secs(1));
//!         loop {
//!             tokio::select! {
//!                 _ = ticks.tick() => context.log().info("tick"),
//!                 event = context.event() => match event {
//!                     Event::Stop => return Ok(()),
//!                     other => context.status(&format!("{other:?}")),
//!                 },
//!             }
//!         }
//!     }
//! }
//! # }
//! ```
//!
//! With the feature `tracing` the log is a layer of tracing-subscriber: `Log::layer`.

mod context;
mod event;
mod failure;
mod install;
mod log;
mod program;

pub mod registration;
mod standing;
mod started;
mod tell;

#[cfg(feature = "tokio")]
mod asynchronous;
#[cfg(feature = "tracing")]
mod layer;

pub use context::{Context, StopToken};
pub use event::Event;
pub use failure::Failure;
pub use install::{InstallError, Installation};
pub use log::Log;
pub use program::{Program, Ready, Service, run};
pub use standing::{IllegalStep, Standing, Step};
pub use started::StartedBy;

#[cfg(feature = "tokio")]
pub use asynchronous::{AsyncService, run_async};
#[cfg(feature = "tracing")]
pub use layer::LogLayer;

pub use mainstay_os::{PowerChange, SessionChange, StopCause};
pub use mainstay_types::{Level, Phase};
pub use mainstay_unit::{Scope, Start};

/// The page for users, so that what it shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
struct Page;
