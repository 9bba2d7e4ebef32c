//! `mainstay log-level`: what the host's own log tells, shown or changed while it runs.

use crate::cli::Global;
use crate::client::{block_on, client, client_failure};
use crate::context::addressed;
use crate::failure::Failure;
use crate::terminal::print;

/// Shows the level, or sets it.
pub(crate) fn log_level(global: &Global, level: Option<&str>) -> Result<(), Failure> {
    let addressed = addressed(global)?;
    let client = client(&addressed);
    let answer = block_on(async {
        let answer = match level {
            Some(level) => client.set_log_level(level).await,
            None => client.log_level().await,
        };
        answer.map_err(|error| client_failure(&error, &addressed))
    })?;
    let text = if global.json {
        // The answer is made of strings only; such a value always becomes JSON.
        serde_json::to_string(&answer).unwrap_or_default()
    } else {
        match &answer.before {
            Some(before) => format!("the level is {}; it was {before}", answer.level),
            None => answer.level,
        }
    };
    // Nobody may be reading any more, which is no error of ours.
    let _ = print(&(text + "\n"));
    Ok(())
}
