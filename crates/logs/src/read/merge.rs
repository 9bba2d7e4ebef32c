//! Lines of many replicas in the order of time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use mainstay_types::Timestamp;

use super::backward::Backward;
use super::forward::Forward;
use super::segment::Snapshot;
use super::{Query, ReadError};
use crate::LogLine;

/// Iterates the lines of a query. Holds one line, one block and one open file a replica.
pub struct Reader {
    query: Query,
    errors: VecDeque<ReadError>,
    order: Order,
}

enum Order {
    /// Nothing was read yet.
    New(Vec<Snapshot>),
    Forward(Merge),
    /// The newest lines, collected.
    Last(std::vec::IntoIter<LogLine>),
}

/// Sources and the next line of each; the heap knows which comes first.
struct Merge {
    sources: Vec<(Forward, Option<LogLine>)>,
    heap: BinaryHeap<Reverse<(Timestamp, usize)>>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("query", &self.query).finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(snapshots: Vec<Snapshot>, errors: Vec<ReadError>, query: &Query) -> Self {
        Self { query: query.clone(), errors: errors.into(), order: Order::New(snapshots) }
    }

    fn begin(&mut self, snapshots: Vec<Snapshot>) {
        let (query, errors) = (&self.query, &mut self.errors);
        self.order = match query.last {
            Some(last) => Order::Last(collect_last(snapshots, last, query, errors).into_iter()),
            None => Order::Forward(Merge::new(snapshots, query, errors)),
        };
    }
}

impl Iterator for Reader {
    type Item = Result<LogLine, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Order::New(snapshots) = &mut self.order {
            let snapshots = std::mem::take(snapshots);
            self.begin(snapshots);
        }
        if let Some(error) = self.errors.pop_front() {
            return Some(Err(error));
        }
        match &mut self.order {
            Order::New(_) => None,
            Order::Forward(merge) => merge.next(&self.query, &mut self.errors).map(Ok),
            Order::Last(lines) => lines.next().map(Ok),
        }
    }
}

impl Merge {
    fn new(snapshots: Vec<Snapshot>, query: &Query, errors: &mut VecDeque<ReadError>) -> Self {
        let sources: Vec<_> =
            snapshots.into_iter().map(|snapshot| (Forward::new(snapshot, query), None)).collect();
        let mut merge = Self { sources, heap: BinaryHeap::new() };
        for index in 0..merge.sources.len() {
            merge.advance(index, query, errors);
        }
        merge
    }

    fn next(&mut self, query: &Query, errors: &mut VecDeque<ReadError>) -> Option<LogLine> {
        let Reverse((_, index)) = self.heap.pop()?;
        let line = self.sources[index].1.take();
        self.advance(index, query, errors);
        line
    }

    /// Reads the next line of a source.
    fn advance(&mut self, index: usize, query: &Query, errors: &mut VecDeque<ReadError>) {
        let (source, head) = &mut self.sources[index];
        loop {
            match source.next(query) {
                Some(Ok(line)) => {
                    self.heap.push(Reverse((line.at, index)));
                    *head = Some(line);
                    return;
                }
                Some(Err(error)) => errors.push_back(error),
                None => return,
            }
        }
    }
}

/// The newest lines of all sources, found from their ends; oldest first.
fn collect_last(
    snapshots: Vec<Snapshot>,
    last: usize,
    query: &Query,
    errors: &mut VecDeque<ReadError>,
) -> Vec<LogLine> {
    let mut heap: BinaryHeap<(Timestamp, usize)> = BinaryHeap::new();
    let mut sources: Vec<(Backward, Option<LogLine>)> = Vec::new();
    if last > 0 {
        sources = snapshots.into_iter().map(|snapshot| (Backward::new(snapshot, query), None)).collect();
    }
    let mut retreat = |index: usize,
                       most: usize,
                       sources: &mut Vec<(Backward, Option<LogLine>)>,
                       heap: &mut BinaryHeap<(Timestamp, usize)>| {
        let (source, head) = &mut sources[index];
        loop {
            match source.next_back(query, most) {
                Some(Ok(line)) => {
                    heap.push((line.at, index));
                    *head = Some(line);
                    return;
                }
                Some(Err(error)) => errors.push_back(error),
                None => return,
            }
        }
    };
    for index in 0..sources.len() {
        retreat(index, last, &mut sources, &mut heap);
    }
    let mut lines = Vec::new();
    while lines.len() < last {
        let Some((_, index)) = heap.pop() else { break };
        lines.extend(sources[index].1.take());
        let most = last - lines.len();
        if most > 0 {
            retreat(index, most, &mut sources, &mut heap);
        }
    }
    lines.reverse();
    lines
}
