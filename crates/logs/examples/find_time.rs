//! How long it takes to find a time in a long history: `find_time DIR [GIB]`.
//!
//! Makes a history of one service below DIR, unless there is one already: closed files of 64 MiB of text, compressed as
//! the capture does it, a line a millisecond, and a current file. Then finds times in it, each with a new reader, and
//! prints one line of JSON: sizes, and the median, the 99th percentile and the longest time until the first line is
//! there.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_logs::read::{Query, read};
use mainstay_types::Timestamp;

/// 2026-01-01T00:00:00Z.
const BEGIN_S: i64 = 1_767_225_600;
/// Text of one closed file.
const FILE_BYTES: usize = 64 * 1024 * 1024;
/// Times that are looked for.
const SEARCHES: u64 = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = PathBuf::from(arguments.next().ok_or("usage: find_time DIR [GIB]")?);
    let gib: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let begun = Instant::now();
    let lines = generate(&root.join("web"), usize::try_from(gib * 1024 * 1024 * 1024)?)?;
    eprintln!("{gib} GiB of text, {lines} lines: {:.1} s", begun.elapsed().as_secs_f64());

    let mut times = Vec::new();
    // Steps of the golden ratio: spread over the whole history, never in order.
    for number in 0..SEARCHES {
        let place = (number as f64 * 0.618_033_988_749_895).fract();
        let wanted = (place * lines as f64) as i64;
        let since = Timestamp::from_millisecond(BEGIN_S * 1000 + wanted)?;
        let query =
            Query { since: Some(since), until: Some(since + Duration::from_secs(1)), ..Query::default() };
        let started = Instant::now();
        let first = read(&root, &query).next().ok_or("no line was found")??;
        times.push(started.elapsed());
        if first.at != since {
            return Err(format!("looked for {since} and found {}", first.at).into());
        }
    }
    times.sort();
    let ms = |place: usize| times[place.min(times.len() - 1)].as_secs_f64() * 1000.0;
    println!(
        "{{\"text_bytes\":{},\"lines\":{lines},\"searches\":{SEARCHES},\"median_ms\":{:.3},\"p99_ms\":{:.3},\"max_ms\":{:.3}}}",
        gib * 1024 * 1024 * 1024,
        ms(times.len() / 2),
        ms(times.len() * 99 / 100),
        ms(times.len()),
    );
    Ok(())
}

/// Writes the history; returns the number of its lines, each a millisecond after the one before.
fn generate(dir: &Path, text_bytes: usize) -> std::io::Result<u64> {
    let complete = dir.join("complete");
    if let Ok(text) = fs::read_to_string(&complete) {
        return text.trim().parse().map_err(|_| std::io::Error::other("DIR holds another history"));
    }
    fs::create_dir_all(dir)?;
    let (mut made, mut lines) = (0, 0_u64);
    while made < text_bytes {
        let first =
            Timestamp::from_millisecond(BEGIN_S * 1000 + lines as i64).map_err(std::io::Error::other)?;
        let mut text = Vec::with_capacity(FILE_BYTES + 200);
        while text.len() < FILE_BYTES {
            let (second, ms) = (BEGIN_S + (lines / 1000) as i64, lines % 1000);
            if text.is_empty() || ms == 0 {
                // Once a second; what changes within one is put in its place below.
                let at = Timestamp::from_second(second).map_err(std::io::Error::other)?;
                stamp(&mut text, at, ms, lines);
            } else {
                let start = text.len() - LINE_BYTES;
                text.extend_from_within(start..);
                let line = text.len() - LINE_BYTES;
                write!(&mut text[line + 20..line + 23], "{ms:03}")?;
                write!(&mut text[line + NUMBER_AT..], "{lines:020}")?;
            }
            lines += 1;
        }
        made += text.len();
        let name = format!("{first:.9}").replace(':', "-");
        if made < text_bytes {
            let mut packed = File::create(dir.join(format!("{name}.log.zst")))?;
            mainstay_logs::pack(&mut &text[..], &mut packed, || true)?;
        } else {
            fs::write(dir.join("current.log"), &text)?;
        }
    }
    fs::write(complete, lines.to_string())?;
    Ok(lines)
}

/// Bytes of a line, and where its number stands.
const LINE_BYTES: usize = 140;
const NUMBER_AT: usize = 119;

fn stamp(text: &mut Vec<u8>, at: Timestamp, ms: u64, number: u64) {
    let time = format!("{at:.9}").replace(".000000000Z", &format!(".{ms:03}000000Z"));
    let words = "GET /basket/checkout 200 in 12 ms for client 10.0.0.7, request number";
    let line = format!("{time} stdout F {words:<79}{number:020}\n");
    assert_eq!(line.len(), LINE_BYTES);
    text.extend_from_slice(line.as_bytes());
}
