//! Reads the answer of a managed identity endpoint. Its expiry comes in one of many formats.
//! <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>

use serde_json::{Number, Value};

use crate::credentials::token_response::TokenResponse;
use crate::secret::Secret;
use crate::value::date::from_invariant;

#[derive(Clone, Debug)]
pub struct IdentityToken {
    /// Visible ASCII, so it fits in a header.
    pub access_token: Secret<String>,
    /// Unix seconds.
    pub expires_at: u64,
    /// Unix seconds, for long-lived tokens: renew from then on.
    pub refresh_at: Option<u64>,
}

/// Smaller numbers are seconds from now: as a date, they would lie before 2001.
const FIRST_MOMENT: u64 = 978_307_200;

/// Larger numbers are milliseconds: as seconds, they would lie after the year 5000.
const LAST_MOMENT: u64 = 99_999_999_999;

/// Seconds. Azure's tokens live for 24 hours. A longer life is a misread answer, and a token cached
/// too long cannot be revoked.
const MAX_LIFETIME: u64 = 48 * 3600;

/// Seconds. Tokens with a longer life are renewed at half of it, as MSAL does.
const LONG_LIFE: u64 = 7200;

/// An error reads on from the endpoint's name.
pub fn token(body: &[u8], now: u64) -> Result<IdentityToken, &'static str> {
    let response = TokenResponse::parse(body)?;
    let expiries = [response.expires_on, response.expires_in];
    if expiries.iter().all(Value::is_null) {
        return Err("sent a token response without expires_on and expires_in");
    }
    let readable = expiries.iter().find_map(|expiry| moment(expiry, now));
    let expires_at = readable.ok_or("sent an expiry that is neither seconds nor a date")?;
    let expires_at = expires_at.clamp(now, now.saturating_add(MAX_LIFETIME));
    let life = expires_at - now;
    Ok(IdentityToken {
        access_token: response.access_token,
        expires_at,
        refresh_at: (life > LONG_LIFE).then_some(now + life / 2),
    })
}

/// True if the answer names this identity as the owner of the token.
pub fn is_of(body: &[u8], client_id: &str) -> bool {
    let answer = serde_json::from_slice::<Value>(body).unwrap_or_default();
    answer["client_id"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(client_id))
}

fn moment(value: &Value, now: u64) -> Option<u64> {
    let number = match value {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => match text.trim().parse::<Number>() {
            Ok(number) => Some(number),
            Err(_) => return from_invariant(text),
        },
        _ => None,
    }?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates at 0, which is past")]
    let number = number.as_u64().or_else(|| number.as_f64().map(|number| number as u64))?;
    Some(match number {
        ..FIRST_MOMENT => now.saturating_add(number),
        FIRST_MOMENT..=LAST_MOMENT => number,
        _ => number / 1000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_225_600;

    fn expiry(fields: &str) -> Result<(u64, Option<u64>), &'static str> {
        let body = format!(r#"{{"access_token":"AT",{fields}}}"#);
        token(body.as_bytes(), NOW).map(|token| (token.expires_at - NOW, token.refresh_at.map(|at| at - NOW)))
    }

    #[test]
    fn an_expiry_is_read_in_every_spelling() {
        for (fields, expected) in [
            (r#""expires_on":"1767229200""#, (3600, None)),
            (r#""expires_on":1767229200"#, (3600, None)),
            (r#""expires_on":1767229200.9"#, (3600, None)),
            (r#""expires_in":"3600""#, (3600, None)),
            (r#""expires_in":3600"#, (3600, None)),
            (r#""expires_on":"3600""#, (3600, None)),
            (r#""expires_on":"2026-01-01T01:00:00Z""#, (3600, None)),
            (r#""expires_in":"10","expires_on":"1767229200""#, (3600, None)),
            (r#""expires_on":"1767229200","expires_in":"10""#, (3600, None)),
            (r#""expires_in":7200"#, (7200, None)),
            (r#""expires_in":7201"#, (7201, Some(3600))),
            (r#""expires_in":86400"#, (86_400, Some(43_200))),
            (r#""expires_on":978307200"#, (0, None)),
            (r#""expires_on":978307199"#, (172_800, Some(86_400))),
            (r#""expires_on":"1767229200.9""#, (3600, None)),
            (r#""expires_on":"1/1/2026 1:00:00 AM +00:00""#, (3600, None)),
            (r#""expires_on":"01/01/2026 01:00:00""#, (3600, None)),
            (r#""expires_on":1767229200000"#, (3600, None)),
            (r#""expires_on":"1767229200000""#, (3600, None)),
            (r#""expires_on":99999999999"#, (172_800, Some(86_400))),
            (r#""expires_on":"9/14/2027 12:00:00 AM +00:00""#, (172_800, Some(86_400))),
            (r#""expires_on":"soon","expires_in":3600"#, (3600, None)),
            (r#""expires_on":null,"expires_in":"3600""#, (3600, None)),
            (r#""expires_on":{},"expires_in":"3600""#, (3600, None)),
            (r#""expires_on":3600,"expires_in":"soon""#, (3600, None)),
        ] {
            assert_eq!(expiry(fields), Ok(expected), "{fields}");
        }
    }

    #[test]
    fn an_answer_without_token_or_expiry_is_none() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"access_token":"AT"}"#,
            r#"{"expires_in":1}"#,
            r#"{"access_token":"","expires_in":1}"#,
            r#"{"access_token":"A T","expires_in":1}"#,
            r#"{"access_token":"AT","expires_in":"soon"}"#,
            r#"{"access_token":"AT","expires_in":{}}"#,
            r#"{"access_token":"AT","expires_on":"soon","expires_in":"later"}"#,
        ] {
            assert!(token(body.as_bytes(), NOW).is_err(), "{body}");
        }
    }
}
