//! How a program ends that fails: its code, and what is in its log.

use crate::child::Program;

#[test]
fn each_failure_has_its_code_and_its_words() {
    let table: [(&str, i32, &[&str], bool); 7] = [
        ("fail-start", 4, &["failed: the door is locked code=4"], false),
        ("fail", 1, &["failed: No such file or directory"], true),
        ("fail-code", 7, &["failed: no licence code=7"], true),
        ("plain", 0, &["ended"], true),
        ("panic", 101, &[r"panicked: the spring\nbroke at=", "examples/unruly.rs:", "code=101"], true),
        ("panic-thread", 0, &["panicked: a thread's own words at=", "thread=spring"], true),
        ("end", 0, &["ended"], true),
    ];
    for (way, code, words, stops) in table {
        let mut unruly = Program::start("unruly", &[way], |_| {});
        if way == "plain" {
            unruly.wait_for("starting");
            unruly.signal("TERM");
        }
        let (status, err) = unruly.wait_end();
        assert_eq!(status.code(), Some(code), "{way}: {err}");
        for words in words {
            assert!(err.contains(words), "{way}: {words} is not in {err}");
        }
        assert_eq!(err.contains("stop is called"), stops, "{way}: {err}");
    }
}

#[test]
fn a_stop_that_fails_is_a_failure() {
    let mut unruly = Program::start("unruly", &["fail-stop"], |_| {});
    unruly.wait_for("starting");
    unruly.signal("TERM");
    let (status, err) = unruly.wait_end();
    assert_eq!(status.code(), Some(9), "{err}");
    assert!(err.contains("failed: cannot write the last page code=9"), "{err}");
}

#[test]
fn events_of_tracing_are_entries_with_fields() {
    let mut unruly = Program::start("unruly", &["tracing"], |_| {});
    let (status, err) = unruly.wait_end();
    assert_eq!(status.code(), Some(0), "{err}");
    assert!(err.contains("WARN unruly: listening port=80 client=\"a b\" target=unruly\n"), "{err}");
    assert!(!err.contains("not asked for"), "{err}");
}
