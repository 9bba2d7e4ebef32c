//! Why a launch failed, and what to look at next: found by looking at the files concerned, nothing is executed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mainstay_types::{LaunchFailure, LaunchStep};

use super::wire::{self, DEFAULT_PATH};
use crate::{Identity, Launch};

/// As much of a file's beginning as the kernel looks at for a `#!` line (BINPRM_BUF_SIZE, execve(2)).
const FIRST_BYTES: usize = 256;

/// The failure a child told, in words.
pub(super) fn explain(failure: wire::Failure, launch: &Launch) -> LaunchFailure {
    let step = wire::step_from_number(failure.step);
    let errno = failure.errno;
    let (path, hint) = match step {
        LaunchStep::Exec => {
            let candidates = wire::candidates(&launch.program, &launch.env);
            let is_bare = !launch.program.as_bytes().contains(&b'/');
            if is_bare && errno == libc::ENOENT {
                let path = launch.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value);
                (PathBuf::from(&launch.program), Some(searched(path.map(OsString::as_os_str))))
            } else {
                let path = candidates.get(failure.candidate as usize).cloned();
                let path = path.unwrap_or_else(|| PathBuf::from(&launch.program));
                let hint = exec_hint(&launch.workdir.join(&path), errno, launch.identity.as_ref());
                (path, hint)
            }
        }
        LaunchStep::Workdir => {
            let hint = workdir_hint(&launch.workdir, errno, launch.identity.as_ref());
            (launch.workdir.clone(), hint)
        }
        LaunchStep::Groups | LaunchStep::Group | LaunchStep::User => {
            let hint = (errno == libc::EPERM).then(|| {
                "only root may start programs as another user: run mainstay as root or drop `user`".to_owned()
            });
            return failure_of(step, None, errno, hint);
        }
        LaunchStep::Limits => {
            let hint = (errno == libc::EPERM).then(|| {
                let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
                let hard = hard.map_or_else(|| "unlimited".to_owned(), |hard| hard.to_string());
                format!("the host's own hard limit of open files is {hard}, and only root may go above it")
            });
            return failure_of(step, None, errno, hint);
        }
        LaunchStep::Listen if errno == libc::EINVAL => {
            let hint = "a descriptor is to have a number above the host's own hard limit of open files: choose a lower \
                        number or raise the limit";
            return failure_of(step, None, errno, Some(hint.to_owned()));
        }
        LaunchStep::Listen
        | LaunchStep::BeforeStart
        | LaunchStep::Environment
        | LaunchStep::Spawn
        | LaunchStep::Cgroup
        | LaunchStep::Session
        | LaunchStep::Stdio => {
            return failure_of(step, None, errno, spawn_hint(errno));
        }
    };
    failure_of(step, Some(path), errno, hint)
}

/// A failure with the system's words for `errno`.
pub(super) fn failure_of(
    step: LaunchStep,
    path: Option<PathBuf>,
    errno: i32,
    hint: Option<String>,
) -> LaunchFailure {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let message = text.split(" (os error").next().unwrap_or(&text).to_owned();
    LaunchFailure { step, path, errno, message, hint }
}

fn spawn_hint(errno: i32) -> Option<String> {
    match errno {
        libc::EAGAIN => {
            Some("the limit of processes of this user, control group or machine is reached".to_owned())
        }
        libc::EMFILE | libc::ENFILE => {
            Some("too many files are open: raise the limit of open files of the host".to_owned())
        }
        libc::ENOMEM => Some("the machine has no memory left for a process".to_owned()),
        libc::ENOSYS | libc::EINVAL => Some(
            "this kernel, or a filter around mainstay, lacks clone3: Linux 5.7 or newer is needed".to_owned(),
        ),
        _ => None,
    }
}

fn searched(path: Option<&OsStr>) -> String {
    match path.filter(|path| !path.is_empty()) {
        Some(path) => format!("no such program on the service's PATH, {}", path.display()),
        None => {
            format!("no such program on the default PATH, {DEFAULT_PATH}; the service's environment has none")
        }
    }
}

