//! The control API over a real control socket, with a host that is made up.

mod client;
mod document;
mod fake_host;
mod routes;
mod server;
