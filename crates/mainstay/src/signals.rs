//! Requests to stop that come from outside: Ctrl-C, and on Unix SIGTERM, SIGINT, SIGHUP and SIGQUIT.

use tokio::sync::mpsc;

/// The names of the requests, as they come. Must be called within a runtime.
pub(crate) fn stop_requests() -> std::io::Result<mpsc::UnboundedReceiver<&'static str>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    mainstay_os::on_stop_request(move |name| {
        // After the host's end nobody listens.
        let _ = sender.send(name);
    })?;
    Ok(receiver)
}
