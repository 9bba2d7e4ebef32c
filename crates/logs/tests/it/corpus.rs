//! The inputs that fuzzing has found worth keeping, each as a test of its own kind: `cargo xtask fuzz` finds more.

use std::path::PathBuf;

#[expect(unreachable_pub, reason = "the fuzz targets' own code, which is a crate of its own there")]
#[path = "../../../../fuzz/src/lib.rs"]
mod targets;

/// The committed inputs of a target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let inputs: Vec<_> = entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(inputs.len() >= 5, "{} inputs in {}", inputs.len(), dir.display());
    inputs
}

#[test]
fn the_corpus_of_the_recogniser() {
    for input in corpus("facts") {
        targets::recognise(&input);
    }
}

#[test]
fn the_corpus_of_log_files() {
    let folder = tempfile::tempdir().unwrap();
    for input in corpus("log_file") {
        targets::log_file(&input, folder.path());
    }
}

#[test]
fn the_corpus_of_compressed_files() {
    let folder = tempfile::tempdir().unwrap();
    for input in corpus("packed_file") {
        targets::packed_file(&input, folder.path());
    }
}
