//! For tests and the project's own verbs: what makes programs misbehave on request, and what watches over decisions.
//!
//! Role: test support. May use: `types`, `config`, `lifecycle`, `os`. May be used by: tests of every crate, `xtask`.

pub mod child;
pub mod explore;
pub mod sim;
pub mod wait;
