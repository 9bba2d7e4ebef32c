//! What is captured, when it is settled, how it is kept.

use std::sync::{Arc, Mutex};

use mainstay_logs::read::{JOIN_LIMIT, Query, Selection};
use mainstay_logs::{Capture, CaptureError, CaptureOptions, CapturePolicy, Lines, Stream, Tap};
use mainstay_types::{ReplicaId, ServiceName, SpawnId, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Logs, POLICY, attach, replica, run, texts, wait_for, web};

#[test]
fn lines_become_cri_records_and_read_back() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let mut web = attach(&capture, &web(), 1, POLICY, 4096);
        let mut second = attach(&capture, &replica("web", 1), 2, POLICY, 4096);
        web.out("hello\n\n  bytes \0\r\n").await;
        web.out(b"\xff\xfe\n").await;
        second.write(Stream::Stderr, "trouble\nno end").await;
        capture.detach(SpawnId(1)).await;
        capture.detach(SpawnId(2)).await;
        capture.close().await;

        let text = std::fs::read(logs.dir().join("web/current.log")).unwrap();
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(&lines[0][30..], b" stdout F hello");
        assert_eq!(&lines[1][30..], b" stdout F ");
        assert_eq!(&lines[2][30..], b" stdout F   bytes \0\r");
        assert_eq!(&lines[3][30..], b" stdout F \xff\xfe");
        let stderr = std::fs::read_to_string(logs.dir().join("web.1/current.log")).unwrap();
        assert!(stderr.ends_with(" stderr F no end\n"), "{stderr}");

        let lines = logs.lines(&Query::default());
        assert_eq!(lines.len(), 6);
        assert!(lines.is_sorted_by_key(|line| line.at));
        let only = Query {
            stream: Some(Stream::Stderr),
            replicas: Selection::Services(vec![ServiceName::parse("web").unwrap()]),
            ..Query::default()
        };
        let lines = logs.lines(&only);
        assert_eq!(texts(&lines), ["trouble", "no end"]);
        assert_eq!(lines[0].replica, replica("web", 1));
        assert_eq!(logs.notices(), []);
    });
}

#[test]
fn a_line_of_ten_megabytes_comes_back_whole() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let policy = CapturePolicy { rotate_bytes: 64 * 1024, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy, 64 * 1024);
        let long: Vec<u8> = (0..10_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
        output.out("before\n").await;
        output.out(&long).await;
        output.out("\nafter\n").await;
        capture.detach(SpawnId(1)).await;
        let tail = capture.tail(&web(), 2).await;
        assert_eq!(tail[0].text, &long[..4096]);
        assert!(tail[0].partial);
        assert_eq!(tail[1].text, b"after");
        capture.close().await;

        let lines = logs.lines(&Query::default());
        assert_eq!(lines.len(), 3);
        assert!(lines[1].text == long && !lines[1].partial);
        let last = logs.lines(&Query { last: Some(2), ..Query::default() });
        assert!(last[0].text == long);
        // It was not parted by a rotation.
        assert_eq!(logs.files("web").len(), 3, "{:?}", logs.files("web"));
    });
}

#[test]
fn a_line_without_end_is_parted_between_files_and_loses_nothing() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let policy = CapturePolicy { rotate_bytes: 1 << 20, compress: false, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy, 1 << 20);
        let endless: Vec<u8> = (0..40_000_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
        output.out(&endless).await;
        output.out("\nafter\n").await;
        capture.detach(SpawnId(1)).await;
        capture.close().await;
        assert!(logs.files("web").len() >= 3, "{:?}", logs.files("web"));
        let mut lines = logs.lines(&Query::default());
        assert_eq!(lines.pop().unwrap().text, b"after");
        assert!(lines.iter().all(|line| line.text.len() <= JOIN_LIMIT));
        let (end, parts) = lines.split_last().unwrap();
        assert!(!end.partial && parts.iter().all(|line| line.partial));
        assert!(lines.into_iter().flat_map(|line| line.text).eq(endless));
        assert_eq!(logs.notices(), []);
    });
}

