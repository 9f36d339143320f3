//! The query of an acquisition endpoint: text in, [`Overrides`] out. Read once per request; a request without a
//! query allocates nothing here.

use std::borrow::Cow;

use super::Invalid;
use super::agent::Agent;
use crate::config::{ApiOptions, Override};
use crate::spelling;
use crate::value::percent;

/// The head's own limit is 32 KiB by default; this one holds when an operator raises that.
const MAX_QUERY: usize = 64 * 1024;
/// The keys are two dozen; the rest is for scopes, headers and query parameters.
const MAX_PARAMETERS: usize = 256;
const PREFIX: &str = "optionsOverride.";
/// The parameters that name an identity.
const AGENT_KEYS: [&str; 3] = ["AgentIdentity", "AgentUsername", "AgentUserId"];

/// What a caller overrides, and the agent it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `AgentIdentity`, `AgentUsername`, `AgentUserId`.
    pub agent: Option<Agent>,
    /// What is not given here holds as configured. Whether the origin of a `BaseUrl` is allowed is decided when the
    /// options are merged.
    pub options: ApiOptions,
}

impl Overrides {
    /// Reads the query of a request, without its `?`. Keys that have nothing to do with overrides and
    /// agents are ignored; an empty value is as if absent; of a single-valued key given again the last one counts.
    pub fn parse(query: Option<&str>) -> Result<Self, Invalid> {
        Self::parse_where(query, |_| true)
    }

    /// Reads `X-Sidecar-Options` of a proxied request. It has the syntax of the query, without the keys that the request
    /// itself expresses: method, path, query and headers.
    pub fn parse_header(values: &mut dyn Iterator<Item = &[u8]>) -> Result<Self, Invalid> {
        let Some(value) = values.next() else { return Ok(Self::default()) };
        if values.next().is_some() {
            return Err(Invalid::TwoHeaders);
        }
        let text = std::str::from_utf8(value).map_err(|_| Invalid::Encoding("X-Sidecar-Options".to_owned()))?;
        Self::parse_where(Some(text.trim()), Override::in_header)
    }

    fn parse_where(query: Option<&str>, may_say: impl Fn(Override) -> bool) -> Result<Self, Invalid> {
        let mut overrides = Self::default();
        let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(overrides) };
        if query.len() > MAX_QUERY {
            return Err(Invalid::QueryTooLong(MAX_QUERY));
        }
        let mut agent = AgentParameters::default();
        let mut given: Vec<Given<'_>> = Vec::new();
        for (index, pair) in query.split('&').enumerate() {
            if index == MAX_PARAMETERS {
                return Err(Invalid::TooManyParameters(MAX_PARAMETERS));
            }
            let (coded, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = percent::decode_form(coded).map_err(|_| Invalid::Encoding(coded.to_owned()))?;
            let decoded = || percent::decode_form(value).map_err(|_| Invalid::Encoding(key.clone().into_owned()));
            if let Some(name) = strip_prefix_ignoring_case(&key, PREFIX) {
                let (option, parameter) = find(name)?;
                if !may_say(option) {
                    return Err(Invalid::NotInHeader { key: name.to_owned() });
                }
                let new = Given { option, name: name.to_owned(), parameter: parameter.to_owned(), value: decoded()? };
                if !new.value.is_empty() {
                    // A value that does not count may be ever so malformed.
                    given.retain(|old| !option.replaces(&new.parameter, old.option, &old.parameter));
                    given.push(new);
                }
            } else if let Some(slot) = agent.slot(&key) {
                slot.fill(decoded()?)?;
            } else if is_agent_key(&key) {
                return Err(Invalid::UnknownKey { nearest: nearest_agent_key(&key), key: key.into_owned() });
            }
        }
        for Given { option, name, parameter, value } in given {
            let set = option.set(&mut overrides.options, &parameter, &value);
            set.map_err(|expected| Invalid::Malformed { key: name, expected })?;
        }
        overrides.agent = Agent::select(agent.identity.value, agent.username.value, agent.user_id.value)?;
        Ok(overrides)
    }

    /// Whether nothing was given, agent parameters included: what an endpoint that allows no overrides demands.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One override as it came.
struct Given<'a> {
    option: Override,
    /// The key after the prefix, as the caller spelt it.
    name: String,
    /// What stands where the key says `<Name>`.
    parameter: String,
    value: Cow<'a, str>,
}

/// The key of that spelling, and what stands where it says `<Name>`.
fn find(name: &str) -> Result<(Override, &str), Invalid> {
    Override::find(name).ok_or_else(|| Invalid::UnknownKey { key: format!("{PREFIX}{name}"), nearest: nearest(name) })
}

/// The known key that was most likely meant, as it is to be written.
fn nearest(name: &str) -> String {
    let overrides = Override::all().map(|option| (option.name(), PREFIX));
    let known = overrides.chain(AGENT_KEYS.map(|key| (key.to_owned(), "")));
    // A name that stands for others is not itself what is misspelt.
    let written = |spelling: &str| spelling.strip_suffix(".<Name>").unwrap_or(spelling).to_owned();
    let nearest = spelling::nearest(name, '.', known, |(spelling, _)| {
        let bare = written(spelling);
        let last = bare.rsplit('.').next().map(str::to_owned);
        (bare, last)
    });
    nearest.map_or_else(String::new, |(spelling, prefix)| format!("{prefix}{spelling}"))
}

/// An unknown key that begins as the agent's parameters do: ignored, the token would be another identity's.
fn is_agent_key(key: &str) -> bool {
    strip_prefix_ignoring_case(key.trim_start(), "Agent").is_some()
}

/// The agent parameter that such a key was most likely meant to be.
fn nearest_agent_key(key: &str) -> String {
    let known = spelling::nearest(key, '.', AGENT_KEYS, |key| ((*key).to_owned(), Some((*key).to_owned())));
    known.unwrap_or_default().to_owned()
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The parameters that name an identity. Which of two values a caller meant is not for us to guess.
struct AgentParameters {
    identity: Once,
    username: Once,
    user_id: Once,
}

struct Once {
    key: &'static str,
    value: Option<String>,
}

impl Default for AgentParameters {
    fn default() -> Self {
        let [identity, username, user_id] = AGENT_KEYS.map(|key| Once { key, value: None });
        Self { identity, username, user_id }
    }
}

impl AgentParameters {
    fn slot(&mut self, key: &str) -> Option<&mut Once> {
        [&mut self.identity, &mut self.username, &mut self.user_id]
            .into_iter()
            .find(|once| key.eq_ignore_ascii_case(once.key))
    }
}

impl Once {
    fn fill(&mut self, value: Cow<'_, str>) -> Result<(), Invalid> {
        if value.is_empty() {
            return Ok(());
        }
        if self.value.is_some() {
            return Err(Invalid::Repeated(self.key));
        }
        self.value = Some(value.into_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
