//! A row of the table of settings. The rows are in [`super::table`].

use std::ops::RangeInclusive;

use super::api_options::ApiOptions;
use super::fields::{Limits, Sidecar};
use super::slot::{Field, Slot, Value};
use crate::value::bound_key::BoundKey;
use crate::value::header;
use crate::value::network::Network;
use crate::value::store_url::StoreUrl;
use crate::value::url::Url;
use crate::value::{Expected, ensure, guid, quantity, resource, syntax};

#[derive(Debug)]
pub struct Row {
    /// The path. `*` stands for any one segment: an index or a name.
    pub pattern: &'static str,
    pub kind: Kind,
    /// As an operator would write it.
    pub default: Option<&'static str>,
    /// True if the value must never be shown.
    pub secret: bool,
    /// The separators of a list that is written as one text. `None`: not a list.
    pub list: Option<Split>,
    pub(super) field: Field,
    /// The pattern of the key that this one is an alias of.
    pub(super) alias: Option<&'static str>,
    pub(super) place: Place,
    /// True if a change takes effect at the next start only.
    pub restart: bool,
    /// One line for the documentation.
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Settings,
    Query,
    /// In both. Not in the header of options, because a request with that header sets it itself.
    SettingsAndQuery,
    /// In both, and in the header of options.
    Everywhere,
}

/// Reads a value: the key's last segment and the text go in. The error completes "expected …".
type Rule = fn(&str, &str) -> Result<Value, String>;

/// The type of a value: its name in the documentation, and its rule.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $name:literal, $rule:expr;)*) => {
        #[derive(Debug)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
            Count(RangeInclusive<u64>),
            /// In bytes.
            Size(RangeInclusive<u64>),
            /// In milliseconds.
            Duration(RangeInclusive<u64>),
            /// One of the offered words, in any case. The others are known, but nothing to choose.
            Choice(&'static [&'static str], &'static [&'static str]),
        }

        impl Kind {
            /// Parses a value. `name` is the key's last segment.
            pub(super) fn parse(&self, name: &str, text: &str) -> Result<Value, String> {
                let rule: Rule = match self {
                    $(Self::$kind => $rule,)*
                    Self::Count(range) => return Ok(Value::Number(quantity::count(text, range)?)),
                    Self::Size(range) => return Ok(Value::Number(quantity::size(text, range)?)),
                    Self::Duration(range) => return Ok(Value::Duration(quantity::duration(text, range)?)),
                    Self::Choice(offered, others) => {
                        let mut all = offered.iter().chain(*others).enumerate();
                        let found = all.find(|(_, choice)| choice.eq_ignore_ascii_case(text));
                        let found = found.map(|(at, choice)| Value::Choice(at, choice));
                        return found.ok_or_else(|| format!("one of {}", offered.join(", ")));
                    }
                };
                rule(name, text)
            }

            pub fn describe(&self) -> String {
                let seconds = |milliseconds: &u64| std::time::Duration::from_millis(*milliseconds).as_secs_f64();
                match self {
                    $(Self::$kind => $name.to_owned(),)*
                    Self::Count(range) => format!("number, {} to {}", range.start(), range.end()),
                    Self::Size(range) => format!("size, {} to {} bytes", range.start(), range.end()),
                    Self::Duration(range) => {
                        format!("duration, {} to {} s", seconds(range.start()), seconds(range.end()))
                    }
                    Self::Choice(offered, _) => format!("`{}`", offered.join("`, `")),
                }
            }
        }
    };
}

