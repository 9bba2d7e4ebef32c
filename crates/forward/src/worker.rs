//! The thread of one target: waits for lines, sends them, and does what the answer asks for. Every choice is made elsewhere.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_config::Forward;
use mainstay_logs::read::{FOLLOW_PACE, Missing, Selection, Wanted, Watch};
use mainstay_types::{ReplicaId, ServiceName, StackName, Timestamp};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::batch::Batch;
use crate::counts::{Counts, Notice, Shared};
use crate::deliver::{Deliverer, most_text_bytes};
use crate::encode::Context;
use crate::pace::Pace;
use crate::record::Record;
use crate::spool::{Looked, Spool};
use crate::state::{StateError, state_path};
use crate::verdict::{Answer, Verdict, verdict};

/// How long a last attempt may take when a forwarder is told to end. What is left is sent by the next one.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// Least time between two looks at the files while the target takes nothing: only counting is left to do.
const IDLE_PACE: Duration = Duration::from_millis(100);
/// Time until files are looked at again that could not be read.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);
/// Least time between two notices of lines that are missing, while the target takes nothing.
const NOTICE_PACE: Duration = Duration::from_secs(60);

/// What a forwarder is started with.
pub struct ForwarderOptions {
    /// The stack, which goes with every line.
    pub stack: StackName,
    /// The name of this machine.
    pub host: Option<String>,
    /// The target.
    pub target: Forward,
    /// The folder of the log files.
    pub logs_dir: PathBuf,
    /// The folder of the places.
    pub state_dir: PathBuf,
    /// Of the random part of its waits.
    pub seed: u64,
    /// Told what happens; called on the forwarder's thread, and what goes wrong at the start on the caller's.
    pub notices: Arc<dyn Fn(Notice) + Send + Sync>,
}

