//! How a stack starts by itself: what is registered with the system, as text, and how what is there differs from it.
//!
//! Role: decides for `install`, `uninstall`, `status`. May use: `types`, `config`. May be used by: `mainstay`.
//! Nothing is read, written or asked here: facts about the machine are arguments.

mod drift;
mod registration;
mod scripts;
mod stamp;
pub mod systemd;

pub use drift::{Enablement, Existing, Shown, drift, existing, start_of};
pub use registration::{ReadyWhen, Registration, Scope, Start, needs_network, unit_name};
pub use scripts::{Init, ScriptError, ScriptFile, files};
pub use stamp::{Stamp, stamp, stamped};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mainstay_config::Stack;
    use mainstay_types::StackName;

    use crate::{ReadyWhen, Registration, Scope, Start};

    /// The stack of a file.
    pub(crate) fn stack(text: &str) -> Stack {
        let file = std::path::Path::new("/srv/shop/mainstay.toml");
        mainstay_config::parse(&mainstay_config::Input { text, file, env: &|_| None })
            .unwrap_or_else(|errors| panic!("{}", errors.render(false)))
    }

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
