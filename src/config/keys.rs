//! What a row of the table of settings says, and how a path finds its row. The rows are in [`super::table`].

use std::ops::RangeInclusive;

use super::options::ApiOptions;
use super::slot::{Field, Slot, Value};
use super::table;
use super::{Limits, Sidecar};
use crate::spelling;
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
    /// Where its value goes.
    pub(super) field: Field,
    /// The pattern of which this one is another spelling.
    pub(super) alias: Option<&'static str>,
    /// Who may say it.
    pub(super) place: Place,
    /// Whether a changed value counts at the next start only.
    pub restart: bool,
    /// One line for the reader of the documentation.
    pub help: &'static str,
}

/// Where something may be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the configuration.
    Settings,
    /// In a request's query.
    Query,
    /// In both of them. Not in the header of options, since the request that has one says it itself.
    SettingsAndQuery,
    /// In both of them, and in the header of options.
    Everywhere,
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
    /// `Bearer` or `PoP`. A configuration may also name a registration: see [`crate::config::registration`].
    Scheme,
    /// The value of a query parameter whose name is the key's last segment.
    Parameter,
    /// The same, where that name is no field of a token request.
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
    /// What a value means, or what was expected instead, in words that follow "expected". `name` is the key's last segment.
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
                // The original's numbers of the same are nothing that a person would choose.
                let words = || choices.iter().filter(|word| word.parse::<u8>().is_err()).copied().collect::<Vec<_>>();
                let at = at.ok_or_else(|| format!("one of {}", words().join(", ")))?;
                return Ok(Value::Choice(at, choices[at]));
            }
            Self::Method => return Ok(Value::Text(syntax::method(text)?)),
            Self::PublicKey => return Ok(Value::Key(BoundKey::parse(text)?)),
            Self::Scope => return Ok(Value::List(syntax::scopes(text)?.collect())),
            Self::Plain => syntax::plain(text)?,
            Self::Header => syntax::header_name(name).and_then(|()| syntax::header_value(text))?,
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
            Self::Network if text != "*" => Network::parse_exact(text).map(drop)?,
            Self::Host => return Ok(Value::Text(syntax::host(text)?)),
            Self::Level => syntax::level(text).map(drop)?,
            Self::Text | Self::Unused | Self::Parameter | Self::Token | Self::Alphanumeric | Self::Network => {}
        }
        Ok(Value::Text(text.to_owned()))
    }

    /// Whether blanks around a value are part of it.
    pub(super) const fn keeps_blanks(&self) -> bool {
        matches!(self, Self::Text | Self::Parameter | Self::TokenParameter)
    }

    /// Its name in the documentation.
    pub fn describe(&self) -> String {
        let bound = |milliseconds: &u64| std::time::Duration::from_millis(*milliseconds).as_secs_f64();
        match self {
            Self::Text | Self::Plain | Self::Scheme | Self::Parameter | Self::TokenParameter | Self::Unused => {
                "text".to_owned()
            }
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
    Key {
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

    /// Fills an option of an API, which may be said everywhere.
    pub(super) const fn api(mut self, field: fn(&mut ApiOptions) -> Slot<'_>) -> Self {
        self.field = Field::Api(field);
        self.place = Place::Everywhere;
        self
    }

    /// Another spelling, which yields where both are configured.
    pub(super) const fn alias_of(mut self, pattern: &'static str) -> Self {
        self.alias = Some(pattern);
        self
    }

    /// Said in these places alone.
    pub(super) const fn only(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// Fills a field of [`Sidecar`].
    pub(super) const fn sidecar(mut self, field: fn(&mut Sidecar) -> Slot<'_>) -> Self {
        self.field = Field::Sidecar(field);
        self
    }

    /// Fills a field of [`Limits`].
    pub(super) const fn limit(mut self, field: fn(&mut Limits) -> Slot<'_>) -> Self {
        self.field = Field::Limits(field);
        self
    }

    /// Taken at the start only.
    pub(super) const fn restart(mut self) -> Self {
        self.restart = true;
        self
    }

    /// Whether a request may say it, over the configuration.
    pub(super) const fn is_override(&self) -> bool {
        !matches!(self.place, Place::Settings)
    }

    /// Whether the configuration may say it.
    pub(super) const fn is_setting(&self) -> bool {
        !matches!(self.place, Place::Query)
    }

    /// Whether a path in canonical form is this key, or an item of it where it is a list.
    fn matches(&self, path: &[&str]) -> bool {
        let length = self.pattern.split(':').count();
        let item = path.len() == length + 1 && self.list.is_some();
        self.is_setting()
            && (path.len() == length || item)
            && self.pattern.split(':').zip(path).all(|(own, part)| own == "*" || own.eq_ignore_ascii_case(part))
    }
}

/// Sections whose shape is that of another one, which the table holds.
const SAME_SHAPE: [(&str, &str); 3] = [
    ("ClientCertificates", "ClientCredentials"),
    ("TokenDecryptionCredentials", "ClientCredentials"),
    ("TokenDecryptionCertificates", "ClientCredentials"),
];

/// The path's segments as the table writes them: registrations as `AzureAd`, lists of credentials as one.
fn canonical<'a>(path: &'a str, registrations: &[String]) -> Vec<&'a str> {
    let named = registrations.iter().find_map(|name| {
        let rest = path.get(name.len()..)?;
        (path[..name.len()].eq_ignore_ascii_case(name) && (rest.is_empty() || rest.starts_with(':'))).then_some(rest)
    });
    let mut segments: Vec<&str> = match named {
        Some(rest) => std::iter::once("AzureAd").chain(rest.split(':').skip(1)).collect(),
        None => path.split(':').collect(),
    };
    if let [section, list, ..] = segments.as_mut_slice()
        && section.eq_ignore_ascii_case("AzureAd")
        && let Some((_, shape)) = SAME_SHAPE.iter().find(|(name, _)| name.eq_ignore_ascii_case(list))
    {
        *list = shape;
    }
    segments
}

/// The table's row for a path.
pub fn find(path: &str, registrations: &[String]) -> Option<&'static Key> {
    let segments = canonical(path, registrations);
    table::rows().find(|key| key.matches(&segments))
}

