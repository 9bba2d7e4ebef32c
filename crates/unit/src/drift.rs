//! What a service manager says about a unit, and in what that differs from what mainstay registered.

use std::path::{Path, PathBuf};

use crate::registration::Start;
use crate::stamp::{Stamp, stamp};

/// What systemd says about one unit (`systemctl show`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shown {
    /// `loaded`, `not-found`, `bad-setting`, `error`, `masked`.
    pub load_state: String,
    /// `active`, `activating`, `inactive`, `failed`, ...
    pub active_state: String,
    /// `running`, `dead`, `start`, ...
    pub sub_state: String,
    /// Whether it is enabled; nothing when there is no such unit.
    pub enablement: Option<Enablement>,
    /// The file it was read from.
    pub fragment_path: Option<PathBuf>,
    /// The file has changed since systemd read it.
    pub needs_reload: bool,
    /// Files that add to it.
    pub drop_ins: Vec<PathBuf>,
    /// How it ended last: `success`, `exit-code`, `watchdog`, ...
    pub result: String,
    /// What the host said about itself last.
    pub status_text: String,
    /// The host.
    pub main_pid: Option<u32>,
}

impl Shown {
    /// Whether it runs, or is on its way.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(&*self.active_state, "active" | "activating" | "reloading" | "deactivating")
    }
}

/// Whether a unit starts by itself (`systemctl is-enabled`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Enablement {
    /// It does.
    Enabled,
    /// It does not.
    Disabled,
    /// Neither: `masked`, `enabled-runtime`, ... in systemd's word.
    Other(String),
}

impl Enablement {
    /// From systemd's word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "" => None,
            "enabled" => Some(Self::Enabled),
            "disabled" => Some(Self::Disabled),
            other => Some(Self::Other(other.to_owned())),
        }
    }

    /// Systemd's word.
    #[must_use]
    pub fn as_word(&self) -> &str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Other(word) => word,
        }
    }
}

/// What is in the place of the unit's file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Existing {
    /// Nothing.
    None,
    /// A file mainstay wrote.
    Own {
        /// Its text.
        text: String,
        /// Somebody changed it since.
        edited: bool,
    },
    /// Somebody else's, here or in another place that counts.
    Foreign(PathBuf),
}

/// Whose unit it is. `text` is the file at `path`, if there is one that can be read; `shown` what systemd says of the name.
#[must_use]
pub fn existing(path: &Path, text: Option<&str>, is_link: bool, shown: &Shown) -> Existing {
    if is_link {
        // `systemctl mask` and `systemctl link` make links; mainstay makes files.
        return Existing::Foreign(path.to_owned());
    }
    match text.map(|text| (stamp(text), text)) {
        Some((Stamp::Foreign, _)) => Existing::Foreign(path.to_owned()),
        Some((stamp, text)) => Existing::Own { text: text.to_owned(), edited: stamp == Stamp::Edited },
        None => match &shown.fragment_path {
            Some(elsewhere) if elsewhere != path && shown.load_state != "not-found" => {
                Existing::Foreign(elsewhere.clone())
            }
            Some(_) | None => Existing::None,
        },
    }
}

/// In what a registered unit differs from what mainstay wrote, in words.
#[must_use]
pub fn drift(path: &Path, existing: &Existing, shown: &Shown) -> Vec<String> {
    let mut words = Vec::new();
    match existing {
        Existing::None | Existing::Own { edited: false, .. } => {}
        Existing::Foreign(path) => words.push(format!("{} was not written by mainstay", path.display())),
        Existing::Own { edited: true, .. } => words.push(format!(
            "{} was changed by hand since mainstay wrote it: put changes into a drop-in with `systemctl edit`, then \
             `mainstay install --force` writes it anew",
            path.display()
        )),
    }
    if let (Existing::Own { .. }, Some(counts)) = (existing, &shown.fragment_path)
        && counts != path
    {
        words.push(format!("{} counts in its place", counts.display()));
    }
    if matches!(&*shown.load_state, "bad-setting" | "error" | "masked") {
        words.push(format!("systemd does not take the unit: it is {}", shown.load_state));
    }
    if shown.needs_reload {
        words.push("systemd has not read the unit since it changed: `systemctl daemon-reload`".to_owned());
    }
    for file in &shown.drop_ins {
        words.push(format!("{} adds to it", file.display()));
    }
    words
}

