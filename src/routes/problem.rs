//! Failures as HTTP answers: their status, text and headers are decided here alone. The format is
//! RFC 9457, the types are sections of RFC 7231.

mod oauth;

use std::borrow::Cow;

use serde::Serialize;

use super::admit;
use super::route::NoRoute;
use super::route::{Endpoint, begins_with};
use crate::config::Registration;
use crate::http::{self, Caching, Reply};
use crate::jwt::Rejection;
use crate::options::OptionsError;
use crate::outbound::OutError;
use crate::token::{self, Remedy, TokenError};
use crate::turns;
use crate::value::{b64, json};

#[derive(Debug)]
pub struct Problem {
    /// From 400 to 599.
    pub status: u16,
    detail: Option<Cow<'static, str>>,
    extensions: Option<Box<Extensions>>,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    /// Who can resolve Entra's error, if it is one.
    remedy: Option<Remedy>,
    /// What OAuth calls it, where the status does not tell.
    oauth: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Extensions {
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    error_codes: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suberror: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    credentials: Vec<CredentialName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
}

/// Identifies a credential to the operator. The reason why it cannot be used is in the log only.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CredentialName {
    index: usize,
    source_type: &'static str,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<&'a Extensions>,
}

/// The form in which clients of a door read what went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// RFC 9457.
    Problem,
    /// RFC 6749 §5.2.
    OAuth,
    /// That of App Service's managed identity endpoint. Its clients take anything else for a token.
    ManagedIdentity,
    /// A problem that an SDK can tell from an answer of the API.
    Proxied,
}

impl Form {
    /// The form of an endpoint, or of a path that leads to none.
    pub fn of(endpoint: Option<Endpoint>, path: &str) -> Self {
        match endpoint {
            Some(Endpoint::OAuthToken | Endpoint::OAuthIntrospect) => Self::OAuth,
            Some(Endpoint::Identity) => Self::ManagedIdentity,
            Some(Endpoint::Proxy | Endpoint::ProxyUnauthenticated) => Self::Proxied,
            None if begins_with(path, "oauth2") => Self::OAuth,
            None if begins_with(path, "identity") => Self::ManagedIdentity,
            _ => Self::Problem,
        }
    }
}

/// The section that defines the status. 401 refers to that of 400, as the original's answers do.
const fn section(status: u16) -> &'static str {
    match status {
        400 | 401 => "7231#section-6.5.1",
        403 => "7231#section-6.5.3",
        404 => "7231#section-6.5.4",
        405 => "7231#section-6.5.5",
        408 => "7231#section-6.5.7",
        413 => "7231#section-6.5.11",
        414 => "7231#section-6.5.12",
        417 => "7231#section-6.5.14",
        424 => "4918#section-11.4",
        431 => "6585#section-5",
        501 => "7231#section-6.6.2",
        502 => "7231#section-6.6.3",
        503 => "7231#section-6.6.4",
        504 => "7231#section-6.6.5",
        505 => "7231#section-6.6.6",
        _ => "7231#section-6.6.1",
    }
}

/// The detail of every failed acquisition that is not an error from Entra.
const NO_TOKEN: &str = "Failed to acquire token for downstream API";

/// Names of OAuth's (RFC 6749 §5.2).
const INVALID_SCOPE: &str = "invalid_scope";
const INVALID_GRANT: &str = "invalid_grant";

/// Seconds, if the upstream names none.
const RETRY_AFTER: u64 = 5;

impl Problem {
    pub const fn new(status: u16) -> Self {
        Self { status, detail: None, extensions: None, headers: Vec::new(), remedy: None, oauth: None }
    }

    pub fn with(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: Some(detail.into()), ..Self::new(status) }
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Tells the caller whether the same request may succeed later.
    #[must_use]
    pub fn retryable(self, retryable: bool) -> Self {
        self.extended(Extensions { retryable: Some(retryable), ..Extensions::default() })
    }

    /// With OAuth's name for it.
    const fn called(mut self, error: &'static str) -> Self {
        self.oauth = Some(error);
        self
    }

    fn extended(self, extensions: Extensions) -> Self {
        Self { extensions: Some(Box::new(extensions)), ..self }
    }

    /// 401 without an error, for a request without a token (RFC 6750 §3).
    pub fn token_required(challenge: &str) -> Self {
        Self::new(401).header("WWW-Authenticate", challenge.to_owned())
    }

    /// 401 for a token that failed validation. An empty `description` is left out.
    pub fn invalid_token(challenge: &str, description: &str) -> Self {
        let challenge = if description.is_empty() {
            format!("{challenge} error=\"invalid_token\"")
        } else {
            // A quotation mark would end the quoted string (RFC 9110 §5.6.4).
            let description = description.replace(['"', '\\'], "'");
            format!("{challenge} error=\"invalid_token\", error_description=\"{description}\"")
        };
        Self::new(401).header("WWW-Authenticate", challenge)
    }

