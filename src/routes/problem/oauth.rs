//! Failures as OAuth errors (RFC 6749 §5.2, RFC 8693 §2.2.2).

use serde::Serialize;

use super::super::reply;
use super::{Extensions, INVALID_GRANT, INVALID_SCOPE, Problem, described};
use crate::config::Registration;
use crate::http::{self, Caching, Reply};
use crate::jwt::Rejection;
use crate::token::Remedy;

const INVALID_REQUEST: &str = "invalid_request";
const INVALID_CLIENT: &str = "invalid_client";
const SERVER_ERROR: &str = "server_error";

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    error_description: String,
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    error_codes: &'a [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suberror: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<&'a str>,
}

/// The OAuth error for an error from Entra.
fn of_refusal(code: &str, remedy: Remedy) -> &'static str {
    match (code, remedy) {
        ("invalid_grant" | "interaction_required", _) | (_, Remedy::User | Remedy::Caller) => INVALID_GRANT,
        // `invalid_resource` is Entra's code for an unknown scope of an API.
        ("invalid_scope" | "invalid_resource", _) => INVALID_SCOPE,
        // The caller can set the tenant, claims and parameters of the token request.
        ("invalid_request", _) => INVALID_REQUEST,
        _ => SERVER_ERROR,
    }
}

impl Problem {
    pub fn unsupported_grant(detail: &'static str) -> Self {
        Self::with(400, detail).called("unsupported_grant_type")
    }

    pub fn invalid_scope(detail: String) -> Self {
        Self::with(400, detail).called(INVALID_SCOPE)
    }

    /// The caller is not authenticated. HTTP requires a challenge with every 401 (RFC 9110
    /// §15.5.2).
    pub fn invalid_client(detail: &'static str) -> Self {
        let challenge = "Basic realm=\"entra-sidecar\"";
        Self::with(401, detail).called(INVALID_CLIENT).header("WWW-Authenticate", challenge)
    }

    /// A token sent as a parameter failed validation. No challenge, because another `Authorization`
    /// header would not help.
    pub fn from_subject(rejection: &Rejection, registration: &Registration) -> Self {
        if let Rejection::ScopeRequired(_) = rejection {
            return Self::from_rejection(rejection, registration);
        }
        let description = described(rejection, registration);
        let colon = if description.is_empty() { "" } else { ": " };
        Self::with(400, format!("The subject_token is not good{colon}{description}"))
    }

    pub fn into_oauth_reply(self) -> Reply {
        let extensions = self.extensions.as_deref();
        let text = |pick: fn(&Extensions) -> &Option<String>| extensions.and_then(|own| pick(own).as_deref());
        let refusal = self.remedy.zip(text(|own| &own.error_code));
        let error = self.oauth.or(refusal.map(|(remedy, code)| of_refusal(code, remedy)));
        let error = error.unwrap_or(match self.status {
            403 => "access_denied",
            503 => "temporarily_unavailable",
            500.. => SERVER_ERROR,
            _ => INVALID_REQUEST,
        });
        let status = match (error, self.status) {
            (INVALID_GRANT | INVALID_SCOPE, _) | (INVALID_REQUEST, 401 | 500) => 400,
            (_, status) => status,
        };
        let body = Body {
            error,
            error_description: self.detail.as_deref().unwrap_or(http::phrase(self.status)).chars().map(clean).collect(),
            error_codes: extensions.map_or(&[], |extensions| &extensions.error_codes),
            correlation_id: text(|own| &own.correlation_id),
            suberror: text(|own| &own.suberror),
            claims: text(|own| &own.claims),
        };
        // Strings and numbers always serialise.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let reply = Reply::new(status).with_body(reply::JSON, body).caching(Caching::NoStore);
        self.headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
    }
}

/// The characters permitted in a description (RFC 6749 §5.2).
const fn clean(letter: char) -> char {
    match letter {
        '"' | '\\' => '\'',
        ' '..='~' => letter,
        _ => '?',
    }
}
