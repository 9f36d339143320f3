//! The body of a token request: `application/x-www-form-urlencoded` fields, wiped after use.

use zeroize::Zeroizing;

/// What stands for a secret in a quotation.
const REDACTED: &str = "[redacted]";

/// Fields in order. Values hold secrets and assertions.
#[derive(Default)]
pub struct Form {
    fields: Vec<(&'static str, Zeroizing<String>)>,
}

/// The fields whose values prove something and may be repeated by nobody.
const SENSITIVE: &[&str] =
    &["client_secret", "client_assertion", "assertion", "refresh_token", "user_federated_identity_credential"];

impl Form {
    /// One more field; one without a value is left out (RFC 6749 §3.2).
    #[must_use]
    pub fn field(mut self, name: &'static str, value: &str) -> Self {
        if !value.is_empty() {
            self.fields.push((name, Zeroizing::new(value.to_owned())));
        }
        self
    }

    /// One more field where there is a value.
    #[must_use]
    pub fn option(self, name: &'static str, value: Option<&str>) -> Self {
        self.field(name, value.unwrap_or_default())
    }

    /// The encoded body.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Room for the worst case, so that no partly filled buffer is left behind unwiped by growing.
        let room = self.fields.iter().map(|(name, value)| name.len() + 2 + 3 * value.len()).sum();
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        for (name, value) in &self.fields {
            if !body.is_empty() {
                body.push(b'&');
            }
            encode(name, &mut body);
            body.push(b'=');
            encode(value, &mut body);
        }
        body
    }

    /// The text without anything that this form proves itself with, since answers may quote what was sent, and without
    /// whatever else looks like a token.
    pub fn redact(&self, text: &str) -> String {
        let secrets = self.fields.iter().filter(|(name, value)| SENSITIVE.contains(name) && value.len() >= 4);
        redact_tokens(secrets.fold(text.to_owned(), |text, (_, value)| {
            let mut encoded = Zeroizing::new(Vec::with_capacity(3 * value.len()));
            encode(value, &mut encoded);
            let text = text.replace(value.as_str(), REDACTED);
            // The encoding is ASCII.
            std::str::from_utf8(&encoded).map_or_else(|_| text.clone(), |encoded| text.replace(encoded, REDACTED))
        }))
    }
}

/// The text without anything in the form of a JWS or JWE, which begin with an encoded `{"` (RFC 7515 §7.1).
fn redact_tokens(mut text: String) -> String {
    const BEGIN: &str = "eyJ";
    let mut from = 0;
    while let Some(start) = text[from..].find(BEGIN).map(|at| from + at) {
        let of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let end = text[start..].find(|c| !of_token(c)).map_or(text.len(), |length| start + length);
        if text[start..end].contains('.') {
            text.replace_range(start..end, REDACTED);
            from = start + REDACTED.len();
        } else {
            from = end;
        }
    }
    text
}

/// As HTML forms are encoded: a blank becomes `+`.
fn encode(text: &str, into: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => into.push(byte),
            b' ' => into.push(b'+'),
            _ => into.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
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
        assert_eq!(form.redact("(eyJh.eyJi.c_-d), eyJhbGci, eyJx.y"), "([redacted]), eyJhbGci, [redacted]");
    }
}
