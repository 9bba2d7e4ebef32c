//! Sends what services say on to other places: systemd's journal, syslog, OpenTelemetry, Loki.
//!
//! Role: one [`Forwarder`] a target. The log files are the buffer: a forwarder reads them from a place it keeps in
//! `STATE/forward/NAME.json`, and moves that place only when the target has taken a batch. So no program ever waits for a
//! target, nothing is held in memory but one batch, and what was not taken is sent by the next host. A line may come twice, when
//! the host ended between an answer and the move; it is missing only where it is counted.
//! May use: `types`, `config`, `os`, `probes` (the way to a server), `logs`. May be used by: `host`.
//!
//! ```text
//!  log files ──► spool ──► batch ──► encode (pure) ──► deliver ──► the target
//!      ▲ watch     │ counts what is     ▲                   │ answer
//!      │           │ missing            └── pieces ◄── verdict (pure): done, again after pace (pure), in halves, dropped
//!      └─ place ◄──┘ STATE/forward/NAME.json
//! ```
//!
//! Threads: `forward-NAME`, one a target, with a runtime of its own: it sleeps until a file changes, an answer comes or a wait
//! is over. It ends within [`FLUSH_LIMIT`] of being told to.

mod batch;
mod counts;
mod deliver;
mod encode;
mod http;
mod pace;
mod record;
mod spool;
mod state;
mod verdict;
mod worker;

pub use counts::{Counts, Notice};
pub use state::{StateError, state_path};
pub use worker::{FLUSH_LIMIT, Forwarder, ForwarderOptions};
