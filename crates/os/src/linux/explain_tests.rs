//! Each reason why a program cannot be executed, made for real, and a healthy twin beside it.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn file(dir: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn check(path: &Path) -> Result<PathBuf, (i32, String)> {
    check_executable(path.as_os_str(), None, Path::new("/"), None)
        .map_err(|failure| (failure.errno, failure.hint.unwrap_or_default()))
}

#[test]
fn reasons_and_their_twins() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let fails = |path: &Path, errno: i32, words: &str| {
        let (got, hint) = check(path).unwrap_err();
        assert!(got == errno && hint.contains(words), "{}: {got} {hint:?}", path.display());
    };
    fails(&dir.join("missing"), libc::ENOENT, "");
    fails(
        &dir.join("no/such/program"),
        libc::ENOENT,
        &format!("the folder {}/no does not exist", dir.display()),
    );
    let gone = dir.join("gone");
    std::os::unix::fs::symlink("/nowhere/at/all", &gone).unwrap();
    fails(&gone, libc::ENOENT, "a symbolic link to /nowhere/at/all");
    fails(&file(dir, "crlf", b"#!/bin/sh\r\necho\r\n", 0o755), libc::ENOENT, "carriage return");
    fails(&file(dir, "interp", b"#!/no/python\n", 0o755), libc::ENOENT, "interpreter /no/python");
    fails(&file(dir, "empty", b"", 0o755), libc::ENOEXEC, "empty");
    fails(&file(dir, "text", b"echo hello\n", 0o755), libc::ENOEXEC, "without a #! line");
    fails(&file(dir, "mode", b"#!/bin/sh\n", 0o644), libc::EACCES, "mode 0644");
    fails(dir, libc::EACCES, "a folder, not a program");
    fails(&dir.join("text/below"), libc::ENOTDIR, "a file, not a folder");
    assert!(check(&file(dir, "good", b"#!/bin/sh\necho\n", 0o755)).is_ok());
    assert!(check(&file(dir, "env", b"#! /usr/bin/env sh\r\n", 0o755)).is_ok());
    assert!(check(Path::new("/bin/sh")).is_ok());
    assert!(check(Path::new("sh")).is_ok());
    fails(Path::new("no-such-program-at-all"), libc::ENOENT, "/usr/local/sbin:/usr/local/bin");
}

#[test]
fn other_machines_and_loaders() {
    let temp = tempfile::tempdir().unwrap();
    let mut elf = fs::read("/bin/sh").unwrap();
    elf.truncate(64 * 1024);
    let Format::Elf { loader: Some(loader), .. } = Format::of(&elf[..FIRST_BYTES], Path::new("/bin/sh"))
    else {
        panic!("/bin/sh is a dynamic program")
    };
    let name = loader.as_os_str().as_bytes();
    let at = elf.windows(name.len()).position(|window| window == name).unwrap();
    let mut lost = elf.clone();
    lost[at + 1] = b'X';
    let (errno, hint) = check(&file(temp.path(), "loader", &lost, 0o755)).unwrap_err();
    assert!(errno == libc::ENOENT && hint.contains("loader /X"), "{hint}");
    // s390, which is no cousin of any machine the list knows.
    elf[18..20].copy_from_slice(&22_u16.to_le_bytes());
    let (errno, hint) = check(&file(temp.path(), "machine", &elf, 0o755)).unwrap_err();
    assert!(errno == libc::ENOEXEC && hint.contains("built for s390"), "{hint}");
}

#[test]
fn who_may_search_and_execute() {
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let private = temp.path().join("private");
    fs::create_dir(&private).unwrap();
    let program = file(&private, "program", b"#!/bin/sh\n", 0o750);
    let stranger = Identity { uid: 54321, gid: 54321, groups: vec![54321] };
    let check = || check_executable(program.as_os_str(), None, Path::new("/"), Some(&stranger));
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    let hint = check().unwrap_err().hint.unwrap();
    assert!(hint.contains("private cannot be searched by user 54321"), "{hint}");
    fs::set_permissions(&private, fs::Permissions::from_mode(0o711)).unwrap();
    let hint = check().unwrap_err().hint.unwrap();
    assert!(hint.contains("no execute permission for user 54321"), "{hint}");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(check().is_ok());
}
