use super::super::Overrides;
use super::*;
use crate::config::{Api, ApiOptions};

const BASE: &str = "https://graph.microsoft.com/v1.0";

fn api(base: &str) -> Api {
    let base_url = Some(Url::parse(base).unwrap());
    let options = ApiOptions { base_url, scopes: vec!["s".into()], ..ApiOptions::default() };
    Api { name: "Graph".into(), options, ..Api::default() }
}

/// The URL of a call to `base` with these overrides, or the error.
fn join(base: &str, query: &str) -> Result<String, String> {
    let api = api(base);
    let overrides = Overrides::parse(Some(query)).map_err(|invalid| invalid.to_string())?;
    let options = Effective::merge(&api, &overrides).map_err(|invalid| invalid.to_string())?;
    Target::new(&options).map(|target| target.url().to_string()).map_err(|invalid| invalid.to_string())
}

/// Encodes everything, so that exactly `path` arrives as `RelativePath`.
fn relative(path: &str) -> String {
    let mut query = String::from("optionsOverride.RelativePath=");
    query.push_str(&percent::encode_component(path));
    query
}

#[test]
fn path_and_query_are_appended_with_one_slash() {
    for (base, path, joined) in [
        (BASE, "me", "/v1.0/me"),
        (BASE, "/me", "/v1.0/me"),
        (BASE, "me/", "/v1.0/me/"),
        (BASE, "/", "/v1.0/"),
        (BASE, "", "/v1.0"),
        ("https://graph.microsoft.com/v1.0/", "me", "/v1.0/me"),
        ("https://graph.microsoft.com/v1.0/", "/me", "/v1.0/me"),
        ("https://graph.microsoft.com/v1.0/", "", "/v1.0/"),
        ("https://graph.microsoft.com", "", "/"),
        ("https://graph.microsoft.com", "me", "/me"),
        ("https://graph.microsoft.com/", "/me", "/me"),
        (BASE, "users?$top=3", "/v1.0/users?$top=3"),
        (BASE, "?$top=3", "/v1.0?$top=3"),
        (BASE, "users?a=https://x//y/../z", "/v1.0/users?a=https://x//y/../z"),
        (BASE, "users?", "/v1.0/users"),
        (BASE, "me/drive/root:/reports/x.pdf:/content", "/v1.0/me/drive/root:/reports/x.pdf:/content"),
        (BASE, "/root:/x", "/v1.0/root:/x"),
        (BASE, "users('a@b.com')/messages", "/v1.0/users('a@b.com')/messages"),
        (BASE, "a b", "/v1.0/a%20b"),
        (BASE, "a%20b", "/v1.0/a%20b"),
        (BASE, "a%2Fb", "/v1.0/a%2Fb"),
        (BASE, "caf\u{e9}", "/v1.0/caf%C3%A9"),
        (BASE, "a+b", "/v1.0/a+b"),
        (BASE, "users?$filter=name eq 'x'&y={z}", "/v1.0/users?$filter=name%20eq%20'x'&y=%7Bz%7D"),
        (BASE, "...", "/v1.0/..."),
        (BASE, "a..b/.well-known/c.", "/v1.0/a..b/.well-known/c."),
        (BASE, "a;v=1/b", "/v1.0/a;v=1/b"),
        (BASE, "%252e%252e/x", "/v1.0/%252e%252e/x"),
    ] {
        let wanted = format!("https://graph.microsoft.com{joined}");
        assert_eq!(join(base, &relative(path)), Ok(wanted), "{base} + {path}");
    }
}

#[test]
fn extra_query_parameters_follow_encoded() {
    let extra = "&optionsOverride.ExtraQueryParameters.$top=3&optionsOverride.ExtraQueryParameters.q=a%26b=%23";
    let wanted = |path: &str| Ok(format!("{BASE}{path}%24top=3&q=a%26b%3D%23"));
    assert_eq!(join(BASE, &format!("{}{extra}", relative("users?a=1"))), wanted("/users?a=1&"));
    assert_eq!(join(BASE, &format!("{}{extra}", relative("users"))), wanted("/users?"));
    assert_eq!(join(BASE, &extra[1..]), wanted("?"));
}

