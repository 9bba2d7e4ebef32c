//! The sockets of all services together: no two of them can have one address.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use mainstay_types::ListenAddress;

use crate::declare::At;
use crate::diagnostic::Found;
use crate::nested::NamedService;
use crate::read::Reader;
use crate::stack::Listen;

/// A socket of a service.
type Owned<'s> = (&'s str, &'s Listen);

/// What has been taken so far. TCP and UDP are apart, and so are IPv4 and IPv6: whether `[::]` takes IPv4 with it is the
/// system's choice (`net.ipv6.bindv6only`), and known when the socket is opened.
#[derive(Default)]
struct Taken<'s> {
    addresses: BTreeMap<(bool, SocketAddr), Owned<'s>>,
    /// The first one by transport, IPv4 or not, and port: whatever its address, and with all addresses of the machine.
    any: BTreeMap<(bool, bool, u16), Owned<'s>>,
    wildcards: BTreeMap<(bool, bool, u16), Owned<'s>>,
    paths: BTreeMap<&'s Path, Owned<'s>>,
}

/// Reports each socket whose address an earlier one of the file has.
pub(super) fn report_conflicts(reader: &mut Reader<'_>, named: &[NamedService]) {
    let mut taken = Taken::default();
    for service in named {
        reader.service = Some(service.name.to_string());
        for socket in service.options.listen.iter().flat_map(|at| &at.value.0) {
            if let Some(other) = taken.take((service.name.as_str(), &socket.value)) {
                report(reader, service.name.as_str(), socket, other);
            }
        }
    }
    reader.service = None;
}

impl<'s> Taken<'s> {
    /// Notes a socket; returns the one it cannot be opened beside.
    fn take(&mut self, owned: Owned<'s>) -> Option<Owned<'s>> {
        let (is_tcp, address) = match &owned.1.address {
            ListenAddress::Tcp(address) => (true, *address),
            ListenAddress::Udp(address) => (false, *address),
            ListenAddress::Unix(path) | ListenAddress::UnixDatagram(path) => {
                return match self.paths.entry(path) {
                    Entry::Occupied(other) => Some(*other.get()),
                    Entry::Vacant(free) => {
                        free.insert(owned);
                        None
                    }
                };
            }
        };
        let group = (is_tcp, address.is_ipv4(), address.port());
        let is_wildcard = is_unspecified(address.ip());
        let others = if is_wildcard { &self.any } else { &self.wildcards };
        let other = self.addresses.get(&(is_tcp, address)).or_else(|| others.get(&group)).copied();
        if other.is_none() {
            self.addresses.insert((is_tcp, address), owned);
            self.any.entry(group).or_insert(owned);
            if is_wildcard {
                self.wildcards.insert(group, owned);
            }
        }
        other
    }
}

fn is_unspecified(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    }
}

fn report(reader: &mut Reader<'_>, service: &str, socket: &At<Listen>, (other_service, other): Owned<'_>) {
    let (here, there) = (&socket.value.address, &other.address);
    let whose = if service == other_service {
        format!("`{}` of this service", other.name)
    } else {
        format!("`{}` of service `{other_service}`", other.name)
    };
    let message = if here == there {
        format!("`{}` listens on {here}, as {whose} does", socket.value.name)
    } else {
        format!("`{}` cannot listen on {here}: {whose} listens on {there}", socket.value.name)
    };
    let help = "an address can be opened once: give one of them another";
    reader.report(Found::invalid(socket.span.clone(), message).help(help));
}
