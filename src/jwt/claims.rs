//! The claims of a token whose signature is good. Absent, malformed and present are three cases everywhere.

use serde_json::{Map, Value};

use super::json;
use super::rejection::Rejection;

/// A payload.
#[derive(Debug)]
pub struct Claims(Map<String, Value>);

/// The long names that older tokens and libraries use.
const SCOPE_URI: &str = "http://schemas.microsoft.com/identity/claims/scope";
const ROLE_URI: &str = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";

impl Claims {
    /// Reads a payload, which is one JSON object.
    pub fn parse(payload: &str) -> Result<Self, Rejection> {
        json::object(payload).map(Self).ok_or(Rejection::Malformed)
    }

    /// A text.
    pub fn text(&self, name: &'static str) -> Result<Option<String>, Rejection> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Rejection::Claim { name }),
        }
    }

    /// A text or a list of texts.
    pub fn texts(&self, name: &'static str) -> Result<Vec<String>, Rejection> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(items)) => {
                items.iter().map(|item| item.as_str().map(str::to_owned).ok_or(Rejection::Claim { name })).collect()
            }
            Some(_) => Err(Rejection::Claim { name }),
        }
    }

    /// A moment: unix seconds, fractions cut off (RFC 7519 §2, `NumericDate`).
    pub fn time(&self, name: &'static str) -> Result<Option<u64>, Rejection> {
        let malformed = Rejection::Claim { name };
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => match (number.as_u64(), number.as_f64()) {
                (Some(seconds), _) => Ok(Some(seconds)),
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to fit")]
                (None, Some(seconds)) if (0.0..1e15).contains(&seconds) => Ok(Some(seconds as u64)),
                _ => Err(malformed),
            },
            Some(_) => Err(malformed),
        }
    }

    /// `scp`, else `scope`, else its long name: separated by blanks, or a list.
    pub fn scopes(&self) -> Result<Vec<String>, Rejection> {
        for name in ["scp", "scope", SCOPE_URI] {
            let found = self.texts(name)?;
            if !found.is_empty() {
                return Ok(found.iter().flat_map(|text| text.split_ascii_whitespace()).map(str::to_owned).collect());
            }
        }
        Ok(Vec::new())
    }

    /// Whether there is a role, under the configured name or the usual ones.
    pub fn has_role(&self, role_claim: &str) -> bool {
        let filled = |value: &Value| match value {
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => false,
        };
        [role_claim, "roles", "role", ROLE_URI].iter().any(|name| self.0.get(*name).is_some_and(filled))
    }

    /// Whether it is an application's own token: surface page, B.5.
    pub fn is_app_only(&self) -> Result<bool, Rejection> {
        let no_scopes = self.scopes()?.is_empty();
        Ok(no_scopes && self.text("idtyp")?.is_none_or(|kind| kind == "app"))
    }
}
