//! Follows redirects of downstream APIs, if the operator allows it. The token, other headers and
//! the body never leave the API's origin.

use std::time::Duration;

use super::{CORRELATION, Exchange, OutError, OutRequest, OutResponse};
use crate::clock::Clock;
use crate::value::url::Url;
use crate::value::{header, percent};

/// After this many redirects, the last response is the result.
pub const MAX_REDIRECTS: usize = 5;
/// The usual server limit for a request line.
const MAX_LOCATION: usize = 8 * 1024;
/// Headers sent to another origin: they neither identify nor authorize anyone.
const HARMLESS: [&str; 3] = ["accept", "accept-encoding", CORRELATION];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    /// The response is the result.
    Stay,
    /// Repeat the request there, apart from method and body.
    Same {
        /// Same origin as before.
        url: Url,
        /// Change it to a GET without a body.
        get: bool,
    },
    /// Repeat it there without token, other headers and body.
    Foreign { url: Url },
}

/// Whether a status asks for a request to another URL (RFC 9110 §15.4).
pub const fn is_redirect(status: u16) -> bool {
    matches!(status, 301..=303 | 307 | 308)
}

/// The redirect in a response to `method` at `url` (RFC 9110 §15.4).
pub fn next_hop(method: &str, url: &Url, answer: &OutResponse) -> Hop {
    let rewritten = match (answer.status, method) {
        (303, "HEAD") => false,
        (303, _) | (301 | 302, "POST") => true,
        (301 | 302 | 307 | 308, _) => false,
        _ => return Hop::Stay,
    };
    let mut locations = answer.headers.all("location");
    let (Some(location), None) = (locations.next(), locations.next()) else { return Hop::Stay };
    // An empty reference, or a fragment alone, means the same URL again.
    let location = location.trim_ascii();
    if location.is_empty() || location.starts_with(b"#") || location.len() > MAX_LOCATION {
        return Hop::Stay;
    }
    let Some(target) = resolve(url, &percent::encode_raw(location)) else { return Hop::Stay };
    let get = rewritten && method != "GET";
    if target.origin == url.origin {
        return Hop::Same { url: target, get };
    }
    // Another origin only learns that something is to be read, and only over TLS unless the API
    // itself uses plain HTTP.
    let reads = get || matches!(method, "GET" | "HEAD");
    if reads && (target.origin.https || !url.origin.https) { Hop::Foreign { url: target } } else { Hop::Stay }
}

#[derive(Clone, Debug)]
pub struct FollowedResponse {
    pub answer: OutResponse,
    /// True if a redirect left the API's origin, so the token was not sent.
    pub foreign: bool,
}

/// Sends a request, unless its `first` answer is here, and follows redirects within its timeout. A redirect to an address that is not
/// public is returned as the response.
pub fn follow(
    exchange: &dyn Exchange,
    clock: &dyn Clock,
    mut request: OutRequest,
    mut first: Option<Result<OutResponse, OutError>>,
) -> Result<FollowedResponse, OutError> {
    let deadline = clock.instant() + request.timeout;
    let mut last: Option<FollowedResponse> = None;
    for hops in 0..=MAX_REDIRECTS {
        let again = request.clone();
        let foreign = again.redirected_from.is_some();
        let answer = match first.take().unwrap_or_else(|| exchange.send(request)) {
            Err(OutError::NotPublic) if last.is_some() => break,
            answer => answer?,
        };
        let hop = if hops == MAX_REDIRECTS { Hop::Stay } else { next_hop(&again.method, &again.url, &answer) };
        if let Some(memory) = again.memory.as_deref() {
            memory.keep(answer.body.len());
        }
        last = Some(FollowedResponse { answer, foreign });
        request = match hop {
            Hop::Stay => break,
            Hop::Same { url, get } => redirected(again, url, get),
            Hop::Foreign { url: target } => {
                let get = again.method != "HEAD";
                let origin = again.url.origin.clone();
                let mut bare = redirected(again, target, get);
                bare.headers.retain(|(name, _)| HARMLESS.contains(&&**name));
                bare.redirected_from.get_or_insert(origin);
                // A redirect must not reuse connections opened for an API.
                bare.pooled = false;
                bare
            }
        };
        request.timeout = deadline.saturating_duration_since(clock.instant());
        if request.timeout == Duration::ZERO {
            return Err(OutError::Timeout(format!("{}: no time left after a redirect", request.url.origin)));
        }
    }
    last.ok_or_else(|| OutError::Broken("no answer".to_owned()))
}

