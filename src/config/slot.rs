//! Where the value of a setting goes: a row of the table names a field, and one function fills it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::api_options::{ApiOptions, ManagedIdentity};
use super::fields::{Limits, Sidecar};
use crate::value::bound_key::BoundKey;
use crate::value::url::Url;

/// What a text means once it is found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A switch.
    Flag(bool),
    /// A count, or bytes.
    Number(u64),
    /// A duration.
    Duration(Duration),
    /// One of a row's choices: its place and its spelling.
    Choice(usize, &'static str),
    /// A URL.
    Url(Url),
    /// A public key.
    Key(BoundKey),
    /// Several texts.
    List(Vec<String>),
    /// All else, in its normal form.
    Text(String),
}

/// Whose field a setting fills.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    /// Nobody's: it is read by its name, together with others, or it has no effect.
    Named,
    /// An option's of an API.
    Api(fn(&mut ApiOptions) -> Slot<'_>),
    /// Of `Sidecar`.
    Sidecar(fn(&mut Sidecar) -> Slot<'_>),
    /// Of `Sidecar:Limits`.
    Limits(fn(&mut Limits) -> Slot<'_>),
}

impl Field {
    /// Fills the field of an API's options that this is. `parameter` stands in the place of the row's last `*`.
    pub fn fill_option(self, options: &mut ApiOptions, parameter: &str, value: Value) -> bool {
        if let Self::Api(field) = self { field(options).fill(parameter, value) } else { false }
    }
}

/// A field by its type.
#[derive(Debug, PartialEq)]
pub enum Slot<'a> {
    /// A switch, or a choice of two whose second one is `true`.
    Flag(&'a mut bool),
    /// A switch that may be left unsaid.
    Given(&'a mut Option<bool>),
    Number(&'a mut usize),
    Duration(&'a mut Duration),
    File(&'a mut Option<PathBuf>),
    Files(&'a mut Vec<PathBuf>),
    List(&'a mut Vec<String>),
    Text(&'a mut Option<String>),
    Url(&'a mut Option<Url>),
    Urls(&'a mut Vec<Url>),
    Key(&'a mut Option<BoundKey>),
    Identity(&'a mut Option<ManagedIdentity>),
    /// By the key's last segment.
    Map(&'a mut BTreeMap<String, String>),
    /// The same; names are those of header fields, whose case means nothing.
    Headers(&'a mut BTreeMap<String, String>),
}

impl Slot<'_> {
    /// Takes the value of a key whose last segment is `name`, and says whether it is of the field's type: a row whose kind does not fit its field is a
    /// mistake in the table, which a test finds.
    pub fn fill(self, name: &str, value: Value) -> bool {
        match (self, value) {
            (Slot::Flag(field), Value::Flag(flag)) => *field = flag,
            (Slot::Flag(field), Value::Choice(at, _)) => *field = at == 1,
            // A number beyond the machine's own is as good as its greatest.
            (Slot::Number(field), Value::Number(number)) => *field = usize::try_from(number).unwrap_or(usize::MAX),
            (Slot::Duration(field), Value::Duration(duration)) => *field = duration,
            (Slot::File(field), Value::Text(path)) => *field = Some(path.into()),
            (Slot::Files(field), Value::Text(path)) => field.push(path.into()),
            (Slot::List(field), Value::Text(item)) => field.push(item),
            (Slot::List(field), Value::Choice(_, item)) => field.push(item.to_owned()),
            (Slot::List(field), Value::List(items)) => field.extend(items),
            (Slot::Given(field), Value::Flag(flag)) => *field = Some(flag),
            (Slot::Text(field), Value::Text(text)) => *field = Some(text),
            (Slot::Url(field), Value::Url(url)) => *field = Some(url),
            (Slot::Urls(field), Value::Url(url)) => field.push(url),
            (Slot::Key(field), Value::Key(key)) => *field = Some(key),
            (Slot::Identity(field), Value::Text(id)) => *field = Some(ManagedIdentity { client_id: Some(id) }),
            (Slot::Map(field), Value::Text(text)) => drop(field.insert(name.to_owned(), text)),
            (Slot::Headers(field), Value::Text(text)) => drop(field.insert(name.to_ascii_lowercase(), text)),
            _ => return false,
        }
        true
    }
}
