//! The commands, one module each.

pub(crate) mod around;
pub(crate) mod check;
pub(crate) mod control;
pub(crate) mod events;
pub(crate) mod generate;
pub(crate) mod init;
pub(crate) mod install;
pub(crate) mod log_level;
pub(crate) mod logs;
pub(crate) mod reload;
pub(crate) mod rotate;
pub(crate) mod run;
pub(crate) mod scripts;
pub(crate) mod status;