/// When a unit starts by itself, by its text and systemd's word.
#[must_use]
pub fn start_of(text: &str, enablement: Option<&Enablement>) -> Start {
    let delayed = ["After=multi-user.target", "After=default.target"];
    match enablement {
        Some(Enablement::Enabled) if text.lines().any(|line| delayed.contains(&line)) => Start::Delayed,
        Some(Enablement::Enabled) => Start::Auto,
        Some(Enablement::Disabled | Enablement::Other(_)) | None => Start::Manual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::registration;

    const PATH: &str = "/etc/systemd/system/mainstay-shop.service";

    fn shown() -> Shown {
        Shown {
            load_state: "loaded".to_owned(),
            fragment_path: Some(PATH.into()),
            enablement: Some(Enablement::Enabled),
            ..Shown::default()
        }
    }

    #[test]
    fn whose_a_unit_is() {
        let own = crate::systemd::text(&registration(), 252).unwrap();
        let path = Path::new(PATH);
        let seen = |text: Option<&str>, shown: &Shown| existing(path, text, false, shown);
        assert_eq!(seen(Some(&own), &shown()), Existing::Own { text: own.clone(), edited: false });
        assert!(matches!(seen(Some(&(own.clone() + "#")), &shown()), Existing::Own { edited: true, .. }));
        assert_eq!(seen(Some("[Unit]\n"), &shown()), Existing::Foreign(PATH.into()));
        assert_eq!(existing(path, Some(&own), true, &shown()), Existing::Foreign(PATH.into()));
        assert_eq!(seen(None, &Shown::default()), Existing::None);
        let elsewhere = Shown { fragment_path: Some("/usr/lib/x.service".into()), ..shown() };
        assert_eq!(seen(None, &elsewhere), Existing::Foreign("/usr/lib/x.service".into()));
        // Removed, and systemd has not read that yet.
        assert_eq!(seen(None, &shown()), Existing::None);
    }

    #[test]
    fn what_is_as_registered_has_no_drift() {
        let own = crate::systemd::text(&registration(), 252).unwrap();
        let existing = Existing::Own { text: own, edited: false };
        assert!(drift(Path::new(PATH), &existing, &shown()).is_empty());
    }

    #[test]
    fn every_difference_is_told() {
        let own = crate::systemd::text(&registration(), 252).unwrap();
        let path = Path::new(PATH);
        let told = |edited: bool, shown: &Shown| {
            drift(path, &Existing::Own { text: own.clone(), edited }, shown).join("\n")
        };
        assert!(told(true, &shown()).contains("changed by hand"));
        let much = Shown {
            fragment_path: Some("/run/x.service".into()),
            needs_reload: true,
            drop_ins: vec!["/etc/d/x.conf".into()],
            load_state: "bad-setting".to_owned(),
            ..shown()
        };
        let words = told(false, &much);
        for word in ["/run/x.service counts", "daemon-reload", "/etc/d/x.conf adds", "it is bad-setting"] {
            assert!(words.contains(word), "{word}: {words}");
        }
    }

    #[test]
    fn the_way_it_starts_is_read_back() {
        let mut shop = registration();
        for start in [Start::Auto, Start::Delayed] {
            shop.start = start;
            let text = crate::systemd::text(&shop, 252).unwrap();
            assert_eq!(start_of(&text, Some(&Enablement::Enabled)), start);
            assert_eq!(start_of(&text, Some(&Enablement::Disabled)), Start::Manual);
        }
    }
}