/// Finds `program` as a launch would, and says beforehand why it could not be executed: the same reasons and hints as
/// those of a launch that failed. `path` is the service's PATH, `identity` who it would run as.
///
/// # Errors
/// The failure that the launch would report.
pub fn check_executable(
    program: &OsStr,
    path: Option<&OsStr>,
    workdir: &Path,
    identity: Option<&Identity>,
) -> Result<PathBuf, LaunchFailure> {
    let is_bare = !program.as_bytes().contains(&b'/');
    let mut forbidden = None;
    for candidate in wire::candidates_on(program, path) {
        let full = workdir.join(&candidate);
        match would_execute(&full, identity) {
            Ok(()) => return Ok(full),
            Err(libc::ENOENT | libc::ENOTDIR) if is_bare => {}
            Err(libc::EACCES) if is_bare => forbidden = Some(full),
            Err(errno) => {
                let hint = exec_hint(&full, errno, identity);
                return Err(failure_of(LaunchStep::Exec, Some(full), errno, hint));
            }
        }
    }
    Err(match forbidden {
        Some(full) => {
            let hint = exec_hint(&full, libc::EACCES, identity);
            failure_of(LaunchStep::Exec, Some(full), libc::EACCES, hint)
        }
        None => failure_of(LaunchStep::Exec, Some(program.into()), libc::ENOENT, Some(searched(path))),
    })
}

/// What execve would answer, as far as the file shows it.
fn would_execute(path: &Path, identity: Option<&Identity>) -> Result<(), i32> {
    let meta = fs::metadata(path).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
    if !meta.is_file()
        || !may_execute(&meta, identity)
        || is_noexec(path)
        || first_blocking(path, identity).is_some()
    {
        return Err(libc::EACCES);
    }
    // A program may be executable without being readable: then its format cannot be told beforehand.
    let Some(first) = first_bytes(path) else { return Ok(()) };
    match Format::of(&first, path) {
        Format::Script { interpreter, .. } if !interpreter.exists() => Err(libc::ENOENT),
        Format::Elf { loader: Some(loader), .. } if !loader.exists() => Err(libc::ENOENT),
        Format::Elf { machine, .. } if !machine_runs_here(machine) => Err(libc::ENOEXEC),
        Format::Script { .. } | Format::Elf { .. } => Ok(()),
        // Other formats may be registered with the kernel (binfmt_misc).
        Format::Empty | Format::Text => Err(libc::ENOEXEC),
        Format::Other => Ok(()),
    }
}

fn exec_hint(path: &Path, errno: i32, identity: Option<&Identity>) -> Option<String> {
    match errno {
        libc::ENOENT => missing_hint(path),
        libc::EACCES => forbidden_hint(path, identity),
        libc::ENOEXEC => Some(match Format::of(&first_bytes(path)?, path) {
            Format::Empty => "the file is empty".to_owned(),
            Format::Script { .. } => "the interpreter in its first line is no program".to_owned(),
            Format::Text => format!(
                "a text without a #! line: make its first line #!/bin/sh (or its interpreter), \
                 or write command = [\"/bin/sh\", \"{}\"]",
                path.display()
            ),
            Format::Elf { machine, .. } if !machine_runs_here(machine) => {
                format!("built for {}, this machine is {}", machine_name(machine), std::env::consts::ARCH)
            }
            Format::Elf { .. } => "the file is damaged or cut off".to_owned(),
            Format::Other => "not a program: neither an ELF file nor a script with a #! line".to_owned(),
        }),
        libc::ENOTDIR => Some("a part of the path is a file, not a folder".to_owned()),
        libc::ETXTBSY => Some("somebody has it open for writing: is it still being copied?".to_owned()),
        libc::E2BIG => {
            Some("its arguments and environment together are longer than the kernel accepts".to_owned())
        }
        libc::ELOOP => Some("too many symbolic links, or interpreters that call each other".to_owned()),
        libc::ELIBBAD => Some("its loader is damaged or of another format".to_owned()),
        _ => None,
    }
}

