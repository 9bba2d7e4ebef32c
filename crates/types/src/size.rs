//! Sizes as users write them: `64KiB`, `512MiB`, `1GB`.

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeParseError {
    /// Not a number where one belongs.
    #[error("{0:?} is no size: write a whole number and a unit, such as 64KiB, 512MiB, 1GB")]
    BadNumber(String),
    /// A unit nobody knows.
    #[error(
        "{0:?} is no unit of size: use B, KiB, MiB, GiB, TiB (powers of 1024) or KB, MB, GB, TB (powers of 1000)"
    )]
    BadUnit(String),
    /// More than 64 bits hold.
    #[error("{0:?} is too large a size")]
    TooLarge(String),
}

/// The units, largest first. Binary ones as of IEC 80000-13, decimal ones as of SI.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("B", 1),
];

/// Reads `<whole number><unit>` into bytes.
pub fn parse_size(text: &str) -> Result<u64, SizeParseError> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim_start();
    if number.is_empty() {
        return Err(SizeParseError::BadNumber(trimmed.to_owned()));
    }
    if unit.is_empty() || !unit.chars().all(|c| c.is_ascii_alphabetic()) {
        return Err(SizeParseError::BadNumber(trimmed.to_owned()));
    }
    let Some((_, factor)) = UNITS.into_iter().find(|(name, _)| *name == unit) else {
        return Err(SizeParseError::BadUnit(unit.to_owned()));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|value| value.checked_mul(factor))
        .ok_or_else(|| SizeParseError::TooLarge(trimmed.to_owned()))
}

/// For people, in binary units with one decimal below ten: `812 B`, `4.2 MiB`, `37 MiB`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (name, factor) in &UNITS[..4] {
        if bytes >= *factor {
            let tenths = u128::from(bytes) * 10 / u128::from(*factor);
            return if tenths < 100 {
                format!("{}.{} {name}", tenths / 10, tenths % 10)
            } else {
                format!("{} {name}", tenths / 10)
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_shows() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("1 GB"), Ok(1_000_000_000));
        assert_eq!(parse_size("10"), Err(SizeParseError::BadNumber("10".into())));
        assert_eq!(parse_size("10mib"), Err(SizeParseError::BadUnit("mib".into())));
        assert_eq!(parse_size("99999999999TiB"), Err(SizeParseError::TooLarge("99999999999TiB".into())));
        assert_eq!(format_size(812), "812 B");
        assert_eq!(format_size(4_404_100), "4.2 MiB");
        assert_eq!(format_size(38_797_312), "37 MiB");
    }
}
