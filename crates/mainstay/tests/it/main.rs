//! The command line as a user types it, on real programs that misbehave in every way a service can.

mod bad_input;
mod control;
mod fixture;
mod misbehaving;
mod output;
mod running;
