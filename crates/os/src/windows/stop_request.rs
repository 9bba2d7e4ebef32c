//! The console event that asks a foreground program to end.

use std::io;

/// Calls `asked` at each Ctrl-C. Must be called within a tokio runtime; goes on until the runtime ends.
pub fn on_stop_request(asked: impl Fn(&'static str) + Send + Clone + 'static) -> io::Result<()> {
    let mut requests = tokio::signal::windows::ctrl_c()?;
    tokio::spawn(async move {
        while requests.recv().await.is_some() {
            asked("Ctrl-C");
        }
    });
    Ok(())
}

/// Windows has no such signal: a reload is asked for by command.
pub fn on_reload_request(_asked: impl Fn() + Send + 'static) -> io::Result<()> {
    Ok(())
}
