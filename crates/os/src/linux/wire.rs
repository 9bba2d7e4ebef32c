//! What the host and the launcher say to each other: length-prefixed frames over a stream socket, both ends the same
//! binary on the same machine, so numbers travel in native byte order.
//!
//! ```text
//!  host ──► launcher   length u32 (of all that follows), kind u32, then
//!     Hello   (1)      strings: host id, cgroup root or empty, group to go back to or empty, groups of version 1…
//!     Launch  (2)      LaunchHead, groups u32…, handed targets u32…, strings: workdir, groups to enter…, candidates…,
//!                      arguments…, environment… with the descriptors of its control group, where it has one, and of
//!                      all handed
//!     Goodbye (3)      nothing
//!  launcher ──► host   Reply, with four descriptors when there is a process: pidfd, stdout, stderr, status
//!  child ──► host      over its status pipe, only when it fails: Failure
//! ```
//! A string ends with a zero byte, so that the launcher hands it to `execve` where it lies.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use mainstay_types::{LaunchFailure, LaunchStep};

use super::cgroup::Cgroups;
use super::confinement::Confined;
use crate::Launch;

/// Longest frame either side accepts, in bytes. The kernel takes at most 6 MiB of arguments and environment
/// (`_STK_LIM / 4 * 3`, execve(2)), so nothing longer could be executed.
pub(super) const MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;

/// Where a bare name is looked for when its environment has no `PATH`.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a frame to the launcher asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Hello,
    Launch,
    Goodbye,
}

impl Kind {
    const fn number(self) -> u32 {
        match self {
            Self::Hello => 1,
            Self::Launch => 2,
            Self::Goodbye => 3,
        }
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        [Self::Hello, Self::Launch, Self::Goodbye].into_iter().find(|kind| kind.number() == number)
    }
}

/// Stands for no limit of its own.
pub(super) const UNLIMITED: u64 = u64::MAX;

/// The numbers of one launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LaunchHead {
    /// Comes back in the reply.
    pub token: u64,
    /// RLIMIT_NOFILE.
    pub open_files_soft: u64,
    /// RLIMIT_NOFILE.
    pub open_files_hard: u64,
    /// RLIMIT_DATA; [`UNLIMITED`] leaves what is inherited.
    pub data_bytes: u64,
    /// RLIMIT_NPROC; the same.
    pub processes: u64,
    /// Control groups of version 1 to enter.
    pub joins: u32,
    /// A descriptor of a control group comes with the frame.
    pub in_cgroup: bool,
    /// User, group and the groups that follow apply.
    pub switches_user: bool,
    pub uid: u32,
    pub gid: u32,
    pub groups: u32,
    /// `LISTEN_PID` is added to the environment.
    pub listens: bool,
    pub handed: u32,
    pub candidates: u32,
    pub args: u32,
    pub env: u32,
}

impl LaunchHead {
    /// Descriptors that come with the frame: its control group's first.
    pub(super) const fn fds(&self) -> usize {
        self.in_cgroup as usize + self.handed as usize
    }
}

/// The answer to one launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reply {
    pub token: u64,
    /// 0 when there is no process.
    pub pid: u32,
    /// The step that failed, as its place in [`LaunchStep::ALL`].
    pub step: u32,
    pub errno: i32,
}

impl Reply {
    pub(super) const BYTES: usize = 24;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.token.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.pid.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.step.to_ne_bytes());
        bytes[16..20].copy_from_slice(&self.errno.to_ne_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut reader = Reader(bytes);
        Self {
            token: reader.u64().unwrap_or(0),
            pid: reader.u32().unwrap_or(0),
            step: reader.u32().unwrap_or(0),
            errno: reader.u32().unwrap_or(0).cast_signed(),
        }
    }
}

/// What a child that did not reach its program says about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    /// Place in [`LaunchStep::ALL`].
    pub step: u32,
    pub errno: i32,
    /// Which candidate, when the step is `Exec`.
    pub candidate: u32,
}

