//! The message table of `mainstay.exe`: the texts by which Windows' Event Viewer shows entries of the source `mainstay`.
//! Included by the build script, which puts it into the program.
//!
//! Every number has the same text, `%1`: the entry's own words. Numbers up to [`LAST_ID`] are covered, so that the list of
//! those in use stands in one place, the host's.

/// The largest number of an entry; the host uses those from 101 on.
pub(crate) const LAST_ID: u32 = 999;

/// The resource, as `MESSAGE_RESOURCE_DATA` of winnt.h lays it out
/// (<https://learn.microsoft.com/en-us/windows/win32/api/winnt/ns-winnt-message_resource_data>): the number of blocks; for
/// each block its first and last number and where its entries begin; for each entry its length with this head, 1 for
/// UTF-16, and the text, filled up with zeros to a multiple of four.
pub(crate) fn message_table() -> Vec<u8> {
    let text: Vec<u8> = "%1\r\n\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = (4 + text.len()).next_multiple_of(4);
    let first_entry: u32 = 4 + 12;
    let mut table = Vec::new();
    for number in [1, 1, LAST_ID, first_entry] {
        table.extend_from_slice(&number.to_le_bytes());
    }
    for _ in 1..=LAST_ID {
        let end = table.len() + length;
        table.extend_from_slice(&(length as u16).to_le_bytes());
        table.extend_from_slice(&1_u16.to_le_bytes());
        table.extend_from_slice(&text);
        table.resize(end, 0);
    }
    table
}
