//! Users and groups (getpwnam(3), getgrnam(3), getgrouplist(3)): names and numbers of the file become numbers to switch to.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::{Account, Identity, IdentityError};

/// Largest buffer for one entry of the user database, in bytes: groups with thousands of members need hundreds of
/// kilobytes.
const MAX_ENTRY_BYTES: usize = 4 * 1024 * 1024;

/// Most groups of one user (NGROUPS_MAX, limits.h).
const MAX_GROUPS: usize = 65_536;

/// Whether this process may do everything.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Who this process acts as.
#[must_use]
pub fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The home of the user this process acts as, from the user database.
#[must_use]
pub fn user_home() -> Option<PathBuf> {
    user_by_id(uid()).ok()?.map(|user| user.home)
}

/// The name of a user.
pub(super) fn user_name(uid: u32) -> Option<String> {
    user_by_id(uid).ok()?.map(|user| user.name)
}

struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: PathBuf,
    shell: PathBuf,
}

/// The account of `identity`, or of this process; one that the user database does not know goes by its number, with
/// the root folder as its home.
#[must_use]
pub fn account(identity: Option<&Identity>) -> Account {
    let number = identity.map_or_else(uid, |identity| identity.uid);
    match user_by_id(number).ok().flatten() {
        Some(user) => Account { name: user.name, home: user.home, shell: user.shell },
        None => {
            Account { name: number.to_string(), home: PathBuf::from("/"), shell: PathBuf::from("/bin/sh") }
        }
    }
}

/// Who to become for `user` and `group` as the file has them, by name or number; `None` to stay who the host is, which
/// is also the answer when that is who was asked for and the host is not root. A user brings its own group and its
/// supplementary groups; a number without an entry brings none and needs a group.
///
/// # Errors
/// [`IdentityError`].
pub fn resolve_identity(user: Option<&str>, group: Option<&str>) -> Result<Option<Identity>, IdentityError> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let lookup = |name: &str| {
        let name = name.to_owned();
        move |error: io::Error| IdentityError::Lookup { name, reason: error.to_string() }
    };
    let found = match user {
        None => user_by_id(uid()).map_err(lookup("the host's own user"))?,
        Some(name) => match user_by_name(name).map_err(lookup(name))? {
            Some(user) => Some(user),
            None => match name.parse() {
                Ok(number) => user_by_id(number).map_err(lookup(name))?,
                Err(_) => {
                    let nearest = nearest(name, "/etc/passwd");
                    return Err(IdentityError::UnknownUser { name: name.to_owned(), nearest });
                }
            },
        },
    };
    let wanted_uid = match (&found, user) {
        (Some(found), _) => found.uid,
        (None, Some(name)) => name.parse().unwrap_or_else(|_| uid()),
        (None, None) => uid(),
    };
    let wanted_gid = match group {
        Some(name) => match group_by_name(name).map_err(lookup(name))? {
            Some(gid) => gid,
            None => name.parse().map_err(|_| IdentityError::UnknownGroup {
                name: name.to_owned(),
                nearest: nearest(name, "/etc/group"),
            })?,
        },
        None => found.as_ref().map_or(wanted_uid, |found| found.gid),
    };
    if !is_root() {
        let own_gid = rustix::process::getegid().as_raw();
        if wanted_uid == uid() && wanted_gid == own_gid {
            return Ok(None);
        }
        let wanted = match (user, group) {
            (Some(user), Some(group)) => format!("{user}:{group}"),
            (Some(user), None) => user.to_owned(),
            (None, group) => format!("group {}", group.unwrap_or_default()),
        };
        let host = user_name(uid()).unwrap_or_else(|| uid().to_string());
        return Err(IdentityError::NotPermitted { wanted, host });
    }
    let groups = match &found {
        Some(found) => groups_of(&found.name, wanted_gid),
        None => vec![wanted_gid],
    };
    Ok(Some(Identity { uid: wanted_uid, gid: wanted_gid, groups }))
}

