//! Forwards the heads of a proxied request and of its answer: selects the fields and adds the sidecar's own.
//!
//! Hop-by-hop fields and the fields named by `Connection` are removed before anything is added (RFC 9110 §7.6.1), so a
//! caller that names `authorization` there removes its own field and never the token.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;

use zeroize::Zeroizing;

use super::CORRELATION;
use super::buffers;
use super::http1::{AnswerHead, BodyFraming, Field, connection_names};
use super::request_line::{self, ToProxy};
use crate::value::date::HTTP_LEN;
use crate::value::url::{Origin, Url};
use crate::value::{header, wide};

#[derive(Clone, Copy)]
pub struct RequestHead<'a, F> {
    pub method: &'a str,
    pub url: &'a Url,
    /// Set if a forward proxy takes the request.
    pub to_proxy: Option<&'a ToProxy>,
    /// The caller's fields in their order.
    pub fields: F,
    /// Names of the caller's credentials that are forwarded.
    pub kept: &'a [String],
    /// Configured fields, which replace the caller's. Names are lower case.
    pub configured: &'a BTreeMap<String, String>,
    pub authorization: &'a str,
    /// Replaces a field of the caller's that says another one.
    pub correlation_id: &'a str,
    pub framing: BodyFraming,
}

impl<'a, F: Iterator<Item = Field<'a>> + Clone> RequestHead<'a, F> {
    /// The whole head, the empty line included.
    pub fn write(&self) -> Zeroizing<Vec<u8>> {
        let mut head = buffers::for_head();
        request_line::write(&mut head, self.method, self.url, self.to_proxy);
        let mut put = |name: &str, value: &[u8]| buffers::append(&mut head, &[name.as_bytes(), b": ", value, b"\r\n"]);
        let removed = |name: &str| connection_names(self.fields.clone(), name);
        let replaced = |name: &str, value: &[u8]| {
            self.configured.keys().any(|own| own.eq_ignore_ascii_case(name))
                || name.eq_ignore_ascii_case(CORRELATION) && value != self.correlation_id.as_bytes()
        };
        let mut identified = self.configured.contains_key(CORRELATION);
        for (name, value) in self.fields.clone() {
            if header::is_forwarded(name, self.kept) && !removed(name) && !replaced(name, value) {
                identified |= name.eq_ignore_ascii_case(CORRELATION);
                put(name, value);
            }
        }
        for (name, value) in self.configured {
            put(name, value.as_bytes());
        }
        if !identified {
            put(CORRELATION, self.correlation_id.as_bytes());
        }
        put("Authorization", self.authorization.as_bytes());
        match self.framing {
            BodyFraming::Length(length) => put("Content-Length", length.to_string().as_bytes()),
            BodyFraming::Chunked => put("Transfer-Encoding", b"chunked"),
            BodyFraming::None | BodyFraming::UntilClose => {}
        }
        buffers::append(&mut head, &[b"\r\n"]);
        head
    }
}

impl AnswerHead<'_> {
    /// Appends the status line and the end-to-end fields, with links rewritten. Framing fields without a length, `Connection`
    /// and the empty line are left to the caller.
    pub fn write(&self, out: &mut Vec<u8>, links: &LinkRewrite) {
        // Cannot fail.
        let _ = write!(out, "HTTP/1.1 {} {}\r\n", self.status, self.reason);
        for (name, value) in &self.fields {
            let is_length = name.eq_ignore_ascii_case("content-length");
            let removed =
                header::is_hop_by_hop(name) || connection_names(self.fields.iter().copied(), name) && !is_length;
            if removed || header::is_refusal_mark(name) || is_length && !self.has_length() {
                continue;
            }
            match links.rewritten(name, value) {
                Some(link) => push(out, name, &link),
                None => push(out, name, value),
            }
        }
    }

    /// Whether `Content-Length` is forwarded. In answers to HEAD and in 304 it describes the answer to GET (RFC 9110 §8.6).
    fn has_length(&self) -> bool {
        match self.framing {
            BodyFraming::None => self.status != 204 && self.status >= 200,
            BodyFraming::Length(_) => true,
            BodyFraming::Chunked | BodyFraming::UntilClose => false,
        }
    }

    /// Appends `Date` and the correlation id if the API sent none that is forwarded.
    pub fn complete(&self, out: &mut Vec<u8>, date: &[u8; HTTP_LEN], correlation_id: &str) {
        let has = |wanted: &str| {
            self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted))
                && !connection_names(self.fields.iter().copied(), wanted)
        };
        if !has("date") {
            push(out, "Date", date);
        }
        if !has(CORRELATION) {
            push(out, CORRELATION, correlation_id.as_bytes());
        }
    }
}

