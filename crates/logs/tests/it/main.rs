//! Capturing and reading back, whole: real threads, real files, pipes in memory or over loopback.

mod again;
mod capture;
mod corpus;
mod crash;
mod disk;
mod dropping;
mod follow;
mod killed;
mod masked;
mod properties;
mod retention;
mod rotation;
mod support;
mod trouble;
