//! Datagrams to a socket in the file system: syslog's `/dev/log`, and journald's own.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Where journald listens.
const JOURNALD_PATH: &str = "/run/systemd/journal/socket";

/// A connected socket. Nothing is kept between two datagrams; a receiver that was started anew has to be connected to anew.
#[derive(Debug)]
pub struct LocalDatagram {
    socket: UnixDatagram,
}

impl LocalDatagram {
    /// Whether this system has such sockets.
    pub const IS_HERE: bool = true;

    /// Connects to the socket at that path, or to journald's. A datagram waits at most `patience` for a receiver that is slow.
    ///
    /// # Errors
    /// The system's: nobody listens, or we may not.
    pub fn connect(path: Option<&Path>, patience: Duration) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path.unwrap_or(Path::new(JOURNALD_PATH)))?;
        // Zero would be for ever.
        socket.set_write_timeout(Some(patience.max(Duration::from_millis(1))))?;
        Ok(Self { socket })
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// The system's; `WouldBlock` when the receiver has taken nothing for too long.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send(bytes).map(|_| ())
    }

    /// Sends one datagram, or what is too large for one in a sealed memory file, as journald takes it
    /// (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
    ///
    /// # Errors
    /// As [`LocalDatagram::send`].
    pub fn send_or_hand_over(&self, bytes: &[u8]) -> io::Result<()> {
        match self.send(bytes) {
            Err(error) if is_too_large(&error) => self.hand_over(bytes),
            outcome => outcome,
        }
    }

    fn hand_over(&self, bytes: &[u8]) -> io::Result<()> {
        let memory = memfd_create("mainstay-journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut memory = File::from(memory);
        memory.write_all(bytes)?;
        // journald reads only what nobody can change any more.
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        let handed: [BorrowedFd<'_>; 1] = [memory.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&handed));
        sendmsg(&self.socket, &[IoSlice::new(&[])], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// unix(7) and socket(7): the datagram, or the send buffer, is too small for it.
fn is_too_large(error: &io::Error) -> bool {
    let too_large =
        [rustix::io::Errno::MSGSIZE, rustix::io::Errno::NOBUFS].map(rustix::io::Errno::raw_os_error);
    error.raw_os_error().is_some_and(|number| too_large.contains(&number))
}

#[cfg(test)]
mod tests {
    use std::io::{IoSliceMut, Read as _, Seek as _, SeekFrom};

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn what_fits_comes_as_a_datagram_and_what_does_not_as_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let sender = LocalDatagram::connect(Some(&path), PATIENCE).unwrap();
        sender.send_or_hand_over(b"MESSAGE=small\n").unwrap();
        let mut bytes = [0; 64];
        let length = receiver.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"MESSAGE=small\n");

        let large = vec![b'x'; 8 << 20];
        sender.send_or_hand_over(&large).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut into = [0; 16];
        let got = recvmsg(&receiver, &mut [IoSliceMut::new(&mut into)], &mut ancillary, RecvFlags::empty())
            .unwrap();
        assert_eq!(got.bytes, 0);
        let mut files = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(handed) = message {
                files.extend(handed.map(File::from));
            }
        }
        let mut back = Vec::new();
        files[0].seek(SeekFrom::Start(0)).unwrap();
        files[0].read_to_end(&mut back).unwrap();
        assert!(back == large);
        assert!(files[0].write_all(b"x").is_err(), "it is sealed");
    }

    #[test]
    fn a_receiver_that_takes_nothing_is_not_waited_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _receiver = UnixDatagram::bind(&path).unwrap();
        let sender = LocalDatagram::connect(Some(&path), Duration::from_millis(20)).unwrap();
        let refused = (0..10_000).find_map(|_| sender.send(b"x").err()).unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }
}