/// Fields whose value is a link, which clients follow or poll.
const LINKS: [&str; 4] = ["location", "content-location", "operation-location", "azure-asyncoperation"];

/// Turns links to the API into links through the sidecar.
#[derive(Debug)]
pub struct LinkRewrite {
    pub origin: Origin,
    /// The API's base path, without a trailing slash.
    pub base: String,
    /// The sidecar's URL for that base.
    pub here: String,
    /// The parameters that the sidecar adds to every query.
    pub query: String,
}

impl LinkRewrite {
    /// The new value of a link field, if it points to the base URL or below it.
    fn rewritten(&self, name: &str, value: &[u8]) -> Option<Vec<u8>> {
        if !LINKS.iter().any(|link| link.eq_ignore_ascii_case(name)) {
            return None;
        }
        // An origin is ASCII. What follows passes as it is.
        let ascii = value.iter().position(|byte| !byte.is_ascii()).unwrap_or(value.len());
        let text = std::str::from_utf8(&value[..ascii]).ok()?;
        let authority = text.find("://")? + 3;
        let end = text[authority..].find(['/', '?', '#']).map_or(text.len(), |at| authority + at);
        if Url::parse(&text[..end]).ok()?.origin != self.origin {
            return None;
        }
        let rest = value[end..].strip_prefix(self.base.as_bytes())?;
        let goes_on = rest.is_empty() || rest.starts_with(b"/") || rest.starts_with(b"?");
        goes_on.then(|| [self.here.as_bytes(), &self.without_own_query(rest)].concat())
    }

    /// What follows the base, without the parameters that the sidecar will add once more.
    fn without_own_query<'a>(&self, rest: &'a [u8]) -> Cow<'a, [u8]> {
        let fragment = rest.iter().position(|byte| *byte == b'#').unwrap_or(rest.len());
        let Some(at) = rest[..fragment].iter().position(|byte| *byte == b'?').filter(|_| !self.query.is_empty()) else {
            return rest.into();
        };
        let mut left: Vec<&[u8]> = rest[at + 1..fragment].split(|byte| *byte == b'&').collect();
        for own in self.query.split('&') {
            if let Some(again) = left.iter().position(|parameter| *parameter == own.as_bytes()) {
                left.remove(again);
            }
        }
        let mark: &[u8] = if left.is_empty() { b"" } else { b"?" };
        [&rest[..at], mark, &left.join(&b'&'), &rest[fragment..]].concat().into()
    }
}

fn push(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        wide::push(out, part);
    }
}

