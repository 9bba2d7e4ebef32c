//! What a running program has to do with whoever runs it: it says how it is, and hears what it is asked.
//!
//! All of it is shared behind one lock, held for moments only: what is told goes out while it is held, so that a manager hears
//! things in the order they happened. Sending waits for nobody.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use mainstay_os::{ScmHandle, ServiceRequest, StopCause};
use mainstay_types::{Level, Phase};

use crate::event::{Event, MAX_EVENTS, Queue, Taken};
use crate::log::Log;
use crate::standing::{IllegalStep, Standing, Step};
use crate::started::StartedBy;
use crate::tell::{self, News, ScmReport};

/// Signs of life within the time of the watchdog: one may be late.
const BEATS: u32 = 3;
/// What an end without a stop ends with: 128 and SIGINT, as of a program that a second Ctrl-C kills.
const ENDED_AT_ONCE: i32 = 130;
/// The code of a program that was not done with its stop in time.
const STOP_TOO_LONG: u8 = 1;
/// The number of the one wait for events.
const EVENT_WAIT: u64 = 0;
/// A wait without an end.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// What a program says to, and hears from, whoever runs it. Cheap to clone, may be used from every thread.
#[derive(Clone, Debug)]
pub struct Context {
    shared: Arc<Shared>,
}

/// What is set before the program begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) can_pause: bool,
    pub(crate) start_within: Duration,
    pub(crate) stop_within: Duration,
    pub(crate) started_by: StartedBy,
    pub(crate) watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    rules: Rules,
    log: Log,
    /// Whoever sets it does what a stop takes.
    stop_asked: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    standing: Standing,
    queue: Queue,
    lost: u64,
    stop: Option<Stop>,
    next_beat: Option<Instant>,
    scm: Option<(ScmHandle, ScmReport)>,
    /// A manager that cannot be told is said once.
    is_deaf: bool,
    /// Who waits to be woken, by the number of the wait: as many as there are waits, for each takes itself out.
    wakers: BTreeMap<u64, Waker>,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    cause: StopCause,
    deadline: Instant,
}

impl Context {
    pub(crate) fn new(name: &str, rules: Rules, log: Log) -> Self {
        let state = State {
            standing: Standing::Starting,
            queue: Queue::default(),
            lost: 0,
            stop: None,
            next_beat: rules.watchdog.map(|_| Instant::now()),
            scm: None,
            is_deaf: false,
            wakers: BTreeMap::new(),
        };
        let shared = Shared {
            name: name.to_owned(),
            rules,
            log,
            stop_asked: AtomicBool::new(false),
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Who started it.
    #[must_use]
    pub fn started_by(&self) -> StartedBy {
        self.shared.rules.started_by
    }

    /// The log of this service.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// The phase it is in.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.standing().phase()
    }

    /// Where it stands within that phase.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.lock().standing
    }

    /// Says that the program does its work from here on. For a program that says so itself
    /// ([`Ready::WhenSaid`](crate::Ready::WhenSaid)); else it is said when `start` has returned. Saying it again does nothing.
    ///
    /// # Errors
    /// [`IllegalStep`] when it is on its way down already.
    pub fn ready(&self) -> Result<(), IllegalStep> {
        let mut state = self.lock();
        if state.standing == Standing::Running {
            return Ok(());
        }
        self.step(&mut state, Step::Ready, 0)
    }

    /// Says in one line what it does: `systemctl status` and `mainstay status` show it.
    pub fn status(&self, text: &str) {
        self.tell(&mut self.lock(), News::Status(text));
    }

    /// Says that something long goes on, and that there will be another word within `expected`: a start, a reload or a stop may
    /// take that much longer. A stop's deadline moves with it.
    pub fn progress(&self, text: &str, expected: Duration) {
        let mut state = self.lock();
        if let Some(stop) = &mut state.stop {
            stop.deadline = stop.deadline.max(Instant::now() + expected);
            self.shared.changed.notify_all();
        }
        self.tell(&mut state, News::Progress { text, expected });
        self.beat(&mut state);
    }

