//! `WWW-Authenticate` (RFC 9110 §11.6.1), and the claims challenge in it (continuous access
//! evaluation).
//!
//! A field may contain several challenges, and commas separate both challenges and parameters, so
//! this is a real parser rather than a split at commas or spaces.

use super::OutResponse;
use crate::value::b64;
use crate::value::header::is_token_char;

/// For all fields together; a claims challenge takes a few hundred bytes.
const MAX_BYTES: usize = 16 * 1024;
/// For all challenges of an answer together.
const MAX_PARAMETERS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// As sent; compared ignoring case.
    pub scheme: String,
    /// Names in lower case; values without quotes and escapes.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first value; `name` is lower case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// The claims that a 401 demands, as JSON text. `None` for any other answer.
pub fn claims_challenge(answer: &OutResponse) -> Option<String> {
    if answer.status != 401 {
        return None;
    }
    of(answer).iter().find_map(|challenge| {
        let bearer = ["Bearer", "PoP"].iter().any(|scheme| challenge.scheme.eq_ignore_ascii_case(scheme));
        let wanting = challenge.parameter("error")?.eq_ignore_ascii_case("insufficient_claims");
        if bearer && wanting { decode_claims(challenge.parameter("claims")?) } else { None }
    })
}

/// Decodes base64 as services send it: in either alphabet, padded or not. Also accepts plain JSON.
fn decode_claims(text: &str) -> Option<String> {
    let text = text.trim();
    let json = if text.starts_with('{') { text.to_owned() } else { String::from_utf8(b64::lenient(text)?).ok()? };
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&json).ok()?;
    Some(json)
}

pub fn of(answer: &OutResponse) -> Vec<Challenge> {
    parse(answer.headers.all("www-authenticate"))
}

/// The challenges of all fields in order. A syntax error ends its field.
pub fn parse<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let (mut bytes, mut parameters) = (MAX_BYTES, MAX_PARAMETERS);
    for field in fields {
        let Some(left) = bytes.checked_sub(field.len()) else { break };
        bytes = left;
        let mut input = Input(field);
        while let Some(challenge) = input.challenge(&mut parameters) {
            challenges.push(challenge);
        }
    }
    challenges
}

/// The rest of a field.
#[derive(Clone, Copy)]
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn challenge(&mut self, budget: &mut usize) -> Option<Challenge> {
        self.skip(b" \t,");
        let mut challenge = Challenge { scheme: text(self.take(is_token_char)?), parameters: Vec::new() };
        if !matches!(self.0.first(), None | Some(b' ' | b'\t' | b',')) {
            return None;
        }
        self.skip(b" \t");
        if self.token68() {
            return Some(challenge);
        }
        loop {
            self.skip(b" \t,");
            let before = *self;
            let Some(name) = self.take(is_token_char) else { break };
            self.skip(b" \t");
            if self.0.first() != Some(&b'=') {
                // Not a parameter, so it is the next challenge's scheme.
                *self = before;
                break;
            }
            self.0 = &self.0[1..];
            self.skip(b" \t");
            *budget = budget.checked_sub(1)?;
            challenge.parameters.push((text(name).to_ascii_lowercase(), self.value()?));
        }
        Some(challenge)
    }

    /// Skips the token68 credentials that some schemes use instead of parameters.
    fn token68(&mut self) -> bool {
        let mut ahead = *self;
        if ahead.take(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)).is_none() {
            return false;
        }
        ahead.skip(b"=");
        let padded = ahead.0.len();
        ahead.skip(b" \t");
        let ends = matches!(ahead.0.first(), None | Some(b','));
        // A single word before a comma may be the next scheme; it has no parameters either way.
        if ends && padded < self.0.len() {
            *self = ahead;
        }
        ends
    }

    /// A token or a quoted string (RFC 9110 §5.6.4). Also accepts unquoted base64, which is not a
    /// token because of `/` and `=`.
    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.0.strip_prefix(b"\"") else {
            return self.take(|byte| is_token_char(byte) || b"/=:".contains(&byte)).map(text);
        };
        let (mut value, mut rest) = (Vec::new(), quoted.iter().copied());
        loop {
            match rest.next()? {
                b'"' => break,
                b'\\' => value.push(rest.next()?),
                byte => value.push(byte),
            }
        }
        self.0 = &quoted[quoted.len() - rest.len()..];
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| !wanted(*byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        (!taken.is_empty()).then_some(taken)
    }

    fn skip(&mut self, unwanted: &[u8]) {
        let _ = self.take(|byte| unwanted.contains(&byte));
    }
}

