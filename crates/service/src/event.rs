//! What a program is told while it runs, and the queue it waits in. Pure.

use std::collections::VecDeque;

use mainstay_os::{PowerChange, SessionChange};

use crate::standing::{Standing, Step};

/// Most events that wait. They come from people and from the machine's own changes: more than this means that the program does
/// not take them.
pub(crate) const MAX_EVENTS: usize = 64;

/// Something the program is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// It is to finish. From the first time on this is the only event, each time it asks.
    Stop,
    /// It is to read its settings again. The manager hears that it is done when the program asks for the next event.
    Reload,
    /// It is to hold still; done with the next question.
    Pause,
    /// It is to go on; done with the next question.
    Continue,
    /// A user's session changed; Windows only.
    Session {
        /// How.
        change: SessionChange,
        /// Which.
        session: u32,
    },
    /// The machine's power changed; Windows only.
    Power(PowerChange),
}

/// What became of an event that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    Waits,
    /// One like it waits already.
    Merged,
    /// Too many wait.
    Lost,
}

/// Events in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Queue(VecDeque<Event>);

impl Queue {
    pub(crate) fn push(&mut self, event: Event) -> Taken {
        let pauses = |event: &Event| matches!(event, Event::Pause | Event::Continue);
        let is_there = match event {
            Event::Reload => self.0.contains(&event),
            Event::Pause | Event::Continue => {
                self.0.iter().rev().find(|waits| pauses(waits)).is_some_and(|last| *last == event)
            }
            Event::Stop | Event::Session { .. } | Event::Power(_) => false,
        };
        if is_there {
            return Taken::Merged;
        }
        if self.0.len() >= MAX_EVENTS {
            return Taken::Lost;
        }
        self.0.push_back(event);
        Taken::Waits
    }

    /// The next one for a program that stands there, and the step it is. What has no meaning there is passed over.
    pub(crate) fn next(&mut self, standing: Standing) -> Option<(Event, Option<Step>)> {
        while let Some(event) = self.0.pop_front() {
            match (event, standing) {
                (Event::Reload, Standing::Running) => return Some((event, Some(Step::Reload))),
                (Event::Pause, Standing::Running) => return Some((event, Some(Step::Pause))),
                (Event::Continue, Standing::Paused) => return Some((event, Some(Step::Continue))),
                // It is so already.
                (Event::Pause | Event::Continue, _) => {}
                // A program that holds still may read its settings; nobody is told.
                (Event::Reload | Event::Session { .. } | Event::Power(_) | Event::Stop, _) => {
                    return Some((event, None));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn power(number: u32) -> Event {
        Event::Power(PowerChange::Other(number))
    }

    #[test]
    fn what_is_asked_twice_counts_once() {
        let mut queue = Queue::default();
        let table = [
            (Event::Reload, Taken::Waits),
            (Event::Pause, Taken::Waits),
            (Event::Pause, Taken::Merged),
            (Event::Continue, Taken::Waits),
            (Event::Reload, Taken::Merged),
            (Event::Pause, Taken::Waits),
        ];
        for (event, taken) in table {
            assert_eq!(queue.push(event), taken, "{event:?}");
        }
        assert_eq!(queue.next(Standing::Running), Some((Event::Reload, Some(Step::Reload))));
        assert_eq!(queue.next(Standing::Running), Some((Event::Pause, Some(Step::Pause))));
        assert_eq!(queue.next(Standing::Paused), Some((Event::Continue, Some(Step::Continue))));
        assert_eq!(queue.next(Standing::Paused), None, "it holds still already");
    }

    #[test]
    fn the_queue_ends_somewhere() {
        let mut queue = Queue::default();
        for number in 0..MAX_EVENTS {
            assert_eq!(queue.push(power(number as u32)), Taken::Waits);
        }
        assert_eq!(queue.push(power(99)), Taken::Lost);
        assert_eq!(queue.next(Standing::Running), Some((power(0), None)));
    }

    #[test]
    fn a_program_that_holds_still_may_reload() {
        let mut queue = Queue::default();
        queue.push(Event::Reload);
        assert_eq!(queue.next(Standing::Paused), Some((Event::Reload, None)));
    }
}
