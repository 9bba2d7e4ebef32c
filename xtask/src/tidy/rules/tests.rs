//! Each rule finds its bad sample, at its line, and leaves the good twin alone.

use super::*;

const HEADER: &str = "//! Says what this sample is for.\n";

/// `(rule, line)` of every finding in a file with a good header and this body.
fn found(path: &str, body: &str) -> Vec<(&'static str, usize)> {
    let file = SourceFile::new(path, &format!("{HEADER}{body}"));
    check(&file).into_iter().map(|finding| (finding.rule, finding.line)).collect()
}

#[test]
fn decision_crates_do_not_touch_the_world() {
    let bad = [
        "use std::fs;",
        "use std::{collections::BTreeMap, env};",
        "use std::{\n    fs::File,\n};",
        "fn f() { std::process::exit(1) }",
        "use std::time::Instant;",
        "let t = std::time::SystemTime::now();",
        "use std::net::TcpStream;",
        "use tokio::time;",
        "let r = rand::random();",
        "let t = Timestamp::now();",
        "fn f() { println!() }",
    ];
    for body in bad {
        let rules = found("crates/config/src/a.rs", body);
        assert!(rules.iter().any(|(rule, _)| *rule == "decision-crate"), "not found: {body}");
        assert_eq!(found("crates/host/src/a.rs", body), [], "wrongly found in host: {body}");
    }
    let good = [
        "use std::collections::{BTreeMap, HashMap};",
        "use std::{fmt, net::Ipv6Addr, str::FromStr};",
        "// std::fs is not for us\nfn f(env: &str) {}",
        "let text = \"std::fs tokio SystemTime\";",
        "#[cfg(test)]\nmod tests { use std::fs; }",
    ];
    for body in good {
        assert_eq!(found("crates/config/src/a.rs", body), [], "wrongly found: {body}");
    }
    assert_eq!(found("crates/config/tests/it.rs", "use std::fs;"), []);
}

#[test]
fn the_line_of_a_grouped_import_is_the_line_of_the_name() {
    assert_eq!(
        found("crates/types/src/a.rs", "use std::{\n    fmt,\n    fs::File,\n};"),
        [("decision-crate", 4)]
    );
}

#[test]
fn lifecycle_keeps_its_maps_in_order() {
    let body = "use std::collections::HashMap;";
    assert_eq!(found("crates/lifecycle/src/a.rs", body), [("decision-crate", 2)]);
    assert_eq!(found("crates/config/src/a.rs", body), []);
}

#[test]
fn unsafe_code_stands_in_os_only() {
    let body = "fn f() {}\nunsafe fn g() {}";
    assert_eq!(found("crates/host/src/a.rs", body), [("unsafe-outside-os", 3)]);
    assert_eq!(found("crates/os/src/a.rs", body), []);
    assert_eq!(found("crates/host/src/a.rs", "// unsafe\n#![forbid(unsafe_code)]"), []);
}

#[test]
fn platform_differences_stand_in_os_only() {
    let bad = [
        "#[cfg(unix)]\nfn f() {}",
        "#[cfg(not(windows))]\nfn f() {}",
        "#[cfg(all(test, target_os = \"linux\"))]\nfn f() {}",
        "fn f() -> bool { cfg!(unix) }",
        "#[cfg_attr(windows, ignore)]\nfn f() {}",
        "#[cfg(any(\n    unix,\n))]\nfn f() {}",
        "use std::os::fd::OwnedFd;",
        "use std::{os::unix::fs::PermissionsExt, fs};",
    ];
    for body in bad {
        assert_eq!(found("crates/host/src/a.rs", body), [("platform-outside-os", 2)], "{body}");
        assert_eq!(found("crates/os/src/a.rs", body), [], "{body}");
    }
    for body in
        ["#[cfg(test)]\nmod tests {}", "fn windows() {}", "slice.windows(2);", "cfg(feature = \"unix\")"]
    {
        assert_eq!(found("crates/host/src/a.rs", body), [], "{body}");
    }
}

#[test]
fn every_file_opens_with_its_purpose() {
    let rule =
        |text: &str| check(&SourceFile::new("crates/os/src/a.rs", text)).first().map(|found| found.rule);
    assert_eq!(rule("fn f() {}"), Some("header"));
    assert_eq!(rule("\n//! Late header of the file.\n"), Some("header"));
    assert_eq!(rule("//! (to come)\n"), Some("header"));
    assert_eq!(rule(HEADER), None);
}

#[test]
fn a_long_file_says_why() {
    let body = "fn f() {}\n".repeat(MAX_LINES);
    assert_eq!(found("crates/os/src/a.rs", &body), [("file-length", 1)]);
    assert_eq!(found("crates/os/src/a.rs", &"fn f() {}\n".repeat(MAX_LINES - 1)), []);
    assert_eq!(found("crates/os/src/a.rs", &format!("//! It is one thing because of x.\n{body}")), []);
}

#[test]
fn unfinished_code_and_paths_of_one_machine_are_found() {
    let word = |first: &str, second: &str| format!("let text = \"{first}{second}\";");
    assert_eq!(found("crates/os/src/a.rs", &word("FIX", "ME later")), [("forbidden-word", 2)]);
    assert_eq!(found("crates/os/src/a.rs", &word("/wo", "rk/main")), [("forbidden-word", 2)]);
    assert_eq!(found("docs/a.md", &word(" /ro", "ot/.cargo")), [("forbidden-word", 2)]);
    assert_eq!(found("crates/os/src/a.rs", "fn f() { todo!() }"), [("forbidden-word", 2)]);
    assert_eq!(found("crates/os/src/a.rs", "// says todo! and mktemp a.XXXXXX\nlet p = \"net/work/x\";"), []);
    assert_eq!(found("docs/a.md", "$HOME/.cache and ${ROOT}/root/x"), []);
}