    /// How often the manager wants a sign of life; `None` when it does not watch.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.shared.rules.watchdog
    }

    /// A sign of life. Asking for events gives it as well; a program that does not ask often has to say it itself. May be said
    /// as often as one likes: it is passed on three times within the watchdog's time. Nothing else gives it, so that a program
    /// that hangs is found.
    pub fn alive(&self) {
        self.beat(&mut self.lock());
    }

    /// Whether it is to finish.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.lock().stop.is_some()
    }

    /// Why it is to finish; `None` while it is not.
    #[must_use]
    pub fn stop_cause(&self) -> Option<StopCause> {
        self.lock().stop.map(|stop| stop.cause)
    }

    /// Until when it has to be done; `None` while it need not stop. At that time the process is ended.
    #[must_use]
    pub fn stop_deadline(&self) -> Option<Instant> {
        self.lock().stop.map(|stop| stop.deadline)
    }

    /// What is left of the time for a stop; `None` while it need not stop.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.stop_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Asks the program to finish, from within.
    pub fn request_stop(&self) {
        self.ask_stop(StopCause::Program);
    }

    /// To be given to parts of the program that need know nothing but that they are to finish.
    #[must_use]
    pub fn stop_token(&self) -> StopToken {
        StopToken { context: self.clone() }
    }

    /// The next event, waited for at most that long; `None` when none came. While it waits the watchdog is fed.
    ///
    /// What the last event asked for counts as done when this is called again, and the manager hears so. One loop of a program
    /// asks for events. Before the program is ready only [`Event::Stop`] comes.
    #[must_use]
    pub fn next_event(&self, limit: Duration) -> Option<Event> {
        let until = Instant::now().checked_add(limit);
        let mut state = self.lock();
        loop {
            self.beat(&mut state);
            if let Some(event) = self.take(&mut state) {
                return Some(event);
            }
            let now = Instant::now();
            let left = until.map_or(FOREVER, |until| until.saturating_duration_since(now));
            if left.is_zero() {
                return None;
            }
            let beat = state.next_beat.map_or(FOREVER, |beat| beat.saturating_duration_since(now));
            // At least a moment, so that a beat which cannot be sent does not make this spin.
            let wait = left.min(beat.max(Duration::from_millis(1)));
            state = self.shared.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What is there already, or a wake-up later.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_event(&self, waker: &Waker) -> Poll<Event> {
        let mut state = self.lock();
        self.beat(&mut state);
        match self.take(&mut state) {
            Some(event) => Poll::Ready(event),
            None => {
                state.wakers.insert(EVENT_WAIT, waker.clone());
                Poll::Pending
            }
        }
    }

    /// Something is asked from outside.
    pub(crate) fn request(&self, request: ServiceRequest) {
        let event = match request {
            ServiceRequest::Stop(cause) => return self.ask_stop(cause),
            ServiceRequest::Reload => Event::Reload,
            ServiceRequest::Pause if self.shared.rules.can_pause => Event::Pause,
            ServiceRequest::Continue if self.shared.rules.can_pause => Event::Continue,
            // It did not say that it can.
            ServiceRequest::Pause | ServiceRequest::Continue => return,
            ServiceRequest::Session { change, session } => Event::Session { change, session },
            ServiceRequest::Power(change) => Event::Power(change),
        };
        let mut state = self.lock();
        match state.queue.push(event) {
            Taken::Waits => self.wake(state),
            Taken::Merged => {}
            Taken::Lost => {
                state.lost += 1;
                let lost = state.lost;
                drop(state);
                let text = format!(
                    "{event:?} is lost, the {lost}. so far: {MAX_EVENTS} events wait for the program to take them"
                );
                self.log().warn(&text);
            }
        }
    }

    fn ask_stop(&self, cause: StopCause) {
        if self.shared.stop_asked.swap(true, Ordering::SeqCst) {
            if matches!(cause, StopCause::CtrlC | StopCause::CtrlBreak) {
                self.log().error("asked twice: it ends at once, without its stop");
                std::process::exit(ENDED_AT_ONCE);
            }
            return;
        }
        // Before anybody hears of it: a program that is quick may have ended by the time this is written.
        let within = format!("{:?}", self.shared.rules.stop_within);
        self.log().write(Level::Info, &format!("stopping: {cause}"), &[("within", &within)]);
        let mut state = self.lock();
        state.stop = Some(Stop { cause, deadline: Instant::now() + self.shared.rules.stop_within });
        // It may be on its way down, or have ended, by itself.
        let _ = self.step(&mut state, Step::Stop, 0);
        self.wake(state);
        let context = self.clone();
        let watcher = std::thread::Builder::new().name("stop deadline".to_owned());
        if let Err(error) = watcher.spawn(move || context.watch_deadline()) {
            self.log().warn(&format!("the deadline of the stop is not watched: {error}"));
        }
    }

    /// Ends the process when its stop takes too long.
    fn watch_deadline(&self) {
        let mut state = self.lock();
        loop {
            let Some(stop) = state.stop.filter(|_| state.standing != Standing::Stopped) else { return };
            let left = stop.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let _ = self.step(&mut state, Step::End, STOP_TOO_LONG);
        drop(state);
        self.log().error("the stop was not done in time: it ends here");
        std::process::exit(i32::from(STOP_TOO_LONG));
    }

    /// Tells the SCM from here on, and that the program starts.
    pub(crate) fn attach(&self, handle: ScmHandle) {
        let report = ScmReport::new(self.shared.rules.can_pause, self.shared.rules.start_within);
        let mut state = self.lock();
        let told = handle.set(&report.last());
        state.scm = Some((handle, report));
        self.note(&mut state, told.err());
    }

    /// The way down begins, for whatever reason.
    pub(crate) fn begin_end(&self) {
        let mut state = self.lock();
        // It may be on its way already.
        let _ = self.step(&mut state, Step::Stop, 0);
    }

    /// Nothing runs any more.
    pub(crate) fn ended(&self, exit_code: u8) {
        let mut state = self.lock();
        // It has ended once.
        let _ = self.step(&mut state, Step::End, exit_code);
        self.wake(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No step is half done when one panics: each is one assignment, and telling follows it.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the lock go first: waking may drop a task, and with it a wait, which takes the lock.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.shared.changed.notify_all();
        for waker in wakers.into_values() {
            waker.wake();
        }
    }

    fn take(&self, state: &mut State) -> Option<Event> {
        if state.stop.is_some() {
            return Some(Event::Stop);
        }
        if matches!(state.standing, Standing::Reloading | Standing::Pausing | Standing::Resuming) {
            // The program is back: what it began is done.
            let _ = self.step(state, Step::Done, 0);
        }
        if state.standing == Standing::Starting {
            return None;
        }
        let (event, step) = state.queue.next(state.standing)?;
        if let Some(step) = step {
            // The queue gives only steps that are possible here.
            let _ = self.step(state, step, 0);
        }
        Some(event)
    }

    fn step(&self, state: &mut State, step: Step, exit_code: u8) -> Result<(), IllegalStep> {
        let from = state.standing;
        let to = from.after(step)?;
        state.standing = to;
        let within = match to.phase() {
            Phase::ShuttingDown => self.shared.rules.stop_within,
            Phase::Initializing | Phase::Running | Phase::Terminated => self.shared.rules.start_within,
        };
        self.tell(state, News::Became { from, to, within, exit_code });
        Ok(())
    }

    fn beat(&self, state: &mut State) {
        let (Some(limit), now) = (self.shared.rules.watchdog, Instant::now()) else { return };
        if state.next_beat.is_some_and(|at| at <= now) {
            state.next_beat = Some(now + limit / BEATS);
            self.tell(state, News::Alive);
        }
    }

    fn tell(&self, state: &mut State, news: News<'_>) {
        let told = if let Some((handle, report)) = &mut state.scm {
            match report.tell(news) {
                Some(status) => handle.set(&status).err(),
                None => None,
            }
        } else {
            let saying = tell::systemd(news, state.standing, mainstay_os::monotonic_micros());
            saying.and_then(|saying| mainstay_os::notify_manager(&saying).err())
        };
        self.note(state, told);
    }

    fn note(&self, state: &mut State, error: Option<io::Error>) {
        if let Some(error) = error
            && !std::mem::replace(&mut state.is_deaf, true)
        {
            self.shared.log.warn(&format!("the service manager cannot be told how the service is: {error}"));
        }
    }
}

/// Says whether the program is to finish, and waits for it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StopToken {
    context: Context,
}

impl StopToken {
    /// Whether it is to finish.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.context.is_stopping()
    }

    /// Until when it has to be done; `None` while it need not stop.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.context.stop_deadline()
    }

    /// Waits until it is to finish, at most that long; answers whether it is.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let until = Instant::now().checked_add(limit);
        let mut state = self.context.lock();
        while state.stop.is_none() {
            let left = until.map_or(FOREVER, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            let changed = &self.context.shared.changed;
            state = changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Done when the program is to finish. Works on every runtime; may be dropped at any time.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        static WAITS: AtomicU64 = AtomicU64::new(EVENT_WAIT + 1);
        Stopped { context: self.context.clone(), wait: WAITS.fetch_add(1, Ordering::Relaxed) }
    }
}

struct Stopped {
    context: Context,
    wait: u64,
}

impl Future for Stopped {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let mut state = self.context.lock();
        if state.stop.is_some() {
            return Poll::Ready(());
        }
        state.wakers.insert(self.wait, cx.waker().clone());
        Poll::Pending
    }
}

