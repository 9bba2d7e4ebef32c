//! Which file a command means, and why one cannot be run, in words.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use mainstay_types::{LaunchFailure, LaunchStep};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_BAD_EXE_FORMAT, ERROR_COMMITMENT_LIMIT, ERROR_DIRECTORY,
    ERROR_ELEVATION_REQUIRED, ERROR_FILE_NOT_FOUND, ERROR_NO_SYSTEM_RESOURCES, ERROR_NOT_ENOUGH_MEMORY,
    ERROR_NOT_ENOUGH_QUOTA, ERROR_OUTOFMEMORY, ERROR_PATH_NOT_FOUND,
};

use crate::Identity;

/// What a name without one of them is tried with, in this order: what the system itself can run.
const EXTENSIONS: [&str; 4] = ["exe", "com", "bat", "cmd"];

/// The file that `program` means, as far as names show: a path starts at `workdir`, a bare name is looked for in the
/// folders of `path`, never in the working folder.
///
/// # Errors
/// When there is no such file.
pub fn check_executable(
    program: &OsStr,
    path: Option<&OsStr>,
    workdir: &Path,
    _identity: Option<&Identity>,
) -> Result<PathBuf, LaunchFailure> {
    let is_bare =
        Path::new(program).components().count() == 1 && !program.to_string_lossy().contains(['\\', '/', ':']);
    let default = super::default_path();
    let folders: Vec<PathBuf> = if is_bare {
        let path = path.filter(|path| !path.is_empty()).unwrap_or(&default);
        std::env::split_paths(path).filter(|folder| folder.is_absolute()).collect()
    } else {
        vec![workdir.to_owned()]
    };
    let names = names_of(Path::new(program));
    let found = folders.iter().flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    found.into_iter().find(|file| file.is_file()).ok_or_else(|| {
        let file = if is_bare { PathBuf::from(program) } else { workdir.join(program) };
        let hint = is_bare.then(|| match path {
            Some(path) => format!("no such program in the folders of its PATH, {}", path.display()),
            None => format!("no such program in the default PATH, {}", default.display()),
        });
        failure_of(LaunchStep::Exec, Some(file), ERROR_FILE_NOT_FOUND, hint)
    })
}

/// The names a file may have: as written when the extension says that it can be run; else with each that does, and as
/// written after these.
fn names_of(program: &Path) -> Vec<PathBuf> {
    let known = program
        .extension()
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)));
    if known {
        return vec![program.to_owned()];
    }
    let with = |extension: &str| {
        let mut name = program.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        PathBuf::from(name)
    };
    EXTENSIONS.iter().map(|extension| with(extension)).chain([program.to_owned()]).collect()
}

/// Whether `cmd.exe` runs it.
pub(super) fn is_batch_file(file: &Path) -> bool {
    file.extension().is_some_and(|extension| {
        extension.eq_ignore_ascii_case("bat") || extension.eq_ignore_ascii_case("cmd")
    })
}

/// Why the system did not create the process, `file` being the program.
pub(super) fn not_created(file: &Path, workdir: &Path, error: &io::Error) -> LaunchFailure {
    let number = error.raw_os_error().map_or(0, i32::cast_unsigned);
    match number {
        ERROR_DIRECTORY => failure_of(LaunchStep::Workdir, Some(workdir.to_owned()), number, None),
        ERROR_NOT_ENOUGH_MEMORY | ERROR_OUTOFMEMORY | ERROR_COMMITMENT_LIMIT | ERROR_NO_SYSTEM_RESOURCES => {
            failure_of(LaunchStep::Spawn, None, number, None)
        }
        ERROR_NOT_ENOUGH_QUOTA => {
            let hint = "its limits do not even allow its first process: raise `limits`".to_owned();
            failure_of(LaunchStep::Limits, None, number, Some(hint))
        }
        _ => failure_of(LaunchStep::Exec, Some(file.to_owned()), number, hint(number)),
    }
}

fn hint(number: u32) -> Option<String> {
    let text = match number {
        ERROR_BAD_EXE_FORMAT => {
            "it is no program of Windows for this processor; a script needs its interpreter in `command`"
        }
        ERROR_ACCESS_DENIED => {
            "the account of mainstay may not run it: see its security settings, and whether a scanner blocks it"
        }
        ERROR_ELEVATION_REQUIRED => "it asks for administrator's rights: run mainstay as an administrator",
        _ => return None,
    };
    Some(text.to_owned())
}

/// A failure with the system's words for `number`; 0 takes none.
pub(super) fn failure_of(
    step: LaunchStep,
    path: Option<PathBuf>,
    number: u32,
    hint: Option<String>,
) -> LaunchFailure {
    // A folder that is missing on the way is the same to whoever reads it.
    let number = if number == ERROR_PATH_NOT_FOUND && step == LaunchStep::Exec {
        ERROR_FILE_NOT_FOUND
    } else {
        number
    };
    let error = io::Error::from_raw_os_error(number.cast_signed());
    LaunchFailure { step, path, errno: number.cast_signed(), message: words(&error), hint }
}

/// The same for something that is no number of the system.
pub(super) fn failure_in_words(step: LaunchStep, path: Option<PathBuf>, message: String) -> LaunchFailure {
    LaunchFailure { step, path, errno: 0, message, hint: None }
}

/// From an error of one of the calls around a start.
pub(super) fn failure_from(step: LaunchStep, path: Option<PathBuf>, error: &io::Error) -> LaunchFailure {
    LaunchFailure { step, path, errno: error.raw_os_error().unwrap_or(0), message: words(error), hint: None }
}

/// The system's words without the number std adds to them.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_tried_with_what_can_be_run() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["tool.exe", "tool.cmd", "script.bat", "python3.11.exe", "plain"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let path = Some(dir.path().as_os_str());
        let elsewhere = Path::new(r"C:\");
        let found = |program: &str| {
            check_executable(program.as_ref(), path, elsewhere, None)
                .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
        };
        for (program, file) in [
            ("tool", "tool.exe"),
            ("tool.cmd", "tool.cmd"),
            ("script", "script.bat"),
            ("python3.11", "python3.11.exe"),
            ("plain", "plain"),
        ] {
            assert_eq!(found(program).unwrap(), file);
        }
        let failure = found("nothing").unwrap_err();
        assert_eq!((failure.step, failure.errno), (LaunchStep::Exec, 2));
        assert!(failure.hint.unwrap().contains("PATH"));
        // A path is looked for from the working folder on, and nowhere else.
        assert!(check_executable(r".\tool".as_ref(), path, dir.path(), None).is_ok());
        let failure = check_executable(r".\tool".as_ref(), path, elsewhere, None).unwrap_err();
        assert_eq!((failure.errno, failure.hint), (2, None));
        assert!(is_batch_file(Path::new("X.CMD")) && !is_batch_file(Path::new("x.exe")));
    }
}