kinds! {
    Text, "text", |_, text| text_if(Ok(()), text);
    /// Text without control characters.
    Plain, "text", |_, text| text_if(syntax::plain(text), text);
    Bool, "bool", |_, text| Ok(Value::Flag(syntax::boolean(text)?));
    /// `http` or `https`, for an upstream. [`crate::config::check`] restricts `http`.
    Url, "URL", |_, text| Ok(Value::Url(Url::parse(text)?));
    /// The same, and no server reads its path as leading upwards.
    BaseUrl, "URL", |_, text| Ok(Value::Url(syntax::base_url(text)?));
    /// Of a Redis or Valkey server.
    Store, "URL", |_, text| Ok(Value::Store(StoreUrl::parse(text)?));
    Guid, "GUID", |_, text| Ok(Value::Text(guid::parse(text)?));
    Tenant, "tenant", |_, text| Ok(Value::Text(syntax::tenant(text)?));
    Method, "HTTP method", |_, text| Ok(Value::Text(syntax::method(text)?));
    /// The value of the header that the key's last segment names.
    Header, "header value", |name, text| {
        syntax::header_name(name)?;
        text_if(syntax::header_value(text), text)
    };
    /// The claim for the header of answers that the key's last segment names.
    ClaimHeader, "claim", |name, text| {
        syntax::answer_header(name)?;
        text_if(syntax::plain(text), text)
    };
    HeaderValue, "header value", |_, text| text_if(syntax::header_value(text), text);
    MediaType, "media type", |_, text| text_if(syntax::media_type(text), text);
    /// `Bearer` or `PoP`. In settings also the name of a registration: see [`crate::config::sections`].
    Scheme, "text", |_, text| match text.to_ascii_lowercase().as_str() {
        "bearer" => Ok(Value::Flag(false)),
        "pop" => Ok(Value::Flag(true)),
        _ => Err("Bearer or PoP".to_owned()),
    };
    /// The value of the query parameter that the key's last segment names.
    Parameter, "text", |name, text| text_if(syntax::parameter(name), text);
    /// The same, except for fields of the token request.
    TokenParameter, "text", |name, text| {
        syntax::parameter(name)?;
        text_if(syntax::token_parameter(name), text)
    };
    /// [`crate::config::check`] warns of texts that were meant as lists.
    Scope, "scope", |_, text| Ok(Value::List(syntax::scopes(text)?.collect()));
    PublicKey, "public key", |_, text| Ok(Value::Key(BoundKey::parse(text)?));
    /// The text of a JSON object.
    Json, "JSON object", |_, text| text_if(syntax::json_object(text, &[]), text);
    /// A path below a base URL.
    RelativePath, "path", |_, text| text_if(syntax::relative_path(text), text);
    /// A `token` (RFC 9110 §5.6.2).
    Token, "word", |_, text| text_if(ensure(header::is_token(text), "one word"), text);
    Alphanumeric, "letters, digits", |_, text| text_if(syntax::alphanumeric(text), text);
    Thumbprint, "thumbprint", |_, text| Ok(Value::Text(syntax::thumbprint(text)?));
    /// In CIDR notation, or `*`.
    Network, "network", |_, text| match text {
        "*" => text_if(Ok(()), text),
        _ => Network::parse_exact(text).and_then(|_| text_if(Ok(()), text)),
    };
    /// What a token is for ([`resource::parse`]), or `*`.
    Resource, "resource", |_, text| text_if(Ok(()), if text == "*" { text } else { resource::parse(text)? });
    Host, "host", |_, text| Ok(Value::Text(syntax::host(text)?));
    Level, "level", |_, text| text_if(syntax::level(text).map(drop), text);
    /// Known, but without effect.
    Unused, "text", |_, text| text_if(Ok(()), text);
}

fn text_if(checked: Result<(), Expected>, text: &str) -> Result<Value, String> {
    Ok(checked.map(|()| Value::Text(text.to_owned()))?)
}

impl Kind {
    /// True if blanks at the ends are part of the value.
    pub(super) const fn keeps_blanks(&self) -> bool {
        matches!(self, Self::Text | Self::Parameter | Self::TokenParameter)
    }
}

/// The separators of a list that is written as one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Space,
    Semicolon,
    Either,
}

impl Split {
    pub fn divides(self) -> fn(char) -> bool {
        match self {
            Self::Space => char::is_whitespace,
            Self::Semicolon => |c| c == ';',
            Self::Either => |c: char| c == ';' || c.is_whitespace(),
        }
    }
}

/// A row without default that no other name refers to; the methods of [`Row`] add to it.
pub(super) const fn key(pattern: &'static str, kind: Kind, help: &'static str) -> Row {
    Row {
        pattern,
        kind,
        default: None,
        secret: false,
        list: None,
        field: Field::Named,
        alias: None,
        place: Place::Settings,
        restart: false,
        help,
    }
}

impl Row {
    pub(super) const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    pub(super) const fn list(mut self, split: Split) -> Self {
        self.list = Some(split);
        self
    }

    /// Fills an option of an API, which may be given everywhere.
    pub(super) const fn api(mut self, field: fn(&mut ApiOptions) -> Slot<'_>) -> Self {
        self.field = Field::Api(field);
        self.place = Place::Everywhere;
        self
    }

    /// Marks an alias. The other key wins if both are configured.
    pub(super) const fn alias_of(mut self, pattern: &'static str) -> Self {
        self.alias = Some(pattern);
        self
    }

    pub(super) const fn only(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    pub(super) const fn sidecar(mut self, field: fn(&mut Sidecar) -> Slot<'_>) -> Self {
        self.field = Field::Sidecar(field);
        self
    }

    pub(super) const fn limit(mut self, field: fn(&mut Limits) -> Slot<'_>) -> Self {
        self.field = Field::Limits(field);
        self
    }

    pub(super) const fn restart(mut self) -> Self {
        self.restart = true;
        self
    }

    pub(super) const fn is_override(&self) -> bool {
        !matches!(self.place, Place::Settings)
    }

    pub(super) const fn is_setting(&self) -> bool {
        !matches!(self.place, Place::Query)
    }

    /// True if a path in canonical form is this key, or an item of this list.
    pub(super) fn matches(&self, path: &[&str]) -> bool {
        let length = self.pattern.split(':').count();
        let item = path.len() == length + 1 && self.list.is_some();
        self.is_setting()
            && (path.len() == length || item)
            && self.pattern.split(':').zip(path).all(|(own, part)| own == "*" || own.eq_ignore_ascii_case(part))
    }
}
