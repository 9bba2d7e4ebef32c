//! The JSON shapes, as the contract's "JSON" section fixes them: what `--json` prints and the API answers.
//!
//! Times are RFC 3339 in UTC. A value that is absent is `null`, never left out; reading accepts both, so that an
//! event stored by an older mainstay still reads after a field is added here.

mod event;
mod log;
mod reload;
mod status;
mod words;

pub use event::{Event, EventKind, ExitInfo};
pub use log::{LogEntry, LogLevel, OutputStream, RotateOutcome, RotateReply, RotatedLog};
pub use reload::{Plan, PlanAction, PlanKey, PlanService, ReloadReply};
pub use status::{
    CommandOutcome, CommandReply, FileStatus, ForwardStatus, HostStatus, LastExit, LimitStatus, ListenStatus,
    ReplicaStatus, ServiceKind, ServiceStatus, Status,
};

#[cfg(test)]
mod tests {
    use mainstay_types::State;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_word_is_the_one_in_json() {
        for kind in EventKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            assert_eq!(serde_json::to_value(stream).unwrap(), stream.as_str());
            assert_eq!(stream.as_str().parse(), Ok(stream));
        }
    }

    #[test]
    fn an_event_of_an_older_mainstay_reads() {
        let old = json!({ "at": "2026-11-22T15:20:01Z", "id": 3, "event": "state", "to": "ready" });
        let event: Event = serde_json::from_value(old).unwrap();
        let at = "2026-11-22T15:20:01Z".parse().unwrap();
        assert_eq!(event, Event { id: 3, to: Some("ready".to_owned()), ..Event::new(EventKind::State, at) });
    }

    #[test]
    fn every_state_reads_back_and_others_are_refused() {
        let replica = |state: &str| {
            serde_json::from_value::<ReplicaStatus>(json!({ "index": 0, "state": state, "restarts": 0 }))
        };
        for state in State::ALL {
            assert_eq!(replica(state.as_str()).unwrap().state, state);
        }
        assert_eq!(replica("happy").unwrap_err().to_string(), "\"happy\" is no state");
    }
}
