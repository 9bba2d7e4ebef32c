//! `install` and `uninstall`, step by step: each step is read back, and when one fails, what was done is undone.

use std::time::Duration;

use mainstay_unit::{Enablement, Existing, Shown, Start};

use super::manager::{ManagerError, ServiceManager, Verb};
use super::place::Place;

/// Time for a step that only changes what is on disk.
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The text of the unit.
    pub text: &'a str,
    /// When it starts by itself.
    pub start: Start,
    /// Write over a unit of mainstay's that somebody changed.
    pub force: bool,
}

/// Why a registration is as it was before, or could not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Somebody else's unit has the name.
    #[error(
        "{} is there and was not written by mainstay\n  next: take another name, or remove that unit",
        .0.display()
    )]
    Foreign(std::path::PathBuf),
    /// The unit was changed.
    #[error(
        "{} was changed by hand since mainstay wrote it; nothing was changed\n  next: put your changes into a drop-in \
         (`systemctl edit {unit}`), then install it by force, which writes the unit anew",
        path.display()
    )]
    Edited {
        /// Its file.
        path: std::path::PathBuf,
        /// Its name.
        unit: String,
    },
    /// There is nothing to take away.
    #[error("it is not registered: there is no {}", .0.display())]
    NotRegistered(std::path::PathBuf),
    /// A file cannot be handled.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was tried: `write`.
        doing: &'static str,
        /// Which.
        path: std::path::PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The service manager did not do its part.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// What it has read is not what was written.
    #[error("{unit} was written, and systemd does not have it as written: {seen}")]
    NotAsWritten {
        /// Its name.
        unit: String,
        /// What it has.
        seen: String,
    },
    /// A step failed, and what was done was undone.
    #[error("the registration is as it was before{}", undoing(.undone))]
    RolledBack {
        /// Why.
        #[source]
        cause: Box<StepError>,
        /// What could not be undone.
        undone: Vec<String>,
    },
}

fn undoing(left: &[String]) -> String {
    if left.is_empty() { String::new() } else { format!(", but for: {}", left.join("; ")) }
}

/// Registers; answers in words what was done, nothing when all was so already.
///
/// # Errors
/// [`StepError`]
pub fn install(
    manager: &dyn ServiceManager,
    place: &Place,
    asked: Asked<'_>,
) -> Result<Vec<String>, StepError> {
    let shown = manager.show(&place.unit)?;
    let before = read(place, &shown)?;
    match &before {
        Existing::Foreign(path) => return Err(StepError::Foreign(path.clone())),
        Existing::Own { edited: true, .. } if !asked.force => {
            return Err(StepError::Edited { path: place.path.clone(), unit: place.unit.clone() });
        }
        Existing::Own { .. } | Existing::None => {}
    }
    let mut done = Vec::new();
    match perform(manager, place, asked, &before, &shown, &mut done) {
        Ok(()) => Ok(done),
        Err(cause) => {
            let undone = undo(manager, place, &before, &shown);
            Err(StepError::RolledBack { cause: Box::new(cause), undone })
        }
    }
}

fn perform(
    manager: &dyn ServiceManager,
    place: &Place,
    asked: Asked<'_>,
    before: &Existing,
    shown: &Shown,
    done: &mut Vec<String>,
) -> Result<(), StepError> {
    let same = matches!(before, Existing::Own { text, .. } if text == asked.text);
    if !same {
        place.write(asked.text).map_err(|source| file("write", place, source))?;
        done.push(format!("wrote {}", place.path.display()));
    }
    if !same || shown.needs_reload || shown.load_state != "loaded" {
        manager.act(Verb::Reread, &place.unit, STEP_LIMIT)?;
    }
    let loaded = manager.show(&place.unit)?;
    if loaded.load_state != "loaded" || loaded.fragment_path.as_ref() != Some(&place.path) {
        let from = loaded.fragment_path.map_or_else(String::new, |path| format!(" from {}", path.display()));
        let seen = format!("it is {}{from}", loaded.load_state);
        return Err(StepError::NotAsWritten { unit: place.unit.clone(), seen });
    }
    if loaded.needs_reload {
        let seen = "it wants to read it again".to_owned();
        return Err(StepError::NotAsWritten { unit: place.unit.clone(), seen });
    }
    let wanted = match asked.start {
        Start::Auto | Start::Delayed => Enablement::Enabled,
        Start::Manual => Enablement::Disabled,
    };
    if let Some(words) = set_enablement(manager, place, &wanted)? {
        done.push(words);
    }
    Ok(())
}