/// Calls one of the reentrant look-ups with a growing buffer, and reads the entry before the buffer goes.
fn entry<E, T>(
    call: impl Fn(*mut E, *mut libc::c_char, usize, *mut *mut E) -> libc::c_int,
    read: impl Fn(&E) -> T,
) -> io::Result<Option<T>> {
    let mut size = 1024;
    loop {
        let mut buffer = vec![0 as libc::c_char; size];
        // SAFETY: the entries are plain numbers and pointers; all zero is a valid value, overwritten by the call.
        let mut space: E = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        match call(&raw mut space, buffer.as_mut_ptr(), size, &raw mut found) {
            0 if found.is_null() => return Ok(None),
            0 => return Ok(Some(read(&space))),
            libc::EINTR => {}
            libc::ERANGE if size < MAX_ENTRY_BYTES => size *= 4,
            // The ways an absent entry is reported, getpwnam(3).
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn read_user(user: &libc::passwd) -> User {
    let text = |pointer: *const libc::c_char| {
        if pointer.is_null() {
            return &[][..];
        }
        // SAFETY: a found entry's strings end with zero and live as long as the buffer, which outlives this call.
        unsafe { CStr::from_ptr(pointer) }.to_bytes()
    };
    User {
        name: String::from_utf8_lossy(text(user.pw_name)).into_owned(),
        uid: user.pw_uid,
        gid: user.pw_gid,
        home: PathBuf::from(OsStr::from_bytes(text(user.pw_dir))),
        shell: PathBuf::from(OsStr::from_bytes(text(user.pw_shell))),
    }
}

fn user_by_name(name: &str) -> io::Result<Option<User>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    entry(
        // SAFETY: getpwnam_r(3) with valid pointers and the buffer's true size.
        |space, buffer, size, found| unsafe { libc::getpwnam_r(name.as_ptr(), space, buffer, size, found) },
        read_user,
    )
}

fn user_by_id(uid: u32) -> io::Result<Option<User>> {
    entry(
        // SAFETY: getpwuid_r(3) with valid pointers and the buffer's true size.
        |space, buffer, size, found| unsafe { libc::getpwuid_r(uid, space, buffer, size, found) },
        read_user,
    )
}

fn group_by_name(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    entry(
        // SAFETY: getgrnam_r(3) with valid pointers and the buffer's true size.
        |space, buffer, size, found| unsafe { libc::getgrnam_r(name.as_ptr(), space, buffer, size, found) },
        |group: &libc::group| group.gr_gid,
    )
}

/// All groups of a user, `gid` among them.
fn groups_of(user: &str, gid: u32) -> Vec<u32> {
    let Ok(name) = CString::new(user) else { return vec![gid] };
    let mut groups = vec![0; 64];
    while groups.len() <= MAX_GROUPS {
        let mut count = libc::c_int::try_from(groups.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: getgrouplist(3) writes at most `count` groups and then says how many there are.
        let fits = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        if fits >= 0 {
            groups.truncate(usize::try_from(count).unwrap_or(0));
            return groups;
        }
        groups.resize(groups.len() * 2, 0);
    }
    vec![gid]
}

/// The name in a database file that is most like `name`, when it is close: at most a third of it differs.
fn nearest(name: &str, database: &str) -> Option<String> {
    let text = std::fs::read_to_string(database).ok()?;
    text.lines()
        .filter_map(|line| line.split(':').next())
        .map(|known| (distance(name, known), known))
        .filter(|(distance, known)| distance * 3 <= known.len().max(name.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known.to_owned())
}

/// How many letters must be added, dropped or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(resolve_identity(None, None), Ok(None));
        let unknown = resolve_identity(Some("nobodyy"), None).unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "there is no user \"nobodyy\" on this machine; did you mean \"nobody\"?"
        );
        let unknown = resolve_identity(None, Some("no-such-group-at-all")).unwrap_err();
        assert!(matches!(unknown, IdentityError::UnknownGroup { .. }), "{unknown}");
        if is_root() {
            let nobody = resolve_identity(Some("nobody"), None).unwrap().unwrap();
            assert_eq!(resolve_identity(Some(&nobody.uid.to_string()), None).unwrap().unwrap(), nobody);
            assert!(nobody.uid != 0 && nobody.groups.contains(&nobody.gid));
            let bare = resolve_identity(Some("54321"), Some("54322")).unwrap().unwrap();
            assert_eq!(bare, Identity { uid: 54321, gid: 54322, groups: vec![54322] });
        } else {
            assert!(matches!(resolve_identity(Some("root"), None), Err(IdentityError::NotPermitted { .. })));
        }
        assert_eq!(
            resolve_identity(Some(""), None).unwrap_err().to_string(),
            "there is no user \"\" on this machine"
        );
    }

    #[test]
    fn distances() {
        assert_eq!((distance("", "abc"), distance("abc", "abc"), distance("kitten", "sitting")), (3, 0, 3));
    }
}
