//! For tests: whether everything the machine keeps in step still follows from replicas and gates.

use mainstay_types::Phase;

use super::{At, Key, StackMachine};
use crate::Wanted;

impl StackMachine {
    /// Panics where a derived value is not what it would be if it were counted from nothing. Looks at small stacks only:
    /// it would be most of the cost of a large one.
    pub(crate) fn assert_consistent(&self) {
        if self.slots.len() > 50 {
            return;
        }
        let (mut active, mut initializing, mut keys) = (0, 0, 0);
        for (service, slot) in self.slots.iter().enumerate() {
            let config = &self.stack.services[service];
            let name = &config.name;
            assert_eq!(slot.replicas.len(), config.replicas as usize, "{name}: replicas");
            assert_eq!(
                (slot.counts, slot.launching),
                super::slot::count_replicas(slot.replicas.iter()),
                "{name}: counts"
            );
            let joining = slot.replicas.iter().filter(|replica| replica.joining).count();
            assert_eq!(slot.joining as usize, joining, "{name}: joining");
            assert_eq!(slot.holds, slot.compute_holds(), "{name}: holds");
            let shut = self.graph.nodes.iter().zip(&self.slots).flat_map(|(node, other)| {
                node.dependents.iter().filter(move |it| it.service == service && !other.holds.of(it.is))
            });
            assert_eq!(slot.shut_gates as usize, shut.count(), "{name}: shut gates");
            let blockers = self.graph.nodes[service].dependent_services.iter();
            let blockers = blockers.filter(|other| self.slots[**other].blocks).count();
            assert_eq!(slot.blockers as usize, blockers, "{name}: blockers");
            let blocks = slot.wanted == Wanted::Down && (slot.active() > 0 || slot.blockers > 0);
            assert_eq!(slot.blocks, blocks, "{name}: blocks");
            assert!(!slot.queued, "{name}: nothing is queued between events");
            active += slot.active() as usize;
            for (index, replica) in slot.replicas.iter().enumerate() {
                let at = At { service, index };
                initializing += usize::from(replica.actual.state().phase() == Phase::Initializing);
                assert_eq!(replica.deadline, replica.next_deadline(), "{name}.{index}: deadline");
                if let Some((moment, _)) = replica.deadline {
                    keys += 1;
                    assert!(self.deadlines.contains(&(moment, Key::Replica(at))), "{name}.{index}: indexed");
                }
                if let Some(spawn) = replica.spawn() {
                    assert_eq!(self.spawns.get(&spawn), Some(&at), "{name}.{index}: spawn");
                }
            }
            if let Some((moment, _)) = slot.wait_deadline {
                keys += 1;
                assert!(self.deadlines.contains(&(moment, Key::Gates(service))), "{name}: wait");
            }
            if let Some((moment, _)) = slot.keeping.as_ref().and_then(super::keeping::Keeping::next_deadline)
            {
                keys += 1;
                assert!(self.deadlines.contains(&(moment, Key::Keeping(service))), "{name}: keeping");
            }
        }
        assert_eq!((self.active, self.initializing), (active, initializing), "active, initializing");
        let stack = self.deadlines.iter().filter(|(_, key)| *key == Key::Stack).count();
        assert_eq!(self.deadlines.len(), keys + stack, "no deadline without an owner");
        assert!(self.queue.is_empty());
        for (id, held) in &self.orphans {
            let config = self.stack.service(id.service.as_str());
            assert!(config.is_none_or(|config| config.replicas <= id.index), "{id}: nobody's");
            assert!(!self.spawns.contains_key(&held.spawn), "{id}: spawn");
        }
        for at in self.spawns.values() {
            assert!(at.index < self.slots[at.service].replicas.len());
        }
    }
}
