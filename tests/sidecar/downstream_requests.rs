//! What a downstream call carries: what configuration and overrides say, the caller's body and trace, and nothing else.

use local_tenant::message::percent_encode;

use super::raw_upstream::{RawUpstream, Received, ok};
use super::support::{Client, Request, Scene, Sidecar};

const DOWN: &str = "/DownstreamApi/Down";
const APP: &str = "/DownstreamApiUnauthenticated/App";

fn start(settings: &[(&str, &str)]) -> (RawUpstream, Scene, Sidecar) {
    let api = RawUpstream::start(|_| ok("{}"));
    let base = format!("http://{}/v1", api.address);
    let scene = Scene::new().with("DownstreamApis:App:BaseUrl", &base).with("DownstreamApis:Down:BaseUrl", &base);
    let scene = settings.iter().fold(scene, |scene, (key, value)| scene.with(key, value));
    let sidecar = scene.start();
    (api, scene, sidecar)
}

/// `optionsOverride.` keys with their values, encoded.
fn overrides(pairs: &[(&str, &str)]) -> String {
    let coded = |(key, value): &(&str, &str)| format!("optionsOverride.{key}={}", percent_encode(value));
    format!("{APP}?{}", pairs.iter().map(coded).collect::<Vec<_>>().join("&"))
}

/// Every header but the token, sorted, as `name: value`.
fn headers(received: &Received) -> Vec<String> {
    let (mut plain, tokens): (Vec<_>, Vec<_>) = received.head[1..]
        .iter()
        .filter(|line| !line.starts_with("Host: "))
        .map(|line| {
            line.split_once(": ").map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase())).unwrap()
        })
        .partition(|line| !line.starts_with("authorization: "));
    assert!(tokens.len() == 1 && tokens[0].starts_with("authorization: Bearer eyJ"), "one token");
    plain.sort();
    plain
}

const AGENT: &str = concat!("user-agent: entra-sidecar/", env!("CARGO_PKG_VERSION"));

#[test]
fn of_the_caller_nothing_but_body_id_and_trace_goes_along() {
    let (api, scene, sidecar) = start(&[]);
    let sidecar = sidecar.with_keys();
    let send = |method: &str, body: &str| {
        let request = Request::new(method, &format!("{DOWN}?secret=of-the-query"))
            .bearer(&scene.user("alice"))
            .header("x-ms-client-request-id", "id-1");
        let request = [
            "Accept", "Accept-Encoding", "Accept-Language", "Cookie", "Forwarded", "If-Match", "Prefer", "Priority",
            "Range", "Referer", "TE", "Traceparent", "Tracestate", "User-Agent", "Via", "X-Custom", "X-Forwarded-For",
            "X-Sidecar-Token", "Expect-CT", "original-uri", "Proxy-Authorization",
        ]
        .iter()
        .fold(request, |request, name| request.header(name, "of-the-caller"));
        let request = if body.is_empty() { request } else { request.body("text/csv", body) };
        request.send(sidecar.address).expect(200);
        let received = api.last();
        assert_eq!(received.head[0], format!("{method} /v1 HTTP/1.1"));
        assert!(!received.head.iter().any(|line| line.contains("of-the-")), "{received:?}");
        headers(&received)
    };
    let common = ["accept-encoding: identity", "accept: application/json"];
    let rest = [AGENT, "x-ms-client-request-id: id-1"];
    assert_eq!(send("GET", ""), [&common[..], &rest].concat());
    assert_eq!(send("GET", "a,b"), [&common[..], &rest].concat());
    assert_eq!(send("DELETE", ""), [&common[..], &rest].concat());
    let typed = ["content-length: 3", "content-type: text/csv"];
    assert_eq!(send("PUT", "a,b"), [&common[..], &typed, &rest].concat());
    assert_eq!(send("DELETE", "a,b"), [&common[..], &typed, &rest].concat());
}

