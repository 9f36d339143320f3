//! `/oauth2/introspect` (RFC 7662): validates a token for resource servers, as `/Validate` does.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::super::authenticate::judge;
use super::super::call::{Call, Halt, Parked};
use super::super::reply;
use super::form::{self, Form};
use crate::http::{Reply, Resumed};
use crate::value::json;

/// Answers `{"active":true}` with the claims, or `{"active":false}`.
pub fn introspect(call: &Call<'_>, resumed: Option<&Resumed<Parked>>) -> Result<Reply, Halt> {
    let body = form::body(call)?;
    let form = Form::receive(call, &body)?;
    let mut body = Reply::buffer();
    // The same answer for every invalid token: the reason must not be disclosed (RFC 7662 §2.2).
    match judge(call, form.sent("token")?, resumed)? {
        Ok(verified) => push_active(&mut body, verified.claims_json()),
        Err(_) => body.extend_from_slice(br#"{"active":false}"#),
    }
    Ok(reply::json(body))
}

/// The claims, and standard names for claims that Entra names otherwise.
fn push_active(out: &mut Vec<u8>, claims: &str) {
    // A validated token is an object without duplicate members.
    let mut members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(claims).unwrap_or_default();
    members.remove("active");
    let text = |name: &str| members.get(name).map(|value| value.get()).filter(|value| value.starts_with('"'));
    let named = [
        ("token_type", Some(r#""Bearer""#)),
        ("client_id", text("azp").or_else(|| text("appid"))),
        ("username", text("preferred_username").or_else(|| text("upn"))),
        ("scope", text("scp")),
    ];
    let named = named.into_iter().filter(|(name, _)| !members.contains_key(*name));
    let named = named.filter_map(|(name, value)| Some((name, value?)));
    let own = members.iter().map(|(name, value)| (&**name, value.get()));
    out.extend_from_slice(br#"{"active":true"#);
    for (name, value) in own.chain(named) {
        out.push(b',');
        json::push_string(out, name);
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(claims: &str) -> String {
        let mut out = Vec::new();
        push_active(&mut out, claims);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn claims_stay_as_they_are_and_get_the_standards_names() {
        assert_eq!(
            active(r#"{"exp":1700003600.50,"azp":"a","appid":"b","upn":"u\u0040x","scp":"r w","aud":["x"]}"#),
            r#"{"active":true,"appid":"b","aud":["x"],"azp":"a","exp":1700003600.50,"scp":"r w","upn":"u\u0040x","token_type":"Bearer","client_id":"a","username":"u\u0040x","scope":"r w"}"#
        );
        assert_eq!(
            active(r#"{"\u0061ctive":false,"client_id":1,"token_type":"x","username":null,"scope":[],"azp":"a"}"#),
            r#"{"active":true,"azp":"a","client_id":1,"scope":[],"token_type":"x","username":null}"#
        );
        assert_eq!(
            active(r#"{"azp":1,"appid":"b"}"#),
            r#"{"active":true,"appid":"b","azp":1,"token_type":"Bearer","client_id":"b"}"#
        );
    }
}
