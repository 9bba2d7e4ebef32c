//! How each kind of value is read from the file and shown in the reference.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_types::{CommandLine, StackName, format_size, parse_duration, parse_size};
use toml::Spanned;
use toml::de::DeValue;

use crate::command;
use crate::declare::{Key, Rule, Shape, Word};
use crate::diagnostic::Found;
use crate::nearest::nearest;
use crate::quote::toml_text;
use crate::read::{Reader, not_supported_yet, positive, shown};

/// A type that a key can have.
pub(crate) trait Value: Sized + Clone {
    /// Its kind, for messages, JSON Schema and the reference.
    const SHAPE: Shape;

    /// Reads it; `None` when it is wrong, which has been reported then.
    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self>;

    /// The value as TOML; only asked of types that have defaults.
    fn shown(&self) -> String {
        String::new()
    }
}

/// A type that is one of some words.
pub(crate) trait Choice: Sized + Clone {
    const WORDS: &'static [Word];
    fn from_word(word: &str) -> Option<Self>;
    fn word(&self) -> &'static str;
}

impl<T: Choice> Value for T {
    const SHAPE: Shape = Shape::Choice(T::WORDS);

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let text = reader.text(key, Self::SHAPE, value)?;
        if let Some(chosen) = Self::from_word(&text) {
            return Some(chosen);
        }
        if T::WORDS.iter().any(|word| word.name == text) {
            reader.report(not_supported_yet(
                value.span(),
                &format!("{} = {}", key.name, toml_text(&text)),
                "",
            ));
            return None;
        }
        let names: Vec<_> =
            T::WORDS.iter().filter(|word| word.supported).map(|word| toml_text(word.name)).collect();
        let accepted = format!("accepted: {}", names.join(", "));
        let help = match nearest(&text, T::WORDS.iter().map(|word| word.name)) {
            Some(near) => format!("did you mean {}? {accepted}", toml_text(near)),
            None => accepted,
        };
        let message = format!("`{}` cannot be \"{}\"", key.name, shown(&text));
        reader.report(Found::invalid(value.span(), message).help(help));
        None
    }

    fn shown(&self) -> String {
        toml_text(self.word())
    }
}

impl Value for String {
    const SHAPE: Shape = Shape::Text;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let text = reader.text(key, Self::SHAPE, value)?;
        if text.is_empty() && matches!(key.rule, Rule::NotEmpty) {
            let message = format!("`{}` cannot be empty", key.name);
            reader.report(Found::invalid(value.span(), message).help("take the key out to use its default"));
            return None;
        }
        Some(text)
    }
}

impl Value for StackName {
    const SHAPE: Shape = Shape::Text;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let text = reader.text(key, Self::SHAPE, value)?;
        let parsed = Self::parse(&text);
        parsed.map_err(|error| reader.report(Found::invalid(value.span(), error.to_string()))).ok()
    }
}

impl Value for bool {
    const SHAPE: Shape = Shape::Bool;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            reader.wrong_type(
                key,
                Self::SHAPE,
                value,
                Some(format!("write {0} = true or {0} = false", key.name)),
            );
        }
        flag
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

/// A way that is chosen by `true`; `false` says nothing, as the others are chosen by their own keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Yes;

impl Value for Yes {
    const SHAPE: Shape = Shape::Yes;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        match value.get_ref().as_bool() {
            Some(true) => return Some(Self),
            Some(false) => {
                let message = format!("`{}` can only be true", key.name);
                let help = format!("take `{}` out, and write another kind in its place", key.name);
                reader.report(Found::invalid(value.span(), message).help(help));
            }
            None => {
                reader.wrong_type(key, Self::SHAPE, value, Some(format!("write {} = true", key.name)));
            }
        }
        None
    }
}