impl Failure {
    pub(super) const BYTES: usize = 12;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.step.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.errno.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.candidate.to_ne_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut reader = Reader(bytes);
        Self {
            step: reader.u32().unwrap_or(0),
            errno: reader.u32().unwrap_or(0).cast_signed(),
            candidate: reader.u32().unwrap_or(0),
        }
    }
}

/// The place of a step in [`LaunchStep::ALL`].
pub(super) const fn step_number(step: LaunchStep) -> u32 {
    // The enum has no explicit values, so its discriminants are the places in declaration order, which is ALL's.
    step as u32
}

/// The step at this place, `Spawn` for a number nobody sends.
pub(super) fn step_from_number(number: u32) -> LaunchStep {
    LaunchStep::ALL.get(number as usize).copied().unwrap_or(LaunchStep::Spawn)
}

/// The files that are tried for `program`, in order: itself when it has a separator, else one in each folder of the
/// `PATH` in `env`. An empty folder means the working folder (POSIX, environment variables).
pub(super) fn candidates(program: &OsStr, env: &[(OsString, OsString)]) -> Vec<PathBuf> {
    let path = env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    candidates_on(program, path)
}

/// [`candidates`] with the `PATH` given.
pub(super) fn candidates_on(program: &OsStr, path: Option<&OsStr>) -> Vec<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(program)];
    }
    let path = path.filter(|path| !path.is_empty()).unwrap_or_else(|| OsStr::new(DEFAULT_PATH));
    path.as_bytes()
        .split(|byte| *byte == b':')
        .map(|folder| {
            Path::new(OsStr::from_bytes(if folder.is_empty() { b"." } else { folder })).join(program)
        })
        .collect()
}

/// A frame that says who the host is: first word on every connection.
pub(super) fn encode_hello<'a>(
    host_id: &str,
    cgroups: Option<&Cgroups>,
    limit_roots: impl Iterator<Item = &'a Path>,
) -> Vec<u8> {
    let mut frame = Writer::new(Kind::Hello);
    frame.string(host_id.as_bytes());
    let root = cgroups.map(Cgroups::dir);
    let back_to = cgroups.and_then(|cgroups| cgroups.controllers().moved_from());
    for path in [root, back_to] {
        frame.string(path.map_or(&[], |path| path.as_os_str().as_bytes()));
    }
    for root in limit_roots {
        frame.string(root.as_os_str().as_bytes());
    }
    frame.finish()
}

/// A frame that asks the launcher to leave quietly.
pub(super) fn encode_goodbye() -> Vec<u8> {
    Writer::new(Kind::Goodbye).finish()
}