/// A socket pair over loopback: unlike a pipe in memory it is known to be readable only once the system was asked.
async fn socket() -> (TcpStream, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (writer, reader) = tokio::join!(TcpStream::connect(address), listener.accept());
    (writer.unwrap(), reader.unwrap().0.into_std().unwrap())
}

#[test]
fn settling_takes_what_is_there_and_does_not_wait_for_the_end() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        for spawn in 0..50 {
            let ((mut stdout, out), (stderr, err)) = (socket().await, socket().await);
            capture.attach(web(), SpawnId(spawn), POLICY, move || {
                Ok((TcpStream::from_std(out)?, TcpStream::from_std(err)?))
            });
            stdout.write_all(format!("one {spawn}\nlast words {spawn}").as_bytes()).await.unwrap();
            // Loopback has delivered once the sender's buffer is empty; peeking is not possible from here.
            tokio::task::yield_now().await;
            // The writers stay open, as a grandchild would keep them.
            let lines = wait_for_settled(&capture, spawn).await;
            assert_eq!(lines, [format!("one {spawn}"), format!("last words {spawn}")]);
            stdout.write_all(b", and more").await.unwrap();
            capture.settle(SpawnId(spawn), 1).await;
            capture.detach(SpawnId(spawn)).await;
            // Detached: the reading end is closed.
            let mut stderr = stderr;
            assert_eq!(stderr.read(&mut [0]).await.unwrap_or(0), 0);
        }
        capture.close().await;
        let texts = logs.texts();
        assert_eq!(texts.len(), 100);
        assert!(texts[1].starts_with("last words 0"), "{}", texts[1]);
    });
}

/// TCP gives no promise when loopback delivers, so settling may be asked more than once here; a pipe holds at once
/// what was written.
async fn wait_for_settled(capture: &Capture, spawn: u64) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..1000 {
        lines = texts(&capture.settle(SpawnId(spawn), 2).await);
        if lines.last().is_some_and(|line| line.ends_with(&format!("words {spawn}"))) {
            break;
        }
    }
    lines
}

#[test]
fn a_pipe_without_end_does_not_keep_settling_busy() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let mut output = attach(&capture, &web(), 1, POLICY, 64 * 1024);
        let flood = async {
            let block = [b"x".repeat(99), b"\n".to_vec()].concat().repeat(100);
            while output.stdout.write_all(&block).await.is_ok() {}
        };
        let settle = async {
            for _ in 0..10 {
                assert_eq!(capture.settle(SpawnId(1), 5).await.len(), 5);
            }
            capture.detach(SpawnId(1)).await;
        };
        // The flood ends when detaching closes its pipe.
        tokio::join!(flood, settle);
        capture.close().await;
    });
}

#[test]
fn programs_end_by_themselves_and_answers_still_come() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let mut output = attach(&capture, &web(), 1, POLICY, 4096);
        output.out("bye").await;
        drop(output);
        wait_for("the end of the pipe", || match logs.texts() {
            texts if texts == ["bye"] => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(texts(&capture.settle(SpawnId(1), 9).await), ["bye"]);
        capture.detach(SpawnId(1)).await;
        // Unknown starts and replicas have nothing.
        assert!(capture.settle(SpawnId(7), 9).await.is_empty());
        capture.detach(SpawnId(7)).await;
        assert!(capture.tail(&replica("nobody", 0), 9).await.is_empty());
        let other = capture.clone();
        capture.close().await;
        assert!(other.tail(&web(), 9).await.is_empty());
        other.close().await;
    });
}

