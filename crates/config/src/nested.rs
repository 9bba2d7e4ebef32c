//! Values that hold other values: lists of paths, variables, gates, and the services themselves.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use mainstay_types::{CommandLine, ListenAddress, ServiceName};
use toml::Spanned;
use toml::de::DeValue;

use crate::declare::{At, Key, Options, Shape};
use crate::diagnostic::Found;
use crate::keys::{HookOptions, NeedOptions, ServiceOptions, StepOptions};
use crate::quote::toml_text;
use crate::read::{Reader, shown};
use crate::stack::{Hook, Listen};
use crate::value::{Value, clipped, resolve_path};

/// Sockets of one service: more than any program takes, and few enough to be handed over in one message
/// (`SCM_MAX_FD` of Linux is 253).
pub(crate) const MAX_LISTENERS: usize = 32;
/// Longest name in `LISTEN_FDNAMES` (sd_listen_fds(3)).
const MAX_LISTENER_NAME: usize = 255;
/// Longest path of a Unix socket in bytes: 108 with the closing NUL (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;
/// Steps of one stop: more than anybody has ways to ask.
const MAX_STEPS: usize = 16;

/// A list of paths; one text is a list of one.
#[derive(Clone, Default, Debug)]
pub(crate) struct PathList(pub(crate) Vec<PathBuf>);

impl Value for PathList {
    const SHAPE: Shape = Shape::Texts;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let paths = reader.list_of_texts(key, Self::SHAPE, value, |reader, item| {
            let text = reader.text(key, Shape::Texts, item)?;
            resolve_path(reader, key, item.span(), &text)
        })?;
        Some(Self(paths))
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

/// The steps of a stop, in the order of the file; 1 to 16.
#[derive(Clone, Default, Debug)]
pub(crate) struct StepList(pub(crate) Vec<At<StepOptions>>);

impl Value for StepList {
    const SHAPE: Shape = Shape::Tables(StepOptions::table);

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let Some(array) = value.get_ref().as_array() else {
            reader.wrong_type(key, Self::SHAPE, value, None);
            return None;
        };
        if !(1..=MAX_STEPS).contains(&array.len()) {
            let message = format!("`{}` must hold 1 to {MAX_STEPS} steps, not {}", key.name, array.len());
            reader.report(Found::invalid(value.span(), message));
            return None;
        }
        let mut steps = Vec::with_capacity(array.len());
        for item in array.iter() {
            if item.get_ref().is_table() {
                let step = StepOptions::read(reader, key, item)?;
                steps.push(At { value: step, span: item.span(), key: item.span() });
            } else {
                let help = "write { signal = \"SIGINT\", wait = \"5s\" } or { command = [\"./drain\"], wait = \"5s\" }";
                reader.report(Found::invalid(item.span(), "each step is a table").help(help));
            }
        }
        (steps.len() == array.len()).then_some(Self(steps))
    }
}

/// A command around a service's life: a command alone, or a table with it and its time.
#[derive(Clone, Debug)]
pub(crate) struct HookCommand(pub(crate) Hook);

impl Value for HookCommand {
    const SHAPE: Shape = Shape::Hook(HookOptions::table);

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let options = match value.get_ref() {
            DeValue::Table(_) => HookOptions::read(reader, key, value)?,
            DeValue::String(_) | DeValue::Array(_) => {
                let command = CommandLine::read(reader, key, value)?;
                let command = At { value: command, span: value.span(), key: value.span() };
                HookOptions { command: Some(command), timeout: None }
            }
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
                reader.wrong_type(key, Self::SHAPE, value, None);
                return None;
            }
        };
        let timeout = options.timeout();
        Some(Self(Hook { command: options.command?.value, timeout }))
    }
}

/// The sockets of a service, in the order of the file.
#[derive(Clone, Default, Debug)]
pub(crate) struct Listeners(pub(crate) Vec<At<Listen>>);

impl Value for Listeners {
    const SHAPE: Shape = Shape::Listeners;

    fn read(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            reader.wrong_type(key, Self::SHAPE, value, None);
            return None;
        };
        if table.len() > MAX_LISTENERS {
            let message =
                format!("`{}` must hold at most {MAX_LISTENERS} sockets, not {}", key.name, table.len());
            reader.report(Found::invalid(value.span(), message));
            return None;
        }
        let mut sockets = Vec::with_capacity(table.len());
        for (name, value) in table {
            if let Some(why) = bad_listener_name(name.get_ref()) {
                let message = format!("\"{}\" is no name of a socket: {why}", shown(name.get_ref()));
                let help = "it is passed in LISTEN_FDNAMES, where `:` stands between two names";
                reader.report(Found::invalid(name.span(), message).help(help));
            }
            let address = listen_address(reader, key, value);
            let listen = address.map(|address| Listen { name: name.get_ref().clone().into_owned(), address });
            sockets.extend(listen.map(|listen| At { value: listen, span: value.span(), key: name.span() }));
        }
        // The parser's tables are in the order of their names.
        sockets.sort_by_key(|socket| socket.key.start);
        Some(Self(sockets))
    }
}

/// Why a text cannot name a socket (sd_listen_fds(3)).
fn bad_listener_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("it is empty"),
        _ if name.len() > MAX_LISTENER_NAME => Some("it is longer than 255 characters"),
        _ if name.contains(':') => Some("it holds `:`"),
        _ if !name.chars().all(|c| c == ' ' || c.is_ascii_graphic()) => {
            Some("it holds something else than printable ASCII characters")
        }
        _ => None,
    }
}

fn listen_address(reader: &mut Reader<'_>, key: &Key, value: &Spanned<DeValue<'_>>) -> Option<ListenAddress> {
    let text = reader.text(key, Shape::Text, value)?;
    let address = match ListenAddress::parse(&text) {
        Ok(address) => address,
        Err(error) => {
            let mut found = Found::invalid(value.span(), clipped(&error.to_string()));
            if let Some(help) = address_help(&text) {
                found = found.help(help);
            }
            reader.report(found);
            return None;
        }
    };
    let (path, made): (PathBuf, fn(PathBuf) -> ListenAddress) = match address {
        ListenAddress::Unix(path) => (path, ListenAddress::Unix),
        ListenAddress::UnixDatagram(path) => (path, ListenAddress::UnixDatagram),
        ListenAddress::Tcp(_) | ListenAddress::Udp(_) => return Some(address),
    };
    let path = resolve_path(reader, key, value.span(), &path.to_string_lossy())?;
    let bytes = path.as_os_str().len();
    if bytes > MAX_SOCKET_PATH_BYTES {
        let message = format!(
            "the path of a socket has at most {MAX_SOCKET_PATH_BYTES} bytes, this one has {bytes} from the root on"
        );
        let help = "use a shorter one, in /run for example";
        reader.report(Found::invalid(value.span(), message).help(help));
        return None;
    }
    Some(made(path))
}

/// What was probably meant by a text that is no address.
fn address_help(text: &str) -> Option<String> {
    let bare = text.strip_prefix("tcp:").or_else(|| text.strip_prefix("udp:")).unwrap_or(text);
    let (host, port) = bare.rsplit_once(':').unwrap_or(("", bare));
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    Some(match host {
        "" | "*" => format!("for every address write 0.0.0.0:{port}, or [::]:{port} with IPv6"),
        "localhost" => format!("a name can have several addresses: write 127.0.0.1:{port} or [::1]:{port}"),
        _ if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("write [{host}]:{port}"),
        _ => format!("write an IP address in place of a name: 0.0.0.0:{port} for all of this machine's"),
    })
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
