//! Every step fails once, on a service manager in memory and a real folder.

use std::cell::RefCell;
use std::path::Path;

use super::*;
use mainstay_unit::stamped;

/// systemd as far as these steps see it: what it has read from the folder, and what is enabled.
struct Fake {
    place: Place,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    loaded: bool,
    read: Option<String>,
    enabled: bool,
    up: bool,
    /// The steps so far.
    log: Vec<&'static str>,
    /// The step that fails, counted from 0.
    fails_at: Option<usize>,
    /// It takes no unit.
    refuses: bool,
}

impl Fake {
    fn new(dir: &Path) -> Self {
        let place = Place::within(dir, "mainstay-shop");
        Self { place, inner: RefCell::default() }
    }

    fn now(&self) -> Option<String> {
        std::fs::read_to_string(&self.place.path).ok()
    }
}

impl ServiceManager for Fake {
    fn version(&self) -> Result<u32, ManagerError> {
        Ok(252)
    }

    fn show(&self, _unit: &str) -> Result<Shown, ManagerError> {
        let inner = self.inner.borrow();
        let there = inner.loaded;
        Ok(Shown {
            load_state: match (there, inner.refuses) {
                (true, true) => "bad-setting",
                (true, false) => "loaded",
                (false, _) => "not-found",
            }
            .to_owned(),
            active_state: if inner.up { "active" } else { "inactive" }.to_owned(),
            enablement: there.then_some(if inner.enabled {
                Enablement::Enabled
            } else {
                Enablement::Disabled
            }),
            fragment_path: there.then(|| self.place.path.clone()),
            needs_reload: inner.read != self.now(),
            ..Shown::default()
        })
    }

    fn act(&self, verb: Verb, _unit: &str, _limit: Duration) -> Result<(), ManagerError> {
        let mut inner = self.inner.borrow_mut();
        inner.log.push(verb.as_word());
        if inner.fails_at == Some(inner.log.len() - 1) {
            return Err(ManagerError::Refused { command: verb.as_word().to_owned(), said: "no".to_owned() });
        }
        match verb {
            Verb::Reread => {
                inner.read = self.now();
                inner.loaded = inner.read.is_some();
            }
            Verb::Enable => inner.enabled = true,
            Verb::Disable => inner.enabled = false,
            Verb::Start => inner.up = true,
            Verb::Stop => inner.up = false,
            Verb::ResetFailed => {}
        }
        Ok(())
    }
}

fn unit(body: &str) -> String {
    stamped("# Written by mainstay.\n", body, "# ", "")
}

fn asked(text: &str, start: Start) -> Asked<'_> {
    Asked { text, start, force: false }
}

/// Why it was rolled back.
fn cause(result: Result<Vec<String>, StepError>) -> StepError {
    let error = result.unwrap_err();
    let StepError::RolledBack { cause, .. } = error else { panic!("not rolled back: {error}") };
    *cause
}

fn files(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn it_is_written_enabled_and_the_second_time_nothing_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(dir.path());
    let text = unit("[Unit]\n");
    let done = install(&fake, &fake.place, asked(&text, Start::Auto)).unwrap();
    assert_eq!((done.len(), fake.now()), (2, Some(text.clone())));
    assert!(fake.inner.borrow().enabled);
    let log = fake.inner.borrow().log.len();
    assert!(install(&fake, &fake.place, asked(&text, Start::Auto)).unwrap().is_empty());
    assert_eq!(fake.inner.borrow().log.len(), log, "nothing was asked of it");
    // Another start, another text.
    install(&fake, &fake.place, asked(&text, Start::Manual)).unwrap();
    assert!(!fake.inner.borrow().enabled);
    let newer = unit("[Unit]\nDescription=x\n");
    install(&fake, &fake.place, asked(&newer, Start::Manual)).unwrap();
    assert_eq!(fake.now(), Some(newer));
}

