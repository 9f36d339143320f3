//! Refusals of the token endpoint, in the form in which Entra writes them.

use serde_json::{Value, json};

use crate::message::{Answer, Request};
use crate::{random, time};

/// Why a token request was refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status: 401 for a failed client authentication, else 400.
    pub status: u16,
    /// The OAuth error.
    pub error: &'static str,
    /// The AADSTS number.
    pub code: u32,
    /// The sentence.
    pub text: String,
    /// `suberror`.
    pub suberror: Option<&'static str>,
    /// The claims challenge.
    pub claims: Option<Value>,
}

impl Refusal {
    fn new(status: u16, error: &'static str, code: u32, text: impl Into<String>) -> Self {
        Self { status, error, code, text: text.into(), suberror: None, claims: None }
    }

    /// `invalid_request`.
    pub fn request(code: u32, text: impl Into<String>) -> Self {
        Self::new(400, "invalid_request", code, text)
    }

    /// `invalid_client`.
    pub fn client(code: u32, text: impl Into<String>) -> Self {
        Self::new(401, "invalid_client", code, text)
    }

    /// `unauthorized_client`.
    pub fn unauthorized(code: u32, text: impl Into<String>) -> Self {
        Self::new(400, "unauthorized_client", code, text)
    }

    /// `invalid_grant`.
    pub fn grant(code: u32, text: impl Into<String>) -> Self {
        Self::new(400, "invalid_grant", code, text)
    }

    /// `invalid_scope`.
    pub fn scope(code: u32, text: impl Into<String>) -> Self {
        Self::new(400, "invalid_scope", code, text)
    }

    /// Any other error.
    pub fn other(error: &'static str, code: u32, text: impl Into<String>) -> Self {
        Self::new(400, error, code, text)
    }

    /// A field that is not there (AADSTS900144).
    pub fn missing(field: &str) -> Self {
        Self::request(900_144, format!("The request body must contain the following parameter: '{field}'."))
    }

    /// A field with a value that cannot be (AADSTS900023 and its like).
    pub fn malformed(field: &str, expected: &str) -> Self {
        Self::request(
            9_000_411,
            format!("The request is not properly formatted. The parameter '{field}' is not {expected}."),
        )
    }

    /// A refusal that quotes the secrets and assertions of the form, as it came and decoded.
    pub fn echo(request: &Request) -> Self {
        const PROOFS: [&str; 5] =
            ["client_secret", "client_assertion", "assertion", "refresh_token", "user_federated_identity_credential"];
        let form = request.form();
        let decoded = form.iter().filter(|(name, _)| PROOFS.contains(&name.as_str())).map(|(_, value)| value.clone());
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let raw = body.split('&').filter(|field| PROOFS.iter().any(|name| field.split('=').next() == Some(name)));
        let quoted: Vec<String> = decoded.chain(raw.map(str::to_owned)).collect();
        Self::grant(50_013, format!("Assertion failed validation: {}.", quoted.join(" and ")))
    }

    /// Adds the suberror.
    #[must_use]
    pub fn suberror(mut self, suberror: &'static str) -> Self {
        self.suberror = Some(suberror);
        self
    }

    /// Adds a claims challenge.
    #[must_use]
    pub fn claims(mut self, claims: Value) -> Self {
        self.claims = Some(claims);
        self
    }

    /// The answer; `lines` puts the tail on lines of its own, as Entra did until recently.
    pub fn answer(&self, base: &str, correlation: &str, lines: bool) -> Answer {
        let (trace, timestamp) = (random::guid(), time::timestamp(time::now()));
        let separator = if lines { "\r\n" } else { " " };
        let tail = [
            format!("AADSTS{}: {}", self.code, self.text),
            format!("Trace ID: {trace}"),
            format!("Correlation ID: {correlation}"),
            format!("Timestamp: {timestamp}"),
        ];
        let mut body = json!({
            "error": self.error,
            "error_description": tail.join(separator),
            "error_codes": [self.code],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("{base}/error?code={}", self.code),
        });
        if let Some(suberror) = self.suberror {
            body["suberror"] = suberror.into();
        }
        if let Some(claims) = &self.claims {
            // A JSON text inside a string.
            body["claims"] = claims.to_string().into();
        }
        Answer::json(self.status, &body)
    }
}
