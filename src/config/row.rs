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
use crate::value::{guid, quantity, resource, syntax};

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
    /// The field to fill.
    pub(super) field: Field,
    /// The pattern of the key that this one is an alias of.
    pub(super) alias: Option<&'static str>,
    pub(super) place: Place,
    /// True if a change takes effect at the next start only.
    pub restart: bool,
    /// One line for the documentation.
    pub help: &'static str,
}

/// Where an option may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Settings,
    Query,
    /// In both. Not in the header of options, because a request with that header sets it itself.
    SettingsAndQuery,
    /// In both, and in the header of options.
    Everywhere,
}

/// The type of a value.
#[derive(Debug)]
pub enum Kind {
    Text,
    /// Text without control characters.
    Plain,
    Bool,
    /// `http` or `https`, for an upstream. [`crate::config::check`] restricts `http`.
    Url,
    /// The same, and no server reads its path as leading upwards.
    BaseUrl,
    Guid,
    Tenant,
    Count(RangeInclusive<u64>),
    /// In bytes.
    Size(RangeInclusive<u64>),
    /// In milliseconds.
    Duration(RangeInclusive<u64>),
    /// Any case is accepted.
    Choice(&'static [&'static str]),
    /// The same. What `accepted` has beyond `offered` is known, but nothing to choose.
    Choices {
        offered: &'static [&'static str],
        accepted: &'static [&'static str],
    },
    Method,
    /// The value of the header that the key's last segment names.
    Header,
    /// The claim for the header of answers that the key's last segment names.
    ClaimHeader,
    HeaderValue,
    MediaType,
    /// `Bearer` or `PoP`. In settings also the name of a registration: see
    /// [`crate::config::sections`].
    Scheme,
    /// The value of the query parameter that the key's last segment names.
    Parameter,
    /// The same, except for fields of the token request.
    TokenParameter,
    /// [`crate::config::check`] warns of texts that were meant as lists.
    Scope,
    PublicKey,
    /// The text of a JSON object.
    Json,
    /// A path below a base URL.
    RelativePath,
    /// A `token` (RFC 9110 §5.6.2).
    Token,
    /// Letters and digits.
    Alphanumeric,
    Thumbprint,
    /// In CIDR notation, or `*`.
    Network,
    /// What a token is for ([`resource::parse`]), or `*`.
    Resource,
    Host,
    /// Of a Redis or Valkey server.
    Store,
    Level,
    /// Known, but without effect.
    Unused,
}

/// The separators of a list that is written as one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Space,
    Semicolon,
    Either,
}

impl Split {
    /// The test for a separator.
    pub fn divides(self) -> fn(char) -> bool {
        match self {
            Self::Space => char::is_whitespace,
            Self::Semicolon => |c| c == ';',
            Self::Either => |c: char| c == ';' || c.is_whitespace(),
        }
    }
}

