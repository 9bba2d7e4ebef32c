//! Commands: they change what is wanted; what runs follows along the gates.

use mainstay_types::ServiceName;

use super::{At, Course, Key, StackMachine};
use crate::replica::{Actual, Outlook, Then};
use crate::retry::Tries;
use crate::{Command, Effect, Reason, Record, Wanted};

impl StackMachine {
    /// A name that is not there, a start, restart or reload of a service that is down for a changed file, and anything
    /// but a kill after the stack was stopped for good, changes nothing and is not recorded.
    pub(super) fn on_command(&mut self, command: Command) {
        let named = |machine: &Self, name: &ServiceName| machine.index(name.as_str());
        match (&command, self.course) {
            (Command::StartStack, Course::Idle | Course::Up { .. }) => {
                self.take(command);
                let roots: Vec<usize> =
                    (0..self.slots.len()).filter(|index| self.stack.services[*index].autostart).collect();
                self.want_up(&roots, false);
            }
            (Command::Start(name), Course::Idle | Course::Up { .. }) => {
                let Some(service) = named(self, name).filter(|it| !self.is_held_for_change(*it)) else {
                    return;
                };
                self.take(command);
                self.want_up(&[service], true);
            }
            (Command::Stop(name), Course::Idle | Course::Up { .. }) => {
                let Some(service) = named(self, name) else { return };
                self.take(command);
                self.want_down(service);
            }
            (Command::Restart(name), Course::Idle | Course::Up { .. }) => {
                let Some(service) = named(self, name).filter(|it| !self.is_held_for_change(*it)) else {
                    return;
                };
                self.take(command);
                self.restart(service);
            }
            (Command::Reload(name), Course::Idle | Course::Up { .. }) => {
                let Some(service) = named(self, name).filter(|it| !self.is_held_for_change(*it)) else {
                    return;
                };
                self.take(command);
                self.reload(service);
            }
            (Command::StopStack, Course::Idle | Course::Up { .. }) => {
                self.take(command);
                self.stop_stack();
            }
            (Command::KillStack, Course::Idle | Course::Up { .. } | Course::Down { .. }) => {
                if self.is_over() {
                    return;
                }
                self.take(command);
                self.kill_stack();
            }
            // The stack is being stopped: nothing is started any more, and everything is being stopped already.
            (
                Command::StartStack
                | Command::Start(_)
                | Command::Stop(_)
                | Command::Restart(_)
                | Command::Reload(_)
                | Command::StopStack,
                Course::Down { .. },
            ) => return,
        }
        self.announce_rest();
    }

    fn take(&mut self, command: Command) {
        if self.course == Course::Idle {
            self.course = Course::Up { ran: false };
        }
        self.out.push(Effect::Record(Record::Command { command }));
    }

    /// After the first command the timeline knows every replica, those that nobody asked for too.
    pub(super) fn announce_rest(&mut self) {
        if std::mem::replace(&mut self.announced, true) {
            return;
        }
        for service in 0..self.slots.len() {
            for index in 0..self.slots[service].replicas.len() {
                let at = At { service, index };
                if !self.replica(at).announced {
                    let replica = self.replica_mut(at);
                    replica.announced = true;
                    let reason = replica.reason.clone();
                    self.note(at, reason);
                }
            }
        }
    }

    /// Wants these and all they need. What has completed is done again only where it was named itself.
    fn want_up(&mut self, roots: &[usize], named: bool) {
        let mut closure = self.with_dependencies(roots);
        closure.retain(|service| {
            // Those come up with the change they are down for.
            let held = self.is_held_for_change(*service);
            if held {
                self.start_after_change(*service);
            }
            !held
        });
        for &service in &closure {
            self.slots[service].wanted = Wanted::Up;
            self.refresh(service);
        }
        for &service in &closure {
            self.start_service(service, named && roots.contains(&service));
        }
    }

    /// Starts what has ended, and what has completed where it is done again.
    pub(super) fn start_service(&mut self, service: usize, rerun: bool) {
        for index in 0..self.slots[service].kept() {
            let at = At { service, index };
            match &self.replica(at).actual {
                Actual::Failed(Outlook::WatchesGates) => {
                    // Its time of waiting begins anew.
                    self.end_wait(service);
                    self.start_fresh(at, Reason::Requested);
                }
                Actual::Stopped
                | Actual::Failed(Outlook::Final | Outlook::AwaitsTree | Outlook::Retries { .. }) => {
                    self.start_fresh(at, Reason::Requested);
                }
                Actual::Completed if rerun => self.start_fresh(at, Reason::Requested),
                // Already so, or on its way; one that is stopping starts when it has stopped.
                Actual::Completed
                | Actual::Waiting
                | Actual::Preparing { .. }
                | Actual::Launching { .. }
                | Actual::Running(_)
                | Actual::Backoff { .. }
                | Actual::Stopping(_)
                | Actual::Closing(_) => {}
            }
        }
    }

    /// The services and all they need, each once, in the order of the file.
    pub(super) fn with_dependencies(&self, roots: &[usize]) -> Vec<usize> {
        let mut seen = vec![false; self.slots.len()];
        let mut open = roots.to_vec();
        while let Some(service) = open.pop() {
            if !std::mem::replace(&mut seen[service], true) {
                open.extend(&self.graph.nodes[service].dependencies);
            }
        }
        (0..seen.len()).filter(|service| seen[*service]).collect()
    }