/// The row of a key that the program reads. What no row has must not be read: it would be unknown to whoever writes it,
/// and a misspelt name would be absent for ever.
pub fn row(path: &str, registrations: &[String]) -> Option<&'static Key> {
    let row = find(path, registrations);
    debug_assert!(row.is_some(), "{path} is read, and no row has it");
    #[cfg(test)]
    tests::READ.with_borrow_mut(|read| read.extend(row.map(|row| row.pattern)));
    row
}

/// Whether a path has only keys below it.
pub fn is_section(path: &str, registrations: &[String]) -> bool {
    let segments = canonical(path, registrations);
    table::rows().filter(|key| key.is_setting()).any(|key| {
        let mut own = key.pattern.split(':');
        let above =
            segments.iter().all(|part| own.next().is_some_and(|own| own == "*" || own.eq_ignore_ascii_case(part)));
        above && own.next().is_some()
    })
}

/// Whether a path lies in a section that nobody else uses.
pub fn is_ours(path: &str) -> bool {
    let first = path.split(':').next().unwrap_or_default();
    path.contains(':') && SECTIONS.iter().any(|own| own.eq_ignore_ascii_case(first))
}

/// The sections that nobody else uses. Unknown keys in them are worth a warning.
pub const SECTIONS: [&str; 3] = ["AzureAd", "DownstreamApis", "Sidecar"];

/// The known key that looks most like this path, with the path's own names and indices.
pub fn nearest(path: &str, registrations: &[String]) -> String {
    let segments = canonical(path, registrations);
    let written: Vec<&str> = path.split(':').collect();
    let joined = segments.join(":").to_lowercase();
    let candidate = |key: &Key| {
        let fill =
            |(at, own): (usize, &'static str)| if own == "*" { segments.get(at).copied().unwrap_or("0") } else { own };
        key.pattern.split(':').enumerate().map(fill).collect::<Vec<_>>()
    };
    let best = spelling::nearest(&joined, ':', table::rows().filter(|key| key.is_setting()), |key| {
        let last = key.pattern.rsplit(':').next().filter(|last| *last != "*").map(str::to_owned);
        (candidate(key).join(":").to_lowercase(), last)
    });
    let mut best = best.map(candidate).unwrap_or_default();
    // What was translated for the table is translated back.
    for at in 0..best.len().min(written.len()) {
        if segments.len() == written.len() && best[at] == segments[at] {
            best[at] = written[at];
        }
    }
    best.join(":")
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;

    thread_local! {
        /// The patterns of the rows that this test has read.
        pub static READ: RefCell<BTreeSet<&'static str>> = RefCell::default();
    }

    #[test]
    fn the_table_is_sound() {
        for (at, key) in table::rows().enumerate() {
            assert!(!key.help.is_empty(), "{}", key.pattern);
            assert!(
                table::rows().take(at).all(|other| !other.pattern.eq_ignore_ascii_case(key.pattern)),
                "{} stands here twice",
                key.pattern
            );
            for item in key.default.iter().flat_map(|text| text.split(key.list.map_or(|_| false, Split::divides))) {
                assert!(key.kind.parse("x", item).is_ok(), "{}", key.pattern);
            }
        }
    }

    #[test]
    fn paths_find_their_row_whatever_the_case_and_the_section() {
        let other = ["Other:App".to_lowercase()];
        for (path, pattern) in [
            ("AZUREAD:tenantid", "AzureAd:TenantId"),
            ("Other:App:TenantId", "AzureAd:TenantId"),
            ("AzureAd:TokenDecryptionCertificates:3:sourceType", "AzureAd:ClientCredentials:*:SourceType"),
            ("DownstreamApis:Graph:Scopes:7", "DownstreamApis:*:Scopes"),
            ("Logging:LogLevel:Microsoft.AspNetCore", "Logging:LogLevel:*"),
        ] {
            assert_eq!(find(path, &other).map(|key| key.pattern), Some(pattern), "{path}");
        }
        for path in ["AzureAd", "AzureAd:TenantId:0", "Other:TenantId", "DownstreamApis:Graph", "Sidecar:Metric"] {
            assert!(find(path, &other).is_none(), "{path}");
        }
    }

    #[test]
    fn the_nearest_key_keeps_names_and_indices() {
        let other = ["second".to_owned()];
        for (path, known) in [
            ("AzureAd:TenentId", "AzureAd:TenantId"),
            ("Second:ClientID2", "Second:ClientId"),
            ("AzureAd:TokenDecryptionCredentials:1:SourceTyp", "AzureAd:TokenDecryptionCredentials:1:SourceType"),
            ("AzureAd:ClientCredential:0:ClientSecret", "AzureAd:ClientCredentials:0:ClientSecret"),
            ("DownstreamApis:Graph:Scope", "DownstreamApis:Graph:Scopes"),
            ("Sidecar:Limits:Worker", "Sidecar:Limits:Workers"),
            ("DownstreamApis:Graph:Tenant", "DownstreamApis:Graph:AcquireTokenOptions:Tenant"),
            ("Sidecar:TenantId", "AzureAd:TenantId"),
            ("Sidecar:HeadTimeout", "Sidecar:Limits:HeadTimeout"),
        ] {
            assert_eq!(nearest(path, &other), known);
        }
    }
}
