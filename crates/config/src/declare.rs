//! What a declaration of keys is made of, and the `table!` macro that turns one into a struct, its reader and the
//! data from which error messages, JSON Schema and the reference page are made.
//!
//! ```text
//! table! { /// doc  struct StopOptions ... }  ──►  struct StopOptions { signal: Option<At<StopSignal>>, ... }
//!                                             ──►  StopOptions::table(): &'static Table   (names, docs, defaults)
//!                                             ──►  StopOptions::read(...)                 (values with their place)
//!                                             ──►  StopOptions::signal(&self)             (the value or its default)
//! ```

use std::ops::Range;
use std::time::Duration;

use mainstay_types::ServerKind;

/// One table of the file.
pub(crate) struct Table {
    /// Its name in JSON Schema and in anchors.
    pub(crate) name: &'static str,
    /// How it is written in the file.
    pub(crate) header: &'static str,
    /// What it is for.
    pub(crate) doc: &'static str,
    /// Its keys, the supported ones first.
    pub(crate) keys: &'static [Key],
    /// When not empty: exactly one of these keys must be there.
    pub(crate) one_of: &'static [&'static str],
}

impl Table {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// One key of a table.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// What it does, in Markdown.
    pub(crate) doc: &'static str,
    pub(crate) shape: Shape,
    pub(crate) rule: Rule,
    /// What stands in for it, in words or as TOML; `None` when nothing does.
    pub(crate) default: fn() -> Option<String>,
    /// A value as TOML.
    pub(crate) example: &'static str,
    pub(crate) required: bool,
    /// The keys this one qualifies: without one of them it means nothing. Empty: it stands alone.
    pub(crate) only_with: &'static [&'static str],
    /// False for a key whose behaviour comes later: it is known, and refused.
    pub(crate) supported: bool,
}

/// What kind of value a key takes.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    Text,
    Path,
    /// An `http://` or `https://` URL.
    Url,
    /// The URL of a server that is asked in its own protocol.
    Server(ServerKind),
    /// A regular expression.
    Pattern,
    /// `host:port`.
    Address,
    Bool,
    /// `true`, and nothing else.
    Yes,
    Integer,
    Number,
    Duration,
    Size,
    /// One of these words.
    Choice(&'static [Word]),
    /// A list of texts, or one text split into words.
    Command,
    /// A list of texts, or one text.
    Texts,
    /// A list of regular expressions, or one.
    Patterns,
    /// A table of names and values.
    Environment,
    /// A table of names and addresses to listen on.
    Listeners,
    /// A table with keys of its own.
    Table(fn() -> &'static Table),
    /// A command, or a table with keys of its own.
    Hook(fn() -> &'static Table),
    /// A list of such tables.
    Tables(fn() -> &'static Table),
    /// A table of such tables by the name of a service.
    Services(fn() -> &'static Table),
    /// A table of such tables by the name of a target.
    Targets(fn() -> &'static Table),
    /// A table about which nothing is known yet.
    Anything,
}

impl Shape {
    /// As an error names it: "must be ...".
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Text | Self::Choice(_) => "a text",
            Self::Path => "a path",
            Self::Url | Self::Server(_) => "a URL",
            Self::Pattern => "a regular expression",
            Self::Address => "an address",
            Self::Bool => "true or false",
            Self::Yes => "true",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Duration => "a duration",
            Self::Size => "a size",
            Self::Command => "a command: a list of texts, or one text",
            Self::Texts => "a list of texts, or one text",
            Self::Patterns => "a list of regular expressions, or one",
            Self::Hook(_) => "a command: a list of texts, one text, or a table",
            Self::Environment
            | Self::Listeners
            | Self::Table(_)
            | Self::Services(_)
            | Self::Targets(_)
            | Self::Anything => "a table",
            Self::Tables(_) => "a list of tables",
        }
    }
}

/// One accepted word.
pub(crate) struct Word {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) supported: bool,
}

/// A bound on a value, both ends included.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    Free,
    NotEmpty,
    Integer(u64, u64),
    Number(f64, f64),
    Time(Duration, Duration),
    /// In bytes.
    Size(u64, u64),
}

/// A value of the file with its place.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    /// The bytes of the value.
    pub(crate) span: Range<usize>,
    /// The bytes of its key.
    pub(crate) key: Range<usize>,
}

/// What a table is read into: every key optional.
pub(crate) trait Options: Default + Clone {
    fn table() -> &'static Table;
}

