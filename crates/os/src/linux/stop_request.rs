//! The signals that ask a program to end, and the one that asks it to read its file again.
//!
//! SIGHUP means both: a terminal that goes away sends it, and so does whoever wants a reload. What tells them apart is
//! whether the terminal the program was started in is gone.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use tokio::signal::unix::{SignalKind, signal};

/// How long a terminal is watched after SIGHUP before the signal is taken for a wish to reload: some emulators send it
/// themselves, just before they close the terminal.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// Calls `asked` with the name of each request as it comes: Ctrl-C (SIGINT), SIGTERM, SIGQUIT (Ctrl-\), and once SIGHUP
/// when it comes with the loss of the terminal this program was started in, unless it was started with SIGHUP ignored, as
/// by nohup(1). Must be called within a tokio runtime; goes on until the runtime ends.
///
/// From here on no SIGHUP ends this process by itself.
pub fn on_stop_request(asked: impl Fn(&'static str) + Send + Clone + 'static) -> io::Result<()> {
    let terminal = Terminal::of_this_process();
    for (kind, name) in [
        (SignalKind::interrupt(), "Ctrl-C"),
        (SignalKind::terminate(), "SIGTERM"),
        (SignalKind::quit(), "SIGQUIT"),
    ] {
        let mut requests = signal(kind)?;
        let asked = asked.clone();
        tokio::spawn(async move {
            while requests.recv().await.is_some() {
                asked(name);
            }
        });
    }
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        let mut loss = Loss::default();
        while hangups.recv().await.is_some() {
            if loss.meaning(terminal).await == Meaning::Stop {
                asked("SIGHUP");
            }
        }
    });
    Ok(())
}

/// Calls `asked` at each SIGHUP that does not come from the loss of the terminal: at once for a program without one, after
/// half a second for a program in one. Must be called within a tokio runtime; goes on until the runtime ends. Requests that
/// come faster than they are taken count as one.
pub fn on_reload_request(asked: impl Fn() + Send + 'static) -> io::Result<()> {
    let terminal = Terminal::of_this_process();
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        let mut loss = Loss::default();
        while hangups.recv().await.is_some() {
            if loss.meaning(terminal).await == Meaning::Reload {
                asked();
            }
        }
    });
    Ok(())
}

/// What a SIGHUP says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    Stop,
    Reload,
    Nothing,
}

/// Whether the loss of the terminal has been told. Its signal may come twice, from the kernel and from a shell.
#[derive(Debug, Default)]
struct Loss {
    told: bool,
}

impl Loss {
    async fn meaning(&mut self, terminal: &Terminal) -> Meaning {
        for look in 0..LOOKS {
            if let Some(meaning) = self.look(terminal) {
                return meaning;
            }
            if look + 1 < LOOKS {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Meaning::Reload
    }

    /// What one look says; `None` while the terminal is there, and may be on its way.
    fn look(&mut self, terminal: &Terminal) -> Option<Meaning> {
        if !terminal.is_any() {
            return Some(Meaning::Reload);
        }
        if !terminal.is_gone() {
            return None;
        }
        let first = !std::mem::replace(&mut self.told, true);
        Some(match (terminal.was_ignored, first) {
            (false, true) => Meaning::Stop,
            (false, false) | (true, true) => Meaning::Nothing,
            // It outlives its terminal on purpose: from here on it is a program without one.
            (true, false) => Meaning::Reload,
        })
    }
}

/// The same for a thread, which may wait.
#[derive(Debug)]
pub(crate) struct Hangups {
    loss: Loss,
    terminal: &'static Terminal,
}

impl Hangups {
    /// To be made before a handler of SIGHUP is set.
    pub(crate) fn new() -> Self {
        Self { loss: Loss::default(), terminal: Terminal::of_this_process() }
    }

    /// What a SIGHUP that just came says; in a terminal it takes half a second to tell.
    pub(crate) fn meaning(&mut self) -> Meaning {
        for look in 0..LOOKS {
            if let Some(meaning) = self.loss.look(self.terminal) {
                return meaning;
            }
            if look + 1 < LOOKS {
                std::thread::sleep(PAUSE);
            }
        }
        Meaning::Reload
    }
}

/// The terminal this process was started in.
#[derive(Debug)]
struct Terminal {
    /// Which of standard input, output and error were terminals.
    standard: [bool; 3],
    /// It had a controlling terminal, though its descriptors may lead elsewhere.
    controlling: bool,
    /// SIGHUP was ignored.
    was_ignored: bool,
}

impl Terminal {
    /// As it was at the first call, before a handler was set.
    fn of_this_process() -> &'static Self {
        static FIRST: OnceLock<Terminal> = OnceLock::new();
        FIRST.get_or_init(|| {
            use std::io::IsTerminal as _;
            Self {
                standard: [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()],
                controlling: controlling_terminal_opens(),
                was_ignored: hangup_is_ignored(),
            }
        })
    }

    const fn is_any(&self) -> bool {
        let [input, output, error] = self.standard;
        self.controlling || input || output || error
    }

    fn is_gone(&self) -> bool {
        let (input, output, error) = (io::stdin(), io::stdout(), io::stderr());
        let standard = [is_hung_up(&input), is_hung_up(&output), is_hung_up(&error)];
        let lost = self.standard.into_iter().zip(standard).any(|(was, is_hung_up)| was && is_hung_up);
        lost || self.controlling && !controlling_terminal_opens()
    }
}

/// tty(4): /dev/tty is the controlling terminal, and cannot be opened without one (ENXIO) or after its loss (EIO).
fn controlling_terminal_opens() -> bool {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open("/dev/tty", flags, Mode::empty()).is_ok()
}

fn is_hung_up(fd: impl std::os::fd::AsFd) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::empty())];
    match rustix::event::poll(&mut fds, Some(&Timespec::default())) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(_) => return false,
    }
    fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
}

fn hangup_is_ignored() -> bool {
    // SAFETY: sigaction(2) with a null pointer for the new action only writes the old one, which is plain numbers.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut before) == 0
            && before.sa_sigaction == libc::SIG_IGN
    }
}
