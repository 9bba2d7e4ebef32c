//! Sockets that the host keeps open for services, from the first start of each until the host ends or the file says
//! otherwise: between two starts, connections wait in the socket's queue.

use std::collections::BTreeMap;

use mainstay_config::{Service, Stack};
use mainstay_os::{Descriptor, ListenError, Listener, open_listener};
use mainstay_types::ServiceName;

/// All of one host.
#[derive(Default)]
pub(crate) struct Sockets {
    open: BTreeMap<(ServiceName, String), Listener>,
}

impl Sockets {
    /// The sockets of this service in the order of the file; opens those that are not open yet.
    pub(crate) fn of(&mut self, service: &Service) -> Result<Vec<Descriptor>, ListenError> {
        let mut descriptors = Vec::with_capacity(service.listen.len());
        for wanted in &service.listen {
            let key = (service.name.clone(), wanted.name.clone());
            let descriptor = match self.open.get(&key).filter(|open| *open.address() == wanted.address) {
                Some(open) => open.descriptor().clone(),
                None => {
                    // Another address under that name: the old one closes first, they may overlap.
                    self.open.remove(&key);
                    let listener = open_listener(&wanted.address)?;
                    let descriptor = listener.descriptor().clone();
                    self.open.insert(key, listener);
                    descriptor
                }
            };
            descriptors.push(descriptor);
        }
        Ok(descriptors)
    }

    /// Closes what this stack does not declare.
    pub(crate) fn keep_only(&mut self, stack: &Stack) {
        self.open.retain(|(service, name), open| {
            let declared = stack.service(service.as_str());
            declared.is_some_and(|service| {
                service.listen.iter().any(|wanted| wanted.name == *name && wanted.address == *open.address())
            })
        });
    }

    /// Whether this socket of this service is open.
    pub(crate) fn is_open(&self, service: &ServiceName, name: &str) -> bool {
        self.open.contains_key(&(service.clone(), name.to_owned()))
    }
}
