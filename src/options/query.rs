//! The query of an acquisition endpoint: text in, [`Overrides`] out. Read once per request; a request without a
//! query allocates nothing here.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Invalid;
use super::agent::Agent;
use crate::config::ManagedIdentity;
use crate::spelling;
use crate::value::url::Url;
use crate::value::{Expected, guid, percent, syntax};

/// The head's own limit is 32 KiB by default; this one holds when an operator raises that.
const MAX_QUERY: usize = 64 * 1024;
/// The keys are two dozen; the rest is for scopes, headers and query parameters.
const MAX_PARAMETERS: usize = 256;
const PREFIX: &str = "optionsOverride.";
/// The parameters that name an identity.
const AGENT_KEYS: [&str; 3] = ["AgentIdentity", "AgentUsername", "AgentUserId"];

/// What a caller may override, and the agent it names. `None` and empty: not given, so the configuration holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `AgentIdentity`, `AgentUsername`, `AgentUserId`.
    pub agent: Option<Agent>,
    /// `Scopes`, in the order given.
    pub scopes: Vec<String>,
    /// `RequestAppToken`.
    pub request_app_token: Option<bool>,
    /// `BaseUrl`; whether its origin is allowed is decided where the URL is built.
    pub base_url: Option<Url>,
    /// `RelativePath`, known to leave no base path.
    pub relative_path: Option<String>,
    /// `HttpMethod`, upper case.
    pub http_method: Option<String>,
    /// `AcceptHeader`.
    pub accept: Option<String>,
    /// `ContentType`.
    pub content_type: Option<String>,
    /// `CustomHeader.<Name>` and `ExtraHeaderParameters.<Name>`, names in lower case.
    pub extra_headers: BTreeMap<String, String>,
    /// `ExtraQueryParameters.<Name>`.
    pub extra_query: BTreeMap<String, String>,
    /// `AcquireTokenOptions.Tenant`.
    pub tenant: Option<String>,
    /// `AcquireTokenOptions.ForceRefresh`.
    pub force_refresh: Option<bool>,
    /// `AcquireTokenOptions.Claims`: a JSON object.
    pub claims: Option<String>,
    /// `AcquireTokenOptions.CorrelationId`: a GUID, lower case.
    pub correlation_id: Option<String>,
    /// `AcquireTokenOptions.AuthenticationScheme`: whether it is `PoP`.
    pub pop: Option<bool>,
    /// `AcquireTokenOptions.PopPublicKey`. A `+` that came unencoded has become a blank.
    pub pop_public_key: Option<String>,
    /// `AcquireTokenOptions.PopClaims`: a JSON object.
    pub pop_claims: Option<String>,
    /// `AcquireTokenOptions.FmiPath`.
    pub fmi_path: Option<String>,
    /// `AcquireTokenOptions.LongRunningWebApiSessionKey`.
    pub session_key: Option<String>,
    /// `AcquireTokenOptions.ManagedIdentity.UserAssignedClientId`.
    pub managed_identity: Option<ManagedIdentity>,
    /// `AcquireTokenOptions.ExtraQueryParameters.<Name>`.
    pub token_query: BTreeMap<String, String>,
}

/// The keys after the prefix, spelt as documented.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setting {
    Scopes,
    RequestAppToken,
    BaseUrl,
    RelativePath,
    HttpMethod,
    AcceptHeader,
    ContentType,
    ExtraHeader,
    ExtraQuery,
    Tenant,
    ForceRefresh,
    Claims,
    CorrelationId,
    AuthenticationScheme,
    PopPublicKey,
    PopClaims,
    FmiPath,
    SessionKey,
    ManagedIdentity,
    TokenQuery,
}

