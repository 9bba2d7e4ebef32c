//! The gates between services: names that are not there, and services that wait for each other.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use mainstay_types::ServiceName;

use crate::declare::At;
use crate::diagnostic::{ConfigCause, Found};
use crate::nearest::nearest;
use crate::nested::NamedService;
use crate::read::{Reader, shown};
use crate::resolve::Kinds;

/// Services from which the shortest circle is looked for in one knot of circles. Each costs a walk over the knot, so
/// that a file of thousands of services that all need each other would take minutes; past this number the shortest
/// circle found so far is reported.
const MAX_CYCLE_STARTS: usize = 200;

/// The service a gate names, when it is there and another one.
pub(crate) fn find(
    reader: &mut Reader<'_>,
    named: &NamedService,
    target: &At<String>,
    kinds: &Kinds<'_>,
) -> Option<ServiceName> {
    let name = target.value.as_str();
    if name == named.name.as_str() {
        let message = format!("`{name}` waits for itself and would never start");
        let help = "take this gate out";
        reader.report(Found::new(ConfigCause::DependencyCycle, target.span.clone(), message).help(help));
        return None;
    }
    if kinds.contains_key(name) {
        // A declared name has been parsed once already.
        return ServiceName::parse(name).ok();
    }
    no_such_service(reader, target, kinds.keys().copied().filter(|other| *other != named.name.as_str()));
    None
}

/// Reports a name that no service has.
pub(crate) fn no_such_service<'n>(
    reader: &mut Reader<'_>,
    target: &At<String>,
    names: impl Iterator<Item = &'n str> + Clone,
) {
    let name = target.value.as_str();
    let help = if reader.collector.is_full() {
        String::new()
    } else if let Some(near) = nearest(name, names.clone()) {
        format!("did you mean \"{near}\"?")
    } else {
        const MAX_LISTED: usize = 10;
        let listed: Vec<_> = names.clone().take(MAX_LISTED).collect();
        let more = if names.count() > MAX_LISTED { ", ..." } else { "" };
        match listed.as_slice() {
            [] => "there is no other service in this file".to_owned(),
            listed => format!("services in this file: {}{more}", listed.join(", ")),
        }
    };
    let message = format!("there is no service `{}`", shown(name));
    reader.report(Found::new(ConfigCause::UnknownService, target.span.clone(), message).help(help).absence());
}

/// Who waits for whom: for each service the others it needs, with the place of the first gate that says so.
type Edges = Vec<BTreeMap<usize, Range<usize>>>;

/// Reports the shortest circle of each knot of services that wait for each other.
pub(crate) fn report_cycles(reader: &mut Reader<'_>, named: &[NamedService]) {
    let edges = edges(named);
    for knot in knots(&edges) {
        let Some(cycle) = shortest_cycle(&edges, &knot) else { continue };
        let [first, second, ..] = cycle.as_slice() else { continue };
        let names: Vec<_> =
            cycle.iter().chain(cycle.first()).map(|index| named[*index].name.as_str()).collect();
        let message = format!("services wait for each other: {}", abbreviated(&names));
        let help = "none of them would ever start: take one of these gates out";
        let span = edges[*first][second].clone();
        reader.service = Some(named[*first].name.to_string());
        reader.report(Found::new(ConfigCause::DependencyCycle, span, message).help(help));
    }
    reader.service = None;
}

fn abbreviated(names: &[&str]) -> String {
    const MAX_SHOWN: usize = 20;
    if names.len() <= MAX_SHOWN {
        return names.join(" -> ");
    }
    let (head, tail) = (&names[..MAX_SHOWN / 2], &names[names.len() - MAX_SHOWN / 2..]);
    format!("{} -> ... -> {}", head.join(" -> "), tail.join(" -> "))
}

