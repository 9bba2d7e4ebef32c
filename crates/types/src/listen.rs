//! Where the host listens for a service.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a text is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is nothing to listen on: write IP:PORT, tcp:IP:PORT, udp:IP:PORT, unix:/path or unixgram:/path, \
     such as 0.0.0.0:80 or [::]:80"
)]
pub struct ListenParseError(pub String);

/// One socket that the host opens and hands over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ListenAddress {
    /// TCP, listening.
    Tcp(SocketAddr),
    /// UDP, bound.
    Udp(SocketAddr),
    /// A Unix stream socket, listening; a stale one is replaced.
    Unix(PathBuf),
    /// A Unix datagram socket, bound; a stale one is replaced.
    UnixDatagram(PathBuf),
}

impl ListenAddress {
    /// Reads `0.0.0.0:80`, `tcp:…`, `udp:[::]:53`, `unix:/run/x.sock`, `unixgram:/run/x.sock`. A path is as written;
    /// ports from 1 to 65535.
    pub fn parse(text: &str) -> Result<Self, ListenParseError> {
        let bad = || ListenParseError(text.to_owned());
        let address = |text: &str| {
            text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0).ok_or_else(bad)
        };
        let path = |text: &str| {
            let fits = !text.is_empty() && !text.contains('\0');
            if fits { Ok(PathBuf::from(text)) } else { Err(bad()) }
        };
        match text.split_once(':') {
            Some(("tcp", rest)) => address(rest).map(Self::Tcp),
            Some(("udp", rest)) => address(rest).map(Self::Udp),
            Some(("unix", rest)) => path(rest).map(Self::Unix),
            Some(("unixgram", rest)) => path(rest).map(Self::UnixDatagram),
            _ => address(text).map(Self::Tcp),
        }
    }
}

impl fmt::Display for ListenAddress {
    /// As it is written in the file, with its scheme unless it is TCP.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixDatagram(path) => write!(f, "unixgram:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["0.0.0.0:80", "[::1]:443", "udp:127.0.0.1:53", "unix:/run/x.sock", "unixgram:run/x"] {
            assert_eq!(ListenAddress::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(ListenAddress::parse("tcp:[::]:80"), ListenAddress::parse("[::]:80"));
        for bad in ["", "80", ":80", "localhost:80", "0.0.0.0:0", "unix:", "udp:/x", "http:0.0.0.0:80"] {
            assert!(ListenAddress::parse(bad).is_err(), "{bad}");
        }
    }
}
