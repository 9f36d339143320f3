//! Assigns values to fields: each row names a field, and [`Slot::fill`] fills it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::api_options::{ApiOptions, ManagedIdentity};
use super::fields::{Limits, Sidecar};
use crate::value::bound_key::BoundKey;
use crate::value::store_url::StoreUrl;
use crate::value::url::Url;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Flag(bool),
    /// A count, or bytes.
    Number(u64),
    Duration(Duration),
    /// One of a row's choices: its index and its spelling.
    Choice(usize, &'static str),
    Url(Url),
    Store(StoreUrl),
    Key(BoundKey),
    List(Vec<String>),
    /// Anything else, normalised.
    Text(String),
}

#[derive(Clone, Copy, Debug)]
pub enum Field {
    /// None: the setting is read by name, or has no effect.
    Named,
    Api(fn(&mut ApiOptions) -> Slot<'_>),
    Sidecar(fn(&mut Sidecar) -> Slot<'_>),
    Limits(fn(&mut Limits) -> Slot<'_>),
}

impl Field {
    /// Fills a field of an API's options. `parameter` replaces the last `*` of the row's pattern.
    pub fn fill_option(self, options: &mut ApiOptions, parameter: &str, value: Value) -> bool {
        if let Self::Api(field) = self { field(options).fill(parameter, value) } else { false }
    }
}

/// A reference to a field, by its type.
#[derive(Debug, PartialEq)]
pub enum Slot<'a> {
    /// A boolean, or a choice of two in which the second means `true`.
    Flag(&'a mut bool),
    Given(&'a mut Option<bool>),
    Number(&'a mut usize),
    Duration(&'a mut Duration),
    File(&'a mut Option<PathBuf>),
    Files(&'a mut Vec<PathBuf>),
    List(&'a mut Vec<String>),
    Text(&'a mut Option<String>),
    Url(&'a mut Option<Url>),
    Urls(&'a mut Vec<Url>),
    Store(&'a mut Option<StoreUrl>),
    Key(&'a mut Option<BoundKey>),
    Identity(&'a mut Option<ManagedIdentity>),
    /// The key is the last segment.
    Map(&'a mut BTreeMap<String, String>),
    /// The same, in lower case, because the case of header names has no meaning.
    Headers(&'a mut BTreeMap<String, String>),
}

impl Slot<'_> {
    /// Assigns the value of a key whose last segment is `name`. False if the row's kind does not
    /// fit the field's type: a mistake in the table, which tests find.
    pub fn fill(self, name: &str, value: Value) -> bool {
        match (self, value) {
            (Slot::Flag(field), Value::Flag(flag)) => *field = flag,
            (Slot::Flag(field), Value::Choice(at, _)) => *field = at == 1,
            // A limit beyond the machine's range is no limit.
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
            (Slot::Store(field), Value::Store(url)) => *field = Some(url),
            (Slot::Key(field), Value::Key(key)) => *field = Some(key),
            (Slot::Identity(field), Value::Text(id)) => *field = Some(ManagedIdentity { client_id: Some(id) }),
            (Slot::Map(field), Value::Text(text)) => drop(field.insert(name.to_owned(), text)),
            (Slot::Headers(field), Value::Text(text)) => drop(field.insert(name.to_ascii_lowercase(), text)),
            _ => return false,
        }
        true
    }
}
