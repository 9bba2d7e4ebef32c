//! A program that registers itself with the system's service manager, and takes the registration away again.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_types::StackName;
use mainstay_unit::{ProgramUnit, Scope, Start, systemd::TextError};

use crate::registration::{
    self, Asked, ManagerError, Place, ServiceManager as _, StepError, Systemctl, Verb,
};

/// As [`crate::Program`]'s.
const START_WITHIN: Duration = Duration::from_secs(25);
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// Above what the unit itself allows for a start or a stop.
const ACT_LIMIT: Duration = Duration::from_secs(600);

/// How a program is registered: what is started, when, and as whom.
#[derive(Clone, Debug)]
pub struct Installation {
    unit: ProgramUnit,
    own_program: bool,
    force: bool,
}

/// Why a program is not registered, or still is. Nothing is left half done.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Only an administrator may.
    #[error("only root may change what the system starts; nothing was changed\n  next: {command}")]
    NotPermitted {
        /// The command that has the right.
        command: String,
    },
    /// It is not written yet for this system.
    #[error("installing a service is not supported on {system} yet; nothing was changed")]
    NotSupportedYet {
        /// Which.
        system: &'static str,
    },
    /// A name that no unit can have.
    #[error("{0:?} is no name for a service: {1}")]
    Name(String, String),
    /// The program's own file is not found.
    #[error("cannot find the program itself")]
    Program(#[source] std::io::Error),
    /// There is no folder for a user's units.
    #[error("there is no folder for your units: neither XDG_CONFIG_HOME nor HOME is set")]
    NoFolder,
    /// Something that no unit can hold.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A step failed; those before it were undone.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The service manager refused.
    #[error(transparent)]
    Manager(#[from] ManagerError),
}

impl Installation {
    /// The program that runs now, without arguments, as a service of this name: of the system, at boot.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let unit = ProgramUnit {
            description: name.clone(),
            name,
            program: PathBuf::new(),
            arguments: Vec::new(),
            scope: Scope::System,
            start: Start::Auto,
            user: None,
            start_within: START_WITHIN,
            stop_within: STOP_WITHIN,
            watchdog: None,
        };
        Self { unit, own_program: true, force: false }
    }

    /// One line about it.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.unit.description = description.into();
        self
    }

    /// Another program than the one that runs now; absolute.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.unit.program = program.into();
        self.own_program = false;
        self
    }

    /// What it is started with.
    #[must_use]
    pub fn arguments<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.unit.arguments = arguments.into_iter().map(Into::into).collect();
        self
    }

    /// With the user's own service manager; needs no root.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.unit.scope = scope;
        self
    }

    /// When it starts by itself.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.unit.start = start;
        self
    }

    /// Who it runs as.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.unit.user = Some(user.into());
        self
    }

    /// What a stop may take, as the program itself has it.
    #[must_use]
    pub fn stop_within(mut self, stop_within: Duration) -> Self {
        self.unit.stop_within = stop_within;
        self
    }

    /// Started anew when it gives no sign of life for that long.
    #[must_use]
    pub fn watchdog(mut self, watchdog: Duration) -> Self {
        self.unit.watchdog = Some(watchdog);
        self
    }

    /// Also over a unit of its own that somebody changed.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.force = true;
        self
    }

    /// The text of the unit for this version of systemd.
    ///
    /// ```
    /// use mainstay_service::Installation;
    /// let text = Installation::new("clock").program("/usr/bin/clock").unit_text(252)?;
    /// assert!(text.contains("\nExecStart=:/usr/bin/clock\n"));
    /// # Ok::<(), mainstay_service::InstallError>(())
    /// ```
    ///
    /// # Errors
    /// [`InstallError::Name`], [`InstallError::Program`], [`InstallError::Text`].
    pub fn unit_text(&self, version: u32) -> Result<String, InstallError> {
        self.check_name()?;
        let mut unit = self.unit.clone();
        if self.own_program {
            unit.program = std::env::current_exe().map_err(InstallError::Program)?;
        }
        Ok(unit.text(version)?)
    }

    /// Registers it, has the manager read it, lets it start at boot or not, and reads all of that back; when a step fails, what was
    /// done is undone. Answers in words what was done: nothing, when all was so already. Does not start it.
    ///
    /// # Errors
    /// [`InstallError`]
    pub fn install(&self) -> Result<Vec<String>, InstallError> {
        let (manager, place) = self.reach()?;
        let text = self.unit_text(manager.version()?)?;
        let asked = Asked { text: &text, start: self.unit.start, force: self.force };
        Ok(registration::install(&manager, &place, asked)?)
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Errors
    /// [`InstallError`]
    pub fn start_now(&self) -> Result<(), InstallError> {
        let (manager, place) = self.reach()?;
        Ok(manager.act(Verb::Start, &place.unit, ACT_LIMIT)?)
    }

    /// Stops it, takes the registration away, and sees to it that the manager has forgotten it. Answers in words what was done.
    ///
    /// # Errors
    /// [`InstallError`]
    pub fn uninstall(&self) -> Result<Vec<String>, InstallError> {
        let (manager, place) = self.reach()?;
        Ok(registration::uninstall(&manager, &place, ACT_LIMIT)?)
    }

    fn check_name(&self) -> Result<(), InstallError> {
        let name = &self.unit.name;
        StackName::parse(name).map(drop).map_err(|error| InstallError::Name(name.clone(), error.to_string()))
    }

    /// All that has to be so before anything is changed.
    fn reach(&self) -> Result<(Systemctl, Place), InstallError> {
        if std::env::consts::OS != "linux" {
            return Err(InstallError::NotSupportedYet { system: std::env::consts::OS });
        }
        self.check_name()?;
        if self.unit.scope == Scope::System && !mainstay_os::is_root() {
            return Err(InstallError::NotPermitted { command: elevated() });
        }
        let place = Place::of(&self.unit.name, self.unit.scope).ok_or(InstallError::NoFolder)?;
        Ok((Systemctl::of(self.unit.scope)?, place))
    }
}

/// The command that runs now, with the right to do what it wants.
fn elevated() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "this program".into());
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = std::iter::once(program.to_string_lossy().into_owned()).chain(words).collect();
    format!("sudo {}", shell_words::join(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in ["", "../x", "a/b", "a b", "a\nb"] {
            let error = Installation::new(name).unit_text(252).unwrap_err();
            assert!(matches!(error, InstallError::Name(..)), "{name:?}: {error}");
        }
    }
}