fn text(ascii: &[u8]) -> String {
    String::from_utf8_lossy(ascii).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::HeaderFields;

    const CLAIMS: &str = r#"{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}"#;
    const CODED: &str = "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNzAwMDAwMDAwIn19fQ==";

    /// Formats the challenges as `scheme name=value;name=value`.
    fn parsed(fields: &[&str]) -> Vec<String> {
        let show = |challenge: Challenge| {
            let parameters: Vec<_> =
                challenge.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {}", challenge.scheme, parameters.join(";"))
        };
        parse(fields.iter().map(|field| field.as_bytes())).into_iter().map(show).collect()
    }

    fn claims(fields: &[&str]) -> Option<String> {
        let headers = fields.iter().map(|field| ("www-authenticate".to_owned(), field.as_bytes().to_vec()));
        claims_challenge(&OutResponse { status: 401, headers: headers.collect(), body: Vec::new() })
    }

    #[test]
    fn challenges_are_read_by_the_grammar() {
        for (fields, expected) in [
            (&["Bearer"][..], &["Bearer "][..]),
            (&["Bearer, Negotiate"], &["Bearer ", "Negotiate "]),
            (&["Bearer realm=\"a\", error=b"], &["Bearer realm=a;error=b"]),
            (&["Bearer realm=\"a\",error=\"b\",claims=\"c\""], &["Bearer realm=a;error=b;claims=c"]),
            (&["Bearer realm=\"a, b=\\\"c\\\"\\\\\", x=y"], &["Bearer realm=a, b=\"c\"\\;x=y"]),
            (&["Basic realm=\"x\", Bearer error=\"e\""], &["Basic realm=x", "Bearer error=e"]),
            (&["Negotiate YII/+abc==, Bearer error=\"e\""], &["Negotiate ", "Bearer error=e"]),
            (&["Negotiate YII", "Bearer error=e"], &["Negotiate ", "Bearer error=e"]),
            (&[", ,Bearer ,, a=b ,,c = \"d\" ,"], &["Bearer a=b;c=d"]),
            (&["Bearer A=1, B=2"], &["Bearer a=1;b=2"]),
            (&["Bearer a=\"1\" b=\"2\""], &["Bearer a=1;b=2"]),
            (&["Bearer claims=ab/c=="], &["Bearer claims=ab/c=="]),
            (&["Bearer a=\"\""], &["Bearer a="]),
            (&[""], &[]),
            (&["=x"], &[]),
            (&["Bearer a=\"unterminated"], &[]),
            (&["Bearer a=\"x\\"], &[]),
            (&["Bearer\"x\""], &[]),
            (&["Basic a=b, Bearer c=;"], &["Basic a=b"]),
            (&["Bearer \"x\""], &["Bearer "]),
        ] {
            assert_eq!(parsed(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn claims_come_in_any_base64_or_plain() {
        let url = "eyJhIjoi77-_77-_In0";
        for (value, expected) in [
            (CODED, CLAIMS),
            (CODED.trim_end_matches('='), CLAIMS),
            (url, "{\"a\":\"\u{ffff}\u{ffff}\"}"),
            ("{\\\"a\\\":1}", "{\"a\":1}"),
        ] {
            let field = format!("Bearer realm=\"\", error=\"insufficient_claims\", claims=\"{value}\"");
            assert_eq!(claims(&[&field]).as_deref(), Some(expected), "{value}");
        }
        let unquoted = format!("Basic realm=\"x\",bearer Error=Insufficient_Claims,CLAIMS={CODED}");
        assert_eq!(claims(&[&unquoted]).as_deref(), Some(CLAIMS));
        assert_eq!(claims(&["Basic", &unquoted]).as_deref(), Some(CLAIMS));
    }

    #[test]
    fn what_is_no_claims_challenge_is_none() {
        for field in [
            "Bearer".to_owned(),
            format!("Bearer claims=\"{CODED}\""),
            format!("Bearer error=\"invalid_token\", claims=\"{CODED}\""),
            format!("Basic error=\"insufficient_claims\", claims=\"{CODED}\""),
            "Bearer error=\"insufficient_claims\"".to_owned(),
            "Bearer error=\"insufficient_claims\", claims=\"\"".to_owned(),
            "Bearer error=\"insufficient_claims\", claims=\"%%%\"".to_owned(),
            "Bearer error=\"insufficient_claims\", claims=\"W10=\"".to_owned(),
            "Bearer error=\"insufficient_claims\", claims=\"{\"".to_owned(),
            format!("Bearer realm=\"error=insufficient_claims, claims={CODED}\""),
        ] {
            assert_eq!(claims(&[&field]), None, "{field}");
        }
        let field = format!("Bearer error=\"insufficient_claims\", claims=\"{CODED}\"");
        let headers = HeaderFields::from([("www-authenticate", field)]);
        assert_eq!(claims_challenge(&OutResponse { status: 403, headers, body: Vec::new() }), None);
    }

    #[test]
    fn the_fields_have_a_budget() {
        let padded = |length: usize| {
            let field = "Bearer error=\"insufficient_claims\", claims=\"{}\"";
            format!("{}{field}", ",".repeat(length - field.len()))
        };
        assert!(claims(&[&padded(MAX_BYTES)]).is_some());
        assert_eq!(claims(&[&padded(MAX_BYTES + 1)]), None);
        let counted = |count: usize| {
            let others = "x=y, ".repeat(count - 2);
            format!("Bearer {others}error=\"insufficient_claims\", claims=\"{{}}\"")
        };
        assert!(claims(&[&counted(MAX_PARAMETERS)]).is_some());
        assert_eq!(claims(&[&counted(MAX_PARAMETERS + 1)]), None);
    }
}
