//! Whether a stack is worth holding back at boot until the network is up.

use std::net::IpAddr;

use mainstay_config::{Check, Gate, Service, Stack};
use mainstay_types::{HostPort, ListenAddress, ProbeAction};

/// Whether the stack asks something of the network beyond this machine: a gate that is checked elsewhere, or a socket on
/// an address that is there only when the network is up. A probe asks again until it is answered, and needs no order.
#[must_use]
pub(crate) fn needs_network(stack: &Stack) -> bool {
    stack.services.iter().any(|service| gates_elsewhere(service) || listens_on_one_address(service))
}

fn gates_elsewhere(service: &Service) -> bool {
    service.needs.iter().any(|need| match &need.gate {
        Gate::Service { .. } => false,
        Gate::Outside(action) => is_elsewhere(action),
    }) || service.startup.iter().any(|probe| match &probe.check {
        // A start-up check that runs out of tries restarts the service.
        Check::Ask(action) => is_elsewhere(action),
        Check::Log(_) | Check::Notify | Check::NotifyFd(_) => false,
    })
}

/// What runs here may ask anything of anybody; it is taken to be about this machine.
fn is_elsewhere(action: &ProbeAction) -> bool {
    match action {
        ProbeAction::Http { target, .. } => !is_here(&target.address),
        ProbeAction::Server { url, .. } => !is_here(&url.address),
        ProbeAction::Grpc { address, .. } | ProbeAction::Tcp(address) => !is_here(address),
        ProbeAction::Dns(_) => true,
        ProbeAction::File(_) | ProbeAction::Exec(_) => false,
    }
}

fn is_here(address: &HostPort) -> bool {
    match address.host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        // RFC 6761, 6.3: this name and those below it are this machine.
        Err(_) => address.host == "localhost" || address.host.ends_with(".localhost"),
    }
}

fn listens_on_one_address(service: &Service) -> bool {
    service.listen.iter().any(|listen| match &listen.address {
        ListenAddress::Tcp(address) | ListenAddress::Udp(address) => {
            !address.ip().is_unspecified() && !address.ip().is_loopback()
        }
        ListenAddress::Unix(_) | ListenAddress::UnixDatagram(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(text: &str) -> Stack {
        let file = std::path::Path::new("/srv/shop/mainstay.toml");
        mainstay_config::parse(&mainstay_config::Input { text, file, env: &|_| None })
            .unwrap_or_else(|errors| panic!("{}", errors.render(false)))
    }

    fn asks(needs: &str, more: &str) -> bool {
        let text = format!("[service.a]\ncommand = \"x\"\nneeds = [{needs}]\n{more}");
        needs_network(&stack(&text))
    }

    #[test]
    fn only_what_lies_elsewhere_asks_for_the_network() {
        for here in [
            "",
            "{ tcp = \"127.0.0.1:5432\" }",
            "{ tcp = \"[::1]:5432\" }",
            "{ http = \"http://localhost:80/\" }",
            "{ file = \"/x\" }",
            "{ exec = [\"x\"] }",
        ] {
            assert!(!asks(here, ""), "{here}");
        }
        for elsewhere in [
            "{ tcp = \"10.0.0.1:5432\" }",
            "{ dns = \"db.internal\" }",
            "{ redis = \"redis://cache.internal\" }",
            "{ http = \"https://example.com/\" }",
        ] {
            assert!(asks(elsewhere, ""), "{elsewhere}");
        }
        assert!(!asks("", "listen = { a = \"0.0.0.0:80\", b = \"127.0.0.1:81\", c = \"unix:/run/c\" }"));
        assert!(asks("", "listen = { a = \"192.0.2.1:80\" }"));
    }
}
