//! File probes: whether a file or folder is there, and why not.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use mainstay_types::ProbeFailure;

use crate::looks::{Looks, NoLook};
use crate::tcp::Limit;

static LOOKS: Looks<Result<String, String>> = Looks::new();

/// Looks once. A relative path is relative to the folder of the host.
pub(crate) async fn check(path: &Path, timeout: Duration) -> Result<String, ProbeFailure> {
    let failure = |message| ProbeFailure::File { path: path.to_owned(), message };
    match LOOKS.look(path, &Limit::from_now(timeout), look).await {
        Ok(found) => found.map_err(failure),
        Err(NoLook::TimedOut) => Err(ProbeFailure::TimedOut(timeout)),
        Err(NoLook::NoThread(error)) => Err(failure(format!("cannot look for it: {error}"))),
    }
}

fn look(path: &Path) -> Result<String, String> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok("is there (folder)".to_owned()),
        Ok(found) if found.is_file() => {
            let bytes = found.len();
            Ok(format!("is there (file, {bytes} byte{})", if bytes == 1 { "" } else { "s" }))
        }
        Ok(_) => Ok("is there (a socket, pipe or device)".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!("{error}{}", missing(path))),
        Err(error) => Err(error.to_string()),
    }
}

/// What is missing, when it is not simply the file.
fn missing(path: &Path) -> String {
    if let Ok(target) = fs::read_link(path) {
        return format!("; it is a link to {}, which is not there", target.display());
    }
    let mut folders: Vec<_> =
        path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).collect();
    folders.reverse();
    let absent =
        |folder: &&Path| fs::metadata(folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    match folders.into_iter().find(absent) {
        Some(folder) => format!("; {} is not there either", folder.display()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMPLE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn files_and_folders_pass() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        for (content, evidence) in [
            ("", "is there (file, 0 bytes)"),
            ("1", "is there (file, 1 byte)"),
            ("12", "is there (file, 2 bytes)"),
        ] {
            fs::write(&file, content).unwrap();
            assert_eq!(check(&file, AMPLE).await, Ok(evidence.to_owned()));
        }
        assert_eq!(check(folder.path(), AMPLE).await, Ok("is there (folder)".to_owned()));
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display().to_string();
        fs::write(folder.path().join("file"), "").unwrap();
        // The same number on Linux (ENOENT) and on Windows (ERROR_FILE_NOT_FOUND), where a folder has another.
        let not_found = io::Error::from_raw_os_error(2).to_string();
        for (name, end) in [
            ("a", String::new()),
            ("a/b/c", format!("; {here}/a is not there either").replace('/', std::path::MAIN_SEPARATOR_STR)),
        ] {
            let path = folder.path().join(name);
            let Err(ProbeFailure::File { path: told, message }) = check(&path, AMPLE).await else { panic!() };
            assert_eq!(told, path);
            assert!(message.starts_with(&not_found) || name != "a", "{message}");
            assert!(message.ends_with(&end), "{message}");
        }
        let Err(ProbeFailure::File { message, .. }) = check(&folder.path().join("file/x"), AMPLE).await
        else {
            panic!()
        };
        assert!(!message.is_empty());
    }

    #[tokio::test]
    #[expect(deprecated, reason = "soft_link is the one way to make a link that is the same on every system")]
    async fn links_are_followed_and_told_when_they_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let [target, link, around] = ["target", "link", "around"].map(|name| folder.path().join(name));
        fs::soft_link(&target, &link).unwrap();
        fs::soft_link(&around, &around).unwrap();
        let end = format!("; it is a link to {}, which is not there", target.display());
        let Err(ProbeFailure::File { message, .. }) = check(&link, AMPLE).await else { panic!() };
        assert!(message.ends_with(&end), "{message}");
        let Err(ProbeFailure::File { message, .. }) = check(&around, AMPLE).await else { panic!() };
        assert!(!message.contains("is a link to"), "{message}");
        fs::write(&target, "abc").unwrap();
        assert_eq!(check(&link, AMPLE).await, Ok("is there (file, 3 bytes)".to_owned()));
    }
}