/// Declares one table. Keys are fields; `later` holds the keys that are known and refused.
macro_rules! table {
    (
        $(#[doc = $doc:literal])*
        struct $name:ident, $id:literal, $header:literal $(, one_of: $one_of:expr)?;
        keys {
            $(
                $(#[doc = $key_doc:literal])*
                $field:ident: $ty:ty {
                    $(required: $required:literal,)?
                    $(rule: $rule:expr,)?
                    $(only_with: $only_with:expr,)?
                    $(default: $default:expr,)?
                    $(otherwise: $otherwise:literal,)?
                    example: $example:literal
                }
            )*
        }
        $(later {
            $(
                $(#[doc = $later_doc:literal])*
                $later:ident: $later_shape:expr, $later_example:literal;
            )*
        })?
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Default, Debug)]
        pub(crate) struct $name {
            $($(#[doc = $key_doc])* pub(crate) $field: Option<$crate::declare::At<$ty>>,)*
        }

        impl $crate::declare::Options for $name {
            fn table() -> &'static $crate::declare::Table {
                use $crate::declare::{Key, Rule, Table};
                static KEYS: &[Key] = &[
                    $(Key {
                        name: stringify!($field),
                        doc: concat!($($key_doc, "\n"),*),
                        shape: <$ty as $crate::value::Value>::SHAPE,
                        rule: { let rule = Rule::Free; $(let _ = rule; let rule = $rule;)? rule },
                        default: || {
                            let shown: Option<String> = None;
                            $(let _ = shown; let value: $ty = $default; let shown = Some($crate::value::Value::shown(&value));)?
                            $(let _ = shown; let shown = Some($otherwise.to_owned());)?
                            shown
                        },
                        example: $example,
                        required: { let required = false; $(let _ = required; let required = $required;)? required },
                        only_with: { let with: &[&str] = &[]; $(let _ = with; let with: &[&str] = &$only_with;)? with },
                        supported: true,
                    },)*
                    $($(Key {
                        name: stringify!($later),
                        doc: concat!($($later_doc, "\n"),*),
                        shape: $later_shape,
                        rule: Rule::Free,
                        default: || None,
                        example: $later_example,
                        required: false,
                        only_with: &[],
                        supported: false,
                    },)*)?
                ];
                static TABLE: Table = Table {
                    name: $id,
                    header: $header,
                    doc: concat!($($doc, "\n"),*),
                    keys: KEYS,
                    one_of: { let keys: &[&str] = &[]; $(let _ = keys; let keys: &[&str] = &$one_of;)? keys },
                };
                &TABLE
            }
        }

        impl $crate::value::Value for $name {
            const SHAPE: $crate::declare::Shape = $crate::declare::Shape::Table(<$name as $crate::declare::Options>::table);

            fn read(
                reader: &mut $crate::read::Reader<'_>,
                key: &$crate::declare::Key,
                value: &toml::Spanned<toml::de::DeValue<'_>>,
            ) -> Option<Self> {
                let entries = reader.table::<Self>(key, value)?;
                Some(Self::from_entries(reader, &entries))
            }
        }

        impl $name {
            /// Reads each key that is there.
            pub(crate) fn from_entries(
                reader: &mut $crate::read::Reader<'_>,
                entries: &$crate::read::Entries<'_, '_>,
            ) -> Self {
                Self { $($field: entries.value(reader, stringify!($field)),)* }
            }

            $($(
                /// The value written, or its default.
                pub(crate) fn $field(&self) -> $ty {
                    self.$field.as_ref().map_or_else(|| $default, |at| at.value.clone())
                }
            )?)*
        }
    };
}

/// Declares the words of a choice.
macro_rules! choice {
    ($ty:ty { $($word:literal => $value:expr, $doc:literal;)* } later { $($later:literal, $later_doc:literal;)* }) => {
        impl $crate::value::Choice for $ty {
            const WORDS: &'static [$crate::declare::Word] = &[
                $($crate::declare::Word { name: $word, doc: $doc, supported: true },)*
                $($crate::declare::Word { name: $later, doc: $later_doc, supported: false },)*
            ];

            fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some($value),)*
                    _ => None,
                }
            }

            fn word(&self) -> &'static str {
                $(if *self == $value { return $word; })*
                ""
            }
        }
    };
}

pub(crate) use {choice, table};
