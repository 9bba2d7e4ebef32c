//! The signals that ask a foreground program to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Calls `asked` with the name of each request as it comes: Ctrl-C (SIGINT), SIGTERM, SIGQUIT (Ctrl-\), and SIGHUP, which
/// a closed terminal sends. Must be called within a tokio runtime; goes on until the runtime ends.
pub fn on_stop_request(asked: impl Fn(&'static str) + Send + Clone + 'static) -> io::Result<()> {
    for (kind, name) in [
        (SignalKind::interrupt(), "Ctrl-C"),
        (SignalKind::terminate(), "SIGTERM"),
        (SignalKind::quit(), "SIGQUIT"),
        (SignalKind::hangup(), "SIGHUP"),
    ] {
        let mut requests = signal(kind)?;
        let asked = asked.clone();
        tokio::spawn(async move {
            while requests.recv().await.is_some() {
                asked(name);
            }
        });
    }
    Ok(())
}
