//! How an API's answer is told, and what is said where there is none.

use std::io::Write as _;

use serde_json::{Value, json};

use super::live_upstream::LiveUpstream;
use super::raw_upstream::{Act, RawUpstream, ok};
use super::support::{Response, Scene, Sidecar};

const APP: &str = "/DownstreamApiUnauthenticated/App";

/// A sidecar before an API that answers each path of the list with its bytes.
fn answering(settings: &[(&str, &str)], answers: Vec<(&'static str, Act)>) -> (RawUpstream, Scene, Sidecar) {
    let api = RawUpstream::start(move |request| {
        let wanted = |(path, _): &&(&str, Act)| request.target() == format!("/{path}");
        match answers.iter().find(wanted) {
            Some((_, Act::Keep(bytes))) => Act::Keep(bytes.clone()),
            Some((_, Act::Close(bytes))) => Act::Close(bytes.clone()),
            Some((_, Act::Cut(bytes))) => Act::Cut(bytes.clone()),
            Some((_, Act::Stall(bytes))) => Act::Stall(bytes.clone()),
            None => ok("unplanned"),
        }
    });
    let scene = Scene::new().with("DownstreamApis:App:BaseUrl", &format!("http://{}/", api.address));
    let scene = settings.iter().fold(scene, |scene, (key, value)| scene.with(key, value));
    let sidecar = scene.start();
    (api, scene, sidecar)
}

fn call(sidecar: &Sidecar, path: &str) -> Response {
    sidecar.get(&format!("{APP}?optionsOverride.RelativePath={path}"))
}

fn keep(head: &str, body: &[u8]) -> Act {
    Act::Keep([head.as_bytes(), b"\r\n\r\n", body].concat())
}

fn sized(head: &str, body: &[u8]) -> Act {
    keep(&format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {}", body.len()), body)
}

#[test]
fn every_kind_of_body_comes_through() {
    let utf16: Vec<u8> = "h\u{e9}\u{1f600}".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut cases = vec![
        ("text", sized("", "t\u{e9}xt \"\\\u{1}".as_bytes()), json!("t\u{e9}xt \"\\\u{1}"), false),
        (
            "json",
            sized("Content-Type: application/json\r\n", b" {\"b\": 1.0,\"a\":2e400} "),
            json!(" {\"b\": 1.0,\"a\":2e400} "),
            false,
        ),
        ("empty", sized("", b""), Value::Null, false),
        ("no-content", keep("HTTP/1.1 204 No Content\r\nX: y", b""), Value::Null, false),
        (
            "not-modified",
            keep("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"", b""),
            Value::Null,
            false,
        ),
        ("binary", sized("Content-Type: image/png\r\n", b"\x89PNG\0"), json!("iVBORwA="), true),
        ("broken-utf8", sized("Content-Type: text/plain; charset=utf-8\r\n", b"caf\xe9"), json!("Y2Fm6Q=="), true),
        ("latin1", sized("Content-Type: text/plain; charset=ISO-8859-1\r\n", b"caf\xe9"), json!("caf\u{e9}"), false),
        ("windows", sized("Content-Type: text/html;charset=\"windows-1252\"\r\n", b"\x80"), json!("\u{20ac}"), false),
        ("utf16", sized("Content-Type: text/plain; charset=utf-16be\r\n", &utf16), json!("h\u{e9}\u{1f600}"), false),
        ("unknown", sized("Content-Type: text/plain; charset=x-mac\r\n", b"text"), json!("dGV4dA=="), true),
        ("gzip", sized("Content-Encoding: gzip\r\nContent-Type: text/plain\r\n", b"text"), json!("dGV4dA=="), true),
        ("identity", sized("Content-Encoding: identity\r\n", b"text"), json!("text"), false),
        (
            "chunked",
            keep(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
                b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: t\r\n\r\n",
            ),
            json!("abcde"),
            false,
        ),
        ("no-chunk", keep("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"), Value::Null, false),
        ("until-close", Act::Close(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec()), json!("until the end"), false),
        ("http-1.0", Act::Close(b"HTTP/1.0 200 OK\r\n\r\nold".to_vec()), json!("old"), false),
        (
            "interim",
            keep(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2",
                b"ok",
            ),
            json!("ok"),
            false,
        ),
    ];
    let large = "x".repeat(200_000);
    let hint = format!("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {}", large.len());
    cases.push(("interim-large", keep(&hint, large.as_bytes()), json!(large), false));
    let (answers, expected): (Vec<_>, Vec<_>) =
        cases.into_iter().map(|(path, act, content, coded)| ((path, act), (path, content, coded))).unzip();
    let (_api, _scene, sidecar) = answering(&[], answers);
    for (path, content, coded) in expected {
        let result = call(&sidecar, path).expect(200).json();
        assert_eq!(result["content"], content, "{path}");
        let encoding = if coded { json!("base64") } else { Value::Null };
        assert_eq!(result.get("contentEncoding").cloned().unwrap_or_default(), encoding, "{path}");
        assert!(
            result["headers"].get("transfer-encoding").is_none() && result["headers"].get("link").is_none(),
            "{path}"
        );
    }
}

/// A HEAD has the headers of a GET and no body, whatever its length says.
#[test]
fn a_head_request_has_no_content() {
    let (_api, _scene, sidecar) = answering(&[], vec![("x", keep("HTTP/1.1 200 OK\r\nContent-Length: 5", b""))]);
    let result = call(&sidecar, "x&optionsOverride.HttpMethod=HEAD").expect(200).json();
    assert_eq!((&result["content"], &result["headers"]["content-length"]), (&Value::Null, &json!("5")));
}

#[test]
fn every_status_is_told_as_it_is() {
    const STATUSES: [u16; 14] = [200, 201, 202, 206, 207, 226, 300, 400, 401, 403, 418, 429, 503, 599];
    let answers = STATUSES.map(|status| {
        let path: &'static str = Box::leak(status.to_string().into_boxed_str());
        (
            path,
            keep(
                &format!("HTTP/1.1 {status} \r\nContent-Length: 1\r\nWWW-Authenticate: Bearer\r\nRetry-After: 7"),
                b"x",
            ),
        )
    });
    let (_api, _scene, sidecar) = answering(&[], answers.into());
    for status in STATUSES {
        let response = call(&sidecar, &status.to_string()).expect(200);
        // They are the API's, and the caller is not challenged by the sidecar.
        assert_eq!((response.header("Retry-After"), response.header("WWW-Authenticate")), (None, None));
        let result = response.json();
        assert_eq!(result["statusCode"], json!(status));
        assert_eq!(result["headers"]["www-authenticate"], json!("Bearer"));
    }
}

#[test]
fn many_and_repeated_headers_are_told_in_both_forms() {
    let many = (0..100).map(|number| format!("X-Many-{number}: {number}\r\n")).collect::<Vec<_>>().concat();
    let head = format!(
        "HTTP/1.1 200 OK\r\n{many}Set-Cookie: a=b, c\r\nVary: A\r\nset-cookie: d=e\r\nvary: B\r\nConnection: keep-alive, X-Hop\r\n\
         X-Hop: x\r\nKeep-Alive: timeout=9\r\nProxy-Authenticate: Basic\r\nX-Latin: caf\u{e9}\r\nX-Empty:\r\nX-Blank:   a  b \t\r\n\
         Content-Length: 0"
    );
    let expected = |several: fn(&[&str]) -> Value, cookies: bool| {
        let mut headers = serde_json::Map::new();
        for number in 0..100 {
            headers.insert(format!("x-many-{number}"), several(&[&number.to_string()]));
        }
        if cookies {
            headers.insert("set-cookie".into(), several(&["a=b, c", "d=e"]));
        }
        headers.insert("vary".into(), several(&["A", "B"]));
        for (name, value) in [("x-latin", "caf\u{e9}"), ("x-empty", ""), ("x-blank", "a  b"), ("content-length", "0")] {
            headers.insert(name.into(), several(&[value]));
        }
        Value::Object(headers)
    };
    let answer = || vec![("x", keep(&head, b""))];
    let (_api, _scene, sidecar) = answering(&[], answer());
    let strings = call(&sidecar, "x").expect(200).json()["headers"].clone();
    assert_eq!(strings, expected(|values| json!(values.join(", ")), false));
    let (_api, _scene, sidecar) = answering(&[("Sidecar:DownstreamHeaderValues", "Array")], answer());
    let arrays = call(&sidecar, "x").expect(200).json()["headers"].clone();
    assert_eq!(arrays, expected(|values| json!(values), true));
}

#[test]
fn a_body_is_passed_on_up_to_the_limit_and_no_further() {
    const LIMIT: usize = 100_000;
    let until_close = |length| Act::Close([b"HTTP/1.1 200 OK\r\n\r\n", &vec![b'x'; length][..]].concat());
    let chunked = |length: usize| {
        let body = [format!("{length:x}\r\n").as_bytes(), &vec![b'x'; length], b"\r\n0\r\n\r\n"].concat();
        keep("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", &body)
    };
    // It lies about the rest, which is never waited for.
    let endless = Act::Stall(
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n", &vec![b'x'; LIMIT + 1][..]].concat(),
    );
    let (_api, _scene, sidecar) = answering(
        &[("Sidecar:Limits:DownstreamBodyBytes", &LIMIT.to_string())],
        vec![
            ("sized-at", sized("", &[b'x'; LIMIT])),
            ("chunked-at", chunked(LIMIT)),
            ("close-at", until_close(LIMIT)),
            ("sized-above", sized("", &[b'x'; LIMIT + 1])),
            ("chunked-above", chunked(LIMIT + 1)),
            ("close-above", until_close(LIMIT + 1)),
            ("endless", endless),
            ("huge", Act::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999\r\n\r\nx".to_vec())),
        ],
    );
    for path in ["sized-at", "chunked-at", "close-at"] {
        assert_eq!(call(&sidecar, path).expect(200).json()["content"].as_str().unwrap().len(), LIMIT, "{path}");
    }
    for path in ["sized-above", "chunked-above", "close-above", "endless", "huge"] {
        let detail = "The downstream API 'App' answered too much: the body is longer than 100000 bytes (Sidecar:Limits:DownstreamBodyBytes)";
        call(&sidecar, path).problem(502, detail);
    }
}

#[test]
fn an_incomplete_answer_is_502_with_host_and_reason() {
    let answers: Vec<(&'static str, Act)> = vec![
        ("silent", Act::Close(Vec::new())),
        ("half-head", Act::Close(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec())),
        ("short", Act::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec())),
        ("half-chunk", Act::Close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf".to_vec())),
        ("no-last-chunk", Act::Close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec())),
        (
            "bad-chunk",
            Act::Close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nhalf\r\n0\r\n\r\n".to_vec()),
        ),
        ("two-lengths", Act::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 2\r\n\r\nhalf".to_vec())),
        ("bad-length", Act::Close(b"HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nhalf".to_vec())),
        ("no-http", Act::Close(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec())),
        ("upgrade", Act::Close(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".to_vec())),
        ("bad-status", Act::Close(b"HTTP/1.1 099 No\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())),
        ("bad-header", Act::Close(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n".to_vec())),
        ("endless-head", Act::Close([b"HTTP/1.1 200 OK\r\nX: ", &vec![b'x'; 200_000][..]].concat())),
        ("headers", Act::Close(format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(5000)).into_bytes())),
    ];
    let paths: Vec<_> = answers.iter().map(|(path, _)| *path).collect();
    let (api, _scene, sidecar) = answering(&[], answers);
    for path in paths {
        let response = call(&sidecar, &format!("{path}&optionsOverride.ExtraQueryParameters.code=hidden"));
        assert_eq!(response.status, 200, "{path}: the path is planned without a query");
        let response = call(&sidecar, path).expect(502);
        let detail = response.json()["detail"].as_str().unwrap().to_owned();
        let start = format!("The downstream API 'App' did not answer as it should: http://{}: ", api.address);
        assert!(detail.starts_with(&start) && detail.len() > start.len(), "{path}: {detail}");
    }
}

/// What follows an answer on its connection is no answer to the next request, whoever sent it.
#[test]
fn an_answer_belongs_to_its_own_request() {
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let (api, _scene, sidecar) = answering(
        &[],
        vec![
            ("sized", keep("HTTP/1.1 200 OK\r\nContent-Length: 4", format!("good{second}").as_bytes())),
            (
                "chunked",
                keep(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
                    format!("4\r\ngood\r\n0\r\n\r\n{second}").as_bytes(),
                ),
            ),
            (
                "both",
                keep(
                    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked",
                    format!("4\r\ngood\r\n0\r\n\r\n{second}").as_bytes(),
                ),
            ),
            ("no-content", keep("HTTP/1.1 204 No Content", second.as_bytes())),
            ("plain", sized("", b"plain")),
        ],
    );
    for path in ["sized", "chunked", "both", "no-content"] {
        call(&sidecar, path).expect(200);
        assert_eq!(call(&sidecar, "plain").expect(200).json()["content"], json!("plain"), "{path}");
    }
    assert!(api.connections() > 1);
}

#[test]
fn a_slow_api_is_504_and_the_deadline_is_named() {
    let (api, _scene, sidecar) = answering(
        &[("Sidecar:Limits:DownstreamTimeout", "0.2")],
        vec![
            ("no-head", Act::Stall(Vec::new())),
            ("half-head", Act::Stall(b"HTTP/1.1 200 OK\r\nX: ".to_vec())),
            ("no-body", Act::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec())),
            ("half-body", Act::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec())),
            ("half-chunk", Act::Stall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf".to_vec())),
            ("interim", Act::Stall(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec())),
        ],
    );
    for path in ["no-head", "half-head", "no-body", "half-body", "half-chunk", "interim"] {
        let detail = format!(
            "The downstream API 'App' timed out: http://{}: no complete answer within 200ms (Sidecar:Limits:DownstreamTimeout)",
            api.address
        );
        call(&sidecar, path).problem(504, &detail);
    }
}

/// An interim answer is no progress: whoever sends nothing else is out of time like any other.
#[test]
fn interim_answers_without_end_are_504_too() {
    let interim = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(100_000);
    let (_api, _scene, sidecar) =
        answering(&[("Sidecar:Limits:DownstreamTimeout", "0.5")], vec![("x", Act::Stall(interim))]);
    call(&sidecar, "x").expect(504);
}

/// Over an idle connection a worker carries the call, so what comes without end must not keep it.
#[test]
fn interim_answers_without_end_hold_no_worker() {
    let api = LiveUpstream::start();
    let scene = Scene::new()
        .with("DownstreamApis:App:BaseUrl", &format!("http://{}", api.address))
        .with("Sidecar:Limits:Workers", "1")
        .with("Sidecar:Limits:DownstreamTimeout", "2");
    let sidecar = scene.start();
    std::thread::scope(|threads| {
        let first = threads.spawn(|| sidecar.get(APP).expect(200));
        let (mut line, _) = api.accept();
        line.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        first.join().unwrap();
        let second = threads.spawn(|| sidecar.get(APP).expect(504));
        line.head();
        let flood = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(1000);
        threads.spawn(move || while line.stream.write_all(&flood).is_ok() {});
        while !second.is_finished() {
            sidecar.get("/healthz").expect(200);
        }
    });
}

/// A figure of `/proc/{pid}/status`, in bytes.
fn memory(sidecar: &Sidecar, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

/// The answer that came and the one that goes out, and no third copy.
#[test]
fn a_large_answer_is_held_three_times_its_size_at_most() {
    const SIZE: usize = 20 * 1024 * 1024;
    let text = vec![b'x'; SIZE];
    let chunked = [format!("{SIZE:x}\r\n").as_bytes(), &text, b"\r\n0\r\n\r\n"].concat();
    let json = br#"{"name":"value"},"#.repeat(SIZE / 17);
    let answers = vec![
        ("chunked", keep("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", &chunked)),
        ("json", sized("Content-Type: application/json\r\n", &json)),
        ("binary", sized("Content-Type: image/png\r\n", &vec![0xff; SIZE])),
        ("latin1", sized("Content-Type: text/plain; charset=iso-8859-1\r\n", &vec![0xe9; SIZE])),
    ];
    let paths: Vec<_> = answers.iter().map(|(path, _)| *path).collect();
    let (_api, scene, _) = answering(&[], answers);
    for path in paths {
        // A process of its own, since the allocator keeps what an answer before needed.
        let sidecar = scene.start();
        call(&sidecar, "warm").expect(200);
        let idle = memory(&sidecar, "VmRSS:");
        assert!(call(&sidecar, path).expect(200).body.len() > SIZE, "{path}");
        let peak = memory(&sidecar, "VmHWM:").saturating_sub(idle);
        assert!(peak < 3 * SIZE + 8 * 1024 * 1024, "{path}: {peak} bytes more than the idle process");
    }
}
