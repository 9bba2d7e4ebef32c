//! Puts the message table of the Event Log into the program when it is built for Windows; elsewhere there is nothing to do.

#[path = "src/message_table.rs"]
mod message_table;

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=src/message_table.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("windows") {
        return;
    }
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names the output folder"));
    let table_path = out_dir.join("messages.bin");
    std::fs::write(&table_path, message_table::message_table()).expect("the output folder can be written");
    // 11 is RT_MESSAGETABLE, 1 the name that the system looks for; resource compilers take no backslashes as they are.
    let script = format!("1 11 \"{}\"\n", table_path.display().to_string().replace('\\', "/"));
    let script_path = out_dir.join("mainstay.rc");
    std::fs::write(&script_path, script).expect("the output folder can be written");
    embed_resource::compile(&script_path, embed_resource::NONE)
        .manifest_required()
        .expect("a resource compiler (windres of MinGW, or rc.exe) is there");
}
