//! The command line as a user types it, on real programs that misbehave in every way a service can.

mod around;
mod bad_input;
mod change;
mod context;
mod control;
mod faults;
mod fixture;
mod forward;
mod install;
mod library;
mod listen;
mod manager;
mod misbehaving;
mod output;
mod own_log;
mod readiness;
mod rotation;
mod running;