/// Every key; one that ends in `<Name>` stands for all names in its place.
const KEYS: [(&str, Setting); 22] = [
    ("Scopes", Setting::Scopes),
    ("RequestAppToken", Setting::RequestAppToken),
    ("BaseUrl", Setting::BaseUrl),
    ("RelativePath", Setting::RelativePath),
    ("HttpMethod", Setting::HttpMethod),
    ("AcceptHeader", Setting::AcceptHeader),
    ("ContentType", Setting::ContentType),
    ("CustomHeader.<Name>", Setting::ExtraHeader),
    ("ExtraHeaderParameters.<Name>", Setting::ExtraHeader),
    ("ExtraQueryParameters.<Name>", Setting::ExtraQuery),
    ("AcquireTokenOptions.Tenant", Setting::Tenant),
    ("AcquireTokenOptions.ForceRefresh", Setting::ForceRefresh),
    ("AcquireTokenOptions.Claims", Setting::Claims),
    ("AcquireTokenOptions.CorrelationId", Setting::CorrelationId),
    ("AcquireTokenOptions.AuthenticationScheme", Setting::AuthenticationScheme),
    ("AcquireTokenOptions.PopPublicKey", Setting::PopPublicKey),
    ("AcquireTokenOptions.PopClaims", Setting::PopClaims),
    ("AcquireTokenOptions.PopClaim", Setting::PopClaims),
    ("AcquireTokenOptions.FmiPath", Setting::FmiPath),
    ("AcquireTokenOptions.LongRunningWebApiSessionKey", Setting::SessionKey),
    ("AcquireTokenOptions.ManagedIdentity.UserAssignedClientId", Setting::ManagedIdentity),
    ("AcquireTokenOptions.ExtraQueryParameters.<Name>", Setting::TokenQuery),
];

/// Every key after `optionsOverride.`, as documented.
pub fn known_keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(spelling, _)| *spelling)
}

impl Overrides {
    /// Reads the query of a request, without its `?`. Keys that have nothing to do with overrides and
    /// agents are ignored; an empty value is as if absent; of a single-valued key given again the last one counts.
    pub fn parse(query: Option<&str>) -> Result<Self, Invalid> {
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
                let (setting, parameter) = find(name)?;
                let new = Given { setting, name: name.to_owned(), parameter: parameter.to_owned(), value: decoded()? };
                if !new.value.is_empty() {
                    given.retain(|earlier| !new.replaces(earlier));
                    given.push(new);
                }
            } else if let Some(slot) = agent.slot(&key) {
                slot.fill(decoded()?)?;
            } else if is_agent_key(&key) {
                return Err(Invalid::UnknownKey { nearest: nearest_agent_key(&key), key: key.into_owned() });
            }
        }
        for Given { setting, name, parameter, value } in given {
            overrides.set(setting, &name, &parameter, value)?;
        }
        overrides.agent = Agent::select(agent.identity.value, agent.username.value, agent.user_id.value)?;
        Ok(overrides)
    }

    /// Whether nothing was given, agent parameters included: what an endpoint that allows no overrides demands.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn set(&mut self, key: Setting, name: &str, parameter: &str, value: Cow<'_, str>) -> Result<(), Invalid> {
        let malformed = |expected| Invalid::Malformed { key: name.to_owned(), expected };
        let text = value.as_ref();
        let checked = |check: Result<(), Expected>| check.map(|()| text.to_owned()).map_err(malformed);
        match key {
            Setting::Scopes => self.scopes.extend(syntax::scopes(text).map_err(malformed)?),
            Setting::RequestAppToken => self.request_app_token = Some(syntax::boolean(text).map_err(malformed)?),
            Setting::BaseUrl => self.base_url = Some(base_url(text).map_err(malformed)?),
            Setting::RelativePath => self.relative_path = Some(checked(syntax::relative_path(text))?),
            Setting::HttpMethod => self.http_method = Some(syntax::method(text).map_err(malformed)?),
            Setting::AcceptHeader => self.accept = Some(checked(syntax::header_value(text))?),
            Setting::ContentType => self.content_type = Some(checked(syntax::media_type(text))?),
            Setting::ExtraHeader => {
                syntax::header_name(parameter).map_err(malformed)?;
                self.extra_headers.insert(parameter.to_ascii_lowercase(), checked(syntax::header_value(text))?);
            }
            Setting::ExtraQuery => insert(&mut self.extra_query, parameter, value).map_err(malformed)?,
            Setting::Tenant => self.tenant = Some(syntax::tenant(text).map_err(malformed)?),
            Setting::ForceRefresh => self.force_refresh = Some(syntax::boolean(text).map_err(malformed)?),
            Setting::Claims => self.claims = Some(checked(syntax::json_object(text, &[]))?),
            Setting::CorrelationId => {
                self.correlation_id = Some(guid::parse(text).map_err(malformed)?);
            }
            Setting::AuthenticationScheme => {
                self.pop = Some(match text {
                    scheme if scheme.eq_ignore_ascii_case("Bearer") => false,
                    scheme if scheme.eq_ignore_ascii_case("PoP") => true,
                    _ => return Err(malformed("Bearer or PoP")),
                });
            }
            // Which of its many forms the key has is for those to say who use it.
            Setting::PopPublicKey => self.pop_public_key = Some(value.into_owned()),
            Setting::PopClaims => self.pop_claims = Some(checked(syntax::json_object(text, &[]))?),
            Setting::FmiPath => self.fmi_path = Some(checked(syntax::plain(text))?),
            Setting::SessionKey => self.session_key = Some(checked(syntax::plain(text))?),
            Setting::ManagedIdentity => {
                let client_id = Some(guid::parse(text).map_err(malformed)?);
                self.managed_identity = Some(ManagedIdentity { client_id });
            }
            Setting::TokenQuery => {
                syntax::token_parameter(parameter).map_err(malformed)?;
                insert(&mut self.token_query, parameter, value).map_err(malformed)?;
            }
        }
        Ok(())
    }
}

