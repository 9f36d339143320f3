//! One exchange with a token endpoint: the request, one retry if that is safe, and a defensive
//! reading of the answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::error::{Error, TokenError, Unavailable};
use crate::clock::Clock;
use crate::credentials::form::{self, Form};
use crate::credentials::token_response::{TokenResponse, seconds};
use crate::outbound::{Exchange, OutError, OutRequest, OutResponse, Upstream};
use crate::secret::Secret;
use crate::value::url::Url;

/// Bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// Seconds; a longer `Retry-After` is not waited for.
const MAX_WAIT: u64 = 5;

/// Seconds; a longer `Retry-After` is capped.
const MAX_RETRY_AFTER: u64 = 3600;

/// Before a retry without `Retry-After`.
const PAUSE: Duration = Duration::from_millis(200);

/// Bytes kept of an error, which is sent to callers and remembered.
const MAX_REFUSAL: usize = 4 * 1024;

/// Limits within that for short members, in bytes, and for error codes. Entra sends one or two
/// codes.
const MAX_MEMBER: usize = 128;
const MAX_CODES: usize = 16;

/// Longer refresh tokens are not kept (docs/configuration.md, `Sidecar:Limits:Sessions`).
const MAX_REFRESH_TOKEN: usize = 16 * 1024;

pub struct Post<'a> {
    /// The token endpoint, including extra query parameters.
    pub url: &'a Url,
    /// `client-request-id`.
    pub correlation_id: &'a str,
    /// Names are lower case.
    pub headers: Vec<(String, String)>,
    /// Per attempt.
    pub timeout: Duration,
}

/// A successful token response (RFC 6749 §5.1).
pub struct TokenAnswer {
    /// Visible ASCII, so it fits in a header.
    pub access_token: Secret<String>,
    /// As sent.
    pub token_type: String,
    /// Seconds; 0 if missing.
    pub expires_in: u64,
    /// Seconds.
    pub refresh_in: Option<u64>,
    /// Kept only for long-running sessions.
    pub refresh_token: Option<Secret<String>>,
}

/// Builds and sends the form. Retries once after a failed connection, 408 or 5xx, with a new form;
/// never after a timeout.
pub fn request_token(
    exchange: &dyn Exchange,
    clock: &dyn Clock,
    post: &Post<'_>,
    form: &dyn Fn() -> Result<Form, Error>,
) -> Result<TokenAnswer, Error> {
    let failure = match attempt(exchange, clock, post, &form()?, true) {
        Err(Failed::Transient(failure)) => failure,
        outcome => return Ok(outcome?),
    };
    let pause = match failure.retry_after {
        Some(seconds) if seconds > MAX_WAIT => return Err(failure.into()),
        Some(seconds) => Duration::from_secs(seconds),
        None => PAUSE,
    };
    log::info!("{}; retrying once", failure.cause);
    clock.sleep(pause);
    Ok(attempt(exchange, clock, post, &form()?, false)?)
}

enum Failed {
    /// Another attempt may succeed.
    Transient(Unavailable),
    Finally(Error),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Transient(unavailable) => unavailable.into(),
            Failed::Finally(error) => error,
        }
    }
}

fn attempt(
    exchange: &dyn Exchange,
    clock: &dyn Clock,
    post: &Post<'_>,
    form: &Form,
    pooled: bool,
) -> Result<TokenAnswer, Failed> {
    let request = OutRequest::new(Upstream::Token, "POST", post.url.clone(), post.timeout, MAX_ANSWER)
        .header("accept", "application/json")
        .body(form::MEDIA_TYPE, form.encode())
        .header("client-request-id", post.correlation_id)
        .header("return-client-request-id", "true")
        // Tells the service that this client honours `Retry-After`, as MSAL does.
        .header("x-ms-lib-capability", "retry-after, h429");
    let request = post.headers.iter().fold(request, |request, (name, value)| request.header(name.clone(), value));
    let failed = |what: &str, retry_after| Unavailable {
        cause: format!("the token endpoint at {} {what}", post.url.origin.host()),
        retry_after,
    };
    match exchange.send(OutRequest { pooled, ..request }) {
        Ok(response) => judge(&response, form, clock.unix(), failed),
        Err(OutError::Busy) => Err(Failed::Finally(Error::Busy)),
        Err(error) if error.is_transient() => {
            Err(Failed::Transient(failed(&format!("cannot be reached: {error}"), None)))
        }
        Err(error) => Err(Failed::Finally(failed(&format!("failed: {error}"), None).into())),
    }
}

