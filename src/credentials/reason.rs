//! Extracts the reason from a service's error response.

use serde_json::Value;

/// In characters; the rest is cut.
const MAX_MESSAGE: usize = 500;

/// `code: message` in the service's own words, on one line. `redact` removes secrets before the text
/// is cut.
pub fn reason(body: &[u8], redact: impl FnOnce(&str) -> String) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return "no reason given".into();
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let error = &body["error"];
    // App Service uses statusCode and message; Cloud Shell, Service Fabric and vaults nest them;
    // the others are flat.
    let code = text(error).or_else(|| text(&error["code"])).or_else(|| text(&body["code"]));
    let message = text(&body["error_description"])
        .or_else(|| text(&error["message"]))
        .or_else(|| text(&body["message"]))
        .or_else(|| text(&body["Message"]));
    let line = match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => return "no reason given".into(),
    };
    redact(&line).lines().next().unwrap_or_default().chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_all_forms_are_one_line() {
        for (body, expected) in [
            (
                r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
                "invalid_request: Identity not found",
            ),
            (r#"{"statusCode":500,"message":"No identity\nTrace","correlationId":"c"}"#, "No identity"),
            (
                r#"{"error":{"code":"ManagedServiceIdentityNotFound","message":"gone"}}"#,
                "ManagedServiceIdentityNotFound: gone",
            ),
            (r#"{"error":"x","error_description":"header hunter2 is wrong"}"#, "x: header [redacted] is wrong"),
            ("<html>", "no reason given"),
            ("{}", "no reason given"),
        ] {
            assert_eq!(reason(body.as_bytes(), |line| line.replace("hunter2", "[redacted]")), expected);
        }
        for length in [499, 500, 501] {
            let body = format!(r#"{{"message":"{}"}}"#, "x".repeat(length));
            assert_eq!(reason(body.as_bytes(), str::to_owned).len(), length.min(MAX_MESSAGE));
        }
    }
}
