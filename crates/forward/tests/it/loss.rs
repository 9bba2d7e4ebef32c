//! What cannot be sent is counted exactly, and told in its place.

use crate::fixture::{Logs, Server, end, loki, nobody, numbered, texts, wait_for, yes};
use mainstay_forward::Notice;

/// Waits until everything written is counted.
fn counted(forwarder: &mainstay_forward::Forwarder, least_bytes: u64) {
    wait_for("it is counted", || (forwarder.counts().behind_bytes >= least_bytes).then_some(()));
}

#[test]
fn what_retention_removes_while_a_target_is_down_is_counted_exactly_and_told_in_its_place() {
    let logs = Logs::new();
    let address = nobody();
    let mut target = loki(&address);
    target.batch.records = 10;
    let forwarder = logs.start(&target);
    // The first ten are on their way when the files go.
    let mut bytes = 0;
    for (file, compress) in [("a", true), ("b", false), ("c", true)] {
        let lines = numbered(file, 100);
        bytes += lines.iter().map(|line| line.len() as u64 + 41).sum::<u64>();
        logs.write("web", &texts(&lines));
        counted(&forwarder, bytes);
        logs.rotate("web", compress);
    }
    wait_for("it fails", || forwarder.counts().failing);
    logs.write("web", &["last"]);
    counted(&forwarder, bytes + 45);
    logs.remove_oldest("web");
    logs.remove_oldest("web");
    let server = Server::start_at(&address, |_| yes());
    let mut expected = numbered("a", 10);
    expected
        .push("[mainstay] missing here: 190 lines (7.8 KiB of log files), which were not sent".to_owned());
    expected.extend(numbered("c", 100));
    expected.push("last".to_owned());
    let lines = server.wait_lines(expected.len());
    let marker = lines.iter().position(|line| line.starts_with("[mainstay]")).unwrap();
    assert!(lines[marker].starts_with("[mainstay] missing here: 190 lines ("), "{}", lines[marker]);
    expected[10].clone_from(&lines[marker]);
    assert_eq!(lines, expected);
    wait_for("it is settled", || (forwarder.counts().behind_bytes == 0).then_some(()));
    let counts = forwarder.counts();
    assert_eq!((counts.sent, counts.lost, counts.lost_more), (111, 190, false));
    end(forwarder);
    let missing: u64 = logs
        .notices()
        .iter()
        .filter_map(|notice| match notice {
            Notice::Missing { missing, .. } => Some(missing.lines),
            Notice::Failing { .. }
            | Notice::Recovered { .. }
            | Notice::Refused { .. }
            | Notice::Trouble { .. } => None,
        })
        .sum();
    assert_eq!(missing, 190);
}

#[test]
fn beyond_the_bound_the_oldest_go_and_are_counted() {
    let logs = Logs::new();
    let address = nobody();
    let mut target = loki(&address);
    target.spool_bytes = 10_000;
    target.batch.records = 10;
    let forwarder = logs.start(&target);
    let lines = numbered("x", 1000);
    for chunk in lines.chunks(50) {
        logs.write("web", &texts(chunk));
    }
    wait_for("some are skipped", || (forwarder.counts().lost > 600).then_some(()));
    wait_for("it is within its bound", || {
        let counts = forwarder.counts();
        (counts.behind_bytes <= 10_000 && counts.behind_bytes > 5000).then_some(())
    });
    let server = Server::start_at(&address, |_| yes());
    wait_for("the last one arrives", || server.lines().contains(&lines[999]).then_some(()));
    wait_for("it is settled", || (forwarder.counts().behind_bytes == 0).then_some(()));
    let counts = forwarder.counts();
    let arrived: Vec<String> =
        server.lines().into_iter().filter(|line| !line.starts_with("[mainstay]")).collect();
    assert_eq!(arrived, lines[1000 - arrived.len()..]);
    assert_eq!((counts.sent, counts.lost), (arrived.len() as u64, 1000 - arrived.len() as u64));
    let told: u64 = server
        .lines()
        .iter()
        .filter_map(|line| {
            line.strip_prefix("[mainstay] missing here: ")?.split(' ').next()?.parse::<u64>().ok()
        })
        .sum();
    assert_eq!(told, counts.lost);
    end(forwarder);
}

#[test]
fn a_loss_that_was_not_told_is_told_by_the_next_one() {
    let logs = Logs::new();
    let address = nobody();
    let target = loki(&address);
    let forwarder = logs.start(&target);
    let lines = numbered("g", 20);
    logs.write("web", &texts(&lines));
    wait_for("it fails", || forwarder.counts().failing);
    logs.rotate("web", false);
    logs.write("web", &["kept"]);
    counted(&forwarder, 20 * 43 + 45);
    logs.remove_oldest("web");
    wait_for("it keeps its place behind what is gone", || {
        let place = crate::fixture::read(&logs.path("forward/central.json"));
        place.contains("\"missing_lines\":20").then_some(())
    });
    end(forwarder);
    let server = Server::start_at(&address, |_| yes());
    let forwarder = logs.start(&target);
    wait_for("the line that is left arrives", || server.lines().contains(&"kept".to_owned()).then_some(()));
    end(forwarder);
    let lines = server.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("[mainstay] missing here: 20 lines ("), "{lines:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_told_and_the_rest_is_sent() {
    let logs = Logs::new();
    let server = Server::start(|_| yes());
    let target = loki(&server.address);
    let forwarder = logs.start(&target);
    logs.write("web", &["before"]);
    server.wait_lines(1);
    end(forwarder);
    logs.write("web", &texts(&numbered("z", 100)));
    logs.rotate("web", true);
    let packed = std::fs::read_dir(logs.path("logs/web"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "zst"))
        .unwrap();
    let mut bytes = std::fs::read(&packed).unwrap();
    bytes[8..60].fill(0x55);
    std::fs::write(&packed, bytes).unwrap();
    logs.write("web", &["after"]);
    let forwarder = logs.start(&target);
    wait_for("what follows arrives", || server.lines().contains(&"after".to_owned()).then_some(()));
    assert!(forwarder.counts().lost_more);
    end(forwarder);
    let lines = server.lines();
    assert!(lines.iter().any(|line| line.starts_with("[mainstay] missing here: ")), "{lines:?}");
    let told = |notice: &Notice| matches!(notice, Notice::Trouble { words } if words.contains("cannot read"));
    assert!(logs.notices().iter().any(told), "{:?}", logs.notices());
}
