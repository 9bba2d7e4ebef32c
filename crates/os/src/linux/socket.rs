//! Bytes and descriptors over the socket between host and launcher: the same few lines for both ends.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Most descriptors that travel with one frame: a control group and what is handed over. The kernel's own limit is 253
/// (`SCM_MAX_FD`, unix(7)).
const MAX_FDS: usize = 1 + crate::process::MAX_HANDED;

/// Sends the beginning of `bytes`, with `fds` attached to its first byte; answers how much went. Never raises SIGPIPE.
pub(super) fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    if fds.is_empty() {
        return rustix::net::send(socket, bytes, SendFlags::NOSIGNAL);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
}

/// Receives into `buffer`; descriptors that came with a frame join the end of `sets` together, close-on-exec, so that a
/// frame finds its own even when some were lost on the way to another: a set that was cut is empty. The kernel never
/// merges bytes beyond one set of descriptors into one read, so the order of both streams agrees (unix(7), SCM_RIGHTS).
/// Answers the number of bytes; 0: the other end is gone.
pub(super) fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    sets: &mut VecDeque<Vec<OwnedFd>>,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut set = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            set.extend(received);
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) {
        // This process has no room for all of them.
        sets.push_back(Vec::new());
    } else if !set.is_empty() {
        sets.push_back(set);
    }
    Ok(got.bytes)
}
