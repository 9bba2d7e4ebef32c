//! DNS probes: whether a name has an address, asked as every program of this machine asks.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::tcp::{self, Limit};
use mainstay_types::ProbeFailure;

/// Asks the system's resolver once: its files and caches count, as they do for the service that waits for the name.
pub(crate) async fn check(name: &str, timeout: Duration) -> Result<String, ProbeFailure> {
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    if literal.parse::<IpAddr>().is_ok() {
        return Ok("is an address already: there is nothing to resolve".to_owned());
    }
    let limit = Limit::from_now(timeout);
    match tcp::lookup(name, 0, &limit).await {
        Ok(found) => judge(name, found),
        Err(tcp::TimedOut) => Err(ProbeFailure::TimedOut(timeout)),
    }
}

fn judge(name: &str, found: Result<Vec<SocketAddr>, String>) -> Result<String, ProbeFailure> {
    let failure = |message| ProbeFailure::Dns { host: name.to_owned(), message };
    let found = found.map_err(failure)?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    match addresses.as_slice() {
        [] => Err(failure("the name has no address".to_owned())),
        [only] => Ok(format!("resolves to {only}")),
        [first, more @ ..] => Ok(format!("resolves to {first} (+{} more)", more.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMPLE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn names_of_this_machine_resolve() {
        let evidence = check("localhost", AMPLE).await.unwrap();
        assert!(
            ["resolves to 127.0.0.1", "resolves to ::1"].iter().any(|words| evidence.starts_with(words)),
            "{evidence}"
        );
    }

    #[tokio::test]
    async fn an_address_is_nothing_to_resolve() {
        for literal in ["10.0.0.1", "::1", "[::1]"] {
            assert!(check(literal, AMPLE).await.unwrap().contains("nothing to resolve"));
        }
    }

    #[tokio::test]
    async fn a_name_that_is_never_given_fails() {
        // .invalid is kept from ever resolving (RFC 6761, 6.4).
        let Err(ProbeFailure::Dns { host, message }) = check("nothing.invalid", AMPLE).await else {
            panic!()
        };
        assert_eq!(host, "nothing.invalid");
        assert!(!message.is_empty() && !message.contains("failed to lookup"), "{message}");
    }

    #[test]
    fn the_number_of_addresses_is_told() {
        for (addresses, answer) in [
            (&["10.0.0.1:0"][..], Ok("resolves to 10.0.0.1")),
            (&["10.0.0.1:0", "10.0.0.1:0", "[::1]:0", "10.0.0.2:0"], Ok("resolves to 10.0.0.1 (+2 more)")),
            (&[], Err("cannot resolve db: the name has no address")),
        ] {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            let answered = judge("db", Ok(addresses)).map_err(|failure| failure.to_string());
            assert_eq!(answered.as_deref().map_err(String::as_str), answer);
        }
    }
}