/// Each would leave base path, origin or request line with some server or client.
const HOSTILE_PATHS: [&str; 106] = [
    "..", "../", "/..", "/../", "../me", "/../me", "a/..", "a/../b", "a/../../b", "./", ".", "./a", "a/.", "a/./b",
    "/./a", "../../etc/passwd", "a/b/../../../c", "..;", "..;/a", "a/..;x=1/b", ".;a", "a/.;/b", ".. /a", "a/ ../b",
    "a/.. ", "%2e%2e", "%2e%2e/", "%2E%2E/a", "a/%2e%2e/b", ".%2e/a", "%2e./a", "a/%2e/b", "%2e", "%2e/a", "..%2fa",
    "..%2Fa", "a%2f..%2fb", "a%2F..%2Fb", "a%2f%2e%2e%2fb", "%2e%2e%2fa", "a/..%2f", "%2f..", "%2f..%2fa", "a%2f.%2fb",
    "..%3ba", "%2e%2e%3b/a", "%2e%2e%20/a", "..%09/a", "..%5ca", "..%5Ca", "a%5c..%5cb", "%5c", "%5c%5cevil.com",
    "%5cevil.com", "a%5cb", "%2e%2e%5c", "..\\a", "\\..\\a", "\\", "\\\\evil.com\\x", "/\\evil.com", "a\\b", "a?b\\c",
    "//", "//evil.com", "//evil.com/a", "///evil.com", "a//b", "a//", "/%2fevil.com", "%2fevil.com", "%2f%2fevil.com",
    "%2F%2Fevil.com", "a%2f%2fb", "a/%2fb", "https://evil.com", "https://evil.com/a", "HTTPS://evil.com",
    "http:evil.com", "https:/evil.com", "javascript:alert(1)", "file:///etc/passwd", "a:b", "a+b-c.1:d",
    "https%3a%2f%2fevil.com", "https%3Aevil.com", "mailto:x?y", "a#b", "#", "a?b#c", "/#/../..", "a\r\nHost: evil.com",
    "a\nb", "a\rb", "a\tb", "a\0b", "a\u{7f}b", "a\u{85}b", "a%0d%0aX:%20y", "a%00", "a%0a", "a%7f", "%", "a%2",
    "a%zz/b", "a%ff",
];

#[test]
fn no_path_leaves_the_base() {
    for path in HOSTILE_PATHS {
        let refused = join(BASE, &relative(path)).expect_err(path);
        assert!(refused.starts_with("optionsOverride.RelativePath: expected a path"), "{path:?}: {refused}");
    }
}

#[test]
fn a_configured_path_is_judged_as_the_callers_is() {
    for path in HOSTILE_PATHS {
        let mut api = api(BASE);
        api.options.relative_path = Some(path.into());
        let none = Overrides::default();
        let options = Effective::merge(&api, &none).unwrap();
        assert!(matches!(Target::new(&options), Err(OptionsError::Path(_))), "{path:?}");
    }
}

#[test]
fn no_query_leaves_its_place() {
    for query in ["a?%", "a?%zz", "a?x=%ff", "a?x\r\ny", "a?x\0", "a?\\", "a?#", "a?x=\u{9f}"] {
        let refused = join(BASE, &relative(query)).expect_err(query);
        assert!(refused.starts_with("optionsOverride.RelativePath: expected a "), "{query:?}: {refused}");
    }
    // Any text stays a single parameter of the query.
    for text in
        ["../..", "//evil.com", "a\r\nb", "a#b", "a&b=c", "a?b", "%00", "\\", " ", "\u{e9}", "https://evil.com", "@"]
    {
        let mut query = String::from("optionsOverride.ExtraQueryParameters.");
        query.push_str(&percent::encode_component(text));
        query.push('=');
        query.push_str(&percent::encode_component(text));
        let joined = join(BASE, &query).unwrap();
        let (path, parameter) = joined.split_once('?').unwrap();
        assert_eq!(path, BASE, "{text:?}");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%=".contains(&byte);
        assert!(parameter.bytes().all(plain) && parameter.matches('=').count() == 1, "{text:?}: {parameter}");
    }
}

