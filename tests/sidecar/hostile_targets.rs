//! Whatever a caller writes into an override, a downstream call stays at its origin, below its base path, and one
//! request: each input is refused with words that say what was expected, or arrives as the table says.

use local_tenant::message::percent_encode;

use super::raw_upstream::{RawUpstream, ok};
use super::support::{Client, Request, Scene, Sidecar};

/// What becomes of an input.
enum Then {
    /// 400, with these words behind "expected".
    Refused(&'static str),
    /// A request for this below the base path.
    Below(&'static str),
}
use Then::{Below, Refused};

const DOTS: Then = Refused("a path without the segments . and ..");
const SLASHES: Then = Refused("a path without //");
const BACKSLASH: Then = Refused("a path without backslashes");
const CONTROL: Then = Refused("a path without control characters");
const FRAGMENT: Then = Refused("a path without a fragment");
const SCHEME: Then = Refused("a path without a scheme");
const CODED: Then = Refused("a path that is percent-encoded UTF-8");

/// `RelativePath`, as it stands behind the decoding of the sidecar's own query.
const PATHS: [(&str, Then); 103] = [
    ("..", DOTS),
    ("../", DOTS),
    ("/..", DOTS),
    ("../../admin", DOTS),
    ("a/../../../admin", DOTS),
    ("a/..", DOTS),
    (".", DOTS),
    ("./a", DOTS),
    ("a/./b", DOTS),
    ("a/.", DOTS),
    ("..;/admin", DOTS),
    ("..;x=y/admin", DOTS),
    ("a/.;/b", DOTS),
    (".. /admin", DOTS),
    ("%2e%2e/admin", DOTS),
    ("%2E%2E/admin", DOTS),
    (".%2e/admin", DOTS),
    ("%2e./admin", DOTS),
    ("%2e", DOTS),
    ("..%2fadmin", DOTS),
    ("a%2f..%2f..%2fadmin", DOTS),
    ("%2e%2e%2fadmin", DOTS),
    ("%2e%2e%3b/admin", DOTS),
    ("a/..%20/b", DOTS),
    ("..?x=1", DOTS),
    ("a/../b?x=1", DOTS),
    ("//evil.example", SLASHES),
    ("//evil.example/x", SLASHES),
    ("///evil.example", SLASHES),
    ("//", SLASHES),
    ("a//b", SLASHES),
    ("/%2fevil.example", SLASHES),
    ("%2fevil.example", SLASHES),
    ("%2F%2Fevil.example", SLASHES),
    ("a%2f%2fb", SLASHES),
    ("//user@evil.example", SLASHES),
    ("//evil.example:443/x", SLASHES),
    ("//[::1]/x", SLASHES),
    ("\\\\evil.example", BACKSLASH),
    ("/\\evil.example", BACKSLASH),
    ("\\..\\admin", BACKSLASH),
    ("a\\b", BACKSLASH),
    ("%5c%5cevil.example", BACKSLASH),
    ("..%5cadmin", BACKSLASH),
    ("a%5Cb", BACKSLASH),
    ("a?x=\\", BACKSLASH),
    ("https://evil.example/x", SCHEME),
    ("HTTPS://evil.example/x", SCHEME),
    ("http:evil.example", SCHEME),
    ("https:/evil.example", SCHEME),
    ("http%3a//evil.example", SCHEME),
    ("https%3A%2F%2Fevil.example", SCHEME),
    ("file:///etc/passwd", SCHEME),
    ("javascript:alert(1)", SCHEME),
    ("data:text/plain,x", SCHEME),
    ("a:b", SCHEME),
    ("x-y+z.1:b", SCHEME),
    ("#", FRAGMENT),
    ("a#b", FRAGMENT),
    ("#@evil.example/", FRAGMENT),
    ("a?x=1#b", FRAGMENT),
    ("a\r\nHost: evil.example", CONTROL),
    ("a HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /x", CONTROL),
    ("a\nX: y", CONTROL),
    ("a\rb", CONTROL),
    ("a\0", CONTROL),
    ("a\tb", CONTROL),
    ("a\u{7f}", CONTROL),
    ("a\u{85}b", CONTROL),
    ("a%0d%0aHost:%20evil.example", CONTROL),
    ("a%00", CONTROL),
    ("a%0a", CONTROL),
    ("a%c2%85", CONTROL),
    ("a?x=1\r\nX: y", CONTROL),
    ("%", CODED),
    ("a%2", CODED),
    ("a%zz", CODED),
    ("%c0%ae%c0%ae/admin", CODED),
    ("a%ff", CODED),
    ("%u002e%u002e/admin", CODED),
    ("a?x=%", Refused("a query that is percent-encoded UTF-8")),
    ("a?x=%ff", Refused("a query that is percent-encoded UTF-8")),
    // One decoding is what a server does; what needs two is a name like any other.
    ("%252e%252e/admin", Below("/%252e%252e/admin")),
    ("%252fevil.example", Below("/%252fevil.example")),
    // What would be an authority elsewhere is a segment behind the base path.
    ("@evil.example/x", Below("/@evil.example/x")),
    (":8080/x", Below("/:8080/x")),
    (".evil.example/x", Below("/.evil.example/x")),
    ("evil.example", Below("/evil.example")),
    ("user:password@evil.example", Refused("a path without a scheme")),
    ("a b", Below("/a%20b")),
    ("a HTTP/1.1", Below("/a%20HTTP/1.1")),
    ("a\"<>^`{|}", Below("/a%22%3C%3E%5E%60%7B%7C%7D")),
    ("...", Below("/...")),
    ("..a/b..", Below("/..a/b..")),
    ("/", Below("/")),
    ("\u{ff0e}\u{ff0e}/x", Below("/%EF%BC%8E%EF%BC%8E/x")),
    ("caf\u{e9}", Below("/caf%C3%A9")),
    ("a%2Fb", Below("/a%2Fb")),
    ("root:/a.pdf:/content", Refused("a path without a scheme")),
    ("me/drive/root:/a.pdf:/content", Below("/me/drive/root:/a.pdf:/content")),
    ("?x=https://evil.example//../y", Below("?x=https://evil.example//../y")),
    ("a?b?c=%2e%2e%2f", Below("/a?b?c=%2e%2e%2f")),
    ("a?x=1&y=\u{e9} z", Below("/a?x=1&y=%C3%A9%20z")),
];

/// The other overrides that shape a request: the whole parameter, encoded, and what becomes of it.
const PARAMETERS: [(&str, &str, Then); 49] = [
    ("ExtraQueryParameters.x", "../..", Below("?x=..%2F..")),
    ("ExtraQueryParameters.x", "1&y=2#z", Below("?x=1%26y%3D2%23z")),
    ("ExtraQueryParameters.x", "a\r\nHost: evil.example", Below("?x=a%0D%0AHost%3A%20evil.example")),
    ("ExtraQueryParameters.x&y", "1", Below("?x%26y=1")),
    ("ExtraQueryParameters.x HTTP/1.1\r\n", "1", Below("?x%20HTTP%2F1.1%0D%0A=1")),
    ("ExtraQueryParameters.", "1", Refused("a parameter's name after the dot")),
    ("CustomHeader.Authorization", "Bearer x", RESERVED),
    ("CustomHeader.AUTHORIZATION", "Bearer x", RESERVED),
    ("ExtraHeaderParameters.authorization", "Bearer x", RESERVED),
    ("CustomHeader.Host", "evil.example", RESERVED),
    ("CustomHeader.Content-Length", "0", RESERVED),
    ("CustomHeader.Transfer-Encoding", "chunked", RESERVED),
    ("CustomHeader.Connection", "close", RESERVED),
    ("CustomHeader.Keep-Alive", "timeout=1", RESERVED),
    ("CustomHeader.TE", "trailers", RESERVED),
    ("CustomHeader.Trailer", "X", RESERVED),
    ("CustomHeader.Upgrade", "h2c", RESERVED),
    ("CustomHeader.Proxy-Authorization", "Basic x", RESERVED),
    ("CustomHeader.Proxy-Connection", "close", RESERVED),
    ("CustomHeader.Proxy-Anything", "x", RESERVED),
    ("CustomHeader.Cookie", "a=b", RESERVED),
    ("CustomHeader.Expect", "100-continue", RESERVED),
    ("CustomHeader.X-Forwarded-Host", "evil.example", RESERVED),
    ("CustomHeader.X-Original-URL", "/admin", RESERVED),
    ("CustomHeader.X-MS-CLIENT-PRINCIPAL-ID", "x", RESERVED),
    ("CustomHeader.X-MS-TOKEN-AAD-ACCESS-TOKEN", "x", RESERVED),
    ("CustomHeader.Sec-Fetch-Site", "none", RESERVED),
    ("CustomHeader.", "x", HEADER_NAME),
    ("CustomHeader.X Y", "x", HEADER_NAME),
    ("CustomHeader.X:", "x", HEADER_NAME),
    ("CustomHeader.X\r\nHost", "evil.example", HEADER_NAME),
    ("CustomHeader.Host ", "evil.example", HEADER_NAME),
    ("CustomHeader.\u{e9}", "x", HEADER_NAME),
    ("CustomHeader.X", "a\r\nHost: evil.example", HEADER_VALUE),
    ("CustomHeader.X", "a\nb", HEADER_VALUE),
    ("CustomHeader.X", "a\0", HEADER_VALUE),
    ("CustomHeader.X", "\u{e9}", HEADER_VALUE),
    ("CustomHeader.X", " a", HEADER_VALUE),
    ("AcceptHeader", "text/html\r\nHost: evil.example", HEADER_VALUE),
    ("ContentType", "text/html\r\nHost: evil.example", HEADER_VALUE),
    ("ContentType", "html", Refused("a media type such as application/json")),
    ("HttpMethod", "CONNECT", Refused("an HTTP method other than CONNECT and TRACE")),
    ("HttpMethod", "trace", Refused("an HTTP method other than CONNECT and TRACE")),
    ("HttpMethod", "GET /admin HTTP/1.1\r\nHost: evil.example\r\n\r\nGET", METHOD),
    ("HttpMethod", "GET ", METHOD),
    ("HttpMethod", "G\u{c9}T", METHOD),
    ("HttpMethod", "\u{131}GET", METHOD),
    ("BaseUrl", "http://other.test/api/", FOREIGN),
    ("BaseUrl", "//127.0.0.1/", Refused("an absolute http:// or https:// URL")),
];
const RESERVED: Then = Refused("a header that callers may set (this one is reserved)");
const HEADER_NAME: Then = Refused("an HTTP header name after the dot");
const HEADER_VALUE: Then = Refused("a header value of at most 8 KiB of visible ASCII characters");
const METHOD: Then = Refused("the name of an HTTP method");
const FOREIGN: Then = Refused("the origin of the configured BaseUrl or one of DownstreamApis:App:AllowedBaseUrls");
const USER: Then = Refused("a URL without user name or password");
const ASCII: Then = Refused("a URL of visible ASCII characters (an international host name in its xn-- form)");
const QUOTES: Then = Refused("a URL without backslashes, quotes, braces or angle brackets (percent-encode them)");
const PORT: Then = Refused("a port from 1 to 65535");
const HOST: Then = Refused("a host name or address");

/// `BaseUrl`: `{own}` stands for the configured origin, `{evil}` for another, `{port}` for the configured port.
const BASES: [(&str, Then); 36] = [
    ("http://{evil}/api/v1", FOREIGN),
    ("https://{own}/api/v1", FOREIGN),
    ("http://127.0.0.1/api/v1", FOREIGN),
    ("http://localhost:{port}/api/v1", FOREIGN),
    ("http://127.0.0.1.:{port}/", FOREIGN),
    ("http://127.1:{port}/", FOREIGN),
    ("http://2130706433:{port}/", FOREIGN),
    ("http://0x7f000001:{port}/", FOREIGN),
    ("http://0177.0.0.1:{port}/", FOREIGN),
    ("http://[::ffff:127.0.0.1]:{port}/", FOREIGN),
    ("http://127.0.0.1.evil.example:{port}/", FOREIGN),
    ("http://169.254.169.254/metadata/identity", FOREIGN),
    ("http://{own}@{evil}/", USER),
    ("http://user:password@{own}/", USER),
    ("http://{evil}#@{own}/", Refused("a URL without a fragment")),
    ("http://{own}/api/v1#x", Refused("a URL without a fragment")),
    ("http://{evil}?@{own}/", Refused("a URL without a query")),
    ("http://{own}\\@{evil}/", QUOTES),
    ("http:\\\\{evil}/", QUOTES),
    ("http://{own}/api\\v1", QUOTES),
    ("http://b\u{fc}cher.example/", ASCII),
    ("http://127\u{3002}0\u{3002}0\u{3002}1:{port}/", ASCII),
    ("http://{own}/\r\nX: y", ASCII),
    ("http://{own}/a b", ASCII),
    (" http://{own}/", ASCII),
    ("http://{own}0000/", PORT),
    ("http://127.0.0.1:-1/", PORT),
    ("http:///api", HOST),
    ("http://%31%32%37.0.0.1:{port}/", HOST),
    ("ftp://{own}/", Refused("an absolute http:// or https:// URL")),
    ("http:/{own}/", Refused("an absolute http:// or https:// URL")),
    ("http://{own}/api/../admin", DOTS),
    ("http://{own}/api/%2e%2e/admin", DOTS),
    ("http://{own}//evil.example/", SLASHES),
    ("http://{own}/api/v1?x=1", Refused("a URL without a query")),
    ("HTTP://{own}/api/v1", Below("")),
];

/// The sidecar, its API, and a server that nothing may reach.
struct Range {
    sidecar: Sidecar,
    api: RawUpstream,
    evil: RawUpstream,
    _scene: Scene,
}

impl Range {
    fn new() -> Self {
        let (api, evil) = (RawUpstream::start(|_| ok("{}")), RawUpstream::start(|_| ok("evil")));
        let scene = Scene::new().with("DownstreamApis:App:BaseUrl", &format!("http://{}/api/v1", api.address));
        let sidecar = scene.start();
        Self { sidecar, api, evil, _scene: scene }
    }

    /// Sends every input and compares what happens with what the table says.
    fn prove<'a>(&self, cases: impl Iterator<Item = (&'a str, String, &'a Then)>) -> usize {
        let mut client = Client::connect(self.sidecar.address);
        let (mut count, mut arrived) = (0, 0);
        for (key, value, then) in cases {
            count += 1;
            let (name, coded) = (percent_encode(key), percent_encode(&value));
            let target = format!("/DownstreamApiUnauthenticated/App?optionsOverride.{name}={coded}");
            let response = Request::get(&target).send_on(&mut client);
            match then {
                Refused(expected) => {
                    let shown: String = key.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
                    response.problem(400, &format!("optionsOverride.{shown}: expected {expected}"));
                }
                Below(rest) => {
                    response.expect(200);
                    arrived += 1;
                    let received = self.api.last();
                    assert_eq!(received.head[0], format!("GET /api/v1{rest} HTTP/1.1"), "{key}={value:?}");
                    assert_eq!(received.header("Host"), [self.api.address.to_string()], "{key}={value:?}");
                    assert_eq!(received.header("Authorization").len(), 1, "{key}={value:?}");
                }
            }
            assert_eq!(self.api.received().len(), arrived, "{key}={value:?}: requests at the API");
        }
        assert_eq!(self.evil.connections(), 0, "nothing reaches another origin");
        count
    }
}

#[test]
fn no_path_leaves_the_origin_or_the_base_path() {
    let range = Range::new();
    range.prove(PATHS.iter().map(|(path, then)| ("RelativePath", (*path).to_owned(), then)));
    // Nothing but the arrivals of the table was sent: no second request was smuggled into one of them.
    assert!(range.api.received().iter().all(|request| request.target().starts_with("/api/v1")));
}

#[test]
fn no_other_parameter_takes_over_the_request() {
    let range = Range::new();
    range.prove(PARAMETERS.iter().map(|(key, value, then)| (*key, (*value).to_owned(), then)));
}

#[test]
fn a_base_url_has_the_origin_that_the_operator_named() {
    let range = Range::new();
    let (own, evil) = (range.api.address, range.evil.address.to_string());
    let fill = |text: &str| {
        let filled = text.replace("{own}", &own.to_string()).replace("{evil}", &evil);
        filled.replace("{port}", &own.port().to_string())
    };
    range.prove(BASES.iter().map(|(base, then)| ("BaseUrl", fill(base), then)));
}

#[test]
fn the_sidecars_own_query_is_read_strictly() {
    let range = Range::new();
    for (query, detail) in [
        (
            "optionsOverride.RelativePath=%ff",
            "The query parameter 'optionsOverride.RelativePath' is not percent-encoded UTF-8",
        ),
        (
            "optionsOverride.RelativePath=%",
            "The query parameter 'optionsOverride.RelativePath' is not percent-encoded UTF-8",
        ),
        ("optionsOverride.%ff=x", "The query parameter 'optionsOverride.%ff' is not percent-encoded UTF-8"),
        (
            "optionsOverride.RelativePaths=x",
            "optionsOverride.RelativePaths is unknown; did you mean optionsOverride.RelativePath?",
        ),
        ("optionsOverride.BaseUri=x", "optionsOverride.BaseUri is unknown; did you mean optionsOverride.BaseUrl?"),
    ] {
        let response = range.sidecar.get(&format!("/DownstreamApiUnauthenticated/App?{query}"));
        response.problem(400, detail);
    }
    assert_eq!(range.api.connections(), 0);
}

#[test]
fn allowed_base_urls_widen_a_callers_choice_and_nothing_else() {
    let (api, other) = (RawUpstream::start(|_| ok("api")), RawUpstream::start(|_| ok("other")));
    let scene = Scene::new()
        .with("DownstreamApis:App:BaseUrl", &format!("http://{}/api/v1", api.address))
        .with("DownstreamApis:App:AllowedBaseUrls", &format!("http://{}/", other.address));
    let sidecar = scene.start();
    let call = |base: String, path: &str| {
        let (base, path) = (percent_encode(&base), percent_encode(path));
        let query = format!("optionsOverride.BaseUrl={base}&optionsOverride.RelativePath={path}");
        sidecar.get(&format!("/DownstreamApiUnauthenticated/App?{query}"))
    };
    call(format!("http://{}/beta/", other.address), "me?x=1").expect(200);
    assert_eq!(other.last().target(), "/beta/me?x=1");
    call(format!("http://{}/beta", other.address), "../me").expect(400);
    call(format!("https://{}/beta", other.address), "me").expect(400);
    // No override: the configured one still.
    sidecar.get("/DownstreamApiUnauthenticated/App").expect(200);
    assert_eq!((api.last().target(), other.received().len()), ("/api/v1", 1));
}