/// One override as it came.
struct Given<'a> {
    setting: Setting,
    /// The key after the prefix, as the caller spelt it.
    name: String,
    /// What stands where the key says `<Name>`.
    parameter: String,
    value: Cow<'a, str>,
}

impl Given<'_> {
    /// Whether an earlier one counts no more, be it ever so malformed: each scope counts, of all else the last.
    fn replaces(&self, earlier: &Self) -> bool {
        let same_name = match self.setting {
            Setting::Scopes => false,
            Setting::ExtraHeader => self.parameter.eq_ignore_ascii_case(&earlier.parameter),
            _ => self.parameter == earlier.parameter,
        };
        self.setting == earlier.setting && same_name
    }
}

/// The operator's own base URL may hold a query; a caller has `RelativePath` and `ExtraQueryParameters` for it.
fn base_url(text: &str) -> Result<Url, Expected> {
    let url = syntax::base_url(text)?;
    if url.query.is_some() { Err("a URL without a query") } else { Ok(url) }
}

fn insert(map: &mut BTreeMap<String, String>, name: &str, value: Cow<'_, str>) -> Result<(), Expected> {
    if name.is_empty() {
        return Err("a parameter's name after the dot");
    }
    map.insert(name.to_owned(), value.into_owned());
    Ok(())
}

/// The key of that spelling, and what stands where it says `<Name>`.
fn find(name: &str) -> Result<(Setting, &str), Invalid> {
    KEYS.iter()
        .find_map(|(spelling, key)| match spelling.strip_suffix("<Name>") {
            Some(stem) => strip_prefix_ignoring_case(name, stem).map(|parameter| (*key, parameter)),
            None => name.eq_ignore_ascii_case(spelling).then_some((*key, "")),
        })
        .ok_or_else(|| Invalid::UnknownKey { key: format!("{PREFIX}{name}"), nearest: nearest(name) })
}

/// The known key that was most likely meant, as it is to be written.
fn nearest(name: &str) -> String {
    let overrides = KEYS.iter().map(|(spelling, _)| (*spelling, PREFIX));
    let known = overrides.chain(AGENT_KEYS.map(|key| (key, "")));
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
