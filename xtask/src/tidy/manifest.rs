//! Reads the crates' manifests: what each crate depends on, with the line where it says so.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// One crate of the workspace.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    /// The crate's name without the project's prefix, which is also its folder: `config`, `mainstay`, `xtask`.
    pub(super) name: String,
    /// Its folder below the root, with forward slashes: `crates/config`.
    pub(super) dir: String,
    pub(super) dependencies: Vec<Dependency>,
}

/// One line of a dependency table.
#[derive(Clone, Debug)]
pub(super) struct Dependency {
    /// As the code names the crate's package: `mainstay-types`, `serde_json`.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The line of the manifest, from 1.
    pub(super) line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `[dependencies]` and `[build-dependencies]`, of all targets.
    Product,
    /// `[dev-dependencies]`.
    Tests,
}

impl Dependency {
    /// The short name when this is a crate of the workspace.
    pub(super) fn own_crate(&self) -> Option<&str> {
        own_name(&self.name)
    }
}

impl Manifest {
    pub(super) fn path(&self) -> String {
        format!("{}/Cargo.toml", self.dir)
    }
}

/// `mainstay-config` is `config`; the binary `mainstay` and `xtask` are themselves; others are not of this workspace.
fn own_name(package: &str) -> Option<&str> {
    match package {
        "mainstay" | "xtask" => Some(package),
        _ => package.strip_prefix("mainstay-"),
    }
}

/// Reads `crates/*/Cargo.toml` and `xtask/Cargo.toml`, sorted by name.
///
/// # Errors
/// When a folder or a manifest cannot be read, or is not a manifest.
pub(super) fn read_all(root_dir: &Path) -> anyhow::Result<Vec<Manifest>> {
    let mut dirs = vec!["xtask".to_owned()];
    for entry in fs::read_dir(root_dir.join("crates")).context("cannot list crates/")? {
        dirs.push(format!("crates/{}", entry?.file_name().to_string_lossy()));
    }
    let mut manifests = Vec::new();
    for dir in dirs {
        let path = root_dir.join(&dir).join("Cargo.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        manifests.push(parse(&dir, &text).with_context(|| format!("cannot understand {}", path.display()))?);
    }
    manifests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(manifests)
}

/// Reads one manifest.
///
/// # Errors
/// When it is not TOML, has no package name, or its name is not of this workspace.
pub(super) fn parse(dir: &str, text: &str) -> anyhow::Result<Manifest> {
    let table: toml::Table = text.parse()?;
    let package = table
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(toml::Value::as_str)
        .context("no package name")?;
    let name = own_name(package).with_context(|| format!("{package} should be named mainstay-NAME"))?;
    let mut dependencies = Vec::new();
    collect(&table, text, &mut dependencies);
    if let Some(targets) = table.get("target").and_then(toml::Value::as_table) {
        for target in targets.values().filter_map(toml::Value::as_table) {
            collect(target, text, &mut dependencies);
        }
    }
    Ok(Manifest { name: name.to_owned(), dir: dir.to_owned(), dependencies })
}

/// Adds the dependencies of one level of the manifest.
fn collect(level: &toml::Table, text: &str, dependencies: &mut Vec<Dependency>) {
    let kinds = [
        ("dependencies", Kind::Product),
        ("build-dependencies", Kind::Product),
        ("dev-dependencies", Kind::Tests),
    ];
    for (key, kind) in kinds {
        let Some(listed) = level.get(key).and_then(toml::Value::as_table) else { continue };
        for name in listed.keys() {
            dependencies.push(Dependency { name: name.clone(), kind, line: line_of(text, key, name) });
        }
    }
}

/// The line of `name` in the first table that ends in `key`, where it is listed; 1 when it is not found.
fn line_of(text: &str, key: &str, name: &str) -> usize {
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            inside = header == key || header.ends_with(&format!(".{key}"));
        } else if inside
            && line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(['.', '=']))
        {
            return index + 1;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_all_tables_are_found_with_their_lines() {
        let text = "[package]\nname = \"mainstay-os\"\n[dependencies]\nmainstay-types.workspace = true\n\
                    [target.'cfg(unix)'.dependencies]\nlibc = \"1\"\n[dev-dependencies]\ntempfile.workspace = true\n";
        let manifest = parse("crates/os", text).unwrap();
        assert_eq!(manifest.name, "os");
        let seen: Vec<_> =
            manifest.dependencies.iter().map(|found| (found.name.as_str(), found.kind, found.line)).collect();
        assert_eq!(
            seen,
            [("mainstay-types", Kind::Product, 4), ("tempfile", Kind::Tests, 8), ("libc", Kind::Product, 6)]
        );
        assert_eq!(manifest.dependencies[0].own_crate(), Some("types"));
        assert_eq!(manifest.dependencies[1].own_crate(), None);
    }

    #[test]
    fn a_foreign_name_is_refused() {
        assert!(parse("crates/x", "[package]\nname = \"other\"\n").is_err());
    }
}
