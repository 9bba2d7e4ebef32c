//! `dist`: the static release binary, packed with its licences, and the digest of the package.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::places;
use crate::stage::{cargo, command, output, run as run_command};

/// Static linking needs the target named, so that build scripts and macros stay ordinary programs.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// No shared library; and the table of relocations packed to an eightieth, pages that every process of it would read when it
/// starts (ld(1), `-z pack-relative-relocs`; an ld older than 2.38 warns and goes on).
const STATIC: &str = "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs";

/// zstd's highest level that needs no special window on the reading side (zstd(1), "--ultra").
const COMPRESSION_LEVEL: i32 = 19;

/// What goes beside the binary, where it exists.
const DOCUMENTS: [&str; 4] = ["LICENSE-MIT", "LICENSE-APACHE", "README.md", "CHANGELOG.md"];

/// Arguments of `dist`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  cargo xtask dist        target/dist/mainstay-VERSION-x86_64-unknown-linux-gnu.tar.zst and .sha256")]
pub(crate) struct Options {}

pub(crate) fn run(_options: &Options) -> anyhow::Result<()> {
    let binary = build()?;
    check_static(&binary)?;
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("mainstay-{version}-{TARGET}");
    let dist_dir = places::target_dir().join("dist");
    let stage_dir = dist_dir.join(&name);
    if stage_dir.exists() {
        fs::remove_dir_all(&stage_dir).with_context(|| format!("cannot empty {}", stage_dir.display()))?;
    }
    fs::create_dir_all(&stage_dir).with_context(|| format!("cannot create {}", stage_dir.display()))?;
    fs::copy(&binary, stage_dir.join("mainstay")).context("cannot copy the binary")?;
    for document in DOCUMENTS {
        let from = places::root_dir().join(document);
        if from.exists() {
            fs::copy(&from, stage_dir.join(document)).with_context(|| format!("cannot copy {document}"))?;
        }
    }
    let package = pack(&dist_dir, &name)?;
    let mut digest = command("sha256sum");
    digest.current_dir(&dist_dir).arg(&package);
    let digest = output(digest)?;
    fs::write(dist_dir.join(format!("{package}.sha256")), &digest).context("cannot write the digest")?;
    let size = fs::metadata(dist_dir.join(&package))?.len();
    println!("{} ({size} bytes)\n{}", dist_dir.join(package).display(), digest.trim_end());
    Ok(())
}

/// The release binary, statically linked; returns its path.
pub(crate) fn build() -> anyhow::Result<std::path::PathBuf> {
    let mut build = cargo();
    build.args(["build", "--release", "-p", "mainstay", "--bin", "mainstay", "--target", TARGET]);
    build.env("RUSTFLAGS", STATIC);
    run_command(build)?;
    Ok(places::target_dir().join(TARGET).join("release/mainstay"))
}

/// `ldd` must find no shared library.
fn check_static(binary: &Path) -> anyhow::Result<()> {
    let mut ldd = command("ldd");
    ldd.arg(binary);
    // ldd ends with 1 for "not a dynamic executable" and with 0 for a static position-independent one.
    let answer = ldd.output().context("cannot start `ldd`")?;
    let text =
        [answer.stdout, answer.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if text.contains("statically linked") || text.contains("not a dynamic executable") {
        return Ok(());
    }
    bail!("{} needs shared libraries: {}", binary.display(), text.trim())
}

/// Packs the folder so that the same content gives the same bytes; returns the file's name.
fn pack(dist_dir: &Path, name: &str) -> anyhow::Result<String> {
    let mut time = command("git");
    time.args(["log", "-1", "--format=%ct"]);
    // Outside a git checkout the time is the epoch: any fixed value serves.
    let time = output(time).unwrap_or_else(|_| "0".to_owned());
    let mut tar = command("tar");
    tar.current_dir(dist_dir)
        .args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"])
        .arg(format!("--mtime=@{}", time.trim()))
        .arg(name);
    let archive = tar.output().context("cannot start `tar`")?;
    if !archive.status.success() {
        bail!("tar ended with {}: {}", archive.status, String::from_utf8_lossy(&archive.stderr).trim());
    }
    let package = format!("{name}.tar.zst");
    let packed =
        zstd::encode_all(&archive.stdout[..], COMPRESSION_LEVEL).context("cannot compress the package")?;
    fs::write(dist_dir.join(&package), packed).with_context(|| format!("cannot write {package}"))?;
    Ok(package)
}
