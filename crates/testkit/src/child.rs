//! Where the misbehaving child is, and examples that tests run: beside the running test, built when they are missing.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The path of `misbehave`. Cargo builds it only with this crate's own tests; for others' it is built here, once, with
/// the profile and the target folder of the running test. All packages are chosen, so that outside crates have the features that
/// a test of the workspace built them with already.
///
/// # Panics
/// When it cannot be built: a test that needs it cannot go on.
#[must_use]
pub fn misbehave_path() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        find_or_build("--bin", "misbehave").unwrap_or_else(|error| panic!("no misbehaving child: {error:#}"))
    })
    .clone()
}

/// The path of an example of some crate of the workspace, found and built in the same way.
///
/// # Panics
/// When it cannot be built: a test that needs it cannot go on.
#[must_use]
pub fn example_path(name: &str) -> PathBuf {
    // One build at a time: tests of one program run at once.
    static BUILDS: Mutex<()> = Mutex::new(());
    let _one = BUILDS.lock().unwrap_or_else(PoisonError::into_inner);
    find_or_build("--example", name).unwrap_or_else(|error| panic!("no example {name}: {error:#}"))
}

fn find_or_build(kind: &str, name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    // A test is at TARGET/PROFILE/deps/NAME-HASH, an example at TARGET/PROFILE/examples/NAME.
    let profile_dir = test
        .ancestors()
        .skip(1)
        .find(|dir| !dir.ends_with("deps") && !dir.ends_with("examples"))
        .ok_or_else(|| anyhow::anyhow!("{} is in no target folder", test.display()))?;
    let folder = if kind == "--example" { profile_dir.join("examples") } else { profile_dir.to_owned() };
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    // Under Wine, where `Z:` is the other system's root, cargo is a program of that system and takes such a path for a name in its
    // own folder; the suite has built it.
    if test.starts_with("Z:\\") && path.exists() {
        return Ok(path);
    }
    // Always asked, so that it is never older than its source; cargo answers at once when nothing changed.
    let target_dir = profile_dir.parent().unwrap_or(profile_dir);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--workspace", kind, name, "--target-dir"])
        .arg(target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile_dir.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.output();
    match built {
        Ok(output) if output.status.success() => {}
        // Without cargo (a test binary that was copied elsewhere) the one that is there must do.
        Ok(_) | Err(_) if path.exists() => {}
        Ok(output) => anyhow::bail!("cargo build failed: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => return Err(error.into()),
    }
    anyhow::ensure!(path.exists(), "{} was not built", path.display());
    Ok(path)
}
