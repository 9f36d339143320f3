//! Builds the request to a downstream API.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{AnswerMemory, CORRELATION, OutBody, OutRequest, RelayedBody, Upstream};
use crate::value::header;
use crate::value::url::Url;

/// A downstream request without its token. It takes only the body, the headers that describe the
/// body, and the trace from the inbound request.
#[derive(Clone, Copy, Debug)]
pub struct DownstreamCall<'a> {
    /// Upper case.
    pub method: &'a str,
    /// Its origin was named by the operator.
    pub url: &'a Url,
    /// Not sent if empty.
    pub accept: &'a str,
    /// Sent only with a body.
    pub content_type: Option<&'a [u8]>,
    /// Headers that came with the body and describe it, except its type; names in lower case. Sent
    /// only with a body.
    pub described: &'a [(String, Vec<u8>)],
    /// `traceparent` and `tracestate` of the caller, or nothing. A configured `traceparent` replaces
    /// both.
    pub trace: &'a [(String, String)],
    /// Additional headers, names in any case. Reserved ones are skipped.
    pub headers: &'a BTreeMap<String, String>,
    /// `None` if there is no body or it must not be sent.
    pub body: Option<&'a Arc<RelayedBody>>,
    pub memory: &'a Arc<AnswerMemory>,
    /// For the whole exchange.
    pub timeout: Duration,
    /// For the response body, in bytes.
    pub max_body: usize,
}

impl DownstreamCall<'_> {
    pub fn request(&self, authorization: &str, correlation_id: &str) -> OutRequest {
        let mut headers = Vec::with_capacity(8 + self.headers.len());
        headers.extend([field("authorization", authorization), field("accept-encoding", "identity")]);
        for (name, value) in self.headers {
            let usable = header::is_token(name) && header::is_value(value) && !header::is_reserved(name);
            if usable && (self.body.is_some() || !header::describes_body(name)) {
                headers.push(field(name.to_ascii_lowercase(), value));
            }
        }
        // A header set by name takes precedence over the option for it, and over the inbound
        // header.
        let described = self.described.iter().filter(|_| self.body.is_some());
        let described: Vec<_> = described
            .filter(|(own, _)| !headers.iter().any(|(name, _)| name == own))
            .map(|(name, value)| field(name.clone(), value))
            .collect();
        headers.extend(described);
        let traced = headers.iter().any(|(name, _)| name == "traceparent");
        let mut add = |name: Cow<'static, str>, value: &[u8]| {
            if !value.is_empty() && !headers.iter().any(|(own, _)| *own == name) {
                headers.push(field(name, value));
            }
        };
        add("accept".into(), self.accept.as_bytes());
        add(CORRELATION.into(), correlation_id.as_bytes());
        for (name, value) in self.trace.iter().filter(|_| !traced) {
            add(name.clone().into(), value.as_bytes());
        }
        if self.body.is_some() {
            add("content-type".into(), self.content_type.unwrap_or_default());
        }
        // Methods that normally have content send a length even without any (RFC 9110 §8.6).
        let says_length = matches!(self.method, "POST" | "PUT" | "PATCH");
        let none = || says_length.then(|| OutBody::Own(Zeroizing::default()));
        let body = self.body.map(|body| OutBody::Relayed(Arc::clone(body))).or_else(none);
        let (method, url) = (self.method, self.url.clone());
        let plain = OutRequest::new(Upstream::Downstream, method, url, self.timeout, self.max_body);
        OutRequest { headers, body, memory: Some(Arc::clone(self.memory)), ..plain }
    }
}

fn field(name: impl Into<Cow<'static, str>>, value: impl AsRef<[u8]>) -> (Cow<'static, str>, Zeroizing<Vec<u8>>) {
    (name.into(), Zeroizing::new(value.as_ref().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{BodyMemory, HeldBody};

    fn request(method: &str, body: &str, headers: &[(&str, &str)]) -> Vec<String> {
        let url = Url::parse("https://api.example/me?x=1").unwrap();
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let accept = "application/json";
        let relayed = (!body.is_empty()).then(|| RelayedBody::new(HeldBody::from(body.as_bytes().to_vec())));
        let call = DownstreamCall {
            method,
            url: &url,
            accept,
            content_type: Some(b"text/csv"),
            described: &[("content-encoding".to_owned(), b"gzip".to_vec())],
            trace: &[],
            headers: &headers,
            body: relayed.as_ref(),
            memory: &AnswerMemory::new(BodyMemory::new(0).nothing(), Duration::ZERO),
            timeout: Duration::from_secs(1),
            max_body: 1,
        };
        let request = call.request("Bearer t", "id");
        assert_eq!((request.method.as_str(), request.url.to_string().as_str()), (method, "https://api.example/me?x=1"));
        let mut lines: Vec<_> =
            request.headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
        lines.sort();
        lines.extend(request.body.map(|body| String::from_utf8(body.current().to_vec()).unwrap()));
        lines
    }

    #[test]
    fn a_call_carries_its_own_headers_alone() {
        let common = ["accept-encoding: identity", "accept: application/json", "authorization: Bearer t"];
        let (coding, id) = ("content-encoding: gzip", "x-ms-client-request-id: id");
        assert_eq!(request("GET", "", &[]), [&common[..], &[id]].concat());
        assert_eq!(request("DELETE", "", &[]), [&common[..], &[id]].concat());
        assert_eq!(request("POST", "", &[]), [&common[..], &[id, ""]].concat());
        assert_eq!(request("POST", "a,b", &[]), [&common[..], &[coding, "content-type: text/csv", id, "a,b"]].concat());
        assert_eq!(request("DELETE", "a", &[]), [&common[..], &[coding, "content-type: text/csv", id, "a"]].concat());
    }

    #[test]
    fn a_custom_header_never_replaces_a_reserved_one() {
        let further = [
            ("Accept", "text/csv"),
            ("Authorization", "Bearer evil"),
            ("Content-Type", "text/plain"),
            ("Content-Encoding", "br"),
            ("Host", "evil"),
            ("Prefer", "x"),
            ("X Bad", "x"),
            ("X-Bad", "a\r\nb"),
            ("X-Forwarded-For", "1"),
        ];
        let expected = ["accept-encoding: identity", "accept: text/csv", "authorization: Bearer t"];
        let rest = ["prefer: x", "x-ms-client-request-id: id"];
        assert_eq!(request("GET", "", &further), [&expected[..], &rest].concat());
        let with_body =
            ["content-encoding: br", "content-type: text/plain", "prefer: x", "x-ms-client-request-id: id", "b"];
        assert_eq!(request("PATCH", "b", &further), [&expected[..], &with_body].concat());
    }
}