fn missing_hint(path: &Path) -> Option<String> {
    if fs::metadata(path).is_err() {
        if let Ok(target) = fs::read_link(path) {
            return Some(format!("a symbolic link to {}, which does not exist", target.display()));
        }
        let gap = path
            .ancestors()
            .skip(1)
            .filter(|parent| !parent.as_os_str().is_empty() && !parent.exists())
            .last()?;
        return Some(format!("the folder {} does not exist", gap.display()));
    }
    match Format::of(&first_bytes(path)?, path) {
        Format::Script { carriage_return: true, .. } => Some(
            "its first line ends with a carriage return (Windows line ends): convert it with `sed -i 's/\\r$//'`"
                .to_owned(),
        ),
        Format::Script { interpreter, .. } => {
            Some(format!("the file is there, but its interpreter {} is not", interpreter.display()))
        }
        Format::Elf { loader: Some(loader), .. } => Some(format!(
            "the file is there, but its loader {} is not: it was built for another system or C library",
            loader.display()
        )),
        Format::Elf { .. } | Format::Empty | Format::Text | Format::Other => None,
    }
}

fn forbidden_hint(path: &Path, identity: Option<&Identity>) -> Option<String> {
    if let Some(folder) = first_blocking(path, identity) {
        return Some(format!("the folder {} cannot be searched by {}", folder.display(), who(identity)));
    }
    let meta = fs::metadata(path).ok()?;
    if meta.is_dir() {
        return Some("a folder, not a program".to_owned());
    }
    if !meta.is_file() {
        let kind = if meta.file_type().is_socket() { "socket" } else { "device or pipe" };
        return Some(format!("a {kind}, not a program"));
    }
    if !may_execute(&meta, identity) {
        let mode = meta.mode() & 0o7777;
        return Some(format!(
            "no execute permission for {} (mode {mode:04o}, owner {}:{}): chmod +x",
            who(identity),
            meta.uid(),
            meta.gid()
        ));
    }
    if is_noexec(path) {
        return Some("it lies on a file system mounted noexec".to_owned());
    }
    if let Format::Script { interpreter, .. } = Format::of(&first_bytes(path)?, path) {
        return Some(format!(
            "its interpreter {} may not be executed by {}",
            interpreter.display(),
            who(identity)
        ));
    }
    None
}

fn workdir_hint(workdir: &Path, errno: i32, identity: Option<&Identity>) -> Option<String> {
    match errno {
        libc::ENOENT => Some("create the folder or correct `workdir`".to_owned()),
        libc::ENOTDIR => Some("it is a file, not a folder".to_owned()),
        libc::EACCES => {
            let folder = first_blocking(&workdir.join("x"), identity)?;
            Some(format!("the folder {} cannot be entered by {}", folder.display(), who(identity)))
        }
        _ => None,
    }
}

fn who(identity: Option<&Identity>) -> String {
    let uid = identity.map_or_else(|| rustix::process::geteuid().as_raw(), |identity| identity.uid);
    super::identity::user_name(uid).unwrap_or_else(|| format!("user {uid}"))
}

/// The first folder above `path` that this user cannot search.
fn first_blocking(path: &Path, identity: Option<&Identity>) -> Option<PathBuf> {
    let mut folders: Vec<&Path> =
        path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).collect();
    folders.reverse();
    let blocked = |folder: &&&Path| {
        fs::metadata(folder)
            .is_ok_and(|meta| meta.is_dir() && !is_root(identity) && !has_execute_bit(&meta, identity))
    };
    folders.iter().find(blocked).map(|folder| folder.to_path_buf())
}

fn is_root(identity: Option<&Identity>) -> bool {
    identity.map_or_else(|| rustix::process::geteuid().is_root(), |identity| identity.uid == 0)
}

/// Root may execute what anybody may (capabilities(7), CAP_DAC_OVERRIDE).
fn may_execute(meta: &Metadata, identity: Option<&Identity>) -> bool {
    if is_root(identity) { meta.mode() & 0o111 != 0 } else { has_execute_bit(meta, identity) }
}

fn has_execute_bit(meta: &Metadata, identity: Option<&Identity>) -> bool {
    let own;
    let identity = match identity {
        Some(identity) => identity,
        None => {
            let groups = rustix::process::getgroups().unwrap_or_default();
            own = Identity {
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
                groups: groups.into_iter().map(rustix::process::Gid::as_raw).collect(),
            };
            &own
        }
    };
    let shift = if meta.uid() == identity.uid {
        6
    } else if meta.gid() == identity.gid || identity.groups.contains(&meta.gid()) {
        3
    } else {
        0
    };
    meta.mode() >> shift & 1 != 0
}

