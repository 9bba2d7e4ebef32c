//! The socket behind `NOTIFY_SOCKET` (sd_notify(3)): one for each start, so that what comes by it belongs to that start.
//!
//! It has no file but a name in the abstract space (unix(7)), which nothing needs to clean up. The name cannot be guessed,
//! but whoever may read /proc/net/unix can see it, so a message is to be believed only from a process of the start:
//! [`crate::Processes::owns`].

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::{MAX_NOTIFICATION_BYTES, Message};

/// Most descriptors in one message: the kernel's own limit (`SCM_MAX_FD`, unix(7)).
const MAX_FDS: usize = 253;

/// Longest label in the name: with the rest of it, within the 107 bytes of a name (unix(7)).
const MAX_LABEL_BYTES: usize = 60;

/// Receives what one start says about itself.
#[derive(Debug)]
pub struct NotifySocket {
    socket: AsyncFd<OwnedFd>,
    name: String,
}

impl NotifySocket {
    /// Opens it, within the tokio runtime that will read it. `label` is for people who look at the machine's sockets:
    /// stack and replica; what does not fit is cut.
    ///
    /// # Errors
    /// The system's refusal, such as too many open files.
    pub fn open(label: &str) -> io::Result<Self> {
        let mut random = [0; 16];
        fill_random(&mut random)?;
        let end = label.floor_char_boundary(MAX_LABEL_BYTES);
        let name = format!("mainstay/{}/{:032x}", &label[..end], u128::from_ne_bytes(random));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        // SAFETY: an OwnedFd is one open descriptor until it is dropped, which the AsyncFd alone will do.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { socket, name })
    }

    /// The value of `NOTIFY_SOCKET`: the name after an `@`.
    #[must_use]
    pub fn env_value(&self) -> String {
        format!("@{}", self.name)
    }

    /// The next message. Descriptors that came with it are closed by then, which is all that `BARRIER=1` asks for: so
    /// act on a message, and look at its sender, before asking for the next one. Nothing is lost when the wait is dropped.
    ///
    /// # Errors
    /// The system's, which for a socket of one's own are those of a machine without memory.
    pub async fn recv(&self) -> io::Result<Message> {
        self.socket.async_io(Interest::READABLE, receive).await
    }

    /// The next message that is there already, `None` when there is none: for what was said before a program ended.
    ///
    /// # Errors
    /// As [`Self::recv`].
    pub fn try_recv(&self) -> io::Result<Option<Message>> {
        match receive(self.socket.get_ref()) {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn fill_random(bytes: &mut [u8; 16]) -> io::Result<()> {
    // SAFETY: getrandom(2) writes at most `len` bytes into the array; up to 256 bytes come whole.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == 16 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Room for credentials and all descriptors, aligned as a header of control messages needs it (cmsg(3)).
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL_BYTES]);

/// CMSG_SPACE is const, but for the library's type of the result.
const CONTROL_BYTES: usize = {
    // SAFETY: CMSG_SPACE only computes.
    let (credentials, fds) = unsafe {
        (
            libc::CMSG_SPACE(size_of::<libc::ucred>() as libc::c_uint),
            libc::CMSG_SPACE((MAX_FDS * size_of::<RawFd>()) as libc::c_uint),
        )
    };
    (credentials + fds) as usize
};

/// Takes one datagram. The library's own reader is not used: it holds a sender's pid in a type that cannot be 0, and the
/// kernel gives 0 for a sender outside of this pid namespace.
fn receive(socket: &OwnedFd) -> io::Result<Message> {
    // One byte more shows that there is more.
    let mut bytes = [0_u8; MAX_NOTIFICATION_BYTES + 1];
    let mut control = Control([const { MaybeUninit::uninit() }; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr is plain numbers and pointers; zero and null mean "none".
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: recvmsg(2) writes within the two buffers, which live here as long as the header does.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let Ok(length) = usize::try_from(length) else { return Err(io::Error::last_os_error()) };
    let (credentials, descriptors) = take_control(&header);
    let mut message = Message::parse(&bytes[..length], descriptors.len());
    drop(descriptors);
    if let Some(credentials) = credentials {
        message.pid = u32::try_from(credentials.pid).unwrap_or(0);
        message.uid = credentials.uid;
    } else {
        // The kernel attaches them to every message of a socket with SO_PASSCRED.
        message =
            Message { uid: u32::MAX, ignored: vec!["a message of nobody".to_owned()], ..Message::default() };
    }
    Ok(message)
}

/// The sender and all descriptors that arrived, those of a set that was cut for want of room (MSG_CTRUNC) included: each
/// is open here by now, and nobody else will close it.
fn take_control(header: &libc::msghdr) -> (Option<libc::ucred>, Vec<OwnedFd>) {
    let mut credentials = None;
    let mut descriptors = Vec::new();
    // SAFETY: cmsg(3): the kernel wrote `msg_controllen` bytes of whole headers with their data, which the two macros walk
    // within bounds; the data of the two kinds are read as unaligned values of their types. Each descriptor is new and
    // nobody else's.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while !next.is_null() {
            let (level, kind) = ((*next).cmsg_level, (*next).cmsg_type);
            let data = libc::CMSG_DATA(next);
            let bytes = ((*next).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            if level == libc::SOL_SOCKET && kind == libc::SCM_CREDENTIALS && bytes >= size_of::<libc::ucred>()
            {
                credentials = Some(data.cast::<libc::ucred>().read_unaligned());
            } else if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
                for place in 0..bytes / size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(data.cast::<RawFd>().add(place).read_unaligned()));
                }
            }
            next = libc::CMSG_NXTHDR(header, next);
        }
    }
    (credentials, descriptors)
}
