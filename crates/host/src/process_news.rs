//! News of processes: what the machine is told of them, whose output is captured where, and what goes with a tree.

use mainstay_config::{LogPolicy, Rotation, Service};
use mainstay_lifecycle::Event;
use mainstay_logs::{CapturePolicy, Masks};
use mainstay_os::{Output, ProcessEvent, ProcessTrees};
use mainstay_types::{ReplicaId, SpawnId};

use crate::host::Host;
use crate::runner::Runs;

impl Host {
    pub(crate) fn on_process(&mut self, event: ProcessEvent<Output>) {
        match event {
            ProcessEvent::Launched { spawn, pid, output } => {
                if let Some(replica) = self.runs.logs_to(spawn) {
                    self.attach(replica, spawn, output);
                    return;
                }
                if Runs::is_command(spawn) {
                    match (output.stdout.into_reader(), output.stderr.into_reader()) {
                        (Ok(stdout), Ok(stderr)) => self.runs.launched(spawn, stdout, stderr),
                        // Without its output the command still has an exit code, which is what counts.
                        (Err(_), _) | (_, Err(_)) => {}
                    }
                    return;
                }
                if let Some(replica) = self.replica_of.get(&spawn).cloned() {
                    self.attach(replica, spawn, output);
                }
                self.tell(Event::Launched { spawn, pid });
            }
            ProcessEvent::LaunchFailed { spawn, failure } => {
                if Runs::is_command(spawn) {
                    self.runs.failed(spawn, &failure);
                    return;
                }
                self.replica_of.remove(&spawn);
                self.tell(Event::LaunchFailed { spawn, failure });
            }
            ProcessEvent::Exited { spawn, exit, leftovers } => {
                if Runs::is_command(spawn) {
                    self.runs.exited(spawn, exit, &self.capture);
                    if leftovers > 0 {
                        self.processes.kill(spawn);
                    } else {
                        self.command_gone(spawn);
                    }
                    return;
                }
                // What it said before it ended counts before its end, and another main process in its place is none.
                if self.hear_all(spawn) {
                    return;
                }
                self.tell(Event::Exited { spawn, exit, leftovers });
                if leftovers == 0 {
                    self.tree_gone(spawn);
                }
            }
            ProcessEvent::TreeEnded { spawn } => {
                if Runs::is_command(spawn) {
                    self.command_gone(spawn);
                    return;
                }
                self.tell(Event::TreeEnded { spawn });
                self.tree_gone(spawn);
            }
        }
    }

    /// Captures the output of this start into the log of its replica.
    fn attach(&self, replica: ReplicaId, spawn: SpawnId, output: Output) {
        let Some(policy) = self.machine.stack().service(replica.service.as_str()).map(capture_policy) else {
            return;
        };
        let open = move || Ok((output.stdout.into_reader()?, output.stderr.into_reader()?));
        self.publisher.begun(replica.clone(), spawn);
        self.capture.attach(replica, spawn, policy, open);
    }

    /// A changed file: what it says of logs holds for services that run on, too.
    pub(crate) fn apply_log_policies(&self) {
        self.capture.set_max_total(self.machine.stack().log_max_total_bytes);
        for service in &self.machine.stack().services {
            let policy = capture_policy(service);
            for index in 0..service.replicas {
                let replica = ReplicaId { service: service.name.clone(), index };
                self.capture.set_policy(replica, policy.clone());
            }
        }
    }

    fn command_gone(&mut self, spawn: SpawnId) {
        self.runs.tree_gone(spawn);
        self.publisher.detach(spawn);
    }

    fn tree_gone(&mut self, spawn: SpawnId) {
        for command in self.runs.about(spawn) {
            self.processes.kill(command);
        }
        self.replica_of.remove(&spawn);
        self.log_watch.forget(spawn);
        self.said.forget(spawn);
        self.publisher.detach(spawn);
    }
}

/// What a service's file says of its log, as the capture takes it.
pub(crate) fn capture_policy(service: &Service) -> CapturePolicy {
    let LogPolicy { rotate, max_line_bytes, when_blocked, fsync, redact } = &service.log;
    let Rotation { size_bytes, age, keep, keep_age, keep_total_bytes, compress } = *rotate;
    // The file's patterns have been compiled once already, when it was read. Should that fail now, nothing is shown of what
    // may hold a secret.
    let patterns = redact.iter().map(String::as_str);
    let masks = Masks::new(patterns, []).or_else(|_| Masks::new([".+"], [])).ok().flatten();
    CapturePolicy {
        rotate_bytes: size_bytes,
        rotate_age: age,
        keep,
        keep_age,
        keep_total_bytes,
        compress,
        // The file's range ends at 16 MiB.
        max_line_bytes: usize::try_from(*max_line_bytes).unwrap_or(usize::MAX),
        when_blocked: *when_blocked,
        fsync: *fsync,
        masks,
    }
}
