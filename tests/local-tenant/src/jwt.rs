//! JWS in compact form (RFC 7515), written a second time so that the sidecar's own reading of it is checked
//! against another.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::keys::{PublicKey, SigningKey};
use crate::sample::jws;

/// The members of a JSON object in the order in which they were set: tokens keep theirs, as Entra's do.
#[derive(Clone, Debug, Default)]
pub struct Claims(Vec<(String, Value)>);

impl Claims {
    /// Sets a member, in its place when it is there already.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some(member) => member.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Adds a member whether or not it is there: a duplicate, for a verifier to refuse.
    pub fn push(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Removes every member of this name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| n != name);
    }

    /// A member's value.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// Sets every member of another object.
    pub fn extend(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            self.set(name, value.clone());
        }
    }

    /// The JSON text.
    pub fn text(&self) -> String {
        let members: Vec<String> =
            self.0.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
        format!("{{{}}}", members.join(","))
    }
}

impl FromIterator<(String, Value)> for Claims {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(members: I) -> Self {
        let mut claims = Self::default();
        for (name, value) in members {
            claims.set(&name, value);
        }
        claims
    }
}

/// Signs `payload` (any bytes) under `header` with the header's own `alg`; `none` gets an empty signature.
pub fn sign(header: &Claims, payload: &[u8], key: &SigningKey) -> String {
    let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
    jws(header.text(), payload, |input| if algorithm == "none" { Vec::new() } else { key.sign(algorithm, input) })
}

/// A token taken apart, not verified yet.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The header.
    pub header: Map<String, Value>,
    /// The payload.
    pub payload: Map<String, Value>,
    input: String,
    signed: Vec<u8>,
}

impl Decoded {
    /// Takes a compact JWS apart.
    pub fn of(token: &str) -> Result<Self, &'static str> {
        let (input, signed) = token.rsplit_once('.').ok_or("it has no dots")?;
        let (header, payload) = input.split_once('.').ok_or("it has fewer than three parts")?;
        if payload.contains('.') {
            return Err("it has more than three parts");
        }
        let object = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| "a part is not base64url")?;
            serde_json::from_slice(&bytes).map_err(|_| "a part is not a JSON object")
        };
        Ok(Self {
            header: object(header)?,
            payload: object(payload)?,
            input: input.to_owned(),
            signed: URL_SAFE_NO_PAD.decode(signed).map_err(|_| "the signature is not base64url")?,
        })
    }

    /// A string of the header.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    /// A string of the payload.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.payload.get(name)?.as_str()
    }

    /// A time of the payload: a JSON number, or the numeric string that MSAL.NET writes.
    pub fn time(&self, name: &str) -> Option<i64> {
        let value = self.payload.get(name)?;
        value.as_i64().or_else(|| value.as_str()?.parse().ok())
    }

    /// Whether this key signed it under the header's `alg`.
    pub fn signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(self.header_text("alg").unwrap_or_default(), self.input.as_bytes(), &self.signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order() {
        let mut claims = Claims::default();
        claims.set("z", 1);
        claims.set("a", "two");
        claims.set("z", 3);
        assert_eq!(claims.text(), r#"{"z":3,"a":"two"}"#);
    }

    #[test]
    fn a_changed_payload_is_noticed() {
        let key = SigningKey::numbered(1);
        let mut header = Claims::default();
        header.set("alg", "PS256");
        let token = sign(&header, br#"{"a":1}"#, &key);
        assert!(Decoded::of(&token).unwrap().signed_by(&key.public()));
        let other = token.replace(&URL_SAFE_NO_PAD.encode(br#"{"a":1}"#), &URL_SAFE_NO_PAD.encode(br#"{"a":2}"#));
        assert!(!Decoded::of(&other).unwrap().signed_by(&key.public()));
    }
}
