//! Soon.
use super::login::Login;
use super::wire::Wire;
use mainstay_types::{CaFile, ProbeFailure};
pub(super) async fn check(_: Wire, _: &Login, _: Option<&CaFile>) -> Result<String, ProbeFailure> {
    Err(ProbeFailure::Protocol("not supported yet".to_owned()))
}
