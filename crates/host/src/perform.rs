//! Performing effects: each becomes a request to the operating system, a task of its own, or a line of the record.

use std::sync::Arc;
use std::time::Duration;

use mainstay_config::{Check, Gate};
use mainstay_lifecycle::{Effect, Event, Record, TaskId};
use mainstay_os::{Handed, Launch, ProcessTrees};
use mainstay_types::{
    LaunchFailure, LaunchStep, ProbeAction, ProbeFailure, ProbeKind, ProbeOutcome, ReplicaId, SpawnId,
};

use crate::host::Host;
use crate::launch_spec::PrepareError;
use crate::message::{Message, RunAs};
use crate::runner::LoopRunner;

/// How long a gate's command may take when it has no other limit: the cap of the back-off between two tries.
const GATE_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

impl Host {
    /// Performs one effect; gives back an event only when it could not be begun.
    ///
    /// The host's own log has the ids only: commands and environments may hold secrets.
    pub(crate) fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Launch { replica, spawn } => match self.prepare(&replica, spawn) {
                Ok(launch) => {
                    if let Some(service) = self.machine.stack().service(replica.service.as_str()) {
                        self.log_watch.watch(&replica, spawn, service);
                    }
                    tracing::debug!(service.name = %replica, spawn.id = spawn.0, "start asked for");
                    self.processes.launch(&replica, spawn, launch);
                    self.replica_of.insert(spawn, replica);
                    None
                }
                Err(failure) => {
                    tracing::debug!(service.name = %replica, spawn.id = spawn.0, error = %failure, "no start possible");
                    self.said.forget(spawn);
                    Some(Event::LaunchFailed { spawn, failure })
                }
            },
            Effect::Signal { spawn, signal } => {
                tracing::debug!(spawn.id = spawn.0, %signal, "signal to a tree");
                self.processes.signal(spawn, signal);
                None
            }
            Effect::Kill { spawn } => {
                tracing::debug!(spawn.id = spawn.0, "kill of a tree");
                self.processes.kill(spawn);
                None
            }
            Effect::SignalMain { spawn, signal } => {
                tracing::debug!(spawn.id = spawn.0, %signal, "signal to a main process");
                self.processes.signal_main(spawn, signal);
                None
            }
            Effect::Run { task, replica, purpose: _, command, timeout, facts } => {
                let service = self.machine.stack().service(replica.service.as_str());
                let prepared = service
                    .map(|service| self.surroundings.prepare_command(service, replica.index, &command));
                match prepared {
                    Some(Ok(mut launch)) => {
                        launch.env.extend(facts.into_iter().map(|(name, value)| (name.into(), value.into())));
                        let spawn = self.runs.begin_task(timeout, task, replica.clone());
                        self.processes.launch(&replica, spawn, launch);
                        None
                    }
                    Some(Err(error)) => Some(not_run(task, error.to_string())),
                    None => Some(not_run(task, "its service is gone".to_owned())),
                }
            }
            Effect::EndRun { task } => {
                if let Some(spawn) = self.runs.spawn_of(task) {
                    self.processes.kill(spawn);
                }
                None
            }
            Effect::Probe { replica, spawn, kind } => {
                tracing::trace!(service.name = %replica, spawn.id = spawn.0, probe = %kind, "probe");
                let probe =
                    self.machine.stack().service(replica.service.as_str()).and_then(|service| match kind {
                        ProbeKind::Startup => service.startup.as_deref(),
                        ProbeKind::Readiness => service.readiness.as_deref(),
                        ProbeKind::Liveness => service.liveness.as_deref(),
                    });
                // The machine only asks for probes the stack declares, and only where there is something to ask.
                let probe = probe?.clone();
                let Check::Ask(action) = probe.check else { return None };
                let runner = LoopRunner {
                    messages: self.handle.messages(),
                    run_as: RunAs { service: replica.service, index: replica.index, about: Some(spawn) },
                };
                tokio::spawn(async move {
                    let outcome = answered(mainstay_probes::perform(&action, probe.timeout, &runner)).await;
                    // The loop may have ended; here and below.
                    let _ = runner.messages.send(Message::ProbeAnswered { spawn, kind, outcome });
                });
                None
            }
            Effect::CheckGate { service, need, check } => {
                let action = self.machine.stack().service(service.as_str()).and_then(|declared| {
                    declared.needs.get(need).and_then(|need| match &need.gate {
                        Gate::Outside(action) => Some(action.clone()),
                        Gate::Service { .. } => None,
                    })
                });
                let action: ProbeAction = action?;
                let runner = LoopRunner {
                    messages: self.handle.messages(),
                    run_as: RunAs { service, index: 0, about: None },
                };
                tokio::spawn(async move {
                    let outcome =
                        answered(mainstay_probes::perform(&action, GATE_CHECK_TIMEOUT, &runner)).await;
                    let _ = runner.messages.send(Message::GateAnswered { check, outcome });
                });
                None
            }
            Effect::Record(record) => {
                self.on_record(record);
                None
            }
        }
    }

    fn on_record(&mut self, record: Record) {
        if matches!(record, Record::Applied { .. }) {
            self.sockets.keep_only(self.machine.stack());
            self.shared.set(Arc::clone(self.machine.stack()));
            self.file.counts_now();
            self.apply_log_policies();
            self.forwards.apply(self.machine.stack());
        }
        self.publisher.record(record);
    }

    /// The request that starts this replica, with the sockets it is handed and the ways it has to say how it is.
    fn prepare(&mut self, replica: &ReplicaId, spawn: SpawnId) -> Result<Launch, LaunchFailure> {
        let stack = Arc::clone(self.machine.stack());
        let Some(service) = stack.service(replica.service.as_str()) else {
            unreachable!("the machine launches only what the stack declares");
        };
        let mut launch =
            self.surroundings.prepare(service, replica.index).map_err(PrepareError::into_failure)?;
        let sockets = self.sockets.of(service)?;
        let uid = launch.identity.as_ref().map_or_else(mainstay_os::uid, |identity| identity.uid);
        let ways =
            self.said.open(service, uid, spawn, &self.handle.messages()).map_err(|error| LaunchFailure {
                step: LaunchStep::Spawn,
                path: None,
                errno: error.raw_os_error().unwrap_or(0),
                message: format!("no way to hear whether it is ready: {error}"),
                hint: None,
            })?;
        launch.env.extend(ways.env.into_iter().map(|(name, value)| (name.into(), value.into())));
        // sd_listen_fds(3): from 3 on, in the order of their names.
        launch.listen_names = service.listen.iter().map(|listen| listen.name.clone()).collect();
        launch.handed =
            (3..).zip(sockets).map(|(target, descriptor)| Handed { target, descriptor }).collect();
        launch.handed.extend(ways.descriptor.map(|(target, descriptor)| Handed { target, descriptor }));
        Ok(launch)
    }
}

/// Every check is answered, also one that panics: the machine waits for it.
async fn answered(check: impl Future<Output = ProbeOutcome>) -> ProbeOutcome {
    crate::panics::caught(check).await.unwrap_or_else(|words| {
        ProbeOutcome::Failed(ProbeFailure::NotStarted(format!(
            "the check itself failed inside mainstay: {words}"
        )))
    })
}

/// A command that could not be begun.
fn not_run(task: TaskId, why: String) -> Event {
    Event::RunEnded { task, outcome: ProbeOutcome::Failed(ProbeFailure::NotStarted(why)) }
}
