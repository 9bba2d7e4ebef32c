//! How fast one loud program is captured: a child writes 100-byte lines through a pipe; every line is counted and
//! checked when it is read back. Linux; run with `cargo run --release -p mainstay-logs --example throughput [MiB]`.
//!
//! Prints megabytes (10^6 bytes of the program's output) a second and the capture's processor seconds for each GiB of
//! it, beside the same child writing into `cat > file`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use mainstay_logs::read::{Query, read};
use mainstay_logs::{Capture, CaptureOptions, CapturePolicy, Fsync, WhenBlocked};
use mainstay_types::{ReplicaId, ServiceName, SpawnId};

const LINE_BYTES: usize = 100;

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("child") => child(args.next().unwrap().parse().unwrap()),
        size => measure(size.map_or(2048, |size| size.parse().unwrap())),
    }
}

/// Line number, padding, newline.
fn line(number: u64) -> [u8; LINE_BYTES] {
    let mut line = [b'.'; LINE_BYTES];
    line[..20].copy_from_slice(format!("{number:020}").as_bytes());
    line[LINE_BYTES - 1] = b'\n';
    line
}

fn child(lines: u64) {
    let mut out = std::io::stdout().lock();
    // The same block over and over, so that making it costs nothing; only the first line of each is numbered.
    const BLOCK: u64 = 655;
    let mut block: Vec<u8> = (0..BLOCK).flat_map(line).collect();
    let mut written = 0;
    while written < lines {
        let count = BLOCK.min(lines - written);
        block[..LINE_BYTES].copy_from_slice(&line(written));
        out.write_all(&block[..count as usize * LINE_BYTES]).unwrap();
        written += count;
    }
}

fn start_child(lines: u64, stdout: Stdio) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", &lines.to_string()])
        .stdout(stdout)
        .spawn()
        .unwrap()
}

/// Processor seconds of this process, or of its ended children.
fn cpu_seconds(children: bool) -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // proc(5): after the name in brackets, utime is the 12th field, then stime, cutime, cstime; in ticks of 10 ms.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let from = if children { 13 } else { 11 };
    fields[from..from + 2].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

fn measure(mib: u64) {
    let lines = mib * 1024 * 1024 / LINE_BYTES as u64;
    let bytes = (lines * LINE_BYTES as u64) as f64;
    let folder = tempfile::tempdir_in(".").unwrap();
    let report = |name: &str, seconds: f64, cpu: f64| {
        let gib = bytes / f64::from(1 << 30);
        println!("{name:<22} {:>6.0} MB/s  {:>5.2} CPU s/GiB", bytes / seconds / 1e6, cpu / gib);
    };

    for round in 0..3 {
        let before = cpu_seconds(true);
        let begun = Instant::now();
        let mut writer = start_child(lines, Stdio::piped());
        let file = std::fs::File::create(folder.path().join("cat")).unwrap();
        let mut cat = Command::new("cat").stdin(writer.stdout.take().unwrap()).stdout(file).spawn().unwrap();
        cat.wait().unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        let cat_cpu = cpu_seconds(true) - before;
        writer.wait().unwrap();
        report("cat > file", seconds, cat_cpu);
        std::fs::remove_file(folder.path().join("cat")).unwrap();

        for (name, rotate_bytes, compress) in [
            ("capture", u64::MAX, false),
            ("capture, 64 MiB files", 64 << 20, false),
            ("and compressed", 64 << 20, true),
        ] {
            let dir = folder.path().join(format!("{round} {name}"));
            let (seconds, cpu) = capture(&dir, lines, rotate_bytes, compress);
            report(name, seconds, cpu);
            if !compress && round == 0 {
                check(&dir, lines);
            }
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }
}

fn capture(dir: &std::path::Path, lines: u64, rotate_bytes: u64, compress: bool) -> (f64, f64) {
    let options = CaptureOptions::new(dir.to_owned(), Arc::new(|notice| println!("{notice:?}")));
    let capture = Capture::start(options).unwrap();
    let replica = ReplicaId { service: ServiceName::parse("loud").unwrap(), index: 0 };
    let policy = CapturePolicy {
        rotate_bytes,
        rotate_age: None,
        keep: 1000,
        keep_age: None,
        keep_total_bytes: u64::MAX,
        compress,
        max_line_bytes: 64 * 1024,
        when_blocked: WhenBlocked::Wait,
        fsync: Fsync::Never,
        masks: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let before = cpu_seconds(false);
    let begun = Instant::now();
    let (reader, writer) = std::io::pipe().unwrap();
    let (silent, _) = std::io::pipe().unwrap();
    capture.attach(replica, SpawnId(1), policy, move || {
        let open = |end: std::io::PipeReader| tokio::net::unix::pipe::Receiver::from_owned_fd(end.into());
        Ok((open(reader)?, open(silent)?))
    });
    let mut child = start_child(lines, Stdio::from(writer));
    child.wait().unwrap();
    runtime.block_on(capture.settle(SpawnId(1), 1));
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds(false) - before);
    runtime.block_on(async {
        capture.detach(SpawnId(1)).await;
        capture.close().await;
    });
    (seconds, cpu)
}

/// Every line is there, whole and in order.
fn check(dir: &std::path::Path, lines: u64) {
    let begun = Instant::now();
    let mut count = 0;
    for found in read(dir, &Query::default()) {
        let found = found.unwrap();
        let number = count % 655;
        let expected = line(if number == 0 { count } else { number });
        assert!(found.text == expected[..LINE_BYTES - 1], "line {count} differs");
        count += 1;
    }
    assert_eq!(count, lines);
    println!("  {count} lines read back and compared in {:.1} s", begun.elapsed().as_secs_f64());
}
