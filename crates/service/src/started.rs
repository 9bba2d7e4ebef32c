//! Who started this process, told by what they leave in its environment. Pure.

use std::fmt;

/// Who started the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartedBy {
    /// The service control manager of Windows.
    Scm,
    /// systemd, or another that speaks its protocol: a host of mainstay, say.
    Manager,
    /// A person, or a program that is no service manager.
    Console,
}

/// `variable` answers from the environment. systemd gives `NOTIFY_SOCKET` to a unit of the type `notify`, and to every unit its
/// own pid as `SYSTEMD_EXEC_PID` (since 248) and an `INVOCATION_ID` (systemd.exec(5)). The latter is handed on to children, so it
/// counts only where there is no terminal and no pid that says otherwise.
pub(crate) fn started_by(
    variable: impl Fn(&str) -> Option<String>,
    own_pid: u32,
    has_terminal: bool,
) -> StartedBy {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    if set("NOTIFY_SOCKET").is_some() {
        return StartedBy::Manager;
    }
    let is_unit = match set("SYSTEMD_EXEC_PID") {
        Some(pid) => pid.parse() == Ok(own_pid),
        None => set("INVOCATION_ID").is_some() && !has_terminal,
    };
    if is_unit { StartedBy::Manager } else { StartedBy::Console }
}

impl fmt::Display for StartedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Scm => "the service control manager",
            Self::Manager => "a service manager",
            Self::Console => "a console",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_tells_who_it_was() {
        use StartedBy::*;
        type Row<'a> = (&'a [(&'a str, &'a str)], bool, StartedBy);
        let table: [Row<'_>; 8] = [
            (&[], true, Console),
            (&[], false, Console),
            (&[("NOTIFY_SOCKET", "/run/n")], true, Manager),
            (&[("NOTIFY_SOCKET", "")], true, Console),
            (&[("SYSTEMD_EXEC_PID", "7"), ("INVOCATION_ID", "a")], false, Manager),
            (&[("SYSTEMD_EXEC_PID", "8"), ("INVOCATION_ID", "a")], false, Console),
            (&[("INVOCATION_ID", "a")], false, Manager),
            (&[("INVOCATION_ID", "a")], true, Console),
        ];
        for (env, has_terminal, wanted) in table {
            let variable =
                |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(started_by(variable, 7, has_terminal), wanted, "{env:?}");
        }
    }
}
