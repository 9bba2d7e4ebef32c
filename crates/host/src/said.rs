//! What running programs say about themselves: one notify socket and one readiness descriptor for each start that has
//! a probe for it. A task for each listens, and hands on at most a few messages before the loop has taken them: a
//! program that talks without end waits in its own socket's queue.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use mainstay_config::{Check, Service};
use mainstay_lifecycle::Event;
use mainstay_os::{Descriptor, NotifySocket};
use mainstay_types::{Notification, SpawnId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::host::Host;
use crate::message::Message;

/// Messages under way from all programs together.
const QUEUED: usize = 64;
/// Remarks on what one start says that are told; what follows is counted by nobody and helps nobody.
const MAX_REMARKS: u32 = 10;

/// One message of a program.
pub(crate) type Saying = (SpawnId, mainstay_os::Message);

/// Everybody who listens.
pub(crate) struct Said {
    sayings: mpsc::Sender<Saying>,
    listening: BTreeMap<SpawnId, Listening>,
}

struct Listening {
    socket: Option<Arc<NotifySocket>>,
    tasks: Vec<JoinHandle<()>>,
    /// Who the program runs as.
    uid: u32,
    remarks: u32,
}

impl Drop for Listening {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What a start gets for it.
#[derive(Default)]
pub(crate) struct Ways {
    /// More environment.
    pub(crate) env: Vec<(&'static str, String)>,
    /// The writing end of its readiness descriptor, and its number in the program.
    pub(crate) descriptor: Option<(u32, Descriptor)>,
}

impl Said {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Saying>) {
        let (sayings, inbox) = mpsc::channel(QUEUED);
        (Self { sayings, listening: BTreeMap::new() }, inbox)
    }

    /// Opens what this service's probes ask for, for this start.
    pub(crate) fn open(
        &mut self,
        service: &Service,
        uid: u32,
        spawn: SpawnId,
        messages: &mpsc::UnboundedSender<Message>,
    ) -> io::Result<Ways> {
        let (mut ways, mut listening) =
            (Ways::default(), Listening { socket: None, tasks: Vec::new(), uid, remarks: 0 });
        let probes = [&service.startup, &service.readiness, &service.liveness];
        let checks: Vec<&Check> = probes.into_iter().flatten().map(|probe| &probe.check).collect();
        if checks.iter().any(|check| matches!(check, Check::Notify)) {
            let socket = Arc::new(NotifySocket::open(service.name.as_str())?);
            ways.env.push(("NOTIFY_SOCKET", socket.env_value()));
            if let Some(watchdog) = service.liveness.as_ref().filter(|probe| probe.check == Check::Notify) {
                let limit = watchdog.period.saturating_mul(watchdog.failure_threshold);
                ways.env.push(("WATCHDOG_USEC", limit.as_micros().to_string()));
            }
            let (heard, sayings) = (Arc::clone(&socket), self.sayings.clone());
            listening.tasks.push(tokio::spawn(async move {
                // A socket that fails, or a loop that has ended, has nothing more to say.
                while let Ok(message) = heard.recv().await {
                    if sayings.send((spawn, message)).await.is_err() {
                        return;
                    }
                }
            }));
            listening.socket = Some(socket);
        }
        let number = checks.iter().find_map(|check| match check {
            Check::NotifyFd(number) => Some(*number),
            Check::Ask(_) | Check::Log(_) | Check::Notify => None,
        });
        if let Some(number) = number {
            let (reader, descriptor) = mainstay_os::readiness_pipe()?;
            ways.descriptor = Some((number, descriptor));
            let messages = messages.clone();
            listening.tasks.push(tokio::spawn(async move {
                if reader.wait().await.is_ok_and(|ready| ready) {
                    // The loop may have ended.
                    let _ = messages.send(Message::SaidReady(spawn));
                }
            }));
        }
        if !listening.tasks.is_empty() {
            self.listening.insert(spawn, listening);
        }
        Ok(ways)
    }

    /// What this start has said and nobody has taken yet.
    pub(crate) fn rest(&self, spawn: SpawnId) -> Vec<mainstay_os::Message> {
        let socket = self.listening.get(&spawn).and_then(|listening| listening.socket.as_ref());
        let mut rest = Vec::new();
        while rest.len() < QUEUED
            && let Some(Ok(Some(message))) = socket.map(|socket| socket.try_recv())
        {
            rest.push(message);
        }
        rest
    }

    /// Whether a sender that has ended already, so that its tree cannot be looked up, is believed: root, and whoever the
    /// program runs as. The socket's name is known to its own tree and to root.
    fn believes(&self, spawn: SpawnId, uid: u32) -> bool {
        uid == 0 || self.listening.get(&spawn).is_some_and(|listening| listening.uid == uid)
    }

    /// Whether one more remark on what this start says is to be told.
    pub(crate) fn may_remark(&mut self, spawn: SpawnId) -> bool {
        self.listening.get_mut(&spawn).is_some_and(|listening| {
            listening.remarks += 1;
            listening.remarks <= MAX_REMARKS
        })
    }

    /// Its tree is gone.
    pub(crate) fn forget(&mut self, spawn: SpawnId) {
        self.listening.remove(&spawn);
    }
}

impl Host {
    /// Takes everything that this start has said so far; true when another process became its main one by that.
    pub(crate) fn hear_all(&mut self, spawn: SpawnId) -> bool {
        let mut took_over = false;
        while let Ok((of, message)) = self.sayings.try_recv() {
            took_over |= self.on_saying(of, message) && of == spawn;
        }
        for message in self.said.rest(spawn) {
            took_over |= self.on_saying(spawn, message);
        }
        took_over
    }

    /// A program said something about itself, if it was one of this start's own processes. True when another process
    /// became its main one by that.
    pub(crate) fn on_saying(&mut self, spawn: SpawnId, message: mainstay_os::Message) -> bool {
        let Some(replica) = self.replica_of.get(&spawn).cloned() else { return false };
        let owned = if message.pid == 0 { None } else { self.processes.owns(spawn, message.pid) };
        if !owned.unwrap_or_else(|| self.said.believes(spawn, message.uid)) {
            if self.said.may_remark(spawn) {
                let text = format!(
                    "a notification for {replica} from pid {} (user {}) was ignored: it is not one of its processes",
                    message.pid, message.uid
                );
                self.publisher.notice(Some(&replica), text);
            }
            return false;
        }
        for remark in message.ignored {
            if self.said.may_remark(spawn) {
                self.publisher.notice(Some(&replica), format!("{replica} sent {remark}; not taken"));
            }
        }
        let mut took_over = false;
        if let Some(pid) = message.main_pid {
            match self.processes.set_main(spawn, pid) {
                Ok(()) => {
                    took_over = true;
                    self.tell(Event::MainChanged { spawn, pid });
                }
                Err(error) if self.said.may_remark(spawn) => {
                    self.publisher.notice(Some(&replica), format!("{replica} sent MAINPID={pid}: {error}"));
                }
                Err(_) => {}
            }
        }
        // The words of a message are about what else it says, so they come first.
        let (words, rest): (Vec<_>, Vec<_>) =
            message.facts.into_iter().partition(|fact| matches!(fact, Notification::Status(_)));
        for what in words.into_iter().chain(rest) {
            self.tell(Event::Notified { spawn, what });
        }
        took_over
    }
}
