//! The parameters of an OAuth request, and the authentication of its caller.

use std::borrow::Cow;

use super::super::admit::TOKEN_HEADER;
use super::super::call::{Call, Halt};
use super::super::problem::Problem;
use crate::credentials::form::MEDIA_TYPE;
use crate::http::{Headers, Keep};
use crate::value::{b64, percent};

/// Bytes. Enough for a token and the other parameters.
const MAX_BYTES: usize = 64 * 1024;
/// The standards define about a dozen.
const MAX_PARAMETERS: usize = 64;

/// The parameters of an OAuth request. Not printable, because it holds tokens and secrets.
pub struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// The body of the request, once it has been read.
pub fn body<'a>(call: &Call<'a>) -> Result<Cow<'a, [u8]>, Halt> {
    call.body(Keep::UpTo(MAX_BYTES))?;
    Ok(call.request.body.bytes())
}

impl<'a> Form<'a> {
    /// Reads the body, and authenticates the caller before anything else is used.
    pub fn receive(call: &Call<'_>, body: &'a [u8]) -> Result<Self, Problem> {
        const UNPROVED: &str = "client_secret (RFC 6749 2.3.1) or the X-Sidecar-Token header must hold the content \
                                of Sidecar:CallerTokenFile";
        let headers = call.request.headers;
        let form = Self::read(headers, body);
        let password = basic_password(headers);
        // Some clients encode the password, as RFC 6749 §2.3.1 requires, and some do not.
        let decoded = password.as_ref().and_then(|password| percent::decode_form(str::from_utf8(password).ok()?).ok());
        let secret = form.as_ref().ok().and_then(|form| form.get("client_secret"));
        let sent = [password.as_deref(), decoded.as_deref().map(str::as_bytes), secret.map(str::as_bytes)];
        let admitted = call.service.admission.admit_token(headers, TOKEN_HEADER, sent.into_iter().flatten());
        admitted.map_err(|_| Problem::invalid_client(UNPROVED))?;
        form
    }

    fn read(headers: Headers<'_>, body: &'a [u8]) -> Result<Self, Problem> {
        let sent = headers.text("content-type").unwrap_or(MEDIA_TYPE);
        if !sent.split(';').next().is_some_and(|sent| sent.trim().eq_ignore_ascii_case(MEDIA_TYPE)) {
            return Err(Problem::with(400, format!("Content-Type: expected {MEDIA_TYPE}")));
        }
        Self::parse(str::from_utf8(body).map_err(|_| malformed())?)
    }

    fn parse(text: &'a str) -> Result<Self, Problem> {
        let mut form = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent::decode_form(name).map_err(|_| malformed())?;
            // Repeated parameters are an error (RFC 6749 §3.2).
            if form.iter().any(|(own, _)| *own == name) {
                return Err(Problem::with(400, "A parameter may be given once only"));
            }
            if form.len() == MAX_PARAMETERS {
                return Err(Problem::with(400, format!("The body has more than {MAX_PARAMETERS} parameters")));
            }
            form.push((name, percent::decode_form(value).map_err(|_| malformed())?));
        }
        Ok(Self(form))
    }

    /// A parameter. An empty one counts as absent (RFC 6749 §3.2).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).filter(|value| !value.is_empty())
    }

    /// A parameter that must be present and not empty.
    pub fn required(&self, name: &str) -> Result<&str, Problem> {
        self.get(name).ok_or_else(|| missing(name))
    }

    /// A parameter that must be present, but may be empty.
    pub fn sent(&self, name: &str) -> Result<&str, Problem> {
        self.find(name).ok_or_else(|| missing(name))
    }

    fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| &**value)
    }
}

fn missing(name: &str) -> Problem {
    Problem::with(400, format!("{name} is required"))
}

fn malformed() -> Problem {
    Problem::with(400, "The body is not application/x-www-form-urlencoded UTF-8")
}

/// The password of HTTP Basic authentication (RFC 7617 §2).
fn basic_password(headers: Headers<'_>) -> Option<Vec<u8>> {
    let (scheme, credentials) = headers.text("authorization")?.trim().split_once(' ')?;
    let pair = b64::from_standard(credentials.trim()).filter(|_| scheme.eq_ignore_ascii_case("Basic"))?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_strictly() {
        let form = Form::parse("a=1+2&b=%3d&c=&&d").ok().unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.get("A")), (Some("1 2"), Some("="), None));
        assert_eq!((form.get("c"), form.get("d")), (None, None), "what has no value is not there");
        let many = |count: usize| (0..count).map(|at| format!("p{at}=")).collect::<Vec<_>>().join("&");
        assert!(Form::parse(&many(MAX_PARAMETERS)).is_ok());
        for text in ["a=1&a=1", "a=&%61=1", "a=%", "%zz=1", "a=%ff", &many(MAX_PARAMETERS + 1)] {
            assert!(Form::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_type_is_that_of_forms() {
        let read = |sent: &str| {
            let fields = [httparse::Header { name: "Content-Type", value: sent.as_bytes() }];
            Form::read(Headers(&fields), b"a=1").is_ok()
        };
        assert!(read("application/x-www-form-urlencoded") && read("Application/X-WWW-Form-Urlencoded ; charset=utf-8"));
        assert!(!read("application/json") && !read("") && !read("text/plain;application/x-www-form-urlencoded"));
        assert!(Form::read(Headers(&[]), b"a=1").is_ok(), "curl and its like may leave it out");
        assert!(Form::read(Headers(&[]), b"a=\xff").is_err());
    }

    #[test]
    fn a_password_may_hold_colons() {
        let password = |sent: &str| {
            let fields = [httparse::Header { name: "Authorization", value: sent.as_bytes() }];
            basic_password(Headers(&fields))
        };
        assert_eq!(password("basic dTphOmI="), Some(b"a:b".to_vec()));
        for sent in ["Bearer dTphOmI=", "Basic", "Basic dQ==", "Basic *", "Basic dTphOmI"] {
            assert_eq!(password(sent), None, "{sent}");
        }
    }
}
