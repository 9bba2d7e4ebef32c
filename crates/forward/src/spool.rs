//! The log files as the buffer of one target: which lines come next, how far it is behind, what it has missed, and the place to
//! go on from.
//!
//! What is kept on disk is always what would be right if the host ended now:
//!
//! | a batch | its files | kept |
//! |---|---|---|
//! | none | - | behind all that was given out |
//! | on its way | are there | in front of the batch: it is sent again |
//! | on its way | are gone | behind the batch, whose lines count as missing |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_logs::read::{Missing, Place, ReadError, Selection, Tail, Wanted, replicas};
use mainstay_types::{ReplicaId, ServiceName, Timestamp};

use crate::record::{Record, missing_record, records};
use crate::state::{self, Kept, StateError};

/// Longest time one look takes; the rest comes with the next one.
const LOOK_TIME: Duration = Duration::from_millis(100);
/// Least time between two writings of a place that moved over lines which are not sent.
const QUIET_TIME: Duration = Duration::from_secs(1);

pub(crate) struct Spool {
    root: PathBuf,
    state_path: PathBuf,
    selection: Selection,
    wanted: Wanted,
    most_text_bytes: usize,
    sources: BTreeMap<ReplicaId, Source>,
    /// Who comes first in the next batch.
    turn: usize,
    /// The place moved, and is not written.
    moved: bool,
    written_at: Option<Instant>,
}

struct Source {
    tail: Tail,
    flight: Option<Flight>,
    /// In front of the lines that come next, and not told to the target.
    missing: Missing,
}

/// What a batch on its way has of one replica.
struct Flight {
    /// In front of it.
    start: Kept,
    lines: u64,
    bytes: u64,
    /// Its files may be gone.
    gone: bool,
}

/// What a look found.
#[derive(Default)]
pub(crate) struct Looked {
    /// Missing since the last look.
    pub(crate) missing: Vec<(ServiceName, Missing)>,
    /// There is more to count.
    pub(crate) more: bool,
    pub(crate) errors: Vec<String>,
}

impl Spool {
    /// Goes on where the target's place is; the first time, behind all that is there. With what went wrong, if anything.
    pub(crate) fn open(
        root: &Path,
        state_path: PathBuf,
        selection: Selection,
        wanted: Wanted,
        most_text_bytes: usize,
    ) -> (Self, Vec<String>) {
        let mut errors = Vec::new();
        let mut spool = Self {
            root: root.to_owned(),
            state_path,
            selection,
            wanted,
            most_text_bytes,
            sources: BTreeMap::new(),
            turn: 0,
            moved: false,
            written_at: None,
        };
        let kept = state::read(&spool.state_path);
        let is_first_time = matches!(kept, Ok(None));
        let kept = match kept {
            Ok(kept) => kept.unwrap_or_default(),
            Err(error) => {
                errors.push(error.to_string());
                BTreeMap::new()
            }
        };
        match replicas(root, &spool.selection) {
            Ok(found) => {
                for replica in found {
                    let kept = kept.get(&replica).copied();
                    let tail = match kept {
                        None if is_first_time => Tail::from_end(root, &replica, wanted),
                        kept => Ok(Tail::from(root, &replica, wanted, kept.unwrap_or_default().place)),
                    };
                    match tail {
                        Ok(tail) => spool.insert(replica, tail, kept.unwrap_or_default().missing),
                        Err(error) => errors.push(told(&error)),
                    }
                }
            }
            Err(error) => errors.push(told(&error)),
        }
        errors.extend(spool.write().err().map(|error| error.to_string()));
        (spool, errors)
    }

    fn insert(&mut self, replica: ReplicaId, tail: Tail, missing: Missing) {
        self.sources.insert(replica, Source { tail, flight: None, missing });
    }

    /// Counts what was written since the last look, and what was removed.
    pub(crate) fn look(&mut self) -> Looked {
        let began = Instant::now();
        let mut looked = Looked::default();
        let mut changed = false;
        match replicas(&self.root, &self.selection) {
            Ok(found) => {
                for replica in found {
                    if !self.sources.contains_key(&replica) {
                        // It had no folder before: all of it is new.
                        let place = Kept::default().place;
                        let tail = Tail::from(&self.root, &replica, self.wanted, place);
                        self.insert(replica, tail, Missing::default());
                        changed = true;
                    }
                }
            }
            Err(error) => looked.errors.push(told(&error)),
        }
        for (replica, source) in &mut self.sources {
            loop {
                match source.tail.look() {
                    Ok(true) => break,
                    Ok(false) if began.elapsed() < LOOK_TIME => {}
                    Ok(false) => {
                        looked.more = true;
                        break;
                    }
                    Err(error) => {
                        looked.errors.push(told(&error));
                        break;
                    }
                }
            }
            changed |= source.note(replica, &mut looked.missing);
            match source.check_flight() {
                Ok(is_newly_gone) => changed |= is_newly_gone,
                Err(error) => looked.errors.push(told(&error)),
            }
        }
        if changed {
            looked.errors.extend(self.write().err().map(|error| error.to_string()));
        }
        looked
    }

