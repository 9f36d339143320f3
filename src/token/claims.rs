//! The `claims` field of a token request: the caller's claims, merged with the registration's
//! client capabilities. <https://learn.microsoft.com/entra/identity-platform/claims-challenge>

use serde_json::{Map, Value, json};

/// Returns JSON, or `None` if there is nothing to send. `requested` was checked to be a JSON
/// object; anything else is passed on for the token service to reject.
pub fn merged(capabilities: &[String], requested: Option<&str>) -> Option<String> {
    if capabilities.is_empty() {
        return requested.map(str::to_owned);
    }
    let mut claims = json!({ "access_token": { "xms_cc": { "values": capabilities } } });
    match requested.map(serde_json::from_str::<Map<String, Value>>) {
        None => {}
        Some(Ok(requested)) => merge(&mut claims, Value::Object(requested)),
        Some(Err(_)) => return requested.map(str::to_owned),
    }
    Some(claims.to_string())
}

/// Merges objects, unites arrays, and replaces other values. A null replaces nothing.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                match into.get_mut(&name) {
                    Some(own) => merge(own, value),
                    None => {
                        into.insert(name, value);
                    }
                }
            }
        }
        (Value::Array(into), Value::Array(from)) => {
            for value in from {
                if !into.contains(&value) {
                    into.push(value);
                }
            }
        }
        (_, Value::Null) => {}
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(capabilities: &[&str], requested: Option<&str>, expected: Option<&str>) {
        let capabilities: Vec<String> = capabilities.iter().map(|text| (*text).to_owned()).collect();
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(merged(&capabilities, requested).as_deref().map(parse), expected.map(parse));
    }

    #[test]
    fn capabilities_and_demands_are_merged_without_repeating() {
        check(&[], None, None);
        check(&["cp1"], None, Some(r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#));
        check(&[], Some(r#"{"a":1}"#), Some(r#"{"a":1}"#));
        check(
            &["cp1"],
            Some(r#"{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}"#),
            Some(r#"{"access_token":{"xms_cc":{"values":["cp1"]},"nbf":{"essential":true,"value":"1700000000"}}}"#),
        );
        check(
            &["cp1"],
            Some(r#"{"access_token":{"xms_cc":{"values":["cp1","cp2"]}}}"#),
            Some(r#"{"access_token":{"xms_cc":{"values":["cp1","cp2"]}}}"#),
        );
        check(&["cp1"], Some(r#"{"access_token":null}"#), Some(r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#));
    }
}
