//! Writing to systemd's journal in its own protocol: fields instead of text.
//!
//! The protocol: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. `JOURNAL_STREAM`: systemd.exec(5).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Where journald listens.
const SOCKET_PATH: &str = "/run/systemd/journal/socket";

/// A way into the journal. Nothing waits: what journald does not take at once is refused.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    /// The journal, when standard error already goes there: `journal_stream` is the value of `JOURNAL_STREAM`, which
    /// names the device and the inode of that stream. `None` in every other case.
    #[must_use]
    pub fn of_stderr(journal_stream: Option<&str>) -> Option<Self> {
        let (device, inode) = journal_stream?.split_once(':')?;
        let stderr = rustix::fs::fstat(io::stderr()).ok()?;
        let is_it = device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino);
        if is_it { Self::at(Path::new(SOCKET_PATH)).ok() } else { None }
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Writes one entry. Names become what the journal takes: capitals, digits and underscores.
    ///
    /// # Errors
    /// The system's: journald is gone, has too much to do, or the entry is too large for one message.
    pub fn send<'a>(&self, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> io::Result<()> {
        self.socket.send(&encode(fields)).map(|_| ())
    }
}

/// `NAME=value` and a newline; a value of several lines has its length in front instead.
fn encode<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        let name = name.bytes().map(|byte| match byte {
            b'a'..=b'z' => byte.to_ascii_uppercase(),
            b'A'..=b'Z' | b'0'..=b'9' => byte,
            _ => b'_',
        });
        bytes.extend(name);
        if value.contains('\n') {
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_journald_reads_them() {
        let mut expected = b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n".to_vec();
        expected.extend_from_slice(b"SERVICE_NAME=web\n");
        assert_eq!(encode([("MESSAGE", "a\nb"), ("service.name", "web")]), expected);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        Journal::at(&path).unwrap().send([("MESSAGE", "hello")]).unwrap();
        let mut bytes = [0; 64];
        let length = journald.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"MESSAGE=hello\n");
        drop(journald);
        assert!(Journal::at(&path).is_err(), "nobody listens");
    }

    #[test]
    fn a_stream_that_is_not_standard_error_is_not_the_journal() {
        for stream in [None, Some(""), Some("1"), Some("1:1"), Some("a:b")] {
            assert!(Journal::of_stderr(stream).is_none(), "{stream:?}");
        }
    }
}