fn judge(
    response: &OutResponse,
    form: &Form,
    now: u64,
    failed: impl Fn(&str, Option<u64>) -> Unavailable,
) -> Result<TokenAnswer, Failed> {
    let status = response.status;
    let retry_after = response.retry_after(now).map(|seconds| seconds.min(MAX_RETRY_AFTER));
    let unavailable = |what: &str| Failed::Finally(failed(what, retry_after).into());
    Err(match status {
        200 => return read_token(&response.body).map_err(unavailable),
        408 | 500..=599 => Failed::Transient(failed(&format!("answered {status}"), retry_after)),
        429 => unavailable("answered 429 (throttled)"),
        400..=499 => match read_refusal(&response.body, form) {
            // RFC 6749 §4.1.2.1 gives no status for it; Entra sends 400.
            Some(refusal) if refusal.code == "temporarily_unavailable" => unavailable("is temporarily unavailable"),
            Some(refusal) => Failed::Finally(Error::Refused(Arc::new(refusal))),
            None => unavailable(&format!("answered {status} without an OAuth error")),
        },
        _ => unavailable(&format!("answered {status}")),
    })
}

/// An error reads on from the endpoint's name.
fn read_token(body: &[u8]) -> Result<TokenAnswer, &'static str> {
    let response = TokenResponse::parse(body)?;
    let lifetime = |value: &Value| match value {
        Value::Null => Ok(None),
        value => seconds(value).map(Some).ok_or("sent a lifetime that is not a number of seconds"),
    };
    Ok(TokenAnswer {
        expires_in: lifetime(&response.expires_in)?.unwrap_or(0),
        refresh_in: lifetime(&response.refresh_in)?,
        access_token: response.access_token,
        token_type: response.token_type.ok_or("sent a token response without token_type")?,
        refresh_token: response.refresh_token.filter(|token| token.expose().len() <= MAX_REFRESH_TOKEN),
    })
}

/// Reads an OAuth error response (RFC 6749 §5.2). Only `error` is required, and a malformed member
/// does not hide the others.
fn read_refusal(body: &[u8], form: &Form) -> Option<TokenError> {
    let raw: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let text = |name: &str| {
        let text = raw.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.map(|text| form.redact(text))
    };
    // All members except the description must fit on one line of a problem, a header or a log.
    let member = |name: &str| text(name).map(|text| cut(&text.replace(char::is_control, " "), MAX_MEMBER).to_owned());
    let codes = raw.get("error_codes").and_then(Value::as_array).into_iter().flatten();
    let mut refusal = TokenError {
        code: member("error")?,
        description: String::new(),
        error_codes: codes.filter_map(Value::as_u64).take(MAX_CODES).collect(),
        suberror: member("suberror"),
        claims: None,
        correlation_id: member("correlation_id"),
        trace_id: member("trace_id"),
        timestamp: member("timestamp"),
    };
    let room = |refusal: &TokenError| MAX_REFUSAL.saturating_sub(refusal.weight());
    // A truncated challenge would be useless.
    refusal.claims = text("claims").filter(|claims| claims.len() <= room(&refusal));
    let description = text("error_description").unwrap_or_default();
    let first_line = description.split(['\r', '\n']).next().unwrap_or_default();
    cut(first_line, room(&refusal)).clone_into(&mut refusal.description);
    Some(refusal)
}