/// A program that runs for long waits in many tasks that come and go.
impl Drop for Stopped {
    fn drop(&mut self) {
        let mut state = self.context.lock();
        let waker = state.wakers.remove(&self.wait);
        drop(state);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(can_pause: bool) -> Context {
        let rules = Rules {
            can_pause,
            start_within: Duration::from_secs(30),
            stop_within: Duration::from_secs(1000),
            started_by: StartedBy::Console,
            watchdog: None,
        };
        Context::new("test", rules, Log::of_process("test"))
    }

    #[test]
    fn before_it_is_ready_only_a_stop_comes() {
        let context = context(false);
        context.request(ServiceRequest::Reload);
        assert_eq!(context.next_event(Duration::ZERO), None);
        context.ready().unwrap();
        context.ready().unwrap();
        assert_eq!(context.next_event(FOREVER), Some(Event::Reload));
        assert_eq!((context.standing(), context.phase()), (Standing::Reloading, Phase::Running));
        assert_eq!(context.next_event(Duration::ZERO), None);
        assert_eq!(context.standing(), Standing::Running);
    }

    #[test]
    fn a_stop_is_heard_by_all_who_wait_and_stays() {
        let context = context(false);
        let token = context.stop_token();
        assert!(!token.wait(Duration::ZERO) && context.time_left().is_none());
        let mut stopped = Box::pin(token.stopped());
        let mut cx = std::task::Context::from_waker(Waker::noop());
        assert!(stopped.as_mut().poll(&mut cx).is_pending());
        for _ in 0..3 {
            let mut leaves = Box::pin(token.stopped());
            assert!(leaves.as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!(context.lock().wakers.len(), 1, "whoever does not wait any more is forgotten");
        let waits = std::thread::spawn({
            let context = context.clone();
            move || context.next_event(FOREVER)
        });
        context.request(ServiceRequest::Stop(StopCause::Terminate));
        assert_eq!(waits.join().unwrap(), Some(Event::Stop));
        assert!(token.wait(FOREVER) && stopped.as_mut().poll(&mut cx).is_ready());
        assert_eq!(context.next_event(FOREVER), Some(Event::Stop));
        assert_eq!(context.stop_cause(), Some(StopCause::Terminate));
        assert!(context.time_left().unwrap() <= Duration::from_secs(1000));
        assert_eq!(context.phase(), Phase::ShuttingDown);
        assert!(context.ready().is_err());
        // Another one that is no Ctrl-C changes nothing.
        context.request(ServiceRequest::Stop(StopCause::Terminate));
        context.progress("writing", Duration::from_secs(5000));
        assert!(context.time_left().unwrap() > Duration::from_secs(4000), "the deadline moves");
        context.ended(0);
        assert_eq!(context.phase(), Phase::Terminated);
    }

    #[test]
    fn only_a_program_that_can_is_paused() {
        let cannot = context(false);
        cannot.ready().unwrap();
        cannot.request(ServiceRequest::Pause);
        assert_eq!(cannot.next_event(Duration::ZERO), None);
        let can = context(true);
        can.ready().unwrap();
        can.request(ServiceRequest::Pause);
        can.request(ServiceRequest::Continue);
        assert_eq!(can.next_event(FOREVER), Some(Event::Pause));
        assert_eq!(can.standing(), Standing::Pausing);
        assert_eq!(can.next_event(FOREVER), Some(Event::Continue));
        assert_eq!(can.standing(), Standing::Resuming);
        assert_eq!(can.next_event(Duration::ZERO), None);
        assert_eq!(can.standing(), Standing::Running);
    }
}