fn redirected(mut request: OutRequest, url: Url, get: bool) -> OutRequest {
    request.url = url;
    if get {
        "GET".clone_into(&mut request.method);
        request.body = None;
        request.headers.retain(|(name, _)| !header::describes_body(name));
    }
    request
}

/// Resolves a reference against `base`, without its fragment (RFC 3986 §5.2).
fn resolve(base: &Url, reference: &str) -> Option<Url> {
    let reference = reference.split('#').next().unwrap_or_default();
    let has_scheme = reference.split(['/', '?']).next().is_some_and(|start| start.contains(':'));
    if has_scheme {
        return Url::parse(reference).ok();
    }
    if let Some(authority) = reference.strip_prefix("//") {
        return Url::parse(&format!("{}://{authority}", if base.origin.https { "https" } else { "http" })).ok();
    }
    let (path, query) = reference.split_once('?').map_or((reference, None), |(path, query)| (path, Some(query)));
    let path = match path {
        "" => base.path.clone(),
        absolute if absolute.starts_with('/') => without_dots(absolute),
        relative => {
            let folder = base.path.rfind('/').map_or("/", |end| &base.path[..=end]);
            without_dots(&format!("{folder}{relative}"))
        }
    };
    let query = query.or(base.query.as_deref().filter(|_| reference.is_empty()));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    Url::parse(&format!("{}{path}{query}", base.origin)).ok()
}