#[test]
fn whichever_step_fails_everything_is_as_before() {
    let old = unit("[Unit]\nDescription=old\n");
    let new = unit("[Unit]\nDescription=new\n");
    for had in [None, Some((&old, false)), Some((&old, true))] {
        for fails_at in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            let fake = Fake::new(dir.path());
            if let Some((old, enabled)) = had {
                let start = if enabled { Start::Auto } else { Start::Manual };
                install(&fake, &fake.place, asked(old, start)).unwrap();
            }
            // To the other start, so that there are two steps in any case.
            let start = if had.is_some_and(|(_, enabled)| enabled) { Start::Manual } else { Start::Auto };
            let before = (fake.now(), fake.inner.borrow().enabled, fake.inner.borrow().loaded);
            let at = fake.inner.borrow().log.len() + fails_at;
            fake.inner.borrow_mut().fails_at = Some(at);
            let error = install(&fake, &fake.place, asked(&new, start)).unwrap_err();
            assert!(
                matches!(&error, StepError::RolledBack { undone, .. } if undone.is_empty()),
                "{had:?} {fails_at}: {error}"
            );
            let after = (fake.now(), fake.inner.borrow().enabled, fake.inner.borrow().loaded);
            assert_eq!(before, after, "{had:?} {fails_at}");
            assert_eq!(fake.inner.borrow().read, before.0, "systemd has read what is there");
        }
    }
}

#[test]
fn a_unit_that_systemd_does_not_take_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(dir.path());
    fake.inner.borrow_mut().refuses = true;
    let error = cause(install(&fake, &fake.place, asked(&unit("[Unit]\n"), Start::Auto)));
    assert!(error.to_string().contains("bad-setting"), "{error}");
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(dir.path());
    let old = unit("[Unit]\n");
    install(&fake, &fake.place, asked(&old, Start::Auto)).unwrap();
    // A folder in the place of the file that is written first: the system refuses it as it refuses a full disk.
    std::fs::create_dir(dir.path().join(".mainstay-shop.service.new")).unwrap();
    let error = cause(install(&fake, &fake.place, asked(&unit("[Unit]\n#\n"), Start::Auto)));
    assert!(error.to_string().contains("cannot write"), "{error}");
    assert_eq!(fake.now(), Some(old));
}

#[test]
fn what_is_somebody_elses_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(dir.path());
    std::fs::write(&fake.place.path, "[Unit]\n").unwrap();
    let text = unit("[Unit]\n");
    let force = Asked { force: true, ..asked(&text, Start::Auto) };
    assert!(matches!(install(&fake, &fake.place, force), Err(StepError::Foreign(_))));
    assert!(matches!(uninstall(&fake, &fake.place, STEP_LIMIT), Err(StepError::Foreign(_))));
    assert_eq!(fake.now().as_deref(), Some("[Unit]\n"));
    assert!(fake.inner.borrow().log.is_empty());
}

#[test]
fn what_was_changed_by_hand_is_overwritten_only_by_force() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(dir.path());
    let text = unit("[Unit]\n");
    let edited = text.clone() + "Description=mine\n";
    std::fs::write(&fake.place.path, &edited).unwrap();
    assert!(matches!(install(&fake, &fake.place, asked(&text, Start::Auto)), Err(StepError::Edited { .. })));
    assert_eq!(fake.now(), Some(edited));
    install(&fake, &fake.place, Asked { force: true, ..asked(&text, Start::Auto) }).unwrap();
    assert_eq!(fake.now(), Some(text));
}

#[test]
fn nothing_is_left_of_what_is_uninstalled() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(dir.path());
    assert!(matches!(uninstall(&fake, &fake.place, STEP_LIMIT), Err(StepError::NotRegistered(_))));
    install(&fake, &fake.place, asked(&unit("[Unit]\n"), Start::Auto)).unwrap();
    fake.inner.borrow_mut().up = true;
    let done = uninstall(&fake, &fake.place, STEP_LIMIT).unwrap();
    assert_eq!(done.len(), 2, "{done:?}");
    let inner = fake.inner.borrow();
    assert!(!inner.up && !inner.enabled && !inner.loaded && files(dir.path()).is_empty());
}
