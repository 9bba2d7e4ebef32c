//! What the service manager that started the host is told (sd_notify(3)), read by a manager of the test's own.

use std::time::{Duration, Instant};

use mainstay_os::NotifySocket;
use mainstay_types::Notification;

use crate::fixture::{Fixture, SOON};

/// The receiving end, and all that came so far.
struct Listener {
    runtime: tokio::runtime::Runtime,
    socket: NotifySocket,
    told: Vec<Notification>,
}

impl Listener {
    /// Opens it, and lets the host of `fixture` know of it.
    fn open(fixture: &mut Fixture, more: &[(&str, &str)]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let socket = runtime.block_on(async { NotifySocket::open("it") }).unwrap();
        fixture.env.push(("NOTIFY_SOCKET".to_owned(), socket.env_value()));
        fixture.env.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self { runtime, socket, told: Vec::new() }
    }

    /// Reads on until one fact is as wanted.
    fn wait_for(&mut self, what: &str, wanted: impl Fn(&Notification) -> bool) {
        self.wait_for_count(what, 1, wanted);
    }

    /// The same for that many.
    fn wait_for_count(&mut self, what: &str, count: usize, wanted: impl Fn(&Notification) -> bool) {
        let begun = Instant::now();
        while self.told.iter().filter(|fact| wanted(fact)).count() < count {
            assert!(begun.elapsed() < SOON, "not told: {what}; told: {:?}", self.told);
            let next = async { tokio::time::timeout(Duration::from_millis(100), self.socket.recv()).await };
            if let Ok(message) = self.runtime.block_on(next) {
                let message = message.unwrap();
                assert!(message.ignored.is_empty(), "{message:?}");
                self.told.extend(message.facts);
            }
        }
    }

    fn has(&self, fact: &Notification) -> bool {
        self.told.contains(fact)
    }
}

fn status(begin: &str) -> impl Fn(&Notification) -> bool {
    let begin = begin.to_owned();
    move |fact| matches!(fact, Notification::Status(text) if text.starts_with(&begin))
}

#[test]
fn a_host_is_ready_with_its_services_and_says_what_it_waits_for() {
    let mut fixture = Fixture::new(
        "[service.web]\ncommand = [\"sh\", \"-c\", \"env; exec sleep 100000\"]\ninherit_env = true\nneeds = [{ file = \"gate\" }]\n",
    );
    let mut listener = Listener::open(&mut fixture, &[("WATCHDOG_USEC", "3000000")]);
    let mut running = fixture.run(&[]);
    listener.wait_for("what it waits for", status("web is waiting"));
    listener.wait_for("that it lives, again and again", |fact| *fact == Notification::Watchdog);
    listener.wait_for("that it takes longer", |fact| matches!(fact, Notification::ExtendTimeout(_)));
    assert!(!listener.has(&Notification::Ready), "its service still waits: {:?}", listener.told);
    fixture.write("gate", "");
    listener.wait_for("that it is ready", |fact| *fact == Notification::Ready);
    running
        .wait_for("its environment", SOON, |_| fixture.log("web").contains("MAINSTAY_STACK=").then_some(()));
    for name in ["NOTIFY_SOCKET=", "WATCHDOG_USEC="] {
        assert!(!fixture.log("web").contains(name), "{name} is the host's own");
    }
    listener.wait_for("how many are", status("1 ready"));
    let (end, _) = running.stop();
    listener.wait_for("that it stops", |fact| *fact == Notification::Stopping);
    listener.wait_for("the end", status("everything has ended"));
    assert!(end.success());
}

#[test]
fn a_host_may_be_ready_before_its_services() {
    let mut fixture =
        Fixture::new("[service.web]\ncommand = \"@misbehave sleep\"\nneeds = [{ file = \"never\" }]\n");
    let mut listener = Listener::open(&mut fixture, &[]);
    let running = fixture.run(&["--ready", "host"]);
    listener.wait_for("that it is ready", |fact| *fact == Notification::Ready);
    running.stop();
    assert!(!listener.has(&Notification::Watchdog), "nobody asked for it: {:?}", listener.told);
}

#[test]
fn a_host_at_rest_goes_on_giving_signs_of_life() {
    let mut fixture = Fixture::new("[service.web]\ncommand = \"@misbehave sleep\"\n");
    let mut listener = Listener::open(&mut fixture, &[("WATCHDOG_USEC", "1500000")]);
    let running = fixture.run(&[]);
    listener.wait_for("that it is ready", |fact| *fact == Notification::Ready);
    listener.wait_for_count("that it lives", 5, |fact| *fact == Notification::Watchdog);
    running.stop();
}

#[test]
fn work_that_is_done_was_ready_and_work_that_failed_was_not() {
    let mut fixture = Fixture::new("[service.job]\ncommand = [\"true\"]\nkind = \"oneshot\"\n");
    let mut listener = Listener::open(&mut fixture, &[]);
    assert!(fixture.run(&[]).wait_end().success());
    listener.wait_for("the end", status("everything has ended"));
    assert!(listener.has(&Notification::Ready), "{:?}", listener.told);

    let mut fixture = Fixture::new(
        "[service.job]\ncommand = [\"false\"]\nkind = \"oneshot\"\n[service.job.restart]\nwhen = \"never\"\n",
    );
    let mut listener = Listener::open(&mut fixture, &[]);
    assert!(!fixture.run(&[]).wait_end().success());
    listener.wait_for("what failed", status("job failed: "));
    assert!(!listener.has(&Notification::Ready), "{:?}", listener.told);
}
