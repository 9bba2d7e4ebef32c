//! A host that is killed at any moment while it writes, closes, compresses and removes files: what was acknowledged is there
//! after the next start, nothing is there twice, and no leftover stays.
//!
//! The victim is this program again. It writes numbered lines, has them settled, and then acknowledges them on its
//! standard error; the parent kills it some milliseconds later, by SIGKILL, and looks.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use mainstay_logs::{Capture, CaptureOptions, CapturePolicy};
use mainstay_types::SpawnId;

use crate::again::{child, folder};
use crate::support::{Logs, POLICY, attach, run, wait_for, web};

const ROUNDS: u32 = 200;
/// Rounds on the same files, before new ones are begun: so that looking at them stays quick.
const ROUNDS_OF_A_FOLDER: u32 = 10;
/// Longest life of a victim that nobody kills.
const LIFE: Duration = Duration::from_secs(20);

/// Which round it is, for a victim.
const ROUND: &str = "MAINSTAY_TEST_ROUND";

const POLICY_OF_VICTIMS: CapturePolicy = CapturePolicy { rotate_bytes: 12_000, ..POLICY };

/// Long enough that a write of them may be cut in the middle.
fn line(round: u32, number: u32) -> String {
    format!("round {round:03} line {number:06} {:x<width$} end", "", width = (number as usize * 37) % 400)
}

#[test]
#[ignore = "the victim: the test below starts and kills it"]
fn victim() {
    let dir = folder().expect("only as a child");
    let round: u32 = std::env::var(ROUND).unwrap().parse().unwrap();
    run(async {
        let capture = Capture::start(CaptureOptions::new(dir, std::sync::Arc::new(|_| {}))).unwrap();
        let mut output = attach(&capture, &web(), 1, POLICY_OF_VICTIMS, 64 * 1024);
        let begun = Instant::now();
        let mut number = 0;
        while begun.elapsed() < LIFE {
            for _ in 0..20 {
                output.out(line(round, number) + "\n").await;
                number += 1;
            }
            capture.settle(SpawnId(1), 0).await;
            // Now they are in the file, whatever comes.
            eprintln!("ack {number}");
            if number % 160 == 0 {
                capture.rotate(vec![(web(), POLICY_OF_VICTIMS)]).await;
            }
        }
    });
}

/// What the rounds met.
#[derive(Default, Debug)]
struct Met {
    /// Half-written compressed files.
    packing: u32,
    /// Files in both forms.
    both: u32,
    /// Closed files not compressed yet.
    plain: u32,
    /// Lines cut in the middle.
    torn: u32,
    lines: usize,
}

#[test]
fn two_hundred_kills_lose_nothing_that_was_acknowledged() {
    let mut met = Met::default();
    let mut pauses = 7_u64;
    let mut logs = Logs::new();
    // Lines of each round of this folder that were acknowledged.
    let mut acknowledged: Vec<(u32, u32)> = Vec::new();
    for round in 0..ROUNDS {
        if round % ROUNDS_OF_A_FOLDER == 0 {
            logs = Logs::new();
            acknowledged.clear();
        }
        std::fs::create_dir_all(logs.dir()).unwrap();
        // Any moment will do; the machine adds its own chance.
        pauses = pauses.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pause = Duration::from_micros((pauses >> 33) % 12_000);
        acknowledged.push((round, kill_one(&logs.dir(), round, pause)));
        look_at_leftovers(&logs, &mut met);
        restart(&logs);
        if round % ROUNDS_OF_A_FOLDER == ROUNDS_OF_A_FOLDER - 1 || round % 5 == 0 {
            check(&logs.texts(), &acknowledged, &mut met);
        }
        assert_eq!(logs.notices(), []);
    }
    eprintln!("{ROUNDS} kills met {met:?}");
    assert!(met.packing > 0 && met.plain > 0, "the moments were not the interesting ones: {met:?}");
}

/// Starts a victim and kills it this long after its first acknowledgement; how many lines it acknowledged.
fn kill_one(dir: &Path, round: u32, pause: Duration) -> u32 {
    let mut victim = child("killed::victim", dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut words = BufReader::new(victim.stderr.take().unwrap());
    let mut first = String::new();
    words.read_line(&mut first).unwrap();
    let begun = Instant::now();
    assert!(first.starts_with("ack "), "{first:?}");
    // Not a wait for anything: the moment is what is chosen.
    std::thread::sleep(pause.saturating_sub(begun.elapsed()));
    victim.kill().unwrap();
    let mut rest = String::new();
    words.read_to_string(&mut rest).unwrap();
    victim.wait().unwrap();
    let all = first + &rest;
    // The last one may be cut short.
    let acks = all.split_inclusive('\n').filter(|word| word.ends_with('\n'));
    acks.filter_map(|word| word.trim().strip_prefix("ack ")?.parse().ok()).max().unwrap_or(0)
}

fn look_at_leftovers(logs: &Logs, met: &mut Met) {
    let files = logs.files("web");
    let has = |name: &str| files.iter().any(|file| file == name);
    met.packing += u32::from(files.iter().any(|name| name.ends_with(".tmp")));
    met.plain += u32::from(files.iter().any(|name| name.ends_with("Z.log")));
    met.both += u32::from(files.iter().any(|name| name.ends_with("Z.log") && has(&format!("{name}.zst"))));
}

/// A host that starts, puts in order what is there, and ends.
fn restart(logs: &Logs) {
    run(async {
        let capture = logs.start();
        let output = attach(&capture, &web(), 1, POLICY_OF_VICTIMS, 64);
        drop(output);
        wait_for("all to be compressed, and no leftover", || {
            let files = logs.files("web");
            let in_order = |name: &String| name == "current.log" || name.ends_with(".log.zst");
            if files.iter().all(in_order) { Ok(()) } else { Err(format!("{files:?}")) }
        });
        capture.detach(SpawnId(1)).await;
        capture.close().await;
    });
}

/// Of each round, its lines from 0 on, as many as were acknowledged or more; at most its last one is cut.
fn check(texts: &[String], acknowledged: &[(u32, u32)], met: &mut Met) {
    let mut texts = texts.iter().peekable();
    for (round, acknowledged) in acknowledged {
        let mut number = 0;
        while texts.next_if(|text| **text == line(*round, number)).is_some() {
            number += 1;
        }
        assert!(
            number >= *acknowledged,
            "round {round}: line {number} is missing, {acknowledged} were acknowledged; there is {:?}",
            texts.peek()
        );
        met.lines += number as usize;
        // What the kill cut off: the beginning of the next line, or of its header.
        let whole = line(*round, number);
        let is_torn = |text: &&String| whole.starts_with(text.as_str()) || is_half_a_header(text);
        met.torn += u32::from(texts.next_if(is_torn).is_some());
    }
    assert_eq!(texts.next(), None, "more than was written");
}

fn is_half_a_header(text: &str) -> bool {
    "0000-00-00T00:00:00.000000000Z stdout F ".len() > text.len()
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"-:.TZ stdouF".contains(&byte))
}