    /// Bytes of log files that nobody was given yet.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.sources.values().map(|source| source.tail.behind_bytes()).sum()
    }

    /// Those, and those on their way.
    pub(crate) fn behind_bytes(&self) -> u64 {
        let flying = |source: &Source| source.flight.as_ref().map_or(0, |flight| flight.bytes);
        self.waiting_bytes() + self.sources.values().map(flying).sum::<u64>()
    }

    /// Whether there is something to send.
    pub(crate) fn has_some(&self) -> bool {
        self.sources.values().any(Source::has_some)
    }

    /// Skips the oldest lines of whoever is furthest behind until at most so many bytes wait.
    pub(crate) fn skip_beyond(&mut self, most_bytes: u64) -> Looked {
        let mut looked = Looked::default();
        for _ in 0..self.sources.len() {
            let excess = self.waiting_bytes().saturating_sub(most_bytes);
            let furthest = self.sources.iter_mut().max_by_key(|(_, source)| source.tail.behind_bytes());
            let Some((replica, source)) = furthest.filter(|_| excess > 0) else { break };
            let keep = source.tail.behind_bytes().saturating_sub(excess);
            if let Err(error) = source.tail.skip_to(keep) {
                looked.errors.push(told(&error));
            }
            let missing = source.tail.take_missing();
            source.missing.add(missing);
            if !missing.is_nothing() {
                looked.missing.push((replica.service.clone(), missing));
                self.moved = true;
            }
        }
        looked
    }

    /// Takes the next lines of everybody who has some, at most about so many, in the order of time. They are on their way
    /// until [`Spool::settle`].
    pub(crate) fn gather(
        &mut self,
        most_records: u64,
        most_bytes: u64,
        now: Timestamp,
    ) -> (Vec<Record>, Looked) {
        let mut looked = Looked::default();
        let mut gathered = Vec::new();
        let count = self.sources.len();
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        let mut waiting = self.sources.values().filter(|source| source.has_some()).count() as u64;
        let (mut records_left, mut bytes_left) = (most_records, most_bytes);
        let mut order: Vec<ReplicaId> = self.sources.keys().cloned().collect();
        if count > 0 {
            order.rotate_left(turn % count);
        }
        for replica in order {
            let Some(source) = self.sources.get_mut(&replica).filter(|source| source.has_some()) else {
                continue;
            };
            // Whoever has little leaves more for those behind him.
            let share = |left: u64| left.div_ceil(waiting.max(1)).max(1);
            let mut of_source = Vec::new();
            let bytes_before = source.tail.behind_bytes();
            let start = Kept { place: source.tail.place(), missing: source.missing };
            let read = source.tail.read(share(records_left), share(bytes_left), |passed| {
                records(passed, self.most_text_bytes, &mut of_source);
            });
            if let Err(error) = read {
                looked.errors.push(told(&error));
            }
            if !source.missing.is_nothing() {
                let at = of_source.first().map_or(now, |record: &Record| record.at);
                of_source.insert(0, missing_record(&replica, &source.missing, at));
                source.missing = Missing::default();
            }
            let lines = of_source.iter().filter(|record| record.is_line()).count() as u64;
            let bytes = bytes_before.saturating_sub(source.tail.behind_bytes());
            source.flight = Some(Flight { start, lines, bytes, gone: false });
            self.moved = true;
            self.moved |= source.note(&replica, &mut looked.missing);
            records_left = records_left.saturating_sub(lines);
            bytes_left = bytes_left.saturating_sub(bytes);
            waiting = waiting.saturating_sub(1);
            gathered.extend(of_source);
        }
        gathered.sort_by_key(|record| record.at);
        (gathered, looked)
    }

    /// What was on its way is with the target, or lost as counted here; the place moves behind it.
    pub(crate) fn settle(&mut self, lost: &BTreeMap<ReplicaId, Missing>) -> Result<(), StateError> {
        for (replica, source) in &mut self.sources {
            source.flight = None;
            source.missing.add(lost.get(replica).copied().unwrap_or_default());
        }
        self.moved = true;
        self.write()
    }

    /// Nothing of what was taken is wanted: the place moves, and is written now and then.
    pub(crate) fn settle_quietly(&mut self) -> Result<(), StateError> {
        for source in self.sources.values_mut() {
            source.flight = None;
        }
        if self.written_at.is_none_or(|at| at.elapsed() >= QUIET_TIME) { self.write() } else { Ok(()) }
    }

    /// Writes the place if it moved since it was written.
    pub(crate) fn close(&mut self) -> Result<(), StateError> {
        if self.moved { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StateError> {
        let kept = self.sources.iter().map(|(replica, source)| (replica.clone(), source.kept()));
        state::write(&self.state_path, &kept.collect())?;
        self.moved = false;
        self.written_at = Some(Instant::now());
        Ok(())
    }
}

impl Source {
    fn has_some(&self) -> bool {
        self.tail.behind_bytes() > 0 || !self.missing.is_nothing()
    }

    /// Takes over what the tail found missing: its files were removed.
    fn note(&mut self, replica: &ReplicaId, told: &mut Vec<(ServiceName, Missing)>) -> bool {
        let missing = self.tail.take_missing();
        if missing.is_nothing() {
            return false;
        }
        self.missing.add(missing);
        if let Some(flight) = &mut self.flight {
            flight.gone = true;
        }
        told.push((replica.service.clone(), missing));
        true
    }

    /// Whether the files of what is on its way have gone since they were looked at.
    fn check_flight(&mut self) -> Result<bool, ReadError> {
        let Some(flight) = self.flight.as_mut().filter(|flight| !flight.gone) else { return Ok(false) };
        let first_at = |place: &Place| place.file.map(|file| file.first_at);
        let is_same = first_at(&flight.start.place) == first_at(&self.tail.place());
        flight.gone = !is_same && !self.tail.holds(&flight.start.place)?;
        Ok(flight.gone)
    }

    fn kept(&self) -> Kept {
        match &self.flight {
            Some(flight) if !flight.gone => flight.start,
            Some(flight) => {
                let mut missing = flight.start.missing;
                missing.add(self.missing);
                missing.add(Missing { lines: flight.lines, bytes: flight.bytes, more: false });
                Kept { place: self.tail.place(), missing }
            }
            None => Kept { place: self.tail.place(), missing: self.missing },
        }
    }
}

fn told(error: &ReadError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
