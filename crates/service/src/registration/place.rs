//! Where the file of a unit is, and what is there now.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use mainstay_unit::{Existing, Scope, Shown, existing};

/// The file of one unit.
#[derive(Debug)]
pub struct Place {
    /// `mainstay-shop.service`.
    pub unit: String,
    /// Its file.
    pub path: PathBuf,
}

impl Place {
    /// The unit of this name, which is without `.service`, where systemd looks first for the units of this scope (systemd.unit(5)); `None` for a user without a home.
    #[must_use]
    pub fn of(name: &str, scope: Scope) -> Option<Self> {
        let dir = match scope {
            Scope::System => PathBuf::from("/etc/systemd/system"),
            Scope::User => {
                let set =
                    |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
                let base = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
                base.join("systemd/user")
            }
        };
        Some(Self::within(&dir, name))
    }

    /// The unit of this name in this folder.
    #[must_use]
    pub fn within(dir: &Path, name: &str) -> Self {
        let unit = format!("{name}.service");
        Self { path: dir.join(&unit), unit }
    }

    /// Whose file is there.
    ///
    /// # Errors
    /// The system's answer.
    pub fn existing(&self, shown: &Shown) -> io::Result<Existing> {
        let is_link = match std::fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata.is_symlink(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        let text = match std::fs::read(&self.path) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(existing(&self.path, text.as_deref(), is_link, shown))
    }

    /// Puts `text` there in one step: whoever reads the file meanwhile, and whatever happens to the machine, finds the old
    /// text or the new one.
    ///
    /// # Errors
    /// The system's answer.
    pub fn write(&self, text: &str) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(dir)?;
        let beside = dir.join(format!(".{}.new", self.unit));
        let written = (|| {
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, &self.path)
        })();
        if written.is_err() {
            // It may never have come to be.
            let _ = std::fs::remove_file(&beside);
        }
        written
    }

    /// Takes the file away.
    ///
    /// # Errors
    /// The system's answer.
    pub fn remove(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}