#[test]
fn no_header_takes_over_the_request() {
    for name in [
        "Authorization", "authorization", "HOST", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive",
        "TE", "Trailer", "Upgrade", "Proxy-Authorization", "Proxy-Connection", "Proxy-X", "Cookie", "X-Forwarded-For",
        "X-Original-URL", "X-MS-CLIENT-PRINCIPAL", "X-MS-TOKEN-AAD-ID-TOKEN", "Expect", "Sec-Fetch-Site", "A%20B",
        "A:", "A%0D", "A%0AHost", "%C3%A9", "A%00", "(A)", "A/B", "A%22",
    ] {
        for key in ["CustomHeader", "ExtraHeaderParameters"] {
            let refused = join(BASE, &format!("optionsOverride.{key}.{name}=x")).expect_err(name);
            assert!(refused.contains(": expected a"), "{name}: {refused}");
        }
    }
    for value in ["a%0D%0AX:y", "a%0A", "%0D", "%00", "a%7F", "%C3%A9", "%20a", "a%20", "%09"] {
        let refused = join(BASE, &format!("optionsOverride.CustomHeader.X={value}")).expect_err(value);
        assert!(refused.contains("visible ASCII"), "{value}: {refused}");
    }
}

#[test]
fn a_base_url_is_honoured_where_the_operator_named_its_origin() {
    let mut api = api(BASE);
    api.options.allowed_base_urls = vec![Url::parse("https://graph.microsoft.us/").unwrap()];
    let join = |base: &str| {
        let overrides = Overrides::parse(Some(&format!("optionsOverride.BaseUrl={base}"))).unwrap();
        Effective::merge(&api, &overrides)
            .and_then(|options| Target::new(&options))
            .map(|target| target.url().to_string())
    };
    for (base, url) in [
        ("https://graph.microsoft.com/beta", "https://graph.microsoft.com/beta"),
        ("HTTPS://GRAPH.microsoft.com:443/beta/", "https://graph.microsoft.com/beta/"),
        ("https://graph.microsoft.us/x", "https://graph.microsoft.us/x"),
    ] {
        assert_eq!(join(base).as_deref(), Ok(url));
    }
    for base in [
        "https://evil.com/v1.0", "http://graph.microsoft.com/v1.0", "https://graph.microsoft.com:8443/v1.0",
        "https://graph.microsoft.com.evil.com/", "https://graph.microsoft.com./", "https://evilgraph.microsoft.com/",
        "https://microsoft.com/", "http://169.254.169.254/metadata", "http://localhost/",
    ] {
        let refused = join(base).unwrap_err();
        assert_eq!(refused, OptionsError::ForeignBaseUrl("Graph".into()), "{base}");
    }
}

#[test]
fn an_api_without_base_url_has_no_target() {
    let mut api = api(BASE);
    api.options.base_url = None;
    let none = Overrides::default();
    let options = Effective::merge(&api, &none).unwrap();
    assert_eq!(Target::new(&options), Err(OptionsError::NoBaseUrl("Graph".into())));
}

proptest::proptest! {
    #[test]
    fn whatever_is_accepted_stays_below_the_base(path in "[a./\\\\%25efcEFC;:?#@ \u{e9}-]{0,16}") {
        if let Ok(url) = join(BASE, &relative(&path)) {
            let below = url.strip_prefix(BASE).expect("the origin and base path");
            proptest::prop_assert!(below.is_empty() || below.starts_with(['/', '?']), "{url}");
            let path = below.split('?').next().unwrap_or_default();
            let seen = percent::decode(path).expect("a path that decodes").replace('\\', "/");
            proptest::prop_assert!(!seen.contains("//") && !seen.split('/').any(|part| part == "." || part == ".."), "{url}");
            proptest::prop_assert_eq!(Url::parse(&url).map(|url| url.to_string()), Ok(url));
        }
    }
}

