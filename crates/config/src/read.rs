//! Reads tables by their declaration: known and unknown keys, keys that exclude each other, texts with variables.
//! Every error is collected and reading goes on, so that one pass finds them all.

use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::declare::{At, Key, Options, Shape, Table};
use crate::diagnostic::{Collector, ConfigCause, Found};
use crate::expand::{Piece, PieceKind, pieces};
use crate::keys::{GATE_KINDS, NeedOptions, PROBE_KINDS, ServiceOptions};
use crate::nearest::nearest;
use crate::value::Value;

/// What reading needs and gathers.
pub(crate) struct Reader<'a> {
    text: &'a str,
    env: &'a dyn Fn(&str) -> Option<String>,
    /// The folder of the file, absolute.
    pub(crate) dir: PathBuf,
    /// The service that is being read.
    pub(crate) service: Option<String>,
    pub(crate) collector: Collector,
}

/// The supported keys found in one table.
pub(crate) struct Entries<'t, 'i> {
    table: &'static Table,
    found: Vec<(&'static Key, Range<usize>, &'t Spanned<DeValue<'i>>)>,
}

impl Entries<'_, '_> {
    /// Whether a key is there, right or wrong.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.found.iter().any(|(key, ..)| key.name == name)
    }
    /// The value of a key, when it is there and right.
    pub(crate) fn value<T: Value>(&self, reader: &mut Reader<'_>, name: &str) -> Option<At<T>> {
        debug_assert!(self.table.key(name).is_some(), "{name} is not declared");
        let (key, key_span, value) = self.found.iter().find(|(key, ..)| key.name == name)?;
        let read = T::read(reader, key, value)?;
        Some(At { value: read, span: value.span(), key: key_span.clone() })
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str, env: &'a dyn Fn(&str) -> Option<String>, dir: PathBuf) -> Self {
        Self { text, env, dir, service: None, collector: Collector::default() }
    }

    pub(crate) fn report(&mut self, found: Found) {
        self.collector.push(found.service(self.service.as_deref()));
    }

    /// Reports that a value is of the wrong kind.
    pub(crate) fn wrong_type(
        &mut self,
        key: &Key,
        shape: Shape,
        value: &Spanned<DeValue<'_>>,
        help: Option<String>,
    ) {
        let message = format!("`{}` must be {}, not {}", key.name, shape.words(), type_words(value));
        let mut found = Found::invalid(value.span(), message);
        found = found.help(help.unwrap_or_else(|| format!("for example: {} = {}", key.name, key.example)));
        self.report(found);
    }

    /// The entries of a list of texts, each through `entry`; one text is a list of one. `None` when one is wrong, after all of
    /// them were looked at.
    pub(crate) fn list_of_texts<T>(
        &mut self,
        key: &Key,
        shape: Shape,
        value: &Spanned<DeValue<'_>>,
        mut entry: impl FnMut(&mut Self, &Spanned<DeValue<'_>>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = match value.get_ref().as_array() {
            Some(array) => array.iter().collect(),
            None if value.get_ref().is_str() => vec![value],
            None => {
                self.wrong_type(key, shape, value, None);
                return None;
            }
        };
        let mut entries = Vec::with_capacity(items.len());
        let mut whole = true;
        for item in items {
            let read = if item.get_ref().is_str() {
                entry(self, item)
            } else {
                self.wrong_item(key, item);
                None
            };
            whole &= read.is_some();
            entries.extend(read);
        }
        whole.then_some(entries)
    }

    /// Reports that an entry of a list is no text.
    pub(crate) fn wrong_item(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) {
        let message = format!("each entry of `{}` must be a text, not {}", key.name, type_words(value));
        let help = scalar(value).map_or_else(
            || format!("for example: {} = {}", key.name, key.example),
            |scalar| format!("write it in quotes: \"{scalar}\""),
        );
        self.report(Found::invalid(value.span(), message).help(help));
    }