#[test]
fn what_describes_a_body_goes_with_it_and_only_with_it() {
    let (api, _scene, sidecar) = start(&[("DownstreamApis:App:ExtraHeaderParameters:Content-Language", "de")]);
    let names = [
        "content-digest", "content-disposition", "content-encoding", "content-md5", "content-range", "content-type",
        "digest", "repr-digest",
    ];
    let send = |method: &str, body: &str| {
        let request = Request::new(method, &overrides(&[("HttpMethod", method)]));
        let request = names.iter().fold(request, |request, name| request.header(name, &format!("of-{name}")));
        request.header("Content-Language", "en").body("a/b", body).send(sidecar.address).expect(200);
        let all = headers(&api.last()).into_iter().filter(|line| !line.starts_with("content-length"));
        all.filter(|line| line.starts_with("content-") || line.contains("digest")).collect::<Vec<_>>()
    };
    let expected = [
        "content-digest: of-content-digest",
        "content-disposition: of-content-disposition",
        "content-encoding: of-content-encoding",
        "content-language: de",
        "content-md5: of-content-md5",
        "content-range: of-content-range",
        "content-type: a/b",
        "digest: of-digest",
        "repr-digest: of-repr-digest",
    ];
    assert_eq!(send("PUT", "coded"), expected);
    let none: [&str; 0] = [];
    assert_eq!(send("GET", "coded"), none);
    assert_eq!(send("POST", ""), none);
}

#[test]
fn overrides_go_on_top_of_configured_headers_and_query() {
    let (api, _scene, sidecar) = start(&[
        ("DownstreamApis:App:RelativePath", "me?from=path"),
        ("DownstreamApis:App:AcceptHeader", "text/html"),
        ("DownstreamApis:App:ContentType", "text/xml"),
        ("DownstreamApis:App:ExtraHeaderParameters:Prefer", "configured"),
        ("DownstreamApis:App:ExtraHeaderParameters:X-Kept", "configured"),
        ("DownstreamApis:App:ExtraQueryParameters:q", "configured"),
        ("DownstreamApis:App:ExtraQueryParameters:kept", "yes no"),
    ]);
    let call = |pairs: &[(&str, &str)], content_type: Option<&str>| {
        let request = Request::new("PATCH", &overrides(pairs)).body(content_type.unwrap_or_default(), "body");
        request.send(sidecar.address).expect(200);
        let received = api.last();
        let named = |name: &str| received.header(name).join("|");
        let fields = ["accept", "content-type", "prefer", "x-kept", "x-new"].map(named);
        (received.target().to_owned(), fields.join(" "))
    };
    let expected = |target: &str, fields: &str| (target.to_owned(), fields.to_owned());
    let path = "/v1/me?from=path&kept=yes%20no&q=configured";
    assert_eq!(call(&[], None), expected(path, "text/html text/xml configured configured "));
    assert_eq!(call(&[], Some("a/b; c=d")), expected(path, "text/html a/b; c=d configured configured "));
    // An empty value is as if absent.
    let empty = [("AcceptHeader", ""), ("ContentType", ""), ("CustomHeader.Prefer", ""), ("RelativePath", "")];
    assert_eq!(call(&empty, None), expected(path, "text/html text/xml configured configured "));
    let all = [
        ("RelativePath", "/you"),
        ("AcceptHeader", "image/png"),
        ("ContentType", "c/c"),
        ("CustomHeader.PREFER", "mine"),
        ("ExtraHeaderParameters.x-new", "new"),
        ("ExtraQueryParameters.q", "a&b=c"),
        ("AcceptHeader", "image/gif"),
    ];
    let target = "/v1/you?kept=yes%20no&q=a%26b%3Dc";
    assert_eq!(call(&all, Some("a/b")), expected(target, "image/gif c/c mine configured new"));
    // Keys are known in any case; what is set by name beats the option for it.
    let any_case = [("rELATIVEpATH", "you"), ("CUSTOMHEADER.accept", "a/b"), ("extraQueryparameters.q", "1")];
    assert_eq!(call(&any_case, None), expected("/v1/you?kept=yes%20no&q=1", "a/b text/xml configured configured "));
}