/// Enables or disables, and reads back that it is so. Nothing is said when it was so before.
///
/// # Errors
/// [`StepError`]
pub fn set_enablement(
    manager: &dyn ServiceManager,
    place: &Place,
    wanted: &Enablement,
) -> Result<Option<String>, StepError> {
    if manager.show(&place.unit)?.enablement.as_ref() == Some(wanted) {
        return Ok(None);
    }
    let verb = if *wanted == Enablement::Enabled { Verb::Enable } else { Verb::Disable };
    manager.act(verb, &place.unit, STEP_LIMIT)?;
    let now = manager.show(&place.unit)?.enablement;
    if now.as_ref() == Some(wanted) {
        return Ok(Some(format!("{} is {} now", place.unit, wanted.as_word())));
    }
    let seen = format!(
        "it is {} instead of {}",
        now.as_ref().map_or("unknown", Enablement::as_word),
        wanted.as_word()
    );
    Err(StepError::NotAsWritten { unit: place.unit.clone(), seen })
}

/// Puts everything back; what cannot be put back, in words.
fn undo(manager: &dyn ServiceManager, place: &Place, before: &Existing, shown: &Shown) -> Vec<String> {
    let mut left = Vec::new();
    let mut note = |what: &str, result: Result<(), String>| {
        if let Err(error) = result {
            left.push(format!("{what}: {error}"));
        }
    };
    let enabled = manager.show(&place.unit).ok().and_then(|shown| shown.enablement);
    let was_enabled = shown.enablement == Some(Enablement::Enabled);
    if enabled == Some(Enablement::Enabled) && !was_enabled {
        // Before the file goes: its links are found by what it says.
        let done = manager.act(Verb::Disable, &place.unit, STEP_LIMIT);
        note("it is enabled", done.map_err(|error| error.to_string()));
    }
    let restored = match before {
        Existing::Own { text, .. } => place.write(text),
        Existing::None => place.remove(),
        Existing::Foreign(_) => Ok(()),
    };
    note(&place.path.display().to_string(), restored.map_err(|error| error.to_string()));
    let reread = manager.act(Verb::Reread, &place.unit, STEP_LIMIT);
    note("systemd has not read that yet", reread.map_err(|error| error.to_string()));
    if was_enabled && enabled != Some(Enablement::Enabled) {
        let done = manager.act(Verb::Enable, &place.unit, STEP_LIMIT);
        note("it is not enabled", done.map_err(|error| error.to_string()));
    }
    left
}

/// Stops it, takes the registration away, and sees to it that systemd has forgotten it.
///
/// # Errors
/// [`StepError`]
pub fn uninstall(
    manager: &dyn ServiceManager,
    place: &Place,
    stop_limit: Duration,
) -> Result<Vec<String>, StepError> {
    let shown = manager.show(&place.unit)?;
    match read(place, &shown)? {
        Existing::Foreign(path) => return Err(StepError::Foreign(path)),
        Existing::None => return Err(StepError::NotRegistered(place.path.clone())),
        Existing::Own { .. } => {}
    }
    let mut done = Vec::new();
    if shown.is_up() {
        manager.act(Verb::Stop, &place.unit, stop_limit)?;
        done.push(format!("stopped {}", place.unit));
    }
    if shown.enablement == Some(Enablement::Enabled) {
        manager.act(Verb::Disable, &place.unit, STEP_LIMIT)?;
    }
    place.remove().map_err(|source| file("remove", place, source))?;
    done.push(format!("removed {}", place.path.display()));
    manager.act(Verb::Reread, &place.unit, STEP_LIMIT)?;
    // One that has not failed is unknown by now, which is what is wanted.
    let _ = manager.act(Verb::ResetFailed, &place.unit, STEP_LIMIT);
    let after = manager.show(&place.unit)?;
    if after.load_state != "not-found" {
        let from = after.fragment_path.map_or_else(String::new, |path| format!(" from {}", path.display()));
        done.push(format!("systemd still knows {}: it is {}{from}", place.unit, after.load_state));
    }
    Ok(done)
}

fn read(place: &Place, shown: &Shown) -> Result<Existing, StepError> {
    place.existing(shown).map_err(|source| file("read", place, source))
}

fn file(doing: &'static str, place: &Place, source: std::io::Error) -> StepError {
    StepError::File { doing, path: place.path.clone(), source }
}

#[cfg(test)]
mod tests;