/// A frame that asks for one process. `marker` is added to the environment as it stands, `NAME=value`.
pub(super) fn encode_launch(
    token: u64,
    launch: &Launch,
    marker: &str,
    open_files: (u64, u64),
    confined: &Confined,
    in_cgroup: bool,
) -> Result<Vec<u8>, LaunchFailure> {
    let refuse = |step, path: Option<PathBuf>, errno, message: &str| LaunchFailure {
        step,
        path,
        errno,
        message: message.to_owned(),
        hint: None,
    };
    if launch.program.is_empty() {
        return Err(refuse(LaunchStep::Exec, None, 0, "the command names no program"));
    }
    let has_zero = |text: &OsStr| text.as_bytes().contains(&0);
    if has_zero(&launch.program)
        || has_zero(launch.workdir.as_os_str())
        || launch.args.iter().any(|arg| has_zero(arg))
        || launch.env.iter().any(|(name, value)| has_zero(name) || has_zero(value))
    {
        let message = "the command, its environment or its folder contains a zero byte";
        return Err(refuse(LaunchStep::Exec, Some(launch.program.clone().into()), libc::EINVAL, message));
    }
    let candidates = candidates(&launch.program, &launch.env);
    let groups = launch.identity.as_ref().map_or(&[][..], |identity| &identity.groups);
    let head = LaunchHead {
        token,
        open_files_soft: open_files.0,
        open_files_hard: open_files.1,
        data_bytes: confined.rlimits.data.unwrap_or(UNLIMITED),
        processes: confined.rlimits.processes.unwrap_or(UNLIMITED),
        joins: count(confined.groups.len()),
        in_cgroup,
        switches_user: launch.identity.is_some(),
        uid: launch.identity.as_ref().map_or(0, |identity| identity.uid),
        gid: launch.identity.as_ref().map_or(0, |identity| identity.gid),
        groups: count(groups.len()),
        listens: !launch.listen_names.is_empty(),
        handed: count(launch.handed.len()),
        candidates: count(candidates.len()),
        args: count(launch.args.len() + 1),
        env: count(launch.env.len() + 1),
    };
    let mut frame = Writer::new(Kind::Launch);
    frame.head(&head);
    for group in groups {
        frame.u32(*group);
    }
    for handed in &launch.handed {
        frame.u32(handed.target);
    }
    frame.string(launch.workdir.as_os_str().as_bytes());
    for group in &confined.groups {
        frame.string(group.entrance().as_os_str().as_bytes());
    }
    for candidate in &candidates {
        frame.string(candidate.as_os_str().as_bytes());
    }
    frame.string(launch.program.as_bytes());
    for arg in &launch.args {
        frame.string(arg.as_bytes());
    }
    for (name, value) in &launch.env {
        frame.pair(name.as_bytes(), value.as_bytes());
    }
    frame.string(marker.as_bytes());
    let frame = frame.finish();
    if frame.len() > MAX_FRAME_BYTES {
        let message = "the arguments and the environment together are longer than any system accepts";
        return Err(refuse(LaunchStep::Exec, Some(launch.program.clone().into()), libc::E2BIG, message));
    }
    Ok(frame)
}