macro_rules! whole_numbers {
    ($($ty:ty),*) => {$(
        impl Value for $ty {
            const SHAPE: Shape = Shape::Integer;

            fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
                let (min, max) = match key.rule {
                    Rule::Integer(min, max) => (min, max),
                    Rule::Free | Rule::NotEmpty | Rule::Number(..) | Rule::Time(..) | Rule::Size(..) => {
                        (0, <$ty>::MAX.into())
                    }
                };
                let Some(integer) = value.get_ref().as_integer() else {
                    let help = format!("write a number without quotes, from {min} to {max}");
                    reader.wrong_type(key, Self::SHAPE, value, Some(help));
                    return None;
                };
                // More than 128 bits hold is out of every range as well.
                let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
                let fits = number.filter(|number| (i128::from(min)..=i128::from(max)).contains(number));
                let fits = fits.and_then(|number| <$ty>::try_from(number).ok());
                if fits.is_none() {
                    out_of_range(reader, key, value.span(), &min.to_string(), &max.to_string(), integer.as_str());
                }
                fits
            }

            fn shown(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
whole_numbers!(u16, u32, u64);

impl Value for f64 {
    const SHAPE: Shape = Shape::Number;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let toml = value.get_ref();
        let written = match (toml.as_float(), toml.as_integer()) {
            (Some(float), _) => float.as_str(),
            (None, Some(integer)) if integer.radix() == 10 => integer.as_str(),
            (None, _) => {
                reader.wrong_type(key, Self::SHAPE, value, None);
                return None;
            }
        };
        let number: Option<Self> = written.parse().ok();
        let (min, max) = match key.rule {
            Rule::Number(min, max) => (min, max),
            Rule::Free | Rule::NotEmpty | Rule::Integer(..) | Rule::Time(..) | Rule::Size(..) => {
                (Self::MIN, Self::MAX)
            }
        };
        let fits = number.filter(|number| (min..=max).contains(number));
        if fits.is_none() {
            out_of_range(reader, key, value.span(), &min.to_string(), &max.to_string(), written);
        }
        fits
    }

    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Value for Duration {
    const SHAPE: Shape = Shape::Duration;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        if !value.get_ref().is_str() {
            let help =
                positive(value).map(|number| format!("write {} = \"{number}s\" for seconds", key.name));
            reader.wrong_type(key, Self::SHAPE, value, help);
            return None;
        }
        let text = reader.text(key, Self::SHAPE, value)?;
        let time = match parse_duration(&text) {
            Ok(time) => time,
            Err(error) => {
                let help = format!("for example: {} = {}", key.name, key.example);
                reader.report(Found::invalid(value.span(), clipped(&error.to_string())).help(help));
                return None;
            }
        };
        if let Rule::Time(min, max) = key.rule
            && !(min..=max).contains(&time)
        {
            out_of_range(reader, key, value.span(), &time_text(min), &time_text(max), text.trim());
            return None;
        }
        Some(time)
    }

    fn shown(&self) -> String {
        toml_text(&time_text(*self))
    }
}

/// A duration in the largest unit that shows it whole and is not too coarse to read: `90s`, `5m`, `365d`.
pub(crate) fn time_text(time: Duration) -> String {
    if !time.subsec_nanos().is_multiple_of(1_000_000) {
        return format!("{}ms", time.as_secs_f64() * 1000.0);
    }
    let (ms, seconds) = (time.as_millis(), time.as_secs());
    match seconds {
        0 if ms == 0 => "0s".to_owned(),
        _ if ms % 1000 != 0 => format!("{ms}ms"),
        _ if seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
        _ if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        _ if seconds % 60 == 0 && seconds > 60 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// A number of bytes, written with a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ByteSize(pub(crate) u64);

impl Value for ByteSize {
    const SHAPE: Shape = Shape::Size;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        if !value.get_ref().is_str() {
            let help = positive(value)
                .map(|number| format!("write {} = \"{number}B\" for bytes; or with KiB, MiB, GiB", key.name));
            reader.wrong_type(key, Self::SHAPE, value, help);
            return None;
        }
        let text = reader.text(key, Self::SHAPE, value)?;
        let bytes = match parse_size(&text) {
            Ok(bytes) => bytes,
            Err(error) => {
                let help = format!("for example: {} = {}", key.name, key.example);
                reader.report(Found::invalid(value.span(), clipped(&error.to_string())).help(help));
                return None;
            }
        };
        if let Rule::Size(min, max) = key.rule
            && !(min..=max).contains(&bytes)
        {
            out_of_range(reader, key, value.span(), &size_text(min), &size_text(max), text.trim());
            return None;
        }
        Some(Self(bytes))
    }

    fn shown(&self) -> String {
        toml_text(&size_text(self.0))
    }
}

/// A size in the largest binary unit that shows it whole, as the file writes it: `64KiB`.
pub(crate) fn size_text(bytes: u64) -> String {
    let whole = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes >= 1 << shift && bytes.trailing_zeros() >= *shift);
    match whole {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None if bytes < 1 << 10 => format!("{bytes}B"),
        None => format_size(bytes),
    }
}

fn out_of_range(reader: &mut Reader<'_>, key: &Key, span: Range<usize>, min: &str, max: &str, written: &str) {
    let message = format!("`{}` must be from {min} to {max}, not {}", key.name, shown(written));
    reader.report(Found::invalid(span, message));
}

/// An error's text without the megabytes a value may have put into it.
pub(crate) fn clipped(message: &str) -> String {
    const MAX_MESSAGE_CHARS: usize = 200;
    match message.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((at, _)) => format!("{}…", &message[..at]),
        None => message.to_owned(),
    }
}

impl Value for CommandLine {
    const SHAPE: Shape = Shape::Command;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        command::read(reader, key, value)
    }
}

impl Value for PathBuf {
    const SHAPE: Shape = Shape::Path;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let text = reader.text(key, Self::SHAPE, value)?;
        resolve_path(reader, key, value.span(), &text)
    }
}

/// Makes a path absolute: relative to the folder of the file, without `.`; `..` stays, as symbolic links may be in it.
pub(crate) fn resolve_path(
    reader: &mut Reader<'_>,
    key: &Key,
    span: Range<usize>,
    text: &str,
) -> Option<PathBuf> {
    if text.is_empty() {
        let help = "take the key out to use its default, or write \".\" for the folder of the file";
        reader.report(Found::invalid(span, format!("`{}` cannot be an empty path", key.name)).help(help));
        return None;
    }
    if text == "~" || text.starts_with("~/") {
        let message = format!("`~` is not expanded in `{}`: it would be a folder of that name", key.name);
        reader.report(Found::invalid(span, message).help("write ${HOME} in its place"));
        return None;
    }
    Some(reader.dir.join(Path::new(text)).components().collect())
}