/// Removes dot segments (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            name => kept.push(name),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::Upstream;
    use zeroize::Zeroizing;

    use super::super::OutBody;
    use super::*;
    use crate::clock::ManualClock;
    use crate::outbound::HeaderFields;

    fn answer(status: u16, location: &str) -> OutResponse {
        let headers = HeaderFields::from([("location", location)]);
        OutResponse { status, headers, body: Vec::new() }
    }

    fn hop(method: &str, status: u16, location: &str) -> String {
        let url = Url::parse("https://api.example/a/b/c?q=1").unwrap();
        match next_hop(method, &url, &answer(status, location)) {
            Hop::Stay => "stay".to_owned(),
            Hop::Same { url, get } => format!("same {} {url}", if get { "GET" } else { method }),
            Hop::Foreign { url } => format!("foreign {url}"),
        }
    }

    #[test]
    fn the_method_follows_the_status() {
        for (method, status, expected) in [
            ("GET", 301, "same GET"),
            ("POST", 301, "same GET"),
            ("POST", 302, "same GET"),
            ("PUT", 302, "same PUT"),
            ("POST", 303, "same GET"),
            ("PUT", 303, "same GET"),
            ("HEAD", 303, "same HEAD"),
            ("POST", 307, "same POST"),
            ("PATCH", 308, "same PATCH"),
            ("GET", 300, "stay"),
            ("GET", 304, "stay"),
            ("GET", 200, "stay"),
            ("GET", 401, "stay"),
        ] {
            let hop = hop(method, status, "/x");
            assert_eq!(hop.replace(" https://api.example/x", ""), expected, "{method} {status}");
        }
    }

    #[test]
    fn a_location_is_resolved_as_the_rfc_says() {
        for (location, url) in [
            ("/x", "https://api.example/x"),
            ("x", "https://api.example/a/b/x"),
            ("./x", "https://api.example/a/b/x"),
            ("../x", "https://api.example/a/x"),
            ("../../../x", "https://api.example/x"),
            ("..", "https://api.example/a/"),
            (".", "https://api.example/a/b/"),
            ("x/", "https://api.example/a/b/x/"),
            ("?y=2", "https://api.example/a/b/c?y=2"),
            ("x?y=/../z#f", "https://api.example/a/b/x?y=/../z"),
            ("/a b/\u{e9}?q=a b", "https://api.example/a%20b/%C3%A9?q=a%20b"),
            ("/%20b/%e9", "https://api.example/%20b/%e9"),
            (" /x ", "https://api.example/x"),
            ("//api.example/x", "https://api.example/x"),
            ("https://API.example:443/x", "https://api.example/x"),
        ] {
            assert_eq!(hop("GET", 302, location), format!("same GET {url}"), "{location}");
        }
    }

    #[test]
    fn a_location_that_names_the_same_url_is_not_followed() {
        for location in ["", " ", "#", "#f", " #f"] {
            assert_eq!(hop("GET", 302, location), "stay", "{location:?}");
        }
    }

    #[test]
    fn another_origin_sees_a_bare_read_or_nothing() {
        for location in ["https://other.example/x", "//other.example/x", "https://api.example:8443/x"] {
            let url = if location.starts_with("//") { format!("https:{location}") } else { location.to_owned() };
            assert_eq!(hop("GET", 302, location), format!("foreign {url}"));
            assert_eq!(hop("POST", 303, location), format!("foreign {url}"));
            assert_eq!(hop("POST", 307, location), "stay");
            assert_eq!(hop("PUT", 302, location), "stay");
            assert_eq!(hop("DELETE", 308, location), "stay");
        }
        for location in
            ["http://api.example/x", "ftp://api.example/x", "javascript:x", "https://u@api.example/", "/\\x", "", " "]
        {
            assert_eq!(hop("GET", 302, location), "stay", "{location}");
        }
    }

    #[test]
    fn a_location_that_is_absent_doubled_or_endless_is_not_followed() {
        let url = Url::parse("https://api.example/").unwrap();
        let mut twice = answer(302, "/x");
        twice.headers = HeaderFields::from([("location", "/x"), ("location", "/x")]);
        assert_eq!(next_hop("GET", &url, &twice), Hop::Stay);
        twice.headers = HeaderFields::default();
        assert_eq!(next_hop("GET", &url, &twice), Hop::Stay);
        let long = |length: usize| format!("/{}", "x".repeat(length - 1));
        assert_ne!(next_hop("GET", &url, &answer(302, &long(MAX_LOCATION))), Hop::Stay);
        assert_eq!(next_hop("GET", &url, &answer(302, &long(MAX_LOCATION + 1))), Hop::Stay);
    }

    /// Answers from a list of locations, and records the requests.
    struct Script {
        locations: Vec<&'static str>,
        asked: Mutex<Vec<OutRequest>>,
    }

    impl Exchange for Script {
        fn send(&self, request: OutRequest) -> Result<OutResponse, OutError> {
            let mut asked = self.asked.lock().unwrap();
            asked.push(request);
            let not_public = asked.last().is_some_and(|request| request.url.origin.host().starts_with("10."));
            if not_public && asked.last().is_some_and(|request| request.redirected_from.is_some()) {
                return Err(OutError::NotPublic);
            }
            Ok(self.locations.get(asked.len() - 1).map_or_else(|| answer(200, ""), |location| answer(302, location)))
        }
    }

    fn followed(locations: &[&'static str]) -> (u16, Vec<String>) {
        let script = Script { locations: locations.to_vec(), asked: Mutex::default() };
        let header = |name: &'static str| (name.into(), Zeroizing::new(b"v".to_vec()));
        let request = OutRequest {
            upstream: Upstream::Downstream,
            method: "POST".into(),
            url: Url::parse("https://api.example/").unwrap(),
            headers: ["authorization", "accept", "content-type", "x-key"].map(header).into(),
            body: Some(OutBody::Own(Zeroizing::new(b"b".to_vec()))),
            memory: None,
            timeout: Duration::from_secs(1),
            max_body: 1,
            pooled: true,
            redirected_from: None,
        };
        let arrival = follow(&script, &ManualClock::at(0), request, None).unwrap();
        let show = |request: &OutRequest| {
            let names: Vec<_> = request.headers.iter().map(|(name, _)| &**name).collect();
            format!("{} {} {} {}", request.method, request.url, names.join(","), request.body.is_some())
        };
        (arrival.answer.status, script.asked.lock().unwrap().iter().map(show).collect())
    }

    #[test]
    fn the_token_goes_no_further_than_its_origin() {
        let first = "POST https://api.example/ authorization,accept,content-type,x-key true";
        let (_, asked) = followed(&["/a", "https://other.example/b", "https://api.example/c"]);
        let expected = [
            first,
            "GET https://api.example/a authorization,accept,x-key false",
            "GET https://other.example/b accept false",
            // Once dropped, the token does not come back.
            "GET https://api.example/c accept false",
        ];
        assert_eq!(asked, expected);
    }

    #[test]
    fn a_redirect_to_what_is_not_public_is_the_answer() {
        let (status, asked) = followed(&["https://other.example/b", "https://10.0.0.1/c"]);
        assert_eq!((status, asked.len()), (302, 3));
        let (status, asked) = followed(&["https://10.0.0.1/c"]);
        assert_eq!((status, asked.len()), (302, 2));
    }

    #[test]
    fn redirects_end_after_five() {
        assert_eq!(followed(&["/x"; 5]).0, 200);
        let (status, asked) = followed(&["/x"; 6]);
        assert_eq!((status, asked.len()), (302, 6));
    }
}
