//! `suite windows`: Debian's Rust with a standard library built for `x86_64-pc-windows-gnu`, and Wine to run the result.
//!
//! rustup's toolchain has no Windows target unless one is downloaded; Debian ships a compiler, its sources and MinGW,
//! which together are a complete toolchain for that target. The library is built once by `.ci/windows-std` and cached.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::places;
use crate::stage::{Stages, command, output, run as run_command};

const TARGET: &str = "x86_64-pc-windows-gnu";

/// Where Debian's packages put the compiler; rustup's of the same name come first on most PATHs.
const DEBIAN_BIN_DIR: &str = "/usr/bin";

/// What is tested under Wine, in this order; each is the arguments of one `cargo`.
const UNDER_WINE: [(&str, &[&str]); 4] = [
    (
        "windows: the pure crates' tests under Wine",
        &[
            "test",
            "-p",
            "mainstay-types",
            "-p",
            "mainstay-config",
            "-p",
            "mainstay-lifecycle",
            "--lib",
            "--bins",
            "--tests",
        ],
    ),
    (
        "windows: mainstay.exe and the child that misbehaves",
        &["build", "-p", "mainstay", "-p", "mainstay-testkit", "--bins"],
    ),
    (
        "windows: the contract of process trees, consoles, jobs and pipes under Wine",
        &["test", "-p", "mainstay-os", "-p", "mainstay-api", "--lib", "--tests"],
    ),
    (
        "windows: mainstay.exe runs a stack under Wine",
        &["test", "-p", "mainstay", "--test", "windows", "--", "--include-ignored"],
    ),
];

/// What must be there, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 5] = [
    ("/usr/bin/cargo", "cargo-web"),
    ("/usr/bin/rustc", "rustc-web"),
    ("/usr/bin/clippy-driver", "rust-web-clippy"),
    ("/usr/bin/x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64"),
    ("/usr/bin/wine", "wine wine64"),
];

/// Arguments of `suite windows`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask suite windows                   everything
  cargo xtask suite windows --compile-only    without Wine

Needs Debian's rustc-web, cargo-web, rust-web-src, rust-web-clippy, gcc-mingw-w64-x86-64, and wine and wine64 for the tests.")]
pub(crate) struct Options {
    /// Compiles and lints, runs nothing.
    #[arg(long)]
    compile_only: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let wanted = |package: &str| !(options.compile_only && package.contains("wine"));
    let missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, package)| wanted(package) && !Path::new(program).exists())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        bail!(
            "the Windows suite needs more packages: apt-get install --no-install-recommends {}",
            missing.join(" ")
        );
    }
    let sysroot_dir = standard_library()?;
    let mut stages = Stages::default();
    stages.run("windows: every crate compiles without warnings", || {
        let mut clippy = debian_cargo(sysroot_dir.as_deref())?;
        clippy.args(["clippy", "--workspace", "--keep-going", "--target", TARGET, "--", "-D", "warnings"]);
        run_command(clippy)
    });
    if options.compile_only {
        eprintln!("windows: no test was run, as asked");
        return stages.finish();
    }
    let prefix_dir = places::cache_dir().join("wine8-prefix");
    let wine = places::root_dir().join(".ci/wine");
    let mut set_up = command(&wine);
    set_up.arg("set-up").arg(&prefix_dir);
    run_command(set_up)?;
    for (name, words) in UNDER_WINE {
        stages.run(name, || {
            let mut cargo = debian_cargo(sysroot_dir.as_deref())?;
            // What is for the test programs comes after `--`.
            let place = words.iter().position(|word| *word == "--").unwrap_or(words.len());
            cargo.args(&words[..place]).args(["--target", TARGET]).args(&words[place..]);
            cargo.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", format!("{} run", wine.display()));
            cargo.env("WINEPREFIX", &prefix_dir);
            run_command(cargo)
        });
    }
    let mut end = command(&wine);
    end.arg("end").env("WINEPREFIX", &prefix_dir);
    // The tests' outcome counts more than how the session ends.
    let ended = run_command(end);
    stages.finish().and(ended)
}

/// Builds the standard library where it is missing; returns the folder to name as the system root, if not the compiler's own.
fn standard_library() -> anyhow::Result<Option<PathBuf>> {
    let mut version = Command::new(format!("{DEBIAN_BIN_DIR}/rustc"));
    version.args(["--print", "sysroot"]);
    let own_sysroot = PathBuf::from(output(version)?.trim());
    if own_sysroot.join("lib/rustlib").join(TARGET).join("lib").exists() {
        return Ok(None);
    }
    let mut version = Command::new(format!("{DEBIAN_BIN_DIR}/rustc"));
    version.arg("--version");
    let version = output(version)?;
    let number = version.split_whitespace().nth(1).unwrap_or("unknown").to_owned();
    let sysroot_dir = places::cache_dir().join(format!("windows-std-{number}"));
    if !sysroot_dir.join("complete").exists() {
        let mut build = command(places::root_dir().join(".ci/windows-std"));
        build.arg(&sysroot_dir);
        run_command(build)?;
    }
    Ok(Some(sysroot_dir))
}

/// Debian's cargo, free of what rustup and the running cargo put in the environment.
fn debian_cargo(sysroot_dir: Option<&Path>) -> anyhow::Result<Command> {
    let mut cargo = command(format!("{DEBIAN_BIN_DIR}/cargo"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let of_cargo = name.starts_with("CARGO") && name != "CARGO_HOME";
        if of_cargo || name.starts_with("RUSTUP") || name.starts_with("RUSTC") || name == "RUSTFLAGS" {
            cargo.env_remove(&*name);
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(PathBuf::from(DEBIAN_BIN_DIR)).chain(std::env::split_paths(&path));
    cargo.env("PATH", std::env::join_paths(dirs)?);
    cargo.env("RUSTC", format!("{DEBIAN_BIN_DIR}/rustc"));
    // A folder of its own: another compiler would throw away what the usual one built.
    cargo.env("CARGO_TARGET_DIR", places::target_dir().join("windows"));
    if let Some(dir) = sysroot_dir {
        cargo.env("CARGO_ENCODED_RUSTFLAGS", format!("--sysroot\u{1f}{}", dir.display()));
    }
    Ok(cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_foreign_cargo_gets_its_own_folder_and_flags() {
        let cargo = debian_cargo(Some(Path::new("/s p"))).unwrap();
        let value = |wanted: &str| {
            cargo.get_envs().find(|(name, _)| *name == wanted).and_then(|(_, value)| Some(value?.to_owned()))
        };
        assert_eq!(value("CARGO_ENCODED_RUSTFLAGS").unwrap(), "--sysroot\u{1f}/s p");
        assert!(PathBuf::from(value("CARGO_TARGET_DIR").unwrap()).ends_with("windows"));
    }
}