    /// 403 if the token is valid but lacks permission, else 401.
    pub fn from_rejection(rejection: &Rejection, registration: &Registration) -> Self {
        if let Rejection::ScopeRequired(required) = rejection {
            let detail = format!("The scope '{}' is required", required.join("' or '"));
            return Self::with(403, detail).called(INVALID_SCOPE);
        }
        Self::invalid_token(&registration.challenge, &described(rejection, registration))
    }

    /// 503 with `Retry-After`.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, seconds: u64) -> Self {
        Self::with(503, detail).header("Retry-After", seconds.to_string())
    }

    /// Replaces the status of an error from Entra by one that tells who can resolve it
    /// (`Sidecar:TokenErrorStatus`): 403 and 401 (RFC 9470, RFC 6750), and 424 because SDKs retry
    /// after 500.
    #[must_use]
    pub fn semantic(self) -> Self {
        let Some(remedy) = self.remedy else { return self };
        let (status, challenge) = match remedy {
            Remedy::User => {
                let claims = self.extensions.as_ref().and_then(|extensions| extensions.claims.as_ref());
                let claims = claims.map(|claims| format!(", claims=\"{}\"", b64::standard(claims)));
                let claims = claims.unwrap_or_default();
                (403, Some(format!("Bearer error=\"insufficient_claims\"{claims}")))
            }
            Remedy::Caller => (401, Some("Bearer error=\"invalid_token\"".to_owned())),
            Remedy::Operator => (424, None),
        };
        let problem = Self { status, ..self };
        challenge.into_iter().fold(problem, |problem, challenge| problem.header("WWW-Authenticate", challenge))
    }

    /// What is wrong, in words: the detail, else the challenge's description, else the status's phrase.
    pub fn words(&self) -> &str {
        let mut challenges = self.headers.iter().map(|(_, value)| &**value);
        let described = challenges.find_map(|value| value.split_once("error_description=\"")?.1.strip_suffix('"'));
        self.detail.as_deref().or(described).unwrap_or_else(|| http::phrase(self.status))
    }

    pub fn into_reply_as(self, form: Form) -> Reply {
        match form {
            Form::Problem => return self.into_reply(),
            Form::OAuth => return self.into_oauth_reply(),
            Form::Proxied => return self.for_sdk().into_reply(),
            Form::ManagedIdentity => {}
        }
        let message = self.detail.as_deref().unwrap_or(http::phrase(self.status));
        let mut body = format!("{{\"statusCode\":{},\"message\":", self.status).into_bytes();
        json::push_string(&mut body, message);
        body.push(b'}');
        self.answer("application/json", body)
    }

    /// For SDKs, which expect the API's answer: marks the error as the sidecar's own, and says if a retry cannot help.
    #[must_use]
    fn for_sdk(self) -> Self {
        let retryable = self.extensions.as_ref().and_then(|extensions| extensions.retryable);
        let helps = retryable.unwrap_or(matches!(self.status, 408 | 502 | 503 | 504));
        let problem = self.header("X-Sidecar-Error", "1");
        if helps { problem } else { problem.header("x-should-retry", "false") }
    }

    pub fn into_reply(self) -> Reply {
        let body = Body {
            r#type: &format!("https://tools.ietf.org/html/rfc{}", section(self.status)),
            title: http::phrase(self.status),
            status: self.status,
            detail: self.detail.as_deref(),
            extensions: self.extensions.as_deref(),
        };
        // Strings and numbers always serialise.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        self.answer("application/problem+json", body)
    }

    fn answer(&self, content_type: &'static str, body: Vec<u8>) -> Reply {
        let reply = Reply::new(self.status).with_body(content_type, body).caching(Caching::NoStore);
        self.headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
    }
}

impl From<admit::Denial> for Problem {
    fn from(refusal: admit::Denial) -> Self {
        Self::with(403, refusal.detail())
    }
}

impl From<NoRoute> for Problem {
    fn from(no_route: NoRoute) -> Self {
        match no_route {
            NoRoute::Unknown => Self::new(404),
            NoRoute::Nul => Self::with(400, "The path holds a NUL"),
            NoRoute::Method(_, allow) => Self::new(405).header("Allow", allow),
            NoRoute::NameMissing(_) => Self::with(400, "Service name is required"),
        }
    }
}

impl From<OptionsError> for Problem {
    fn from(invalid: OptionsError) -> Self {
        let (status, oauth) = match invalid {
            OptionsError::NoBaseUrl(_) => (500, None),
            OptionsError::NoScopes(_) | OptionsError::AppScope(_) => (400, Some(INVALID_SCOPE)),
            _ => (400, None),
        };
        Self { oauth, ..Self::with(status, invalid.to_string()) }
    }
}

