//! Descriptors that a new process is handed, made ready in the launcher so that the process itself has only to copy each
//! to its number.

use std::cell::UnsafeCell;
use std::ffi::c_char;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::child::PID_DIGITS;

/// They are open here until this is dropped, all above every number that one of them is to have.
pub(super) struct HandedFds {
    moves: Vec<(RawFd, RawFd)>,
    _fds: Vec<OwnedFd>,
}

impl HandedFds {
    /// Moves all of them, and `status`, above the highest target: no copy to a target can then hit one that is still to
    /// be copied, or the pipe that tells of failures.
    pub(super) fn prepare(
        mut fds: Vec<OwnedFd>,
        targets: &[u32],
        status: &mut OwnedFd,
    ) -> Result<Self, Errno> {
        let numbers = targets.iter().map(|target| RawFd::try_from(*target));
        let targets = numbers.collect::<Result<Vec<RawFd>, _>>().map_err(|_| Errno::BADF)?;
        if let Some(highest) = targets.iter().max() {
            for fd in fds.iter_mut().chain([status]) {
                if fd.as_raw_fd() <= *highest {
                    *fd = rustix::io::fcntl_dupfd_cloexec(&*fd, highest + 1)?;
                }
            }
        }
        let moves = fds.iter().map(AsRawFd::as_raw_fd).zip(targets).collect();
        Ok(Self { moves, _fds: fds })
    }

    /// From, to.
    pub(super) fn moves(&self) -> &[(RawFd, RawFd)] {
        &self.moves
    }
}

const NAME: &[u8; 11] = b"LISTEN_PID=";

/// The environment's entry for the pid that only the new process knows: it writes the digits into its own copy of this.
pub(super) struct ListenPid(UnsafeCell<[u8; NAME.len() + PID_DIGITS + 1]>);

impl ListenPid {
    pub(super) fn new() -> Self {
        let mut text = [0; NAME.len() + PID_DIGITS + 1];
        text[..NAME.len()].copy_from_slice(NAME);
        Self(UnsafeCell::new(text))
    }

    /// The entry as a string that ends with zero.
    pub(super) fn entry(&self) -> *const c_char {
        self.0.get().cast_const().cast()
    }

    /// Where the digits go.
    pub(super) fn digits(&self) -> *mut u8 {
        // Within the array: it is longer than the name.
        self.0.get().cast::<u8>().wrapping_add(NAME.len())
    }
}
