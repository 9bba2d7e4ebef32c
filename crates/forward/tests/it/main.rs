//! Forwarders on real log files and real sockets of this machine: targets that are there, down, slow, full, or speak nonsense.

mod fixture;
mod local;
mod loss;
mod places;
mod targets;
mod trouble;