impl From<&http::RequestError> for Problem {
    fn from(refusal: &http::RequestError) -> Self {
        let text = refusal.to_string();
        let mut letters = text.chars();
        let sentence = letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>());
        let problem = Self::with(refusal.status(), sentence.unwrap_or_default());
        match refusal {
            http::RequestError::NoMemory => problem.header("Retry-After", "1").retryable(true),
            _ => problem,
        }
    }
}

impl From<turns::Busy> for Problem {
    fn from(_: turns::Busy) -> Self {
        Self::unavailable("Too many requests wait for upstreams", 1).retryable(true)
    }
}

impl From<token::Error> for Problem {
    fn from(error: token::Error) -> Self {
        match error {
            token::Error::Refused(refusal) => refused(&refusal),
            token::Error::Unavailable(unavailable) => {
                Self::unavailable(NO_TOKEN, unavailable.retry_after.unwrap_or(RETRY_AFTER)).retryable(true)
            }
            token::Error::Busy => turns::Busy.into(),
            token::Error::Credential(failures) => Self::with(500, NO_TOKEN).extended(Extensions {
                error_code: Some("invalid_client_credential".to_owned()),
                credentials: failures
                    .iter()
                    .map(|failure| CredentialName { index: failure.index, source_type: failure.source_type })
                    .collect(),
                retryable: Some(false),
                ..Extensions::default()
            }),
            token::Error::NoSession => Self::with(401, error.to_string()).called(INVALID_GRANT),
            token::Error::Configuration(_)
            | token::Error::TokenType { .. }
            | token::Error::Abandoned
            | token::Error::Defect => Self::with(500, format!("{NO_TOKEN}: {error}")).extended(Extensions {
                error_code: Some(error.code().to_owned()),
                retryable: Some(false),
                ..Extensions::default()
            }),
        }
    }
}

/// What callers may know of a rejection: empty where the operator says so.
fn described(rejection: &Rejection, registration: &Registration) -> Cow<'static, str> {
    if registration.include_error_details { rejection.description() } else { Cow::Borrowed("") }
}

/// In the original's wording, because callers match on it.
fn refused(refusal: &TokenError) -> Problem {
    let detail = format!("MSAL.NetCore.{}: {}", refusal.code, refusal.description);
    let problem = Problem::with(500, detail).extended(Extensions {
        error_code: Some(refusal.code.clone()),
        correlation_id: refusal.correlation_id.clone(),
        trace_id: refusal.trace_id.clone(),
        timestamp: refusal.timestamp.clone(),
        error_codes: refusal.error_codes.clone(),
        suberror: refusal.suberror.clone(),
        claims: refusal.claims.clone(),
        retryable: Some(false),
        ..Extensions::default()
    });
    Problem { remedy: Some(refusal.remedy()), ..problem }
}