/// A frame is at most [`MAX_FRAME_BYTES`], so a count that does not fit belongs to a frame refused for its length.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(kind: Kind) -> Self {
        let mut writer = Self(Vec::with_capacity(1024));
        writer.u32(0);
        writer.u32(kind.number());
        writer
    }

    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_ne_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_ne_bytes());
    }

    fn string(&mut self, text: &[u8]) {
        self.0.extend_from_slice(text);
        self.0.push(0);
    }

    fn pair(&mut self, name: &[u8], value: &[u8]) {
        self.0.extend_from_slice(name);
        self.0.push(b'=');
        self.string(value);
    }

    fn head(&mut self, head: &LaunchHead) {
        self.u64(head.token);
        self.u64(head.open_files_soft);
        self.u64(head.open_files_hard);
        self.u64(head.data_bytes);
        self.u64(head.processes);
        self.u32(head.joins);
        let flags = [head.in_cgroup, head.switches_user, head.listens];
        self.u32((0..).zip(flags).fold(0, |bits, (place, flag)| bits | u32::from(flag) << place));
        for number in [head.uid, head.gid, head.groups, head.handed, head.candidates, head.args, head.env] {
            self.u32(number);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let length = count(self.0.len() - 4);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// Reads a frame's parts in order; every method answers `None` when the frame is cut off.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_ne_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_ne_bytes(*bytes))
    }

    /// The next string with its zero byte.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (text, rest) = self.0.split_at(end + 1);
        self.0 = rest;
        Some(text)
    }

    pub(super) fn head(&mut self) -> Option<LaunchHead> {
        let (token, open_files_soft, open_files_hard) = (self.u64()?, self.u64()?, self.u64()?);
        let (data_bytes, processes, joins) = (self.u64()?, self.u64()?, self.u32()?);
        let flags = self.u32()?;
        Some(LaunchHead {
            token,
            open_files_soft,
            open_files_hard,
            data_bytes,
            processes,
            joins,
            in_cgroup: flags & 1 != 0,
            switches_user: flags & 2 != 0,
            uid: self.u32()?,
            gid: self.u32()?,
            groups: self.u32()?,
            listens: flags & 4 != 0,
            handed: self.u32()?,
            candidates: self.u32()?,
            args: self.u32()?,
            env: self.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;
    use crate::linux::confinement::Rlimits;

    #[test]
    fn a_launch_survives_the_wire() {
        let launch = Launch {
            program: "web".into(),
            args: vec!["--listen".into(), "".into()],
            env: vec![("PATH".into(), "/a::/b".into()), ("X".into(), "=y".into())],
            workdir: "/srv".into(),
            identity: Some(Identity { uid: 7, gid: 8, groups: vec![8, 9] }),
            limits: crate::ResourceLimits::default(),
            handed: Vec::new(),
            listen_names: Vec::new(),
        };
        let rlimits = Rlimits { data: Some(5), processes: None };
        let confined = Confined { rlimits, ..Confined::default() };
        let frame = encode_launch(77, &launch, "M=1", (3, 4), &confined, true).unwrap();
        let mut reader = Reader(&frame);
        assert_eq!(reader.u32().unwrap() as usize, frame.len() - 4);
        assert_eq!(Kind::from_number(reader.u32().unwrap()), Some(Kind::Launch));
        let head = reader.head().unwrap();
        assert_eq!((head.token, head.open_files_soft, head.open_files_hard), (77, 3, 4));
        assert_eq!((head.data_bytes, head.processes, head.joins), (5, UNLIMITED, 0));
        assert_eq!((head.in_cgroup, head.switches_user, head.uid, head.gid), (true, true, 7, 8));
        assert_eq!((reader.u32(), reader.u32()), (Some(8), Some(9)));
        let mut strings = Vec::new();
        while let Some(text) = reader.string() {
            strings.push(String::from_utf8_lossy(&text[..text.len() - 1]).into_owned());
        }
        let expected =
            ["/srv", "/a/web", "./web", "/b/web", "web", "--listen", "", "PATH=/a::/b", "X==y", "M=1"];
        assert_eq!(strings, expected);
        assert_eq!((head.groups, head.candidates, head.args, head.env), (2, 3, 3, 3));
    }

    #[test]
    fn what_cannot_be_executed_is_refused_before_it_is_sent() {
        let good = Launch {
            program: "/bin/true".into(),
            args: Vec::new(),
            env: Vec::new(),
            workdir: "/".into(),
            identity: None,
            limits: crate::ResourceLimits::default(),
            handed: Vec::new(),
            listen_names: Vec::new(),
        };
        let refused = |launch: Launch| {
            encode_launch(1, &launch, "M=1", (1, 1), &Confined::default(), false).unwrap_err().errno
        };
        assert!(encode_launch(1, &good, "M=1", (1, 1), &Confined::default(), false).is_ok());
        assert_eq!(refused(Launch { program: "".into(), ..good.clone() }), 0);
        assert_eq!(refused(Launch { args: vec!["a\0b".into()], ..good.clone() }), libc::EINVAL);
        assert_eq!(refused(Launch { args: vec!["x".repeat(MAX_FRAME_BYTES).into()], ..good }), libc::E2BIG);
    }

    #[test]
    fn steps_and_replies_keep_their_numbers() {
        for (place, step) in LaunchStep::ALL.into_iter().enumerate() {
            assert_eq!(step_number(step) as usize, place);
            assert_eq!(step_from_number(step_number(step)), step);
        }
        let reply = Reply { token: u64::MAX, pid: 5, step: 9, errno: -3 };
        assert_eq!(Reply::from_bytes(&reply.to_bytes()), reply);
        let failure = Failure { step: 3, errno: 2, candidate: 1 };
        assert_eq!(Failure::from_bytes(&failure.to_bytes()), failure);
    }
}
