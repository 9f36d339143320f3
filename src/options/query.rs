//! Parses the query of an acquisition endpoint into [`Overrides`]. A request without a query
//! allocates nothing here.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::OptionsError;
use super::agent::Agent;
use crate::config::{ApiOptions, Override};
use crate::spelling;
use crate::value::percent;
use crate::value::text::strip_prefix;

/// Bytes. The limit for heads is lower by default (32 KiB), but an operator can raise it.
const MAX_QUERY: usize = 64 * 1024;
/// There are about two dozen keys. The rest is for scopes, headers and query parameters.
const MAX_PARAMETERS: usize = 256;
const PREFIX: &str = "optionsOverride.";
const AGENT_KEYS: [&str; 3] = ["AgentIdentity", "AgentUsername", "AgentUserId"];

/// The parameters of a query: each key decoded, each value as sent, since one that nobody asks for may be malformed.
pub fn parameters(query: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, &str), OptionsError>> {
    query.split('&').enumerate().map(|(index, pair)| {
        if query.len() > MAX_QUERY {
            return Err(OptionsError::QueryTooLong(MAX_QUERY));
        }
        if index == MAX_PARAMETERS {
            return Err(OptionsError::TooManyParameters(MAX_PARAMETERS));
        }
        let (coded, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = percent::decode_form(coded).map_err(|_| OptionsError::Encoding(coded.to_owned()))?;
        Ok((key, value))
    })
}

pub fn decode<'a>(key: &str, value: &'a str) -> Result<Cow<'a, str>, OptionsError> {
    percent::decode_form(value).map_err(|_| OptionsError::Encoding(key.to_owned()))
}

/// What a caller overrides, and the agent it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// From `AgentIdentity`, `AgentUsername` and `AgentUserId`.
    pub agent: Option<Agent>,
    /// Options that are absent keep their configured values. The merge checks the origin of
    /// `BaseUrl`.
    pub options: ApiOptions,
}

impl Overrides {
    /// As [`Overrides::parse`]. Without a query this costs nothing.
    pub fn of_query(query: Option<&str>) -> Result<Cow<'static, Self>, OptionsError> {
        match query {
            None => Ok(Cow::Borrowed(Self::none())),
            query => Self::parse(query).map(Cow::Owned),
        }
    }

    fn none() -> &'static Self {
        static NONE: LazyLock<Overrides> = LazyLock::new(Overrides::default);
        &NONE
    }

    /// Parses the query, without its `?`. Keys of other kinds are ignored. An empty value counts as
    /// absent. If a single-valued key is repeated, the last value counts.
    pub fn parse(query: Option<&str>) -> Result<Self, OptionsError> {
        Self::parse_where(query, |_| true)
    }

    /// Reads `X-Sidecar-Options` of a proxied request. It has the syntax of the query, without the keys that the request
    /// itself expresses: method, path, query and headers.
    pub fn parse_header(values: &mut dyn Iterator<Item = &[u8]>) -> Result<Self, OptionsError> {
        let Some(value) = values.next() else { return Ok(Self::default()) };
        if values.next().is_some() {
            return Err(OptionsError::Repeated("X-Sidecar-Options"));
        }
        let text = std::str::from_utf8(value).map_err(|_| OptionsError::Encoding("X-Sidecar-Options".to_owned()))?;
        Self::parse_where(Some(text.trim()), Override::in_header)
    }

    fn parse_where(query: Option<&str>, may_say: impl Fn(Override) -> bool) -> Result<Self, OptionsError> {
        let mut overrides = Self::default();
        let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(overrides) };
        let mut agent: [Option<String>; 3] = Default::default();
        let mut given: Vec<Given<'_>> = Vec::new();
        for parameter in parameters(query) {
            let (key, value) = parameter?;
            let decoded = || decode(&key, value);
            if let Some(name) = strip_prefix(&key, PREFIX) {
                let (option, parameter) = find(name)?;
                if !may_say(option) {
                    return Err(OptionsError::NotInHeader(name.to_owned()));
                }
                let new = Given { option, name: name.to_owned(), parameter: parameter.to_owned(), value: decoded()? };
                if !new.value.is_empty() {
                    // A later value replaces an earlier one, even a malformed one.
                    given.retain(|old| !option.replaces(&new.parameter, old.option, &old.parameter));
                    given.push(new);
                }
            } else if let Some(at) = AGENT_KEYS.iter().position(|own| key.eq_ignore_ascii_case(own)) {
                // With two values, it is unclear which one was meant.
                let value = decoded()?;
                if !value.is_empty() && agent[at].replace(value.into_owned()).is_some() {
                    return Err(OptionsError::Repeated(AGENT_KEYS[at]));
                }
            } else if is_agent_key(&key) {
                let nearest = nearest_agent_key(&key);
                return Err(OptionsError::UnknownKey(key.into_owned(), nearest));
            }
        }
        for Given { option, name, parameter, value } in given {
            let set = option.set(&mut overrides.options, &parameter, &value);
            set.map_err(|expected| OptionsError::Malformed(name, expected))?;
        }
        let [identity, username, user_id] = agent;
        overrides.agent = Agent::select(identity, username, user_id)?;
        Ok(overrides)
    }

    /// True if there are no overrides and no agent parameters.
    pub fn is_empty(&self) -> bool {
        let none = Self::none();
        std::ptr::eq(self, none) || self == none
    }
}

struct Given<'a> {
    option: Override,
    /// The key after the prefix, as the caller spelt it.
    name: String,
    /// The part of the key in place of `<Name>`.
    parameter: String,
    value: Cow<'a, str>,
}

/// The option of that name, and the part of the name in place of `<Name>`.
fn find(name: &str) -> Result<(Override, &str), OptionsError> {
    Override::find(name).ok_or_else(|| OptionsError::UnknownKey(format!("{PREFIX}{name}"), nearest(name)))
}

/// The most similar known key, for the message.
fn nearest(name: &str) -> String {
    let overrides = Override::all().map(|option| (option.name(), PREFIX));
    let known = overrides.chain(AGENT_KEYS.map(|key| (key.to_owned(), "")));
    // `<Name>` is a placeholder, so it must not be compared.
    let written = |spelling: &str| spelling.strip_suffix(".<Name>").unwrap_or(spelling).to_owned();
    let nearest = spelling::nearest(name, '.', known, |(spelling, _)| {
        let bare = written(spelling);
        let last = bare.rsplit('.').next().map(str::to_owned);
        (bare, last)
    });
    nearest.map_or_else(String::new, |(spelling, prefix)| format!("{prefix}{spelling}"))
}

/// True for an unknown key that begins like an agent parameter. Ignoring it would return a token of
/// another identity.
fn is_agent_key(key: &str) -> bool {
    strip_prefix(key.trim_start(), "Agent").is_some()
}

fn nearest_agent_key(key: &str) -> String {
    let known = spelling::nearest(key, '.', AGENT_KEYS, |key| ((*key).to_owned(), Some((*key).to_owned())));
    known.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
