//! A row of the table of settings: which key, of what type, and what is said of it.

use std::ops::RangeInclusive;

use crate::value::bound_key::BoundKey;
use crate::value::header;
use crate::value::network::Network;
use crate::value::url::Url;
use crate::value::{guid, quantity, syntax};

/// A setting that the program knows.
#[derive(Debug)]
pub struct Key {
    /// Its path; `*` stands for any one segment: an index or a name.
    pub pattern: &'static str,
    /// What its value must be.
    pub kind: Kind,
    /// What holds when nothing is said, as one would write it.
    pub default: Option<&'static str>,
    /// Whether its value must never be shown.
    pub secret: bool,
    /// Where its value may be a list: what divides a single text into items.
    pub list: Option<Split>,
    /// One line for the reader of the documentation.
    pub help: &'static str,
}

/// The type of a value.
#[derive(Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// Text without control characters.
    Plain,
    /// See [`syntax::boolean`].
    Bool,
    /// `http` or `https`, and what the sidecar calls: see [`crate::config::check`] for the rule about `http`.
    Url,
    /// The same, with a path that no server reads as a step up.
    BaseUrl,
    /// See [`guid::parse`].
    Guid,
    /// See [`syntax::tenant`].
    Tenant,
    /// A whole number.
    Count(RangeInclusive<u64>),
    /// Bytes.
    Size(RangeInclusive<u64>),
    /// Milliseconds.
    Duration(RangeInclusive<u64>),
    /// One of these, in any case.
    Choice(&'static [&'static str]),
    /// A method for downstream requests.
    Method,
    /// The value of a header whose name is the key's last segment.
    Header,
    /// The value of a header field.
    HeaderValue,
    /// A media type.
    MediaType,
    /// The value of a query parameter whose name is the key's last segment and no field of a token request.
    TokenParameter,
    /// A scope; see [`crate::config::check`] for texts that were meant as lists.
    Scope,
    /// See [`BoundKey::parse`].
    PublicKey,
    /// Text of a JSON object.
    Json,
    /// A path below a base URL.
    RelativePath,
    /// A word of `token` characters.
    Token,
    /// Letters and digits.
    Alphanumeric,
    /// See [`syntax::thumbprint`].
    Thumbprint,
    /// See [`Network::parse_exact`], or `*`.
    Network,
    /// See [`syntax::host`].
    Host,
    /// See [`syntax::level`].
    Level,
    /// Known, but without effect here.
    Unused,
}

/// What divides the items of a list that is written as one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// White space.
    Space,
    /// `;`
    Semicolon,
    /// Either.
    Either,
}

impl Split {
    /// Whether a character divides.
    pub fn divides(self) -> fn(char) -> bool {
        match self {
            Self::Space => char::is_whitespace,
            Self::Semicolon => |c| c == ';',
            Self::Either => |c: char| c == ';' || c.is_whitespace(),
        }
    }
}

impl Kind {
    /// Whether a value, not empty and without outer blanks, is of this type; else what was expected.
    pub fn check(&self, name: &str, value: &str) -> Result<(), String> {
        match self {
            Self::Text | Self::Unused => Ok(()),
            Self::Plain => Ok(syntax::plain(value)?),
            Self::Bool => Ok(syntax::boolean(value).map(drop)?),
            Self::Url => Ok(Url::parse(value).map(drop)?),
            Self::BaseUrl => Ok(syntax::base_url(value).map(drop)?),
            Self::Guid => Ok(guid::parse(value).map(drop)?),
            Self::Tenant => Ok(syntax::tenant(value).map(drop)?),
            Self::Count(range) => quantity::count(value, range).map(drop),
            Self::Size(range) => quantity::size(value, range).map(drop),
            Self::Duration(range) => quantity::duration(value, range).map(drop),
            Self::Choice(choices) if choices.iter().any(|choice| choice.eq_ignore_ascii_case(value)) => Ok(()),
            Self::Choice(choices) => Err(format!("one of {}", choices.join(", "))),
            Self::Method => Ok(syntax::method(value).map(drop)?),
            Self::Header => Ok(syntax::header_name(name).and_then(|()| syntax::header_value(value))?),
            Self::HeaderValue => Ok(syntax::header_value(value)?),
            Self::MediaType => Ok(syntax::media_type(value)?),
            Self::TokenParameter => Ok(syntax::token_parameter(name)?),
            Self::Scope => Ok(syntax::scopes(value).map(drop)?),
            Self::PublicKey => Ok(BoundKey::parse(value).map(drop)?),
            Self::Json => Ok(syntax::json_object(value, &[])?),
            Self::RelativePath => Ok(syntax::relative_path(value)?),
            Self::Token if header::is_token(value) => Ok(()),
            Self::Token => Err("one word".to_owned()),
            Self::Alphanumeric if value.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Ok(()),
            Self::Alphanumeric => Err("letters and digits".to_owned()),
            Self::Thumbprint => Ok(syntax::thumbprint(value).map(drop)?),
            Self::Network if value == "*" => Ok(()),
            Self::Network => Network::parse_exact(value).map(drop),
            Self::Host => Ok(syntax::host(value).map(drop)?),
            Self::Level => Ok(syntax::level(value).map(drop)?),
        }
    }

    /// Its name in the documentation.
    pub fn describe(&self) -> String {
        let bound = |milliseconds: &u64| std::time::Duration::from_millis(*milliseconds).as_secs_f64();
        match self {
            Self::Text | Self::Plain | Self::TokenParameter | Self::Unused => "text".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Url | Self::BaseUrl => "URL".to_owned(),
            Self::Guid => "GUID".to_owned(),
            Self::Tenant => "tenant".to_owned(),
            Self::Count(range) => format!("number, {} to {}", range.start(), range.end()),
            Self::Size(range) => format!("size, {} to {} bytes", range.start(), range.end()),
            Self::Duration(range) => format!("duration, {} to {} s", bound(range.start()), bound(range.end())),
            Self::Choice(choices) => choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", "),
            Self::Method => "HTTP method".to_owned(),
            Self::Header | Self::HeaderValue => "header value".to_owned(),
            Self::MediaType => "media type".to_owned(),
            Self::Scope => "scope".to_owned(),
            Self::PublicKey => "public key".to_owned(),
            Self::Json => "JSON object".to_owned(),
            Self::RelativePath => "path".to_owned(),
            Self::Token => "word".to_owned(),
            Self::Alphanumeric => "letters, digits".to_owned(),
            Self::Thumbprint => "thumbprint".to_owned(),
            Self::Network => "network".to_owned(),
            Self::Host => "host".to_owned(),
            Self::Level => "level".to_owned(),
        }
    }
}

/// A row; [`Key::or`], [`Key::secret`] and [`Key::list`] say more about it.
pub(super) const fn key(pattern: &'static str, kind: Kind, help: &'static str) -> Key {
    Key { pattern, kind, default: None, secret: false, list: None, help }
}

impl Key {
    /// With a default.
    pub(super) const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// Never shown.
    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// A list, or one text that is divided.
    pub(super) const fn list(mut self, split: Split) -> Self {
        self.list = Some(split);
        self
    }

    /// Whether a path in canonical form is this key, or an item of it where it is a list.
    pub(super) fn matches(&self, path: &[&str]) -> bool {
        let length = self.pattern.split(':').count();
        let item = path.len() == length + 1 && self.list.is_some();
        (path.len() == length || item)
            && self.pattern.split(':').zip(path).all(|(own, part)| own == "*" || own.eq_ignore_ascii_case(part))
    }
}
