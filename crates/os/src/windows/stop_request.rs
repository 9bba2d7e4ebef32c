//! The console events that ask a program to end.

use std::io;

use tokio::signal::windows;

/// Calls `asked` with the name of each request as it comes: Ctrl-C, Ctrl-Break, the closing of the console's window, the end of
/// the session and of the system. The last three leave a program a few seconds before the system ends it. Must be called
/// within a tokio runtime; goes on until the runtime ends.
pub fn on_stop_request(asked: impl Fn(&'static str) + Send + Clone + 'static) -> io::Result<()> {
    macro_rules! listen {
        ($($event:ident => $name:literal,)*) => {$(
            let mut requests = windows::$event()?;
            let told = asked.clone();
            tokio::spawn(async move {
                while requests.recv().await.is_some() {
                    told($name);
                }
            });
        )*};
    }
    listen! {
        ctrl_c => "Ctrl-C",
        ctrl_break => "Ctrl-Break",
        ctrl_close => "closing the window",
        ctrl_logoff => "logging off",
        ctrl_shutdown => "shutting down",
    }
    Ok(())
}

/// Windows has no such signal: a reload is asked for by command.
pub fn on_reload_request(_asked: impl Fn() + Send + 'static) -> io::Result<()> {
    Ok(())
}