/// A running forwarder. Dropping it has it end soon, without waiting for that.
#[derive(Debug)]
pub struct Forwarder {
    target: Forward,
    counts: Arc<Shared>,
    stop: Arc<Notify>,
    /// Closed when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

impl Forwarder {
    /// Starts the thread of a target. The first time, what is written from here on is sent; else from where the last one ended.
    ///
    /// # Errors
    /// The system's: no thread, or no descriptors for it.
    pub fn start(options: ForwarderOptions) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (counts, stop) = (Arc::new(Shared::default()), Arc::new(Notify::new()));
        let (alive, ended) = channel();
        let target = options.target.clone();
        // Opened here: what is written from now on is sent.
        let worker = Worker::new(options, Arc::clone(&counts), Arc::clone(&stop));
        std::thread::Builder::new().name(format!("forward-{}", target.name)).spawn(move || {
            // Dropped at the end of the thread, however it comes.
            let _alive = alive;
            runtime.block_on(worker.run());
            // A look-up that hangs in the system is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { target, counts, stop, ended: Mutex::new(ended) })
    }

    /// What it sends where.
    #[must_use]
    pub const fn target(&self) -> &Forward {
        &self.target
    }

    /// What it has counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }

    /// Has it end: what waits is sent if that takes no longer than [`FLUSH_LIMIT`].
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// Waits for its end, after [`Forwarder::stop`]; false when it takes longer.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(ended.recv_timeout(limit), Err(RecvTimeoutError::Disconnected))
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

struct Worker {
    target: Forward,
    counts: Arc<Shared>,
    stop: Arc<Notify>,
    notices: Arc<dyn Fn(Notice) + Send + Sync>,
    woken: Arc<Notify>,
    watch: Watch,
    spool: Spool,
    deliverer: Deliverer,
    pace: Pace,
    /// When it began to fail.
    failing_since: Option<Instant>,
    /// Since it was told to end: until when.
    flush_by: Option<Instant>,
    /// Missing, and not told to people yet.
    untold: BTreeMap<ServiceName, Missing>,
    told_at: Option<Instant>,
    refused: u64,
    refused_words: String,
    /// Of the batch on its way: refused for good.
    lost: BTreeMap<ReplicaId, Missing>,
    /// Trouble with files that was told already.
    trouble: Option<String>,
}

impl Worker {
    fn new(options: ForwarderOptions, counts: Arc<Shared>, stop: Arc<Notify>) -> Self {
        let ForwarderOptions { stack, host, target, logs_dir, state_dir, seed, notices } = options;
        let selection = match target.services.as_slice() {
            [] => Selection::All,
            services => Selection::Services(services.to_vec()),
        };
        let wanted = Wanted { streams: [target.stdout, target.stderr], level: target.level };
        let woken = Arc::new(Notify::new());
        let wake = Arc::clone(&woken);
        let watch = Watch::new(&logs_dir, &selection, move || wake.notify_one());
        let state_path = state_path(&state_dir, &target.name);
        let most_text_bytes = most_text_bytes(&target.destination);
        let (spool, errors) = Spool::open(&logs_dir, state_path, selection, wanted, most_text_bytes);
        let context = Context { stack, host, labels: target.labels.clone() };
        let mut worker = Self {
            deliverer: Deliverer::new(&target, context),
            target,
            counts,
            stop,
            notices,
            woken,
            watch,
            spool,
            pace: Pace::new(seed),
            failing_since: None,
            flush_by: None,
            untold: BTreeMap::new(),
            told_at: None,
            refused: 0,
            refused_words: String::new(),
            lost: BTreeMap::new(),
            trouble: None,
        };
        worker.take_errors(errors);
        worker
    }

    async fn run(mut self) {
        let mut batch: Option<Batch> = None;
        // When the target may be tried again.
        let mut again_at: Option<Instant> = None;
        let mut has_lingered = false;
        loop {
            let pause = self.watch.renew();
            let more = self.look();
            self.keep_within_bounds(&mut batch);
            self.show();
            if let Some(at) = again_at {
                if self.flush_by.is_some() {
                    break;
                }
                if Instant::now() < at {
                    if !more {
                        self.wait_while_failing(at).await;
                    }
                    continue;
                }
                again_at = None;
            }
            let Some(current) = &mut batch else {
                if !self.spool.has_some() {
                    if self.flush_by.is_some() {
                        break;
                    }
                    if !more {
                        self.wait_for_lines(pause).await;
                    }
                    continue;
                }
                let is_full = self.spool.waiting_bytes() >= self.target.batch.bytes;
                if !is_full && !has_lingered && self.flush_by.is_none() {
                    has_lingered = true;
                    self.linger().await;
                    continue;
                }
                has_lingered = false;
                let before = self.spool.waiting_bytes();
                batch = self.gather();
                if batch.is_none() && self.spool.waiting_bytes() >= before {
                    // Files that cannot be read now.
                    self.wait_for_lines(Some(TROUBLE_PAUSE)).await;
                }
                continue;
            };
            current.requested();
            let (count, may_split) = (current.front().len(), current.may_split());
            let answer = self.deliver(current).await;
            match verdict(answer, count, may_split) {
                Verdict::Done { rejected } => {
                    let settled = current.settle(count);
                    self.taken(&settled, rejected);
                }
                Verdict::Again { taken, not_before, words } => {
                    let settled = current.settle(taken);
                    self.sent(settled.len() as u64);
                    again_at = Some(Instant::now() + self.failed(not_before, words));
                }
                Verdict::Halves { words } => {
                    self.refused_words = words;
                    current.halve();
                }
                Verdict::Dropped { words } => {
                    self.refused_words = words;
                    let dropped = current.settle(count);
                    self.drop_records(&dropped);
                }
            }
            if current.front().is_empty() {
                batch = None;
                self.settle();
            }
            if self.flush_by.is_some_and(|by| Instant::now() >= by) {
                break;
            }
        }
        let closed = self.spool.close();
        self.take_outcome(closed);
        self.tell(true);
        self.show();
    }

    /// Hands over the next part of the batch; meanwhile the files are looked at, so that what is removed was counted.
    async fn deliver(&mut self, batch: &Batch) -> Answer {
        let (stop, woken) = (Arc::clone(&self.stop), Arc::clone(&self.woken));
        let mut missing = Vec::new();
        let mut errors = Vec::new();
        let answer = {
            let delivery = self.deliverer.deliver(batch.front());
            tokio::pin!(delivery);
            loop {
                let flush_by = self.flush_by;
                tokio::select! {
                    biased;
                    answer = &mut delivery => break answer,
                    () = stop.notified() => {
                        self.flush_by.get_or_insert(Instant::now() + FLUSH_LIMIT);
                    }
                    () = until(flush_by) => {
                        break Answer::Failed { taken: 0, words: "no answer before the host's end".to_owned() };
                    }
                    () = looks(&woken) => {
                        let looked = self.spool.look();
                        missing.extend(looked.missing);
                        errors.extend(looked.errors);
                    }
                }
            }
        };
        self.take_looked(Looked { missing, more: false, errors });
        answer
    }

    fn look(&mut self) -> bool {
        let looked = self.spool.look();
        let more = looked.more;
        self.take_looked(looked);
        more
    }

    /// Beyond the bound the oldest lines go: first those in hand, then those in the files.
    fn keep_within_bounds(&mut self, batch: &mut Option<Batch>) {
        let most = self.target.spool_bytes;
        if self.spool.behind_bytes() > most
            && self.failing_since.is_some()
            && let Some(batch) = batch.take()
        {
            let rest = batch.into_rest();
            self.count_lost(&rest);
            for record in rest.iter().filter(|record| record.is_line()) {
                self.untold.entry(record.replica.service.clone()).or_default().add(record.as_missing());
            }
            self.settle();
        }
        if self.spool.waiting_bytes() > most {
            let looked = self.spool.skip_beyond(most);
            self.take_looked(looked);
        }
    }

    fn gather(&mut self) -> Option<Batch> {
        let batch = self.target.batch;
        // One batch alone must not exceed the bound.
        let bytes = batch.bytes.min(self.target.spool_bytes / 2);
        let (records, looked) = self.spool.gather(batch.records.into(), bytes, Timestamp::now());
        self.take_looked(looked);
        self.lost.clear();
        let batch = Batch::new(records);
        if batch.is_none() {
            let settled = self.spool.settle_quietly();
            self.take_outcome(settled);
        }
        batch
    }

    fn settle(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        let settled = self.spool.settle(&lost);
        self.take_outcome(settled);
    }

    fn taken(&mut self, records: &[Record], rejected: u64) {
        let lines = lines(records);
        let rejected = rejected.min(lines);
        self.sent(lines - rejected);
        if rejected > 0 {
            // Which ones is not said; those of one replica are its own.
            self.counts.lock().lost += rejected;
            self.refused += rejected;
            if let [first, rest @ ..] = records
                && rest.iter().all(|record| record.replica == first.replica)
            {
                let missing = Missing { lines: rejected, bytes: 0, more: false };
                self.lost.entry(first.replica.clone()).or_default().add(missing);
            }
        }
        let failures = self.pace.failures();
        self.pace.succeeded();
        if let Some(since) = self.failing_since.take() {
            let mut counts = self.counts.lock();
            counts.failing = None;
            counts.failing_since = None;
            drop(counts);
            (self.notices)(Notice::Recovered { after: since.elapsed(), failures });
            self.tell(true);
        } else {
            self.tell(false);
        }
    }

    fn sent(&self, lines: u64) {
        let mut counts = self.counts.lock();
        counts.sent += lines;
        if lines > 0 {
            counts.sent_at = Some(Timestamp::now());
        }
    }

    fn failed(&mut self, not_before: Option<Duration>, words: String) -> Duration {
        let wait = self.pace.failed(&self.target.backoff, not_before);
        let mut counts = self.counts.lock();
        counts.failures += 1;
        counts.failing = Some(words.clone());
        counts.failing_since.get_or_insert_with(Timestamp::now);
        drop(counts);
        if self.failing_since.is_none() {
            self.failing_since = Some(Instant::now());
            (self.notices)(Notice::Failing { words });
        }
        wait
    }

    fn drop_records(&mut self, records: &[Record]) {
        self.refused += lines(records);
        self.count_lost(records);
    }

    fn count_lost(&mut self, records: &[Record]) {
        self.counts.lock().lost += lines(records);
        for record in records {
            self.lost.entry(record.replica.clone()).or_default().add(record.as_missing());
        }
    }

    fn take_looked(&mut self, looked: Looked) {
        for (service, missing) in looked.missing {
            let mut counts = self.counts.lock();
            counts.lost += missing.lines;
            counts.lost_more |= missing.more;
            drop(counts);
            self.untold.entry(service).or_default().add(missing);
        }
        self.take_errors(looked.errors);
        if self.failing_since.is_some() {
            self.tell(false);
        }
    }

    fn take_outcome(&mut self, outcome: Result<(), StateError>) {
        self.take_errors(outcome.err().map(|error| error.to_string()));
    }

    /// Each new trouble is told once.
    fn take_errors(&mut self, errors: impl IntoIterator<Item = String>) {
        for words in errors {
            if self.trouble.as_ref() != Some(&words) {
                (self.notices)(Notice::Trouble { words: words.clone() });
                self.trouble = Some(words);
            }
        }
    }

    /// Tells what was lost: now, or when the last time is long enough ago.
    fn tell(&mut self, now: bool) {
        if self.untold.is_empty() && self.refused == 0 {
            return;
        }
        if !now && self.told_at.is_some_and(|at| at.elapsed() < NOTICE_PACE) {
            return;
        }
        self.told_at = Some(Instant::now());
        for (service, missing) in std::mem::take(&mut self.untold) {
            (self.notices)(Notice::Missing { service, missing });
        }
        let lines = std::mem::take(&mut self.refused);
        if lines > 0 {
            (self.notices)(Notice::Refused { lines, words: std::mem::take(&mut self.refused_words) });
        }
    }

    fn show(&self) {
        self.counts.lock().behind_bytes = self.spool.behind_bytes();
    }

    /// Waits for a change of the files; where those are not told, for as long as `pause`.
    async fn wait_for_lines(&mut self, pause: Option<Duration>) {
        let until_look = pause.map(|pause| Instant::now() + pause);
        let untold = (!self.untold.is_empty() || self.refused > 0).then_some(());
        let until_told = untold.and(self.told_at).map(|at| at + NOTICE_PACE);
        tokio::select! {
            () = self.woken.notified() => sleep(FOLLOW_PACE).await,
            () = until(until_look) => {}
            () = until(until_told) => {}
            () = self.stop.notified() => self.begin_end(),
        }
        self.tell(false);
    }

    async fn wait_while_failing(&mut self, at: Instant) {
        tokio::select! {
            () = sleep_until(at) => {}
            () = looks(&self.woken) => {}
            () = self.stop.notified() => self.begin_end(),
        }
    }

    /// Gives the first line time to get company.
    async fn linger(&mut self) {
        tokio::select! {
            () = sleep(self.target.batch.wait) => {}
            () = self.stop.notified() => self.begin_end(),
        }
    }

    fn begin_end(&mut self) {
        self.flush_by.get_or_insert(Instant::now() + FLUSH_LIMIT);
    }
}

/// Woken, but not too often.
async fn looks(woken: &Notify) {
    woken.notified().await;
    sleep(IDLE_PACE).await;
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn lines(records: &[Record]) -> u64 {
    records.iter().filter(|record| record.is_line()).count() as u64
}
