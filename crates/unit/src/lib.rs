//! How a stack starts by itself: what is registered with the system, as text, and how what is there differs from it.
//!
//! Role: decides for `install`, `uninstall`, `status`. May use: `types`. May be used by: `service`, `mainstay`.
//! Nothing is read, written or asked here: facts about the machine are arguments.

mod drift;
mod program;
mod registration;
mod scripts;
mod stamp;
pub mod systemd;

pub use drift::{Enablement, Existing, Shown, drift, existing, start_of};
pub use program::ProgramUnit;
pub use registration::{ReadyWhen, Registration, Scope, Start, unit_name};
pub use scripts::{Init, ScriptError, ScriptFile, files};
pub use stamp::{Stamp, stamp, stamped};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mainstay_types::StackName;

    use crate::{ReadyWhen, Registration, Scope, Start};

    /// What the tests start from.
    pub(crate) fn registration() -> Registration {
        Registration {
            stack: StackName::parse("shop").unwrap(),
            file: "/srv/shop/mainstay.toml".into(),
            dir: "/srv/shop".into(),
            program: "/usr/bin/mainstay".into(),
            scope: Scope::System,
            start: Start::Auto,
            ready: ReadyWhen::Services,
            env: Vec::new(),
            stop_budget: Duration::from_secs(15),
            needs_network: false,
            default_state_dir: true,
        }
    }
}