/// The target of a proxied request with this path and query.
fn pass(configured: &[(&str, &str)], path: &str, query: Option<&str>) -> Result<String, String> {
    let mut api = api(BASE);
    for (name, value) in configured {
        match *name {
            "BaseUrl" => api.options.base_url = Url::parse(value).ok(),
            "RelativePath" => api.options.relative_path = Some((*value).to_owned()),
            name => drop(api.options.extra_query.insert(name.to_owned(), (*value).to_owned())),
        }
    }
    let none = Overrides::default();
    let effective = Effective::merge(&api, &none).unwrap();
    ProxiedPath::new(path)
        .and_then(|path| Target::proxied(&effective, path, query))
        .map(|target| target.url().to_string())
        .map_err(|invalid| invalid.to_string())
}

#[test]
fn what_passes_through_goes_on_byte_for_byte() {
    for (path, query, joined) in [
        ("", None, "/v1.0"),
        ("/", None, "/v1.0/"),
        ("/me", Some("$select=id&x=%24+&x="), "/v1.0/me?$select=id&x=%24+&x="),
        ("/me", Some(""), "/v1.0/me?"),
        ("/c//a%2Fb;v=1/%252F%20'(x)", None, "/v1.0/c//a%2Fb;v=1/%252F%20'(x)"),
        ("//x", None, "/v1.0//x"),
        ("/a..b/.c/...", Some("u=../..&v=https://x"), "/v1.0/a..b/.c/...?u=../..&v=https://x"),
        ("/%5cx/%zz%00", None, "/v1.0/%5cx/%zz%00"),
    ] {
        assert_eq!(pass(&[], path, query), Ok(format!("https://graph.microsoft.com{joined}")), "{path}");
    }
}

#[test]
fn the_configured_part_of_a_query_is_known() {
    let mut api = api("https://x/b?k=0");
    api.options.relative_path = Some("c?r=1&s".to_owned());
    api.options.extra_query.insert("e".to_owned(), "a b".to_owned());
    let none = Overrides::default();
    let effective = Effective::merge(&api, &none).unwrap();
    let target = Target::proxied(&effective, ProxiedPath::new("/d").unwrap(), Some("own=1")).unwrap();
    assert_eq!(target.own_query(), "k=0&r=1&s&e=a%20b");
    assert_eq!(target.url().query.as_deref(), Some("k=0&r=1&s&own=1&e=a%20b"));
}

#[test]
fn a_configured_path_and_query_stand_around_the_callers() {
    for (base, relative, path, query, joined) in [
        ("https://x/b/", "", "", None, "/b/?e=1"),
        ("https://x/b/", "", "/c", None, "/b/c?e=1"),
        ("https://x", "r", "/c", Some("q"), "/r/c?q&e=1"),
        ("https://x/?o=2", "/r/?p=3", "/c", Some("q=4"), "/r/c?o=2&p=3&q=4&e=1"),
    ] {
        let configured = [("BaseUrl", base), ("RelativePath", relative), ("e", "1")];
        assert_eq!(pass(&configured, path, query), Ok(format!("https://x{joined}")), "{base} {relative} {path}");
    }
}

#[test]
fn steps_in_a_path_that_passes_through_are_refused() {
    for path in [
        "/.", "/..", "/a/../b", "/./a", "/%2e", "/a/%2E%2e", "/a%2f..%2fb", "/a%2F.", "/a/..%5Cb", "/..;x/b", "/a\\b",
        "/a#b", "/a\u{7f}", "/a\tb",
    ] {
        assert!(pass(&[], path, None).is_err(), "{path}");
    }
}

proptest::proptest! {
    #[test]
    fn whatever_passes_through_stays_below_the_base(path in "(/[a./\\\\%25efcEFC;:?#@ \u{e9}-]{0,16})?") {
        if let Ok(url) = pass(&[], &path, Some("q")) {
            let below = url.strip_prefix(BASE).and_then(|rest| rest.strip_suffix("?q")).expect("the base, and the query");
            proptest::prop_assert_eq!(below, path);
            // Once as it is, once as a server sees it that decodes it first.
            for seen in [below.to_owned(), String::from_utf8_lossy(&percent_decoded(below)).into_owned()] {
                let mut depth = 0_i32;
                for part in seen.replace('\\', "/").split('/').skip(1) {
                    depth += match part.split(';').next() { Some("..") => -1, Some("" | ".") => 0, _ => 1 };
                    proptest::prop_assert!(depth >= 0, "{url}");
                }
            }
        }
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}