    /// The keys of the table that a key holds.
    pub(crate) fn table<'t, 'i, T: Options>(
        &mut self,
        key: &Key,
        value: &'t Spanned<DeValue<'i>>,
    ) -> Option<Entries<'t, 'i>> {
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(key, Shape::Table(T::table), value, None);
            return None;
        };
        Some(self.entries(T::table(), table, &value.span()))
    }

    /// Sorts the keys of a table into supported ones and errors; `place` is where a missing key is reported.
    pub(crate) fn entries<'t, 'i>(
        &mut self,
        declared: &'static Table,
        table: &'t DeTable<'i>,
        place: &Range<usize>,
    ) -> Entries<'t, 'i> {
        let mut found = Vec::new();
        // Names the user has meant, rightly spelt or not, supported or not: about these nothing is missing.
        let mut meant: Vec<&'static str> = Vec::new();
        for (name, value) in table {
            match declared.key(name.get_ref()) {
                Some(key) if key.supported => {
                    meant.push(key.name);
                    found.push((key, name.span(), value));
                }
                Some(key) => {
                    meant.push(key.name);
                    let place = match declared.name {
                        // These say by themselves where a key belongs.
                        "stack" | "service" | "need" | "probe" => String::new(),
                        _ => format!(" ({})", self.header(declared)),
                    };
                    self.report(not_supported_yet(name.span(), key.name, &place));
                }
                None => meant.extend(self.unknown_key(declared, name, value)),
            }
        }
        self.check_one_of(declared, &found, &meant, place);
        for key in declared.keys.iter().filter(|key| key.required && !meant.contains(&key.name)) {
            let message = format!("`{}` is missing", key.name);
            let help = format!("for example: {} = {}", key.name, key.example);
            self.report(Found::invalid(place.clone(), message).help(help).absence());
        }
        for (key, span, _) in &found {
            if !key.only_with.is_empty() && !key.only_with.iter().any(|with| meant.contains(with)) {
                let which = if key.only_with.len() == 1 { "which is not" } else { "none of which is" };
                let message =
                    format!("`{}` goes with {}, {which} here", key.name, one_of_words(key.only_with));
                self.report(Found::invalid(span.clone(), message).absence());
            }
        }
        Entries { table: declared, found }
    }

    /// Reports a key that is not declared; returns the one it was probably meant to be.
    /// The table's name, with that of the service it is in.
    fn header(&self, declared: &Table) -> String {
        match self.service.as_deref() {
            Some(service) => declared.header.replace("NAME", service),
            None => declared.header.to_owned(),
        }
    }

    fn unknown_key(
        &mut self,
        declared: &'static Table,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<&'static str> {
        if self.collector.is_full() {
            self.report(Found::new(ConfigCause::UnknownKey, name.span(), ""));
            return None;
        }
        let typed = name.get_ref().as_ref();
        let near = nearest(typed, declared.keys.iter().map(|key| key.name));
        // A kind written where it has no meaning: it says what was meant to be checked, so nothing else is missing.
        let kind = misplaced_kind(declared, typed);
        let kind_name = kind.as_ref().map(|(name, _)| *name);
        let help = if let Some((_, help)) = kind {
            help
        } else if let Some(near) = near {
            format!("did you mean `{near}`?")
        } else if declared.name == "service" && value.get_ref().is_table() {
            let service = self.service.as_deref().unwrap_or("web");
            let typed = shown(typed);
            format!(
                "a name holds no dot: for a service `{service}.{typed}` write [service.{service}-{typed}]"
            )
        } else if declared.name == "stack" && is_key_of_a_service(typed) {
            format!("`{typed}` belongs into a service: write it under [service.NAME]")
        } else {
            let known: Vec<_> =
                declared.keys.iter().filter(|key| key.supported).map(|key| key.name).collect();
            format!("known here: {}", known.join(", "))
        };
        let message = format!("unknown key `{}` ({})", shown(typed), self.header(declared));
        self.report(Found::new(ConfigCause::UnknownKey, name.span(), message).help(help));
        kind_name.or(near)
    }

    fn check_one_of(
        &mut self,
        declared: &'static Table,
        found: &[(&'static Key, Range<usize>, &Spanned<DeValue<'_>>)],
        meant: &[&'static str],
        place: &Range<usize>,
    ) {
        let kinds = declared.one_of;
        if kinds.is_empty() {
            return;
        }
        let supported = |name: &&&str| declared.key(name).is_some_and(|key| key.supported);
        let names: Vec<_> = kinds.iter().filter(supported).map(|name| format!("`{name}`")).collect();
        let accepted = format!("write exactly one of {}", names.join(", "));
        let mut written: Vec<_> = found.iter().filter(|(key, ..)| kinds.contains(&key.name)).collect();
        written.sort_by_key(|(_, span, _)| span.start);
        if let [(first, ..), .., (last, span, _)] = written.as_slice() {
            let message = format!("`{}` and `{}` exclude each other", first.name, last.name);
            self.report(Found::invalid(span.clone(), message).help(accepted));
        } else if !kinds.iter().any(|kind| meant.contains(kind)) {
            let what = if matches!(declared.name, "need" | "probe") { "check" } else { "do" };
            let message =
                format!("this {} does not say what to {what}", declared.name.replace("need", "gate"));
            self.report(Found::invalid(place.clone(), message).help(accepted).absence());
        }
    }

    /// The text of a value, with its variables replaced.
    pub(crate) fn text(&mut self, key: &Key, shape: Shape, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let DeValue::String(text) = value.get_ref() else {
            let help = scalar(value).map(|scalar| format!("write it in quotes: \"{scalar}\""));
            self.wrong_type(key, shape, value, help);
            return None;
        };
        let pieces = pieces(text);
        let values = self.expand(&pieces, value)?;
        let expanded = values.concat();
        if expanded.contains('\0') {
            let message = format!("`{}` holds a NUL character, which no program can be given", key.name);
            self.report(Found::invalid(value.span(), message));
            return None;
        }
        Some(expanded)
    }

    /// The text of each piece. Reports every variable that is not set, each at its own place.
    pub(crate) fn expand(
        &mut self,
        pieces: &[Piece<'_>],
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Vec<String>> {
        let mut values = Vec::with_capacity(pieces.len());
        let mut variables = 0;
        // Needed for errors only, and then for all of them at once.
        let mut spans: Option<Vec<Range<usize>>> = None;
        let mut span_of = |reader: &Self, index: usize| {
            let spans = spans.get_or_insert_with(|| reader.variable_spans(value, pieces));
            spans.get(index).cloned().unwrap_or_else(|| value.span())
        };
        for piece in pieces {
            match &piece.kind {
                PieceKind::Literal(text) => values.push((*text).to_owned()),
                PieceKind::Variable { name, default } => {
                    let set = (self.env)(name);
                    let chosen = match default {
                        Some(default) => {
                            set.filter(|set| !set.is_empty()).or_else(|| Some((*default).to_owned()))
                        }
                        None => set,
                    };
                    if let Some(chosen) = chosen {
                        values.push(chosen);
                    } else {
                        let span = span_of(self, variables);
                        let message = format!("the variable `{}` is not set", shown(name));
                        let help = format!(
                            "set it in the environment of mainstay, or give a default: ${{{}:-default}}",
                            shown(name)
                        );
                        self.report(Found::new(ConfigCause::MissingVariable, span, message).help(help));
                    }
                    variables += 1;
                }
                PieceKind::Bad(why) => {
                    let span = span_of(self, variables);
                    let help = "write ${NAME} or ${NAME:-default}; $${ is a literal ${";
                    self.report(Found::invalid(span, *why).help(help));
                    variables += 1;
                }
            }
        }
        (values.len() == pieces.len()).then_some(values)
    }

    /// Where in the file the variables of a value stand, in their order; empty when escapes hide them.
    fn variable_spans(&self, value: &Spanned<DeValue<'_>>, read: &[Piece<'_>]) -> Vec<Range<usize>> {
        let span = value.span();
        let raw = self.text.get(span.clone()).map(pieces).unwrap_or_default();
        let is_variable = |piece: &&Piece<'_>| !matches!(piece.kind, PieceKind::Literal(_));
        if raw.iter().filter(is_variable).count() != read.iter().filter(is_variable).count() {
            return Vec::new();
        }
        let in_file = |range: &Range<usize>| span.start + range.start..(span.start + range.end).min(span.end);
        raw.iter().filter(is_variable).map(|piece| in_file(&piece.range)).collect()
    }
}

/// For a key or a value that is declared and has no behaviour yet; `place` follows the sentence as it is.
pub(crate) fn not_supported_yet(span: Range<usize>, what: &str, place: &str) -> Found {
    Found::invalid(span, format!("`{what}` is not supported yet{place}"))
        .help("it is part of the file's format and comes with a later version; take it out until then")
}

fn type_words(value: &Spanned<DeValue<'_>>) -> &'static str {
    match value.get_ref().type_str() {
        "integer" => "a whole number",
        "float" => "a number",
        "string" => "a text",
        "boolean" => "true or false",
        "array" => "a list",
        "datetime" => "a date",
        _ => "a table",
    }
}

/// A number as it would stand before a unit; none for one that no unit makes right.
pub(crate) fn positive(value: &Spanned<DeValue<'_>>) -> Option<String> {
    let number = scalar(value)?;
    number.parse::<f64>().is_ok_and(|number| number > 0.0 && number.is_finite()).then_some(number)
}

/// A number or boolean as it would stand in quotes.
pub(crate) fn scalar(value: &Spanned<DeValue<'_>>) -> Option<String> {
    let value = value.get_ref();
    if let Some(integer) = value.as_integer() {
        return Some(integer.to_string());
    }
    if let Some(float) = value.as_float() {
        return Some(float.as_str().to_owned());
    }
    value.as_bool().map(|flag| flag.to_string())
}

/// Names as a choice: `` `a`, `b` or `c` ``.
pub(crate) fn one_of_words(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        names => names.concat(),
    }
}

/// A user's text inside a message: printable and short.
pub(crate) fn shown(text: &str) -> String {
    const MAX_SHOWN: usize = 60;
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// A kind of gates in a probe, or of probes in a gate: with some kind of that table, and the way out.
fn misplaced_kind(declared: &Table, typed: &str) -> Option<(&'static str, String)> {
    let help = match declared.name {
        "probe" if GATE_KINDS.contains(&typed) => {
            let gate = NeedOptions::table().key(typed)?;
            format!(
                "`{typed}` is a gate: write needs = [{{ {typed} = {} }}] to wait for it; a probe checks the service \
                 itself, by {}",
                gate.example,
                one_of_words(declared.one_of)
            )
        }
        "need" if PROBE_KINDS.contains(&typed) => format!(
            "`{typed}` is what the service itself says: write it under [service.NAME.readiness], and wait for it with \
             {{ service = \"NAME\" }}"
        ),
        _ => return None,
    };
    Some((declared.one_of.first()?, help))
}

fn is_key_of_a_service(name: &str) -> bool {
    ServiceOptions::table().key(name).is_some()
}