#[cfg(test)]
mod tests {
    use super::super::http1::TWO_ENDS;
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        String::from_utf8_lossy(bytes).split_terminator("\r\n").map(str::to_owned).collect()
    }

    fn request(fields: &[Field<'_>], kept: &[&str], configured: &[(&str, &str)], framing: BodyFraming) -> Vec<String> {
        let url = Url::parse("https://api.example:8443/v1").unwrap();
        let kept: Vec<String> = kept.iter().map(|name| (*name).to_owned()).collect();
        let configured = configured.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let head = RequestHead {
            method: "GET",
            url: &url,
            to_proxy: None,
            fields: fields.iter().copied(),
            kept: &kept,
            configured: &configured,
            authorization: "Bearer t",
            correlation_id: "id",
            framing,
        };
        let lines = lines(&head.write());
        assert_eq!(lines[0], "GET /v1 HTTP/1.1");
        lines[1..].to_vec()
    }

    const OWN: [&str; 3] = ["x-ms-client-request-id: id", "Authorization: Bearer t", ""];

    #[test]
    fn a_request_loses_connection_fields_and_credentials() {
        let fields: Vec<Field<'_>> = [
            "Host", "Authorization", "Expect", "Forwarded", "Via", "X-Forwarded-For", "X-Real-IP", "Cookie",
            "X-Sidecar-Options", "X-Sidecar-Token", "API-Key", "x-api-key", "ocp-apim-subscription-key",
            "X-Functions-Key", "x-ms-authorization-auxiliary", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding",
            "Upgrade", "Proxy-Authorization", "Proxy-Connection", "Content-Length", "X-Named",
        ]
        .into_iter()
        .map(|name| (name, &b"of-the-caller"[..]))
        .chain([("Connection", &b"close, X-Named ,authorization"[..]), ("Accept-Encoding", b"gzip"), ("X-Two", b"1")])
        .chain([("x-two", &b"\xe9"[..]), ("Accept", b"a")])
        .collect();
        let rest = ["Host: api.example:8443", "Accept-Encoding: gzip", "X-Two: 1", "x-two: \u{fffd}", "Accept: a"];
        assert_eq!(request(&fields, &[], &[], BodyFraming::None), [&rest[..], &OWN].concat());
        let kept = ["Cookie", "api-key"];
        let with_kept = request(&fields, &kept, &[("accept", "b")], BodyFraming::Length(3));
        assert_eq!(
            with_kept[1..],
            [
                "Cookie: of-the-caller", "API-Key: of-the-caller", "Accept-Encoding: gzip", "X-Two: 1",
                "x-two: \u{fffd}", "accept: b", OWN[0], OWN[1], "Content-Length: 3", ""
            ]
        );
    }

    #[test]
    fn the_api_gets_the_one_id_of_the_request() {
        for (callers, sent) in [("id", "X-MS-Client-Request-Id: id"), ("a b", OWN[0])] {
            let own = [("X-MS-Client-Request-Id", callers.as_bytes())];
            let mut lines = request(&own, &[], &[], BodyFraming::Chunked);
            lines[1..].sort();
            let mut expected = [sent, OWN[1], "Transfer-Encoding: chunked", ""];
            expected.sort_unstable();
            assert_eq!(lines[1..], expected, "{callers}");
        }
    }

    #[test]
    fn what_connection_names_is_replaced_by_the_sidecars_own() {
        let text = b"HTTP/1.1 200 OK\r\nConnection: Date, X-MS-Client-Request-Id\r\nDate: old\r\nX-MS-Client-Request-Id: old\r\n\r\n";
        let (head, _) = AnswerHead::parse(text, false).unwrap().unwrap();
        let mut out = Vec::new();
        head.write(&mut out, &links());
        head.complete(&mut out, b"Thu, 01 Jan 1970 00:00:00 GMT", "id");
        assert_eq!(lines(&out)[1..], ["Date: Thu, 01 Jan 1970 00:00:00 GMT", OWN[0]]);
    }

    fn links() -> LinkRewrite {
        let origin = Url::parse("https://api.example/").unwrap().origin;
        LinkRewrite {
            origin,
            base: "/v1".into(),
            here: "http://localhost:5000/Proxy/a".into(),
            query: "k=1&v=2".into(),
        }
    }

    /// The lines of an answer as it goes on, and where its body ends.
    fn answer(head: &str, bodiless: bool) -> Result<(Vec<String>, BodyFraming, bool), &'static str> {
        let text = format!("HTTP/1.1 {head}\r\n\r\nrest");
        let (parsed, length) = AnswerHead::parse(text.as_bytes(), bodiless)?.unwrap();
        if parsed.has_two_ends {
            return Err(TWO_ENDS);
        }
        assert_eq!(&text[length..], "rest");
        let mut out = Vec::new();
        parsed.write(&mut out, &links());
        Ok((lines(&out), parsed.framing, parsed.persists))
    }

    #[test]
    fn an_answer_keeps_all_but_connection_fields() {
        let head = "299 All fine\r\nServer: x\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: keep-alive, X-Gone\r\n\
                    X-Gone: 1\r\nKeep-Alive: 5\r\nX-Sidecar-Error: 1\r\nProxy-Authenticate: Basic\r\nContent-Length: 07";
        let (sent, framing, persists) = answer(head, false).unwrap();
        let expected =
            ["HTTP/1.1 299 All fine", "Server: x", "set-cookie: a=1", "Set-Cookie: b=2", "Content-Length: 07"];
        assert_eq!(
            (sent.as_slice(), framing, persists),
            (&expected.map(str::to_owned)[..], BodyFraming::Length(7), true)
        );
    }

    #[test]
    fn an_answer_ends_where_http_says() {
        let (length, chunks) = ("\r\nContent-Length: 5", "\r\nTransfer-Encoding: Chunked");
        for (status, fields, bodiless, framing, has_length) in [
            ("200 OK", length, false, BodyFraming::Length(5), true),
            ("200 OK", length, true, BodyFraming::None, true),
            ("304 Not Modified", length, false, BodyFraming::None, true),
            ("204 No Content", length, false, BodyFraming::None, false),
            ("200 OK", chunks, false, BodyFraming::Chunked, false),
            ("200 OK", "", false, BodyFraming::UntilClose, false),
            ("103 Early Hints", length, false, BodyFraming::None, false),
        ] {
            let (sent, seen, persists) = answer(&format!("{status}{fields}"), bodiless).unwrap();
            let said = sent.iter().any(|line| line.starts_with("Content-Length"));
            let case = format!("{status}{fields} {bodiless}");
            assert_eq!((seen, said, persists), (framing, has_length, framing != BodyFraming::UntilClose), "{case}");
        }
        for fields in [
            [length, length].concat(),
            [length, chunks].concat(),
            [chunks, chunks].concat(),
            "\r\nContent-Length: 5, 5".to_owned(),
            "\r\nContent-Length: +5".to_owned(),
            "\r\nContent-Length: 99999999999999999999".to_owned(),
            "\r\nTransfer-Encoding: gzip, chunked".to_owned(),
            "\r\n folded: 1".to_owned(),
        ] {
            assert!(answer(&format!("200 OK{fields}"), false).is_err(), "{fields}");
        }
        assert!(AnswerHead::parse(b"HTTP/1.1 200 OK\r\nA: b\r\n", false).unwrap().is_none());
        for line in ["SSH-2.0-x", "HTTP/1.1 000 No", "HTTP/1.1 099 No", "HTTP/1.1 99 No", "HTTP/1.1 1000 No"] {
            assert!(AnswerHead::parse(format!("{line}\r\n\r\n").as_bytes(), false).is_err(), "{line}");
        }
    }

    #[test]
    fn links_below_the_base_lead_through_the_sidecar() {
        for (value, rewritten) in [
            ("https://api.example/v1", Some("")),
            ("https://API.example:443/v1/x/y?z=1#f", Some("/x/y?z=1#f")),
            ("https://api.example/v1?x", Some("?x")),
            ("https://api.example/v1/x?a=b&v=2&k=1&k=1#f", Some("/x?a=b&k=1#f")),
            ("https://api.example/v1/x?k=1&v=2", Some("/x")),
            ("https://api.example/v1/x?k=1%20&V=2", Some("/x?k=1%20&V=2")),
            ("https://api.example/v1/\u{e4}", Some("/\u{e4}")),
            ("https://api.example/v1/", Some("/")),
            ("https://api.example/v12", None),
            ("https://api.example/", None),
            ("https://api.example.evil/v1/x", None),
            ("https://api.example@evil/v1/x", None),
            ("http://api.example/v1/x", None),
            ("/v1/x", None),
            ("x", None),
        ] {
            let here = rewritten.map(|rest| format!("http://localhost:5000/Proxy/a{rest}"));
            for name in ["Location", "Content-Location", "Operation-Location", "Azure-AsyncOperation"] {
                let (sent, ..) = answer(&format!("201 Created\r\n{name}: {value}"), false).unwrap();
                assert_eq!(sent[1], format!("{name}: {}", here.as_deref().unwrap_or(value)), "{name} {value}");
            }
            let (sent, ..) = answer(&format!("201 Created\r\nLink: {value}"), false).unwrap();
            assert_eq!(sent[1], format!("Link: {value}"));
        }
    }
}
