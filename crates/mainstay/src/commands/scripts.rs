//! `install --init`: the files for an init system that is not systemd, shown, or written into a folder.

use std::io::ErrorKind;
use std::path::Path;

use mainstay_types::ExitCode;
use mainstay_unit::{Init, Registration, ScriptFile, Stamp, files, stamp};

use crate::failure::Failure;
use crate::terminal::print;

/// Shows the files, or writes them below `output`. Files somebody else wrote or changed are left alone, and then nothing is
/// written.
pub(crate) fn scripts(
    registration: &Registration,
    init: Init,
    output: Option<&Path>,
    force: bool,
    quiet: bool,
) -> Result<(), Failure> {
    let files = files(registration, init).map_err(|error| Failure::from_error(ExitCode::Failed, &error))?;
    let Some(dir) = output else {
        for file in &files {
            let head = if files.len() > 1 { format!("==> {} <==\n", file.path) } else { String::new() };
            // A reader that has gone needs no answer.
            let _ = print(&format!("{head}{}", file.text));
        }
        return Ok(());
    };
    let marked = files.first().map(|first| dir.join(&first.path));
    if let Some(path) = marked.filter(|path| path.exists()) {
        may_be_replaced(&path, force)?;
    }
    for file in &files {
        let path = dir.join(&file.path);
        write(&path, file).map_err(|source| {
            let denied = source.kind() == ErrorKind::PermissionDenied;
            let code = if denied { ExitCode::NotPermitted } else { ExitCode::Failed };
            let next = if denied {
                "\n  next: call it again with sudo, or name another folder with --output"
            } else {
                ""
            };
            Failure::new(code, format!("cannot write {}: {source}{next}", path.display()))
        })?;
        if !quiet {
            anstream::eprintln!("wrote {}", path.display());
        }
    }
    if !quiet {
        anstream::eprintln!("{}", next_step(&registration.name(), init, dir));
    }
    Ok(())
}

fn may_be_replaced(path: &Path, force: bool) -> Result<(), Failure> {
    let text = std::fs::read(path).map_err(|error| {
        Failure::new(ExitCode::Failed, format!("cannot read {}: {error}", path.display()))
    })?;
    let words = match stamp(&String::from_utf8_lossy(&text)) {
        Stamp::Intact => return Ok(()),
        Stamp::Edited if force => return Ok(()),
        Stamp::Edited => "was changed by hand since mainstay wrote it; --force overwrites it",
        Stamp::Foreign => "is there and was not written by mainstay",
    };
    Err(Failure::new(ExitCode::Failed, format!("{} {words}; nothing was changed", path.display())))
}

/// In one step, so that a supervisor that looks meanwhile finds the old file or the new one.
fn write(path: &Path, file: &ScriptFile) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let beside = path.with_extension("new");
    let written = std::fs::write(&beside, &file.text)
        .and_then(|()| if file.executable { mainstay_os::make_executable(&beside) } else { Ok(()) })
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // It may never have come to be.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn next_step(name: &str, init: Init, dir: &Path) -> String {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let dir = dir.display();
    match init {
        Init::Openrc => format!("next: `cp {dir}/{name} /etc/init.d/`, `rc-update add {name} default`"),
        Init::Runit => {
            format!("next: `ln -s {dir}/{name} /etc/service/`, or into the folder that runsvdir looks at")
        }
        Init::S6 => format!("next: `ln -s {dir}/{name} SCANDIR/`, `s6-svscanctl -a SCANDIR`"),
    }
}