#[test]
fn a_body_arrives_byte_for_byte_however_it_came() {
    let (api, _scene, sidecar) = start(&[]);
    let every: Vec<u8> = (0..=255).cycle().take(3_000_001).collect();
    for body in [&b"\0"[..], b"{\"a\":1}\r\n", &every] {
        Request::new("POST", APP).body("a/b", body).send(sidecar.address).expect(200);
        assert!(api.last().body == body && api.last().header("content-length") == [body.len().to_string()]);
        let mut chunked =
            b"POST /DownstreamApiUnauthenticated/App HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
            Connection: close\r\n\r\n"
                .to_vec();
        for chunk in body.chunks(65_537) {
            chunked.extend(format!("{:x};name=value\r\n", chunk.len()).bytes());
            chunked.extend(chunk);
            chunked.extend(b"\r\n");
        }
        chunked.extend(b"0\r\nTrailer: x\r\n\r\n");
        Client::connect(sidecar.address).send(&chunked).answer().expect(200);
        let received = api.last();
        assert!(received.body == body && received.header("transfer-encoding").is_empty());
        assert!(received.header("content-type").is_empty() && received.header("trailer").is_empty());
    }
    assert!(api.received().iter().all(|request| request.head[0] == "POST /v1 HTTP/1.1"));
}

#[test]
fn a_method_without_a_body_has_none() {
    let (api, _scene, sidecar) = start(&[("DownstreamApis:App:HttpMethod", "Post")]);
    for (inbound, pairs, body, method, length) in [
        ("POST", &[][..], "", "POST", Some("0")),
        ("GET", &[], "", "POST", Some("0")),
        ("PUT", &[], "", "PUT", Some("0")),
        ("DELETE", &[], "", "DELETE", None),
        ("POST", &[("HttpMethod", "get")], "body", "GET", None),
        ("POST", &[("HttpMethod", "HEAD")], "body", "HEAD", None),
        ("GET", &[("HttpMethod", "report")], "", "REPORT", None),
        ("POST", &[("HttpMethod", "M-SEARCH")], "body", "M-SEARCH", Some("4")),
        ("POST", &[("HttpMethod", "OPTIONS")], "", "OPTIONS", None),
        ("POST", &[("HttpMethod", "Put"), ("HttpMethod", "Patch")], "body", "PATCH", Some("4")),
    ] {
        let request = Request::new(inbound, &overrides(pairs));
        let request = if body.is_empty() { request } else { request.body("a/b", body) };
        request.send(sidecar.address).expect(200);
        let received = api.last();
        assert_eq!(received.head[0], format!("{method} /v1 HTTP/1.1"), "{inbound} {pairs:?}");
        assert_eq!(received.header("content-length").first().copied(), length, "{inbound} {pairs:?}");
        assert_eq!(received.body.len(), length.map_or(0, |length| length.parse().unwrap()), "{inbound} {pairs:?}");
    }
}