impl Kind {
    /// Parses a value. `name` is the key's last segment. The error completes "expected …".
    pub(super) fn parse(&self, name: &str, text: &str) -> Result<Value, String> {
        match self {
            Self::Bool => return Ok(Value::Flag(syntax::boolean(text)?)),
            Self::Url => return Ok(Value::Url(Url::parse(text)?)),
            Self::BaseUrl => return Ok(Value::Url(syntax::base_url(text)?)),
            Self::Guid => return Ok(Value::Text(guid::parse(text)?)),
            Self::Tenant => return Ok(Value::Text(syntax::tenant(text)?)),
            Self::Count(range) => return Ok(Value::Number(quantity::count(text, range)?)),
            Self::Size(range) => return Ok(Value::Number(quantity::size(text, range)?)),
            Self::Duration(range) => return Ok(Value::Duration(quantity::duration(text, range)?)),
            Self::Choice(choices) => {
                let at = choices.iter().position(|choice| choice.eq_ignore_ascii_case(text));
                let at = at.ok_or_else(|| format!("one of {}", choices.join(", ")))?;
                return Ok(Value::Choice(at, choices[at]));
            }
            Self::Choices { offered, accepted } => {
                let found = accepted.iter().position(|choice| choice.eq_ignore_ascii_case(text));
                let at = found.ok_or_else(|| format!("one of {}", offered.join(", ")))?;
                return Ok(Value::Choice(at, accepted[at]));
            }
            Self::Method => return Ok(Value::Text(syntax::method(text)?)),
            Self::PublicKey => return Ok(Value::Key(BoundKey::parse(text)?)),
            Self::Scope => return Ok(Value::List(syntax::scopes(text)?.collect())),
            Self::Plain => syntax::plain(text)?,
            Self::Header => syntax::header_name(name).and_then(|()| syntax::header_value(text))?,
            Self::ClaimHeader => syntax::answer_header(name).and_then(|()| syntax::plain(text))?,
            Self::HeaderValue => syntax::header_value(text)?,
            Self::MediaType => syntax::media_type(text)?,
            Self::Parameter | Self::TokenParameter if name.is_empty() => {
                return Err("a parameter's name after the dot".to_owned());
            }
            Self::TokenParameter => syntax::token_parameter(name)?,
            Self::Scheme if text.eq_ignore_ascii_case("Bearer") => return Ok(Value::Flag(false)),
            Self::Scheme if text.eq_ignore_ascii_case("PoP") => return Ok(Value::Flag(true)),
            Self::Scheme => return Err("Bearer or PoP".to_owned()),
            Self::Json => syntax::json_object(text, &[])?,
            Self::RelativePath => syntax::relative_path(text)?,
            Self::Token if !header::is_token(text) => return Err("one word".to_owned()),
            Self::Alphanumeric if !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                return Err("letters and digits".to_owned());
            }
            Self::Thumbprint => return Ok(Value::Text(syntax::thumbprint(text)?)),
            Self::Resource if text != "*" => return Ok(Value::Text(resource::parse(text)?.to_owned())),
            Self::Network if text != "*" => Network::parse_exact(text).map(drop)?,
            Self::Host => return Ok(Value::Text(syntax::host(text)?)),
            Self::Store => return Ok(Value::Store(StoreUrl::parse(text)?)),
            Self::Level => syntax::level(text).map(drop)?,
            Self::Text
            | Self::Unused
            | Self::Parameter
            | Self::Token
            | Self::Alphanumeric
            | Self::Network
            | Self::Resource => {}
        }
        Ok(Value::Text(text.to_owned()))
    }

    /// True if blanks at the ends are part of the value.
    pub(super) const fn keeps_blanks(&self) -> bool {
        matches!(self, Self::Text | Self::Parameter | Self::TokenParameter)
    }

    /// Its name in the documentation.
    pub fn describe(&self) -> String {
        let bound = |milliseconds: &u64| std::time::Duration::from_millis(*milliseconds).as_secs_f64();
        let name = match self {
            Self::Count(range) => return format!("number, {} to {}", range.start(), range.end()),
            Self::Size(range) => return format!("size, {} to {} bytes", range.start(), range.end()),
            Self::Duration(range) => return format!("duration, {} to {} s", bound(range.start()), bound(range.end())),
            Self::Choice(choices) | Self::Choices { offered: choices, .. } => {
                return format!("`{}`", choices.join("`, `"));
            }
            Self::Text | Self::Plain | Self::Scheme | Self::Parameter | Self::TokenParameter | Self::Unused => "text",
            Self::Bool => "bool",
            Self::Url | Self::BaseUrl | Self::Store => "URL",
            Self::Guid => "GUID",
            Self::Tenant => "tenant",
            Self::Method => "HTTP method",
            Self::Header | Self::HeaderValue => "header value",
            Self::MediaType => "media type",
            Self::Scope => "scope",
            Self::PublicKey => "public key",
            Self::Json => "JSON object",
            Self::RelativePath => "path",
            Self::Token => "word",
            Self::Alphanumeric => "letters, digits",
            Self::Thumbprint => "thumbprint",
            Self::Network => "network",
            Self::Resource => "resource",
            Self::ClaimHeader => "claim",
            Self::Host => "host",
            Self::Level => "level",
        };
        name.to_owned()
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

    /// True if a request may set it.
    pub(super) const fn is_override(&self) -> bool {
        !matches!(self.place, Place::Settings)
    }

    /// True if the configuration may set it.
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
