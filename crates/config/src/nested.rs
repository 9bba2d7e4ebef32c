//! Values that hold other values: lists of paths, variables, gates, and the services themselves.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use mainstay_types::ServiceName;
use toml::Spanned;
use toml::de::DeValue;

use crate::declare::{At, Key, Options, Shape};
use crate::diagnostic::Found;
use crate::keys::{NeedOptions, ServiceOptions};
use crate::quote::toml_text;
use crate::read::{Reader, shown};
use crate::value::{Value, resolve_path};

/// A list of paths; one text is a list of one.
#[derive(Clone, Default, Debug)]
pub(crate) struct PathList(pub(crate) Vec<PathBuf>);

impl Value for PathList {
    const SHAPE: Shape = Shape::Texts;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let items = match value.get_ref().as_array() {
            Some(array) => array.iter().collect(),
            None if value.get_ref().is_str() => vec![value],
            None => {
                reader.wrong_type(key, Self::SHAPE, value, None);
                return None;
            }
        };
        let mut paths = Vec::with_capacity(items.len());
        let mut whole = true;
        for item in items {
            if !item.get_ref().is_str() {
                reader.wrong_item(key, item);
                whole = false;
                continue;
            }
            let text = reader.text(key, Shape::Texts, item);
            let path = text.and_then(|text| resolve_path(reader, key, item.span(), &text));
            whole &= path.is_some();
            paths.extend(path);
        }
        whole.then_some(Self(paths))
    }
}

/// Variables for a program.
#[derive(Clone, Default, Debug)]
pub(crate) struct Environment(pub(crate) BTreeMap<String, String>);

impl Value for Environment {
    const SHAPE: Shape = Shape::Environment;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            reader.wrong_type(key, Self::SHAPE, value, None);
            return None;
        };
        let mut env = BTreeMap::new();
        for (name, value) in table {
            if let Some(why) = bad_variable_name(name.get_ref()) {
                let message = format!("\"{}\" is no name of a variable: {why}", shown(name.get_ref()));
                reader.report(Found::invalid(name.span(), message));
            }
            let toml = value.get_ref();
            let text = if toml.is_str() {
                reader.text(key, Shape::Text, value)
            } else if let Some(integer) = toml.as_integer() {
                // Programs read decimal numbers; 0x1F in the file is a way of writing 31.
                i128::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number.to_string())
            } else if let Some(flag) = toml.as_bool() {
                Some(flag.to_string())
            } else {
                let message = format!("the variable `{}` must be a text, a whole number or a boolean", {
                    shown(name.get_ref())
                });
                let help = "write the value in quotes, as the program is to see it";
                reader.report(Found::invalid(value.span(), message).help(help));
                None
            };
            env.extend(text.map(|text| (name.get_ref().clone().into_owned(), text)));
        }
        Some(Self(env))
    }
}

/// Why a text cannot name a variable (environ(7)): empty, or it holds `=` or NUL.
pub(crate) fn bad_variable_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("it is empty"),
        _ if name.contains('=') => Some("it holds `=`"),
        _ if name.contains('\0') => Some("it holds a NUL character"),
        _ => None,
    }
}

/// The gates of a service, in the order of the file.
#[derive(Clone, Default, Debug)]
pub(crate) struct NeedList(pub(crate) Vec<At<NeedOptions>>);

impl Value for NeedList {
    const SHAPE: Shape = Shape::Tables(NeedOptions::table);

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let Some(array) = value.get_ref().as_array() else {
            reader.wrong_type(key, Self::SHAPE, value, None);
            return None;
        };
        let mut needs = Vec::with_capacity(array.len());
        for item in array.iter() {
            if let Some(name) = item.get_ref().as_str() {
                let message = "each gate is a table with its kind, not a text";
                let help =
                    format!("for a service of this stack write {{ service = {} }}", toml_text(&shown(name)));
                reader.report(Found::invalid(item.span(), message).help(help));
            } else if let Some(value) = NeedOptions::read(reader, key, item) {
                needs.push(At { value, span: item.span(), key: item.span() });
            }
        }
        Some(Self(needs))
    }
}

/// One `[service.NAME]` table.
#[derive(Clone, Debug)]
pub(crate) struct NamedService {
    pub(crate) name: ServiceName,
    /// The bytes of the name.
    pub(crate) span: Range<usize>,
    pub(crate) options: ServiceOptions,
    /// False when a kind is written that cannot be read: nothing follows from it then.
    pub(crate) is_kind_known: bool,
}

/// The services, in the order of the file.
#[derive(Clone, Default, Debug)]
pub(crate) struct Services(pub(crate) Vec<NamedService>);

impl Value for Services {
    const SHAPE: Shape = Shape::Services(ServiceOptions::table);

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            let help = "write each service as a table of its own: [service.NAME]".to_owned();
            reader.wrong_type(key, Self::SHAPE, value, Some(help));
            return None;
        };
        let mut services = Vec::with_capacity(table.len());
        for (name, value) in table {
            let parsed = ServiceName::parse(name.get_ref());
            reader.service = Some(shown(name.get_ref()));
            if let Err(error) = &parsed {
                reader.report(Found::invalid(name.span(), error.to_string()));
            }
            let options = if let Some(table) = value.get_ref().as_table() {
                let entries = reader.entries(ServiceOptions::table(), table, &name.span());
                let options = ServiceOptions::from_entries(reader, &entries);
                let is_kind_known = options.kind.is_some() || !entries.has("kind");
                Some((options, is_kind_known))
            } else {
                let message = format!("service `{}` must be a table", shown(name.get_ref()));
                let help = if ServiceOptions::table().key(name.get_ref()).is_some() {
                    format!("`{}` belongs into a service: write [service.NAME] above it", name.get_ref())
                } else {
                    format!("write [service.{}], with single brackets", shown(name.get_ref()))
                };
                reader.report(Found::invalid(name.span(), message).help(help));
                None
            };
            if let (Ok(parsed), Some((options, is_kind_known))) = (parsed, options) {
                services.push(NamedService { name: parsed, span: name.span(), options, is_kind_known });
            }
        }
        reader.service = None;
        // The parser's tables are in the order of their names.
        services.sort_by_key(|service| service.span.start);
        Some(Self(services))
    }
}