#[test]
fn the_api_continues_the_callers_trace() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (api, scene, sidecar) = start(&[]);
    let call = |target: &str, fields: &[(&str, &str)]| {
        // Written out, since a field may come twice.
        let lines: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut client = Client::connect(sidecar.address);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", lines.concat())).answer().expect(200);
        let received = api.last();
        let all = |name: &str| received.header(name).join(",");
        (all("traceparent"), all("tracestate"), all("x-ms-client-request-id"))
    };
    let state = ("TraceState", "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE");
    let anew = "optionsOverride.AcquireTokenOptions.ForceRefresh=true";
    for target in [format!("{APP}?{anew}"), "/ProxyUnauthenticated/App".to_owned()] {
        let mut fields = vec![("Traceparent", PARENT), state, ("tracestate", "last=1")];
        fields.extend(target.starts_with("/Proxy").then_some(("X-Sidecar-Options", anew)));
        let (parent, states, id) = call(&target, &fields);
        assert_eq!((parent.as_str(), id.as_str()), (PARENT, "0af76519-16cd-43dd-8448-eb211c80319c"), "{target}");
        assert_eq!(states, "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE,last=1", "{target}");
        let token = scene.tenant.journal().of(local_tenant::Kind::Token).pop().unwrap();
        assert_eq!(token.request.header("client-request-id"), Some(id.as_str()), "{target}");
        assert_eq!(token.request.header("traceparent"), None, "Entra gets the id alone");
    }
    // With an id of the caller's own the trace goes on all the same.
    let (parent, states, id) = call(APP, &[("client-request-id", "mine"), ("traceparent", PARENT)]);
    assert_eq!((parent.as_str(), states.as_str(), id.as_str()), (PARENT, "", "mine"));
    // A state alone, a trace given twice and one that is malformed are no trace.
    for fields in [
        &[state][..],
        &[("traceparent", PARENT), ("traceparent", PARENT), state],
        &[("traceparent", "00-1-2-3"), state],
    ] {
        let (parent, states, _) = call(APP, fields);
        assert_eq!((parent, states), (String::new(), String::new()), "{fields:?}");
    }
    // One that is set by name replaces it whole.
    let own = "00-11111111111111111111111111111111-2222222222222222-00";
    let (parent, states, _) = call(&overrides(&[("CustomHeader.traceparent", own)]), &[("traceparent", PARENT), state]);
    assert_eq!((parent.as_str(), states.as_str()), (own, ""));
}

#[test]
fn the_correlation_id_is_the_same_everywhere() {
    let (api, scene, sidecar) = start(&[]);
    for (header, value, id) in [
        ("x-ms-client-request-id", "a-1", "a-1"),
        ("client-request-id", "b-2", "b-2"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0af76519-16cd-43dd-8448-eb211c80319c",
        ),
    ] {
        let target = overrides(&[("AcquireTokenOptions.ForceRefresh", "true")]);
        let response = Request::get(&target).header(header, value).send(sidecar.address).expect(200);
        assert_eq!(response.header("x-ms-client-request-id"), Some(id));
        assert_eq!(api.last().header("x-ms-client-request-id"), [id]);
        let token = scene.tenant.journal().of(local_tenant::Kind::Token).pop().unwrap();
        assert_eq!(token.request.header("client-request-id"), Some(id));
    }
    let cold = sidecar.get(&overrides(&[("AcquireTokenOptions.ForceRefresh", "true")])).expect(200);
    let id = cold.header("x-ms-client-request-id").unwrap();
    assert_eq!(api.last().header("x-ms-client-request-id"), [id]);
    let token = scene.tenant.journal().of(local_tenant::Kind::Token).pop().unwrap();
    assert_eq!(token.request.header("client-request-id"), Some(id), "generated once for all turns of a request");
    // One that is asked for by name goes out instead, once.
    let own = "5f0a5b1c-8a3e-4d0b-9b1e-0123456789ab";
    sidecar.get(&overrides(&[("AcquireTokenOptions.CorrelationId", own)])).expect(200);
    assert_eq!(api.last().header("x-ms-client-request-id"), [own]);
}

/// Token and API take turns of their own, and the request is handled again after each.
#[test]
fn a_token_is_counted_once_for_each_request() {
    let (_api, scene, sidecar) = start(&[]);
    let sidecar = sidecar.with_keys();
    let token = scene.user("alice");
    for count in 1..=2 {
        Request::new("POST", DOWN).bearer(&token).body("text/plain", "x").send(sidecar.address).expect(200);
        let metrics = sidecar.get("/metrics").expect(200).body;
        let line = format!("entra_sidecar_token_validations_total{{outcome=\"valid\"}} {count}\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
}
