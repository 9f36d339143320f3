//! The `application/x-www-form-urlencoded` body of a token request, wiped after use.

use zeroize::Zeroizing;

use super::ClientAuth;
use crate::redaction::redact;
use crate::value::percent::push_form;

pub const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// Fields in order. Values contain secrets and assertions.
#[derive(Default)]
pub struct Form {
    fields: Vec<(&'static str, Zeroizing<String>)>,
}

/// Fields whose values prove an identity and must not be quoted.
const SENSITIVE: &[&str] =
    &["client_secret", "client_assertion", "assertion", "refresh_token", "user_federated_identity_credential"];

impl Form {
    /// Adds a field, unless its value is empty (RFC 6749 §3.2).
    #[must_use]
    pub fn field(mut self, name: &'static str, value: &str) -> Self {
        if !value.is_empty() {
            self.fields.push((name, Zeroizing::new(value.to_owned())));
        }
        self
    }

    #[must_use]
    pub fn option(self, name: &'static str, value: Option<&str>) -> Self {
        self.field(name, value.unwrap_or_default())
    }

    /// The fields that authenticate the client (RFC 6749 §2.3.1, RFC 7523 §2.2).
    #[must_use]
    pub fn authenticated(self, auth: &ClientAuth) -> Self {
        match auth {
            ClientAuth::Secret(secret) => self.field("client_secret", secret.expose()),
            ClientAuth::Assertion(assertion) => self
                .field("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
                .field("client_assertion", assertion.expose()),
        }
    }

    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Reserve for the worst case, since growing would leave unwiped copies behind.
        let room = self.fields.iter().map(|(name, value)| name.len() + 2 + 3 * value.len()).sum();
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        for (name, value) in &self.fields {
            if !body.is_empty() {
                body.push(b'&');
            }
            push_form(&mut body, name);
            body.push(b'=');
            push_form(&mut body, value);
        }
        body
    }

    /// Removes this form's sensitive values, and anything else that looks like a token, from a text
    /// that may quote the request.
    pub fn redact(&self, text: &str) -> String {
        let proves = self.fields.iter().filter(|(name, _)| SENSITIVE.contains(name));
        redact(text, proves.map(|(_, value)| value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_as_forms_are() {
        let form = Form::default().field("client_secret", "s=c&r%t \u{e9}").field("empty", "").option("none", None);
        let form = form.field("scope", "https://graph.microsoft.com/.default openid");
        assert_eq!(
            std::str::from_utf8(&form.encode()).unwrap(),
            "client_secret=s%3Dc%26r%25t+%C3%A9&scope=https%3A%2F%2Fgraph.microsoft.com%2F.default+openid"
        );
    }

    #[test]
    fn what_proves_something_is_cut_out_of_texts() {
        let form = Form::default().field("client_secret", "hunter 2%").field("scope", "openid");
        assert_eq!(form.redact("bad secret hunter 2% for openid"), "bad secret [redacted] for openid");
        assert_eq!(form.redact("client_secret=hunter+2%25&scope=openid"), "client_secret=[redacted]&scope=openid");
        let form = Form::default().field("client_secret", "a~b*c d/%2541\u{e9}");
        for encoded in [
            "a~b*c d/%2541\u{e9}", "a%7Eb*c+d%2F%252541%C3%A9", "a~b%2Ac%20d%2F%252541%C3%A9",
            "a%7eb%2ac+d%2f%252541%c3%a9", "%61~b*c%20d/%252541\u{e9}",
        ] {
            assert_eq!(form.redact(&format!("\u{e9}={encoded}&")), "\u{e9}=[redacted]&", "{encoded}");
        }
        assert_eq!(form.redact("a~b*c"), "a~b*c");
        assert_eq!(form.redact("(eyJh.eyJi.c_-d), eyJhbGci, eyJx.y"), "([redacted]), eyJhbGci, [redacted]");
    }
}
