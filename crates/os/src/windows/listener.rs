//! Opens the sockets of services, and hands them over.
//!
//! A program of Windows has handles with numbers of the system's choice in the place of descriptors from 3 on, so it is told the
//! numbers: `LISTEN_HANDLES`, in decimal with colons between, beside `LISTEN_FDNAMES`. Only these reach it.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::windows::io::{AsRawHandle, AsRawSocket, OwnedHandle, OwnedSocket};

use mainstay_types::ListenAddress;
use windows_sys::Win32::Foundation::{DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE};
use windows_sys::Win32::Networking::WinSock::{
    WSAEACCES, WSAEADDRINUSE, WSAEADDRNOTAVAIL, WSAEAFNOSUPPORT, WSAEPROTONOSUPPORT,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

use super::system::{done, made};
use crate::{Handed, ListenFailure};

/// The numbers of the handles, in the order of the file.
const HANDLES_VARIABLE: &str = "LISTEN_HANDLES";
/// Their names (sd_listen_fds(3)).
const NAMES_VARIABLE: &str = "LISTEN_FDNAMES";

/// No socket files are made here.
#[derive(Debug)]
pub(crate) struct SocketFile(Infallible);

pub(crate) fn open_socket(
    address: &ListenAddress,
) -> Result<(OwnedSocket, Option<SocketFile>), ListenFailure> {
    let opened = match address {
        // IPv6 is IPv6 alone here unless a program asks for more, and no two sockets share an address unless both ask for it.
        ListenAddress::Tcp(address) => TcpListener::bind(address).map(OwnedSocket::from),
        ListenAddress::Udp(address) => UdpSocket::bind(address).map(OwnedSocket::from),
        ListenAddress::Unix(_) | ListenAddress::UnixDatagram(_) => {
            let message = "sockets with a path are not handed over on Windows: use an IP address".to_owned();
            return Err(ListenFailure::System { errno: 0, message });
        }
    };
    opened.map(|socket| (socket, None)).map_err(|error| {
        let errno = error.raw_os_error().unwrap_or(0);
        match errno {
            // A port that is set aside, or taken by somebody who shares it with nobody.
            WSAEADDRINUSE | WSAEACCES => ListenFailure::Taken { holder: None, errno },
            WSAEADDRNOTAVAIL => ListenFailure::NoSuchAddress { errno },
            WSAEAFNOSUPPORT | WSAEPROTONOSUPPORT => ListenFailure::NotSupported { errno },
            _ => ListenFailure::System { errno, message: super::program::words(&error) },
        }
    })
}

/// Copies of what is handed over, that a child may inherit.
pub(super) fn inheritable(handed: &[Handed]) -> io::Result<Vec<OwnedHandle>> {
    handed
        .iter()
        .map(|handed| {
            // A socket of the system's own providers is a handle like others.
            let socket: HANDLE =
                std::ptr::with_exposed_provenance_mut(handed.descriptor.get().as_raw_socket() as usize);
            let mut copy: HANDLE = std::ptr::null_mut();
            // SAFETY: the socket is open as long as it is borrowed; this process is both the source and the target; the place
            // for the copy lives through the call.
            // https://learn.microsoft.com/en-us/windows/win32/api/handleapi/nf-handleapi-duplicatehandle
            done(unsafe {
                DuplicateHandle(
                    GetCurrentProcess(),
                    socket,
                    GetCurrentProcess(),
                    &raw mut copy,
                    0,
                    1,
                    DUPLICATE_SAME_ACCESS,
                )
            })?;
            made(copy)
        })
        .collect()
}

/// What tells the program its handles: they have the same numbers there.
pub(super) fn variables(handles: &[OwnedHandle], names: &[String]) -> Vec<(OsString, OsString)> {
    if names.is_empty() {
        return Vec::new();
    }
    let numbers: Vec<String> =
        handles.iter().map(|handle| handle.as_raw_handle().addr().to_string()).collect();
    vec![(HANDLES_VARIABLE.into(), numbers.join(":").into()), (NAMES_VARIABLE.into(), names.join(":").into())]
}
