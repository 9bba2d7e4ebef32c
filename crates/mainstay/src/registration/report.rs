//! What a stack's registration is like, for `status`: also when no host runs.

use mainstay_service::registration::{Place, ServiceManager, Systemctl};
use mainstay_types::StackName;
use mainstay_unit::{Existing, Scope, Start, drift, start_of, unit_name};
use serde_json::{Value, json};

/// A registered stack.
#[derive(Debug)]
pub(crate) struct Report {
    unit: String,
    scope: Scope,
    file: std::path::PathBuf,
    start: Option<Start>,
    active: Option<String>,
    /// How it ended, when it failed.
    result: Option<String>,
    drift: Vec<String>,
}

/// The registration of this stack: the system's, else the user's own. Nothing is asked of anybody where no file is there.
pub(crate) fn report(stack: &StackName) -> Option<Report> {
    [Scope::System, Scope::User].into_iter().find_map(|scope| {
        let place = Place::of(&unit_name(stack), scope).filter(|place| place.path.exists())?;
        Some(of_place(&place, scope))
    })
}

fn of_place(place: &Place, scope: Scope) -> Report {
    let mut report = Report {
        unit: place.unit.clone(),
        scope,
        file: place.path.clone(),
        start: None,
        active: None,
        result: None,
        drift: Vec::new(),
    };
    let seen = Systemctl::of(scope).and_then(|manager| manager.show(&place.unit));
    let shown = match seen {
        Ok(shown) => shown,
        Err(error) => {
            report.drift.push(format!("nothing more can be told of it: {error}"));
            return report;
        }
    };
    match place.existing(&shown) {
        Ok(existing) => {
            if let Existing::Own { text, .. } = &existing {
                report.start = Some(start_of(text, shown.enablement.as_ref()));
            }
            report.drift = drift(&place.path, &existing, &shown);
        }
        Err(error) => report.drift.push(format!("cannot read {}: {error}", place.path.display())),
    }
    report.result = (shown.active_state == "failed").then_some(shown.result);
    report.active = Some(shown.active_state);
    report
}

const fn start_word(start: Start) -> &'static str {
    match start {
        Start::Auto => "auto",
        Start::Delayed => "delayed",
        Start::Manual => "manual",
    }
}

impl Report {
    /// A line on the registration, and one for each thing that is not as it was registered.
    pub(crate) fn words(&self) -> Vec<String> {
        let user = if self.scope == Scope::User { " of this user" } else { "" };
        let starts = match self.start {
            Some(Start::Auto) => ", starts at boot",
            Some(Start::Delayed) => ", starts at boot after everything else",
            Some(Start::Manual) => ", does not start by itself",
            None => "",
        };
        let active = match (&self.active, &self.result) {
            (Some(active), Some(result)) => format!(", {active} ({result})"),
            (Some(active), None) => format!(", {active}"),
            (None, _) => String::new(),
        };
        let mut words = vec![format!("registered as {}{user}{starts}{active}", self.unit)];
        words.extend(self.drift.iter().cloned());
        words
    }

    /// The same for programs.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "unit": self.unit,
            "scope": if self.scope == Scope::User { "user" } else { "system" },
            "file": self.file,
            "start": self.start.map(start_word),
            "active": self.active,
            "result": self.result,
            "drift": self.drift,
        })
    }
}
