//! The gates between services as a graph of indices: who waits for whom, and how long the longest chain is.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_config::{Condition, Gate, Stack};

use crate::machine::is_kept;

/// One gate between two services, seen from the service that is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dependent {
    /// The index of the service that waits.
    pub(crate) service: usize,
    /// What it waits for.
    pub(crate) is: Condition,
}

/// Per service, by its index in [`Stack::services`].
#[derive(Clone, Default, Debug)]
pub(crate) struct Node {
    /// One entry for each service gate that names this service; a service with two gates on it appears twice.
    pub(crate) dependents: Vec<Dependent>,
    /// The services it has gates on, each once, in the order of `needs`.
    pub(crate) dependencies: Vec<usize>,
    /// The services with any gate on it, each once.
    pub(crate) dependent_services: Vec<usize>,
    /// Places in `needs` of the gates on something outside.
    pub(crate) outside: Vec<usize>,
    /// Number of gates on services.
    pub(crate) service_gates: u32,
    /// Whether any of its gates is kept while it runs.
    pub(crate) keeps: bool,
}

/// The gates of one stack.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    names: BTreeMap<mainstay_types::ServiceName, usize>,
    /// The sum of graces, and of what runs after the exits, along the longest chain of gates.
    pub(crate) longest_stop: Duration,
}

impl Graph {
    /// A gate on a service that is not there is left out: `config` has refused such a file.
    pub(crate) fn new(stack: &Stack) -> Self {
        let names: BTreeMap<_, _> =
            stack.services.iter().enumerate().map(|(index, service)| (service.name.clone(), index)).collect();
        let mut nodes = vec![Node::default(); stack.services.len()];
        for (index, service) in stack.services.iter().enumerate() {
            nodes[index].keeps = service.needs.iter().any(is_kept);
            for (place, need) in service.needs.iter().enumerate() {
                match &need.gate {
                    Gate::Outside(_) => nodes[index].outside.push(place),
                    Gate::Service { service: name, is } => {
                        let Some(&needed) = names.get(name) else { continue };
                        nodes[index].service_gates += 1;
                        nodes[needed].dependents.push(Dependent { service: index, is: *is });
                        // Gates of one service are inserted together, so a repetition is the last entry.
                        if nodes[needed].dependent_services.last() != Some(&index) {
                            nodes[needed].dependent_services.push(index);
                            nodes[index].dependencies.push(needed);
                        }
                    }
                }
            }
        }
        let longest_stop = longest_stop(stack, &nodes);
        Self { nodes, names, longest_stop }
    }

    /// The services that stop when this one does: those whose `ready` or `started` gate it would shut.
    pub(crate) fn followers(&self, service: usize) -> impl Iterator<Item = usize> {
        self.nodes[service].dependents.iter().filter_map(|dependent| match dependent.is {
            Condition::Ready | Condition::Started => Some(dependent.service),
            Condition::Completed => None,
        })
    }

    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }
}

/// The longest an orderly stop of the whole stack may take: its budget, or the graces along the longest chain of gates.
#[must_use]
pub fn stop_budget(stack: &Stack) -> Duration {
    stack.stop_budget.unwrap_or_else(|| Graph::new(stack).longest_stop)
}

/// Walks from the services nobody needs to those that need nothing (Kahn's algorithm). Services on a circle, which
/// `config` refuses, would be left out.
fn longest_stop(stack: &Stack, nodes: &[Node]) -> Duration {
    let mut open: Vec<usize> = nodes.iter().map(|node| node.dependent_services.len()).collect();
    let mut before = vec![Duration::ZERO; nodes.len()];
    let mut free: Vec<usize> = (0..nodes.len()).filter(|index| open[*index] == 0).collect();
    let mut longest = Duration::ZERO;
    while let Some(index) = free.pop() {
        let service = &stack.services[index];
        let after = service.hooks.after_exit.as_ref().map_or(Duration::ZERO, |hook| hook.timeout);
        let end = before[index].saturating_add(service.stop.grace).saturating_add(after);
        longest = longest.max(end);
        for &needed in &nodes[index].dependencies {
            before[needed] = before[needed].max(end);
            open[needed] -= 1;
            if open[needed] == 0 {
                free.push(needed);
            }
        }
    }
    longest
}
