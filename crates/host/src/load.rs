//! From a path to a validated stack, and from a stack to what else must be there for it to run.

use std::io;
use std::path::{Path, PathBuf};

use mainstay_config::{Diagnostics, Stack};
use mainstay_types::StackName;

use crate::paths::folder_of;

/// Why a file gives no stack.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such file.
    #[error(
        "there is no file {}\n  next: `mainstay init -- COMMAND` writes one, or name another with -f FILE",
        .0.display()
    )]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is read, and wrong.
    #[error("{0}")]
    Invalid(Diagnostics),
}

/// Reads and validates `file`. `${NAME}` comes from `env`.
pub fn load(file: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Stack, LoadError> {
    let file =
        std::path::absolute(file).map_err(|source| LoadError::Read { path: file.to_owned(), source })?;
    let file = canonical_folder(&file);
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(LoadError::Missing(file)),
        Err(source) => return Err(LoadError::Read { path: file, source }),
    };
    let text = mainstay_config::decode(&bytes, &file).map_err(LoadError::Invalid)?;
    mainstay_config::parse(&mainstay_config::Input { text: &text, file: &file, env })
        .map_err(LoadError::Invalid)
}

/// The name of the stack of a file that need not be valid otherwise; `None` when even that cannot be read from it.
#[must_use]
pub fn stack_name(file: &Path, env: &dyn Fn(&str) -> Option<String>) -> Option<StackName> {
    let file = canonical_folder(&std::path::absolute(file).ok()?);
    let text = mainstay_config::decode(&std::fs::read(&file).ok()?, &file).ok()?;
    mainstay_config::stack_name(&mainstay_config::Input { text: &text, file: &file, env })
}

/// The file with its folder's real path, so that the stack named after the folder is the same from everywhere.
/// The file itself may be a link: relative paths count from where the link lies.
fn canonical_folder(file: &Path) -> PathBuf {
    match (mainstay_os::canonical(folder_of(file)), file.file_name()) {
        (Ok(dir), Some(name)) => dir.join(name),
        (Err(_), _) | (_, None) => file.to_owned(),
    }
}
