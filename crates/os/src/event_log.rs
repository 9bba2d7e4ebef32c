//! The log the operating system keeps for services: the Event Log of Windows. Elsewhere there is none to be written to
//! like this; on Linux the journal takes what a host writes to its standard error.

/// How grave an entry is, in the Event Log's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gravity {
    /// Something an operator may want to find later.
    Information,
    /// Something that may become a failure.
    Warning,
    /// A failure.
    Error,
}

/// The longest text of one entry, in UTF-16 units: what `ReportEventW` takes (31,839 characters,
/// <https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-reporteventw>).
pub const MAX_ENTRY_UNITS: usize = 31_839;

/// `text` for an entry: without NUL, at most [`MAX_ENTRY_UNITS`] units, closed by the NUL the system asks for.
#[cfg_attr(not(any(windows, test)), expect(dead_code, reason = "the only system with such a log is Windows"))]
pub(crate) fn entry_units(text: &str) -> Vec<u16> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len().min(MAX_ENTRY_UNITS) + 1);
    let mut buffer = [0; 2];
    for character in text.chars().filter(|character| *character != '\0') {
        let encoded = character.encode_utf16(&mut buffer);
        if units.len() + encoded.len() > MAX_ENTRY_UNITS {
            break;
        }
        units.extend_from_slice(encoded);
    }
    units.push(0);
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_closed_and_a_long_one_is_cut_between_characters() {
        assert_eq!(entry_units("a\0b"), [u16::from(b'a'), u16::from(b'b'), 0]);
        // Each takes two units, and the bound is odd.
        let long = entry_units(&"\u{1F600}".repeat(MAX_ENTRY_UNITS));
        assert_eq!(long.len(), MAX_ENTRY_UNITS);
        assert!(String::from_utf16(&long).is_ok());
    }
}
