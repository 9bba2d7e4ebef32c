//! Requests that come from outside: to stop (Ctrl-C, on Unix SIGTERM, SIGINT, SIGQUIT, a closed terminal), and to apply
//! the changed file (SIGHUP).

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

/// One entry for each request to apply the file. Must be called within a runtime.
pub(crate) fn reload_requests() -> std::io::Result<mpsc::UnboundedReceiver<()>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    mainstay_os::on_reload_request(move || {
        // After the host's end nobody listens.
        let _ = sender.send(());
    })?;
    Ok(receiver)
}