fn edges(named: &[NamedService]) -> Edges {
    let index: BTreeMap<&str, usize> =
        named.iter().enumerate().map(|(index, service)| (service.name.as_str(), index)).collect();
    let edges_of = |(from, service): (usize, &NamedService)| {
        let mut edges = BTreeMap::new();
        let needs = service.options.needs.as_ref().map_or(&[][..], |at| &at.value.0);
        for target in needs.iter().filter_map(|need| need.value.service.as_ref()) {
            // A service that needs itself has its own message.
            if let Some(to) = index.get(target.value.as_str()).filter(|to| **to != from) {
                edges.entry(*to).or_insert_with(|| target.span.clone());
            }
        }
        edges
    };
    named.iter().enumerate().map(edges_of).collect()
}

/// The sets of two and more services each of which waits, over others, for every other: Tarjan's strongly connected
/// components, without recursion, in the order of their first service.
fn knots(edges: &Edges) -> Vec<BTreeSet<usize>> {
    #[derive(Clone, Copy, Default)]
    struct Node {
        /// Order of the visit, from 1; 0 is not visited.
        visit: usize,
        low: usize,
        on_stack: bool,
    }
    let mut nodes = vec![Node::default(); edges.len()];
    let mut stack = Vec::new();
    let mut visits = 0;
    let mut knots = Vec::new();
    for root in 0..edges.len() {
        if nodes[root].visit != 0 {
            continue;
        }
        let mut walk = vec![(root, edges[root].keys())];
        while let Some((node, targets)) = walk.last_mut() {
            let node = *node;
            if nodes[node].visit == 0 {
                visits += 1;
                nodes[node] = Node { visit: visits, low: visits, on_stack: true };
                stack.push(node);
            }
            if let Some(target) = targets.next().copied() {
                if nodes[target].visit == 0 {
                    walk.push((target, edges[target].keys()));
                } else if nodes[target].on_stack {
                    nodes[node].low = nodes[node].low.min(nodes[target].visit);
                }
                continue;
            }
            walk.pop();
            if let Some((parent, _)) = walk.last() {
                nodes[*parent].low = nodes[*parent].low.min(nodes[node].low);
            }
            if nodes[node].low == nodes[node].visit {
                let mut knot = BTreeSet::new();
                while let Some(member) = stack.pop() {
                    nodes[member].on_stack = false;
                    knot.insert(member);
                    if member == node {
                        break;
                    }
                }
                if knot.len() > 1 {
                    knots.push(knot);
                }
            }
        }
    }
    knots.sort_by_key(|knot| knot.first().copied());
    knots
}

/// The shortest circle in a knot, beginning with its first service in the order of the file.
fn shortest_cycle(edges: &Edges, knot: &BTreeSet<usize>) -> Option<Vec<usize>> {
    let mut shortest: Option<Vec<usize>> = None;
    for start in knot.iter().copied().take(MAX_CYCLE_STARTS) {
        let found = cycle_through(edges, knot, start);
        if let Some(found) =
            found.filter(|found| shortest.as_ref().is_none_or(|best| found.len() < best.len()))
        {
            shortest = Some(found);
        }
        if shortest.as_ref().is_some_and(|best| best.len() == 2) {
            break;
        }
    }
    let mut cycle = shortest?;
    let first = cycle.iter().enumerate().min_by_key(|(_, index)| **index).map_or(0, |(at, _)| at);
    cycle.rotate_left(first);
    Some(cycle)
}

/// The shortest way from a service back to itself, by breadth first.
fn cycle_through(edges: &Edges, knot: &BTreeSet<usize>, start: usize) -> Option<Vec<usize>> {
    let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for target in edges[node].keys().copied().filter(|target| knot.contains(target)) {
            if target == start {
                let mut cycle = vec![node];
                let mut at = node;
                while at != start {
                    at = *came_from.get(&at)?;
                    cycle.push(at);
                }
                cycle.reverse();
                return Some(cycle);
            }
            if let Entry::Vacant(unseen) = came_from.entry(target) {
                unseen.insert(node);
                queue.push_back(target);
            }
        }
    }
    None
}