/// The longest prefix of at most `length` bytes.
fn cut(text: &str, length: usize) -> &str {
    &text[..text.floor_char_boundary(length)]
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::clock::ManualClock;
    use crate::outbound::HeaderFields;

    /// Answers in order, and counts.
    struct Script(Mutex<Vec<Result<OutResponse, OutError>>>);

    impl Script {
        fn new(mut answers: Vec<Result<OutResponse, OutError>>) -> Self {
            answers.reverse();
            Self(Mutex::new(answers))
        }

        fn left(&self) -> usize {
            self.0.lock().unwrap().len()
        }
    }

    impl Exchange for Script {
        fn send(&self, _: OutRequest) -> Result<OutResponse, OutError> {
            self.0.lock().unwrap().pop().unwrap()
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "stands for an exchange, which may fail")]
    fn answer(status: u16, body: &str) -> Result<OutResponse, OutError> {
        Ok(OutResponse { status, headers: HeaderFields::default(), body: body.as_bytes().to_vec() })
    }

    #[expect(clippy::unnecessary_wraps, reason = "stands for an exchange, which may fail")]
    fn advised(status: u16, seconds: &str) -> Result<OutResponse, OutError> {
        let headers = HeaderFields::from([("retry-after", seconds)]);
        Ok(OutResponse { status, headers, body: Vec::new() })
    }

    fn run(script: &Script) -> (Result<TokenAnswer, Error>, u64) {
        let clock = ManualClock::at(0);
        let url = Url::parse("https://login.example/token").unwrap();
        let post = Post { url: &url, correlation_id: "id", headers: Vec::new(), timeout: Duration::from_secs(15) };
        let form = || Ok(Form::default().field("client_secret", "hunter2"));
        (request_token(script, &clock, &post, &form), clock.unix())
    }

    const GOOD: &str = r#"{"token_type":"Bearer","expires_in":"3599","refresh_in":43199,"access_token":"AT1"}"#;

    #[test]
    fn numbers_may_be_strings() {
        let (token, _) = run(&Script::new(vec![answer(200, GOOD)]));
        let token = token.ok().unwrap();
        assert_eq!((token.expires_in, token.refresh_in), (3599, Some(43199)));
        assert_eq!(token.access_token.expose(), "AT1");
    }

    #[test]
    fn failures_that_pass_are_retried_once() {
        for failure in [
            answer(503, ""),
            answer(500, ""),
            answer(408, ""),
            Err(OutError::Connect("refused".into())),
            Err(OutError::Broken("reset".into())),
        ] {
            let script = Script::new(vec![failure.clone(), answer(200, GOOD)]);
            assert!(run(&script).0.is_ok(), "{failure:?}");
            let script = Script::new(vec![failure.clone(), failure.clone(), answer(200, GOOD)]);
            assert!(matches!(run(&script).0, Err(Error::Unavailable(_))), "{failure:?}");
            assert_eq!(script.left(), 1, "{failure:?}");
        }
    }

    #[test]
    fn refusals_throttling_and_timeouts_are_not_retried() {
        for failure in [
            answer(400, r#"{"error":"invalid_grant"}"#),
            answer(429, ""),
            Err(OutError::Timeout("15 s".into())),
            answer(302, ""),
        ] {
            let script = Script::new(vec![failure.clone(), answer(200, GOOD)]);
            assert!(run(&script).0.is_err(), "{failure:?}");
            assert_eq!(script.left(), 1, "{failure:?}");
        }
    }

    #[test]
    fn retry_after_is_waited_for_up_to_five_seconds() {
        let (outcome, waited) = run(&Script::new(vec![advised(503, "5"), answer(200, GOOD)]));
        assert!(outcome.is_ok());
        assert_eq!(waited, 5);
        let (outcome, waited) =
            run(&Script::new(vec![advised(503, "Thu, 01 Jan 1970 00:00:03 GMT"), answer(200, GOOD)]));
        assert!(outcome.is_ok());
        assert_eq!(waited, 3);
        for (text, believed) in
            [("99999", 3600), ("99999999999999999999999", 3600), ("Fri, 31 Dec 1999 23:59:59 GMT", 3600)]
        {
            let (outcome, _) = run(&Script::new(vec![advised(429, text)]));
            assert!(
                matches!(outcome, Err(Error::Unavailable(failure)) if failure.retry_after == Some(believed)),
                "{text}"
            );
        }
        let (outcome, waited) = run(&Script::new(vec![advised(503, "6")]));
        assert!(matches!(outcome, Err(Error::Unavailable(failure)) if failure.retry_after == Some(6)));
        assert_eq!(waited, 0);
    }

    #[test]
    fn retry_after_may_be_a_date_and_nonsense_is_no_advice() {
        for (text, expected) in [
            ("17", Some(17)),
            ("Thu, 01 Jan 1970 00:00:20 GMT", Some(10)),
            ("Thu, 01 Jan 1970 00:00:05 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
        ] {
            let headers = HeaderFields::from([("retry-after", text)]);
            assert_eq!(OutResponse { status: 503, headers, body: Vec::new() }.retry_after(10), expected, "{text}");
        }
    }

    #[test]
    fn a_malformed_token_response_is_a_service_failure() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"access_token":"AT1","expires_in":1}"#,
            r#"{"token_type":"Bearer","access_token":""}"#,
            r#"{"token_type":"Bearer","access_token":"a\r\nX: y"}"#,
            r#"{"token_type":"Bearer","access_token":7}"#,
            r#"{"token_type":"Bearer","access_token":"AT1","expires_in":"soon"}"#,
            r#"{"token_type":"Bearer","access_token":"AT1","expires_in":-1}"#,
            &GOOD[..40],
        ] {
            assert!(matches!(run(&Script::new(vec![answer(200, body)])).0, Err(Error::Unavailable(_))), "{body}");
        }
    }

    #[test]
    fn a_refusal_is_one_by_its_error_whatever_else_is_odd() {
        let body = r#"{"error":"invalid_grant","error_description":7,"error_codes":["65001",65001,-1],"claims":{},"trace_id":"t"}"#;
        let Err(Error::Refused(refusal)) = run(&Script::new(vec![answer(400, body)])).0 else { panic!("refused") };
        assert_eq!((refusal.code.as_str(), refusal.description.as_str()), ("invalid_grant", ""));
        assert_eq!((refusal.error_codes.as_slice(), refusal.claims.as_deref()), (&[65_001][..], None));
        for body in ["", "{}", r#"{"error":""}"#, r#"{"error":7}"#, "[]"] {
            assert!(matches!(run(&Script::new(vec![answer(400, body)])).0, Err(Error::Unavailable(_))), "{body}");
        }
    }

    #[test]
    fn what_is_kept_of_a_refusal_is_bounded() {
        let refused = |body: Value| match run(&Script::new(vec![answer(400, &body.to_string())])).0 {
            Err(Error::Refused(refusal)) => refusal,
            _ => panic!("refused"),
        };
        let long = "\u{e9}".repeat(100_000);
        let refusal = refused(json!({
            "error": long, "error_description": long, "error_codes": vec![7; 300_000], "suberror": long, "claims": long,
            "correlation_id": long, "trace_id": long, "timestamp": long,
        }));
        assert!(refusal.weight() <= MAX_REFUSAL && refusal.weight() > MAX_REFUSAL - 2, "{}", refusal.weight());
        assert_eq!((refusal.error_codes.len(), refusal.claims.as_deref()), (MAX_CODES, None));
        let claims = "c".repeat(3000);
        let refusal = refused(json!({"error": "interaction_required", "error_description": long, "claims": claims}));
        assert_eq!(refusal.claims.as_deref(), Some(claims.as_str()));
        assert!(refusal.weight() <= MAX_REFUSAL && !refusal.description.is_empty());
    }

    #[test]
    fn nothing_of_a_refusal_but_its_claims_has_lines() {
        let body = r#"{"error":"bad\r\nX: y","error_description":"one\rtwo","suberror":"a\nb","trace_id":"\u0000"}"#;
        let Err(Error::Refused(refusal)) = run(&Script::new(vec![answer(400, body)])).0 else { panic!("refused") };
        assert_eq!((refusal.code.as_str(), refusal.description.as_str()), ("bad  X: y", "one"));
        assert_eq!((refusal.suberror.as_deref(), refusal.trace_id.as_deref()), (Some("a b"), Some(" ")));
    }

    #[test]
    fn a_refresh_token_has_a_longest_length() {
        for (length, kept) in [(MAX_REFRESH_TOKEN, true), (MAX_REFRESH_TOKEN + 1, false)] {
            let body = json!({"token_type": "Bearer", "access_token": "AT1", "refresh_token": "r".repeat(length)});
            let token = run(&Script::new(vec![answer(200, &body.to_string())])).0.ok().unwrap();
            assert_eq!(token.refresh_token.is_some(), kept, "{length}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_first_line_and_loses_our_secrets() {
        let body = r#"{"error":"invalid_client","error_description":"AADSTS7000215: not hunter2\r\nTrace ID: x","error_codes":[7000215],"trace_id":"t","suberror":""}"#;
        let Err(Error::Refused(refusal)) = run(&Script::new(vec![answer(401, body)])).0 else { panic!("refused") };
        assert_eq!(refusal.description, "AADSTS7000215: not [redacted]");
        assert_eq!((refusal.error_codes.as_slice(), refusal.suberror.as_deref()), (&[7_000_215][..], None));
    }
}