#[test]
fn files_are_rotated_compressed_and_pruned() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let policy = CapturePolicy { rotate_bytes: 1000, keep: 3, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy, 4096);
        for number in 0..200 {
            output.out(format!("line {number:03}\n")).await;
        }
        capture.detach(SpawnId(1)).await;
        let tail = capture.tail(&web(), 60).await;
        assert_eq!(texts(&tail).last().unwrap(), "line 199");
        capture.close().await;

        let files = logs.files("web");
        assert_eq!(files.len(), 4, "{files:?}");
        assert!(files[..3].iter().all(|name| name.ends_with(".log.zst")), "{files:?}");
        assert_eq!(files[3], "current.log");
        for name in &files[..3] {
            let packed = std::fs::File::open(logs.dir().join("web").join(name)).unwrap();
            let text = std::io::read_to_string(zstd::Decoder::new(packed).unwrap()).unwrap();
            assert!(text.len() <= 1000);
            assert_eq!(text[..29].replace(':', "-"), name[..29], "the name is the time of the first line");
        }
        let texts = logs.texts();
        let expected: Vec<_> = (200 - texts.len()..200).map(|number| format!("line {number:03}")).collect();
        assert_eq!(texts, expected);
        assert!(texts.len() >= 60);
        assert_eq!(logs.notices(), []);
    });
}

#[test]
fn the_tap_sees_every_line() {
    #[derive(Default)]
    struct Seen(Mutex<Vec<(String, Stream, bool, String)>>);
    impl Tap for Seen {
        fn lines(&self, replica: &ReplicaId, stream: Stream, _: Timestamp, lines: Lines<'_>) {
            for line in lines {
                let text = String::from_utf8_lossy(line.text).into_owned();
                self.0.lock().unwrap().push((replica.to_string(), stream, line.partial, text));
            }
        }
    }
    run(async {
        let logs = Logs::new();
        let seen = Arc::new(Seen::default());
        let capture = logs.start_with(Some(seen.clone()));
        let policy = CapturePolicy { max_line_bytes: 4, ..POLICY };
        let mut output = attach(&capture, &web(), 1, policy, 4096);
        output.out("ab\n\nabcdef\n").await;
        capture.detach(SpawnId(1)).await;
        capture.close().await;
        let seen = seen.0.lock().unwrap();
        let lines: Vec<_> = seen.iter().map(|(_, _, partial, text)| (*partial, text.as_str())).collect();
        assert_eq!(lines, [(false, "ab"), (false, ""), (true, "abcd"), (false, "ef")]);
        assert!(seen.iter().all(|(name, stream, ..)| name == "web" && *stream == Stream::Stdout));
    });
}

#[test]
fn a_folder_that_cannot_be_made_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "").unwrap();
    let options = CaptureOptions::new(path.join("logs"), Arc::new(|_| panic!("no notice")));
    let error = Capture::start(options).unwrap_err();
    assert!(matches!(error, CaptureError::CreateDir { .. }), "{error}");
    assert!(error.to_string().starts_with("cannot create the log folder "), "{error}");
}

#[test]
fn one_loud_program_does_not_starve_the_others() {
    run(async {
        let logs = Logs::new();
        let capture = logs.start();
        let policy = CapturePolicy { rotate_bytes: 8 << 20, keep: 1, compress: false, ..POLICY };
        let mut loud = attach(&capture, &replica("loud", 0), 1, policy, 1 << 20);
        let mut quiet = attach(&capture, &replica("quiet", 0), 2, POLICY, 4096);
        let flood = async {
            let block = [b"x".repeat(99), b"\n".to_vec()].concat().repeat(1000);
            while loud.stdout.write_all(&block).await.is_ok() {}
        };
        let speak = async {
            for number in 0..20 {
                quiet.out(format!("{number}\n")).await;
                while texts(&capture.tail(&replica("quiet", 0), 1).await) != [number.to_string()] {
                    tokio::task::yield_now().await;
                }
            }
            capture.detach(SpawnId(1)).await;
        };
        tokio::join!(flood, speak);
        capture.close().await;
    });
}
