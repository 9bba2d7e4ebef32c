//! Where the misbehaving child is: the binary `misbehave` beside the running test, built when it is missing.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The path of `misbehave`. Cargo builds it only with this crate's own tests; for others' it is built here, once, with
/// the profile and the target folder of the running test. All packages are chosen, so that outside crates have the features that
/// a test of the workspace built them with already.
///
/// # Panics
/// When it cannot be built: a test that needs it cannot go on.
#[must_use]
pub fn misbehave_path() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| find_or_build().unwrap_or_else(|error| panic!("no misbehaving child: {error:#}")))
        .clone()
}

fn find_or_build() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    // A test is at TARGET/PROFILE/deps/NAME-HASH, an example at TARGET/PROFILE/examples/NAME.
    let profile_dir = test
        .ancestors()
        .skip(1)
        .find(|dir| !dir.ends_with("deps") && !dir.ends_with("examples"))
        .ok_or_else(|| anyhow::anyhow!("{} is in no target folder", test.display()))?;
    let path = profile_dir.join(format!("misbehave{}", std::env::consts::EXE_SUFFIX));
    // Always asked, so that it is never older than its source; cargo answers at once when nothing changed.
    let target_dir = profile_dir.parent().unwrap_or(profile_dir);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--workspace", "--bin", "misbehave", "--target-dir"])
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
