//! The form of a token request: every field at most once, none empty, none unknown.

use crate::message::Request;
use crate::refusal::Refusal;

/// The fields that every grant may carry.
const COMMON: [&str; 10] = [
    "client_id", "client_secret", "client_assertion_type", "client_assertion", "grant_type", "scope", "claims",
    "client_info", "token_type", "req_cnf",
];

/// A checked form.
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads the form of a token request.
    pub fn of(request: &Request) -> Result<Self, Refusal> {
        if request.method != "POST" {
            let text = format!("The endpoint only accepts POST requests. Received a {} request.", request.method);
            return Err(Refusal::request(900_561, text));
        }
        let media_type = request.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
        if !media_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Refusal::missing("grant_type"));
        }
        let fields = request.form();
        for (at, (name, value)) in fields.iter().enumerate() {
            if fields[..at].iter().any(|(other, _)| other == name) {
                let text = format!("The request is not properly formatted. The parameter '{name}' is duplicated.");
                return Err(Refusal::request(9_000_411, text));
            }
            if value.is_empty() {
                return Err(Refusal::malformed(name, "allowed to be empty"));
            }
        }
        Ok(Self(fields))
    }

    /// A field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A field that must be there.
    pub fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::missing(name))
    }

    /// Refuses fields beyond the common ones and these.
    pub fn allow(&self, own: &[&str]) -> Result<(), Refusal> {
        match self.0.iter().find(|(name, _)| !COMMON.contains(&name.as_str()) && !own.contains(&name.as_str())) {
            Some((name, _)) => Err(Refusal::malformed(name, "expected for this grant")),
            None => Ok(()),
        }
    }
}
