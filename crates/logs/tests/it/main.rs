//! Capturing and reading back, whole: real threads, real files, pipes in memory or over loopback.

mod capture;
mod corpus;
mod crash;
mod dropping;
mod follow;
mod masked;
mod properties;
mod support;
mod trouble;