fn is_noexec(path: &Path) -> bool {
    // ST_NOEXEC of statvfs(3).
    rustix::fs::statvfs(path).is_ok_and(|fs| fs.f_flag.bits() & libc::ST_NOEXEC != 0)
}

fn first_bytes(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(FIRST_BYTES);
    File::open(path).ok()?.take(FIRST_BYTES as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// What a file is, by its first bytes.
#[derive(PartialEq, Eq, Debug)]
enum Format {
    Empty,
    Script { interpreter: PathBuf, carriage_return: bool },
    Elf { machine: u16, loader: Option<PathBuf> },
    Text,
    Other,
}

impl Format {
    fn of(first: &[u8], path: &Path) -> Self {
        if first.is_empty() {
            return Self::Empty;
        }
        if let Some(rest) = first.strip_prefix(b"#!") {
            let line = rest.split(|byte| *byte == b'\n').next().unwrap_or(rest);
            let trimmed = line.trim_ascii_start();
            let end = trimmed.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(trimmed.len());
            let interpreter = PathBuf::from(OsString::from_vec(trimmed[..end].to_vec()));
            // A carriage return does harm where it becomes part of the interpreter's name.
            return Self::Script { interpreter, carriage_return: trimmed[..end].ends_with(b"\r") };
        }
        if first.starts_with(b"\x7fELF") {
            return Self::elf(first, path);
        }
        let is_text = first.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace());
        if is_text { Self::Text } else { Self::Other }
    }

    /// Offsets from elf(5): class at 4, byte order at 5, machine at 18, program headers as below.
    fn elf(first: &[u8], path: &Path) -> Self {
        let is_64 = first.get(4) == Some(&2);
        let is_little = first.get(5) == Some(&1);
        let number = |bytes: &[u8], at: usize, length: usize| -> Option<u64> {
            let bytes = bytes.get(at..at + length)?;
            let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
            Some(if is_little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
        };
        let machine = number(first, 18, 2).and_then(|machine| u16::try_from(machine).ok()).unwrap_or(0);
        let (table_at, size_at, count_at) = if is_64 { (32, 54, 56) } else { (28, 42, 44) };
        let word = if is_64 { 8 } else { 4 };
        let loader = || -> Option<PathBuf> {
            let table = usize::try_from(number(first, table_at, word)?).ok()?;
            let (size, count) = (number(first, size_at, 2)?, number(first, count_at, 2)?);
            let mut bytes = Vec::new();
            // The headers lie at the beginning of every real program; more than this is not looked at.
            File::open(path).ok()?.take(64 * 1024).read_to_end(&mut bytes).ok()?;
            for header in 0..usize::try_from(count).ok()? {
                let at = table.checked_add(header.checked_mul(usize::try_from(size).ok()?)?)?;
                // PT_INTERP is 3.
                if number(&bytes, at, 4)? == 3 {
                    let (offset_at, length_at) = if is_64 { (at + 8, at + 32) } else { (at + 4, at + 16) };
                    let offset = usize::try_from(number(&bytes, offset_at, word)?).ok()?;
                    let length = usize::try_from(number(&bytes, length_at, word)?).ok()?;
                    let name = bytes.get(offset..offset.checked_add(length)?)?;
                    let name = name.split(|byte| *byte == 0).next()?;
                    return Some(PathBuf::from(OsStr::from_bytes(name)));
                }
            }
            None
        };
        Self::Elf { machine, loader: loader() }
    }
}

/// ELF machine numbers (elf.h) that this machine's kernel runs: its own, and the 32-bit kind of the same family.
fn machine_runs_here(machine: u16) -> bool {
    match std::env::consts::ARCH {
        "x86_64" => matches!(machine, 62 | 3),
        "aarch64" => matches!(machine, 183 | 40),
        // An architecture this list does not know: the kernel decides.
        _ => true,
    }
}

fn machine_name(machine: u16) -> String {
    match machine {
        3 => "x86 (32 bit)".to_owned(),
        8 => "mips".to_owned(),
        20 | 21 => "powerpc".to_owned(),
        22 => "s390".to_owned(),
        40 => "arm (32 bit)".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv".to_owned(),
        other => format!("machine number {other}"),
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
