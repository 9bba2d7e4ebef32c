//! Where things are: the checkout, the build output, the cache that outlives a clone.

use std::path::{Path, PathBuf};

/// The root of the checkout, which is the folder above this crate.
pub(crate) fn root_dir() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where cargo puts build output: `CARGO_TARGET_DIR` or `target` in the checkout.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        // Cargo reads a relative value against the folder it is called in; the verbs call it in the root.
        Some(dir) => root_dir().join(dir),
        None => root_dir().join("target"),
    }
}

/// Where things live that are slow to make and not part of a build: a system root, a Wine prefix, tools.
/// `MAINSTAY_CACHE`, or `mainstay` in the user's cache folder. The same rule stands in `.ci/run`.
pub(crate) fn cache_dir() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = set("MAINSTAY_CACHE") {
        return dir;
    }
    let user_cache_dir = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    user_cache_dir.unwrap_or_else(std::env::temp_dir).join("mainstay")
}

/// The program of that name on `PATH`, or in one of `more_dirs`.
pub(crate) fn find_program(name: &str, more_dirs: &[&Path]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(more_dirs.iter().map(|dir| dir.to_path_buf()))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_workspace_manifest() {
        let manifest = std::fs::read_to_string(root_dir().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn a_program_is_found_in_an_extra_folder_and_an_unknown_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mainstay-test-tool"), "").unwrap();
        let found = find_program("mainstay-test-tool", &[dir.path()]);
        assert_eq!(found, Some(dir.path().join("mainstay-test-tool")));
        assert_eq!(find_program("mainstay-test-tool", &[]), None);
    }
}
