//! Records on their way to the target, in the parts that each go in one request; pure.

use std::collections::VecDeque;

use crate::record::Record;

/// Requests one batch may take. To find one bad record among a hundred thousand takes 34; beyond this many, what is refused is
/// dropped as a whole.
const MOST_REQUESTS: u32 = 256;

/// What was taken from the spool and is not settled yet.
#[derive(Debug)]
pub(crate) struct Batch {
    parts: VecDeque<Vec<Record>>,
    requests: u32,
}

impl Batch {
    /// `None` for no records.
    pub(crate) fn new(records: Vec<Record>) -> Option<Self> {
        (!records.is_empty()).then(|| Self { parts: VecDeque::from([records]), requests: 0 })
    }

    /// The next request; none when all is settled.
    pub(crate) fn front(&self) -> &[Record] {
        self.parts.front().map_or(&[], Vec::as_slice)
    }

    /// A request was made.
    pub(crate) const fn requested(&mut self) {
        self.requests = self.requests.saturating_add(1);
    }

    /// Whether what is refused may still be looked for.
    pub(crate) const fn may_split(&self) -> bool {
        self.requests < MOST_REQUESTS
    }

    /// The first records of the next request are settled.
    pub(crate) fn settle(&mut self, count: usize) -> Vec<Record> {
        let Some(mut front) = self.parts.pop_front() else { return Vec::new() };
        let rest = front.split_off(count.min(front.len()));
        if !rest.is_empty() {
            self.parts.push_front(rest);
        }
        front
    }

    /// The next request becomes two.
    pub(crate) fn halve(&mut self) {
        if let Some(mut front) = self.parts.pop_front() {
            let second = front.split_off(front.len() / 2);
            for part in [second, front] {
                if !part.is_empty() {
                    self.parts.push_front(part);
                }
            }
        }
    }

    /// All that is left.
    pub(crate) fn into_rest(self) -> Vec<Record> {
        self.parts.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::tests::record;
    use crate::verdict::{Answer, Verdict, verdict};

    fn batch(count: usize) -> Batch {
        Batch::new((0..count).map(|number| record(&number.to_string())).collect()).unwrap()
    }

    fn texts(records: &[Record]) -> Vec<String> {
        records.iter().map(|record| String::from_utf8(record.text.clone()).unwrap()).collect()
    }

    #[test]
    fn parts_keep_their_order() {
        let mut batch = batch(5);
        batch.halve();
        assert_eq!(texts(batch.front()), ["0", "1"]);
        assert_eq!(texts(&batch.settle(1)), ["0"]);
        assert_eq!(texts(batch.front()), ["1"]);
        batch.settle(7);
        assert_eq!(texts(batch.front()), ["2", "3", "4"]);
        assert_eq!(texts(&batch.into_rest()), ["2", "3", "4"]);
        assert!(Batch::new(Vec::new()).is_none());
    }

    proptest! {
        /// A target that refuses every request with a bad record in it gets all others, in order, and it ends.
        #[test]
        fn bad_records_are_found_and_the_rest_is_taken(count in 1_usize..300, bad in prop::collection::btree_set(0_usize..300, 0..8)) {
            let mut batch = batch(count);
            let (mut taken, mut dropped) = (Vec::new(), Vec::new());
            while !batch.front().is_empty() {
                let records = texts(batch.front());
                batch.requested();
                let refused = records.iter().any(|text| bad.contains(&text.parse().unwrap()));
                let status = if refused { 400 } else { 204 };
                let answer = Answer::Http { status, retry_after: None, rejected: 0, words: String::new() };
                match verdict(answer, records.len(), batch.may_split()) {
                    Verdict::Done { .. } => taken.extend(texts(&batch.settle(records.len()))),
                    Verdict::Halves { .. } => batch.halve(),
                    Verdict::Dropped { .. } => dropped.extend(texts(&batch.settle(records.len()))),
                    Verdict::Again { .. } => unreachable!(),
                }
            }
            let good: Vec<String> = (0..count).filter(|n| !bad.contains(n)).map(|n| n.to_string()).collect();
            prop_assert_eq!(taken, good);
            prop_assert_eq!(dropped.len(), bad.iter().filter(|n| **n < count).count());
        }
    }

    #[test]
    fn a_target_that_refuses_everything_is_not_asked_for_ever() {
        let mut batch = batch(10_000);
        let mut dropped = 0;
        let mut requests = 0;
        while !batch.front().is_empty() {
            requests += 1;
            batch.requested();
            let count = batch.front().len();
            let answer = Answer::Http { status: 400, retry_after: None, rejected: 0, words: String::new() };
            match verdict(answer, count, batch.may_split()) {
                Verdict::Halves { .. } => batch.halve(),
                Verdict::Dropped { .. } => dropped += batch.settle(count).len(),
                Verdict::Done { .. } | Verdict::Again { .. } => unreachable!(),
            }
        }
        assert_eq!(dropped, 10_000);
        assert!(requests < 300, "{requests}");
    }
}