/// The problem of a call of an API without an answer, which is logged. Names the API and the host, but not the URL.
pub fn unanswered(api: &str, error: &OutError) -> Problem {
    log::warn!("the API '{api}' did not answer: {error}");
    match error {
        OutError::Proxy { timed_out: true, .. } => {
            Problem::with(504, format!("The downstream API '{api}' cannot be reached: {error}"))
        }
        OutError::Timeout(_) => Problem::with(504, format!("The downstream API '{api}' timed out: {error}")),
        OutError::Connect(_) | OutError::Proxy { timed_out: false, .. } | OutError::NotPublic => {
            Problem::with(502, format!("The downstream API '{api}' cannot be reached: {error}"))
        }
        OutError::Broken(_) => {
            Problem::with(502, format!("The downstream API '{api}' did not answer as it should: {error}"))
        }
        OutError::Busy => turns::Busy.into(),
        OutError::NoMemory { timed_out: true } => {
            Problem::with(504, format!("The downstream API '{api}' answered, but too late: {error}"))
        }
        // The API may have acted, so the request must not be repeated.
        OutError::NoMemory { timed_out: false } => {
            Problem::with(503, format!("The answer of the downstream API '{api}' cannot be held: {error}"))
                .retryable(false)
        }
        OutError::TooLarge(limit) => Problem::with(
            502,
            format!(
                "The downstream API '{api}' answered too much: the body is longer than {limit} bytes \
                 (Sidecar:Limits:DownstreamBodyBytes)"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::credentials::{CredentialFailure, Failure};

    fn body(problem: Problem) -> String {
        String::from_utf8(problem.into_reply().body).unwrap()
    }

    #[test]
    fn members_come_in_this_order_and_only_where_there_is_something() {
        assert_eq!(
            body(Problem::with(400, "No token found")),
            r#"{"type":"https://tools.ietf.org/html/rfc7231#section-6.5.1","title":"Bad Request","status":400,"detail":"No token found"}"#
        );
        assert_eq!(
            body(Problem::token_required("Bearer")),
            r#"{"type":"https://tools.ietf.org/html/rfc7231#section-6.5.1","title":"Unauthorized","status":401}"#
        );
    }

    #[test]
    fn a_refusal_of_entra_keeps_the_originals_words() {
        let refusal = TokenError {
            code: "invalid_grant".into(),
            description: "AADSTS65001: no consent".into(),
            error_codes: vec![65001],
            suberror: Some("consent_required".into()),
            ..TokenError::default()
        };
        assert_eq!(
            body(token::Error::Refused(Arc::new(refusal)).into()),
            r#"{"type":"https://tools.ietf.org/html/rfc7231#section-6.6.1","title":"Internal Server Error","status":500,"detail":"MSAL.NetCore.invalid_grant: AADSTS65001: no consent","extensions":{"errorCode":"invalid_grant","errorCodes":[65001],"suberror":"consent_required","retryable":false}}"#
        );
    }

    #[test]
    fn a_semantic_status_says_who_must_act() {
        let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
        let challenge = format!("Bearer error=\"insufficient_claims\", claims=\"{}\"", b64::standard(claims));
        let (user, spent) = ("Bearer error=\"insufficient_claims\"", "Bearer error=\"invalid_token\"");
        for (code, error_code, suberror, claims, status, expected) in [
            ("interaction_required", 50076, "", "", 403, user),
            ("interaction_required", 50076, "", claims, 403, &challenge),
            ("invalid_grant", 65001, "", "", 403, user),
            ("invalid_grant", 1, "consent_required", "", 403, user),
            ("invalid_grant", 50076, "basic_action", "", 403, user),
            ("invalid_grant", 50173, "", claims, 403, &challenge),
            ("invalid_grant", 500_133, "", "", 401, spent),
            ("invalid_grant", 50173, "bad_token", "", 401, spent),
            ("invalid_grant", 70008, "", "", 401, spent),
            ("invalid_grant", 700_082, "", "", 401, spent),
            ("invalid_grant", 50013, "", "", 424, ""),
            ("invalid_client", 7_000_215, "", "", 424, ""),
            ("unauthorized_client", 700_016, "", "", 424, ""),
            ("invalid_scope", 70011, "", "", 424, ""),
        ] {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let refusal = TokenError {
                code: code.into(),
                description: "said".into(),
                error_codes: vec![error_code],
                suberror: some(suberror),
                claims: some(claims),
                ..TokenError::default()
            };
            let original = Problem::from(token::Error::Refused(Arc::new(refusal.clone())));
            let problem = Problem::from(token::Error::Refused(Arc::new(refusal))).semantic();
            let challenges: Vec<_> = problem.headers.iter().map(|(_, value)| value.as_ref()).collect();
            assert_eq!((original.status, original.headers.len()), (500, 0));
            assert_eq!((problem.status, challenges.concat().as_str()), (status, expected), "{code} {error_code}");
            assert!(
                body(problem)
                    .contains(&format!("\"detail\":\"MSAL.NetCore.{code}: said\",\"extensions\":{{\"errorCode"))
            );
        }
        let problem = Problem { remedy: Some(Remedy::Operator), ..Problem::new(500) }.semantic();
        let expected =
            r#"{"type":"https://tools.ietf.org/html/rfc4918#section-11.4","title":"Failed Dependency","status":424}"#;
        assert_eq!(body(problem), expected);
        assert_eq!(Problem::new(500).semantic().status, 500);
    }

    #[test]
    fn unusable_credentials_are_named_without_their_reasons() {
        let failure = CredentialFailure {
            index: 0,
            source_type: "Path",
            failure: Failure::Unusable("/run/secrets/cert.pem: No such file".into()),
        };
        let body = body(token::Error::Credential(Arc::new(vec![failure])).into());
        assert!(body.contains(r#""detail":"Failed to acquire token for downstream API","extensions""#), "{body}");
        assert!(body.contains(r#""errorCode":"invalid_client_credential""#), "{body}");
        assert!(body.contains(r#""credentials":[{"index":0,"sourceType":"Path"}]"#), "{body}");
        assert!(!body.contains("/run/secrets"), "{body}");
    }

    #[test]
    fn a_description_cannot_leave_its_quotes() {
        let reply = Problem::invalid_token("Bearer", "The audience 'a\"b\\' is\r\ninvalid").into_reply();
        let challenge = "Bearer error=\"invalid_token\", error_description=\"The audience 'a'b'' is??invalid\"";
        assert_eq!(reply.fields(), format!("WWW-Authenticate: {challenge}\r\n"));
    }
}