    /// Wants this one down, and every service whose `ready` or `started` gate it would shut. A gate on something
    /// completed stays open: its work is done.
    fn want_down(&mut self, root: usize) {
        let mut seen = vec![false; self.slots.len()];
        seen[root] = true;
        let mut order = vec![(root, Reason::StopRequested)];
        let mut next = 0;
        while let Some((service, _)) = order.get(next) {
            let name = self.stack.services[*service].name.clone();
            for dependent in self.graph.followers(*service) {
                if !std::mem::replace(&mut seen[dependent], true) {
                    order.push((dependent, Reason::DependencyStops(name.clone())));
                }
            }
            next += 1;
        }
        for (service, _) in &order {
            self.keep_down_after_change(*service);
        }
        self.set_down(order);
    }

    /// The services a stop of this one would stop first, each before those it needs; without those that are down.
    /// Empty for a name that is not there.
    #[must_use]
    pub fn would_stop(&self, name: &str) -> Vec<ServiceName> {
        let Some(root) = self.index(name) else { return Vec::new() };
        // Depth first, each after its followers; a service is opened once and closed once.
        let mut seen = vec![false; self.slots.len()];
        seen[root] = true;
        let mut path = vec![(root, self.graph.followers(root).collect::<Vec<_>>())];
        let mut order = Vec::new();
        while let Some((service, followers)) = path.last_mut() {
            if let Some(follower) = followers.pop() {
                if !std::mem::replace(&mut seen[follower], true) {
                    path.push((follower, self.graph.followers(follower).collect()));
                }
            } else {
                order.push(*service);
                path.pop();
            }
        }
        order.retain(|service| *service != root && self.slots[*service].active() > 0);
        order.into_iter().map(|service| self.stack.services[service].name.clone()).collect()
    }

    /// First lets every want settle, so that each service knows its blockers; then ends what has no process.
    pub(super) fn set_down(&mut self, services: Vec<(usize, Reason)>) {
        for (service, _) in &services {
            self.slots[*service].wanted = Wanted::Down;
            self.refresh(*service);
        }
        for (service, reason) in services {
            self.end_wait(service);
            for index in 0..self.slots[service].replicas.len() {
                let at = At { service, index };
                match &self.replica(at).actual {
                    Actual::Waiting
                    | Actual::Backoff { .. }
                    | Actual::Failed(Outlook::WatchesGates | Outlook::AwaitsTree | Outlook::Retries { .. }) =>
                    {
                        self.put_down(at, reason.clone());
                    }
                    // Those with a process follow in their turn; those that have ended stay what they are.
                    Actual::Preparing { .. }
                    | Actual::Launching { .. }
                    | Actual::Running(_)
                    | Actual::Stopping(_)
                    | Actual::Closing(_)
                    | Actual::Stopped
                    | Actual::Completed
                    | Actual::Failed(Outlook::Final) => {}
                }
            }
            self.slots[service].down_reason = reason;
            self.enqueue(service);
        }
    }

    fn restart(&mut self, service: usize) {
        match self.slots[service].wanted {
            Wanted::Up => {}
            Wanted::Down => {
                // It was down, and so may be what it needs.
                let needed = self.graph.nodes[service].dependencies.clone();
                self.slots[service].wanted = Wanted::Up;
                self.refresh(service);
                self.want_up(&needed, false);
            }
        }
        self.end_roll(service, Err("it was restarted by a command".to_owned()));
        // Gates are asked at once, and the time of waiting begins anew.
        self.end_wait(service);
        for index in 0..self.slots[service].kept() {
            let at = At { service, index };
            let replica = self.replica_mut(at);
            replica.tries = Tries::default();
            replica.again = false;
            match &mut replica.actual {
                Actual::Preparing { .. } | Actual::Launching { .. } | Actual::Running(_) => {
                    self.begin_stop(at, Reason::RestartRequested, Then::Restart);
                }
                Actual::Stopping(stopping) => stopping.then = Then::Restart,
                Actual::Closing(closing) => closing.then = Then::Restart,
                Actual::Waiting
                | Actual::Backoff { .. }
                | Actual::Stopped
                | Actual::Completed
                | Actual::Failed(_) => self.enter_waiting(at, Reason::RestartRequested),
            }
        }
    }

    fn stop_stack(&mut self) {
        self.pending = None;
        let budget = self.stack.stop_budget.unwrap_or(self.graph.longest_stop);
        let budget_end = self.now + budget;
        self.course = Course::Down { asked_at: self.now, budget_end };
        self.set_down((0..self.slots.len()).map(|service| (service, Reason::StopRequested)).collect());
        // What is stopping already keeps to the budget too.
        for service in 0..self.slots.len() {
            for index in 0..self.slots[service].replicas.len() {
                let at = At { service, index };
                if let Actual::Stopping(stopping) = &mut self.replica_mut(at).actual {
                    stopping.stage.cut(budget_end);
                    self.reindex(at);
                }
            }
        }
        if self.active > 0 {
            self.deadlines.insert((budget_end, Key::Stack));
        }
    }

    /// What is left when the budget is over is killed, whoever it was waiting for.
    pub(super) fn end_budget(&mut self) {
        let Course::Down { asked_at, budget_end, .. } = self.course else { return };
        self.deadlines.remove(&(budget_end, Key::Stack));
        self.kill_everything(Some(self.now.since(asked_at)));
    }

    fn kill_stack(&mut self) {
        self.pending = None;
        let asked_at = match self.course {
            Course::Down { asked_at, budget_end, .. } => {
                self.deadlines.remove(&(budget_end, Key::Stack));
                asked_at
            }
            Course::Idle | Course::Up { .. } => self.now,
        };
        self.course = Course::Down { asked_at, budget_end: self.now };
        self.set_down((0..self.slots.len()).map(|service| (service, Reason::StopRequested)).collect());
        self.kill_everything(None);
    }
}
