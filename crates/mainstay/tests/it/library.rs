//! A program on `mainstay-service` under a host: what it says of itself by sd_notify is what the host shows and waits for.

use mainstay_testkit::child::example_path;

use crate::fixture::{Fixture, SOON, signal};

#[test]
fn a_program_on_the_library_is_ready_reloads_and_stops_under_a_host() {
    let clock = example_path("clock");
    let fixture = Fixture::new(&format!(
        r#"
        [service.clock]
        command = [{clock:?}, "--prepare", "5", "--settings", "words"]
        readiness = {{ notify = true }}
        [service.after]
        command = "sleep 1000"
        needs = [{{ service = "clock" }}]
        "#
    ));
    fixture.write("words", "one");
    let mut host = fixture.run(&[]);
    host.wait_state("clock", "ready");
    host.wait_state("after", "ready");
    let words = |wanted: &'static str| {
        move |status: &serde_json::Value| status["replicas"][0]["status_text"] == wanted
    };
    host.wait_for("its status", SOON, |host| words("says one")(&host.service("clock")).then_some(()));
    let log = fixture.log("clock");
    assert!(log.contains(r#"started_by="a service manager""#), "{log}");
    fixture.write("words", "two");
    signal(host.main_pid("clock"), "HUP");
    host.wait_for("its new status", SOON, |host| words("says two")(&host.service("clock")).then_some(()));
    host.wait_state("clock", "ready");
    assert_eq!(host.service("clock")["replicas"][0]["restarts"], 0);
    let (status, err) = host.stop();
    assert!(status.success(), "{err}");
    let log = fixture.log("clock");
    assert!(
        log.contains("stopping: SIGTERM") && log.contains("wound down") && log.contains("ended"),
        "{log}"
    );
}
