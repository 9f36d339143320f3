use super::*;

/// Parses and passes the head to `check`, because it borrows from locals.
fn with_head<R>(text: &str, check: impl FnOnce(Result<Head<'_>, RequestError>) -> R) -> R {
    let mut fields = Fields::with_room_for(text.matches("\r\n").count());
    check(Head::parse(text.as_bytes(), &mut fields))
}

fn refusal(text: &str) -> Option<RequestError> {
    let mut refusal = None;
    with_head(text, |head| refusal = head.map(drop).err());
    refusal
}

/// A GET with `Host: localhost` and further lines, each with its CRLF.
fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

#[test]
fn a_head_says_method_target_and_fields() {
    with_head("POST /a%20b?c=d?e HTTP/1.1\r\nHost: localhost:5000\r\nX-One:  1 \r\n\r\n", |head| {
        let head = head.unwrap();
        assert_eq!((head.method, head.path, head.query), (Method::Post, "/a%20b", Some("c=d?e")));
        assert_eq!(head.headers.text("x-one"), Some("1"));
        assert_eq!(head.framing, Framing::Length(0));
        assert_eq!(head.terms, Terms { head_only: false, keep_alive: true, http_1_0: false });
    });
}

#[test]
fn more_fields_than_fit_the_stack_are_kept() {
    for count in [31, 32, 33, 100] {
        with_head(&get(&"X: y\r\n".repeat(count - 1)), |head| assert_eq!(head.unwrap().headers.0.len(), count));
    }
}

#[test]
fn request_lines_that_are_none_are_malformed() {
    for line in [
        "GET", "GET /", "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET / HTTP/1.1 ", "GET / HTTP/1.10", "GET / http/1.1",
        "GET / HTTP/11", "GET / HTTPS/1.1", "G(T / HTTP/1.1", "GET\t/ HTTP/1.1", "GET /a b HTTP/1.1",
        "GET /\x7f HTTP/1.1", "GET /ä HTTP/1.1", "GET /#f HTTP/1.1", "GET a HTTP/1.1", "GET * HTTP/1.1",
        "CONNECT localhost:80 HTTP/1.1", "GET https://localhost/ HTTP/1.1", "GET http://elsewhere/ HTTP/1.1",
        "GET http:///a HTTP/1.1",
    ] {
        let refused = refusal(&format!("{line}\r\nHost: localhost\r\n\r\n"));
        assert!(matches!(refused, Some(RequestError::Malformed(_))), "{line}: {refused:?}");
    }
}

#[test]
fn other_versions_are_named_as_such() {
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0"] {
        assert_eq!(refusal(&format!("GET / {version}\r\nHost: a\r\n\r\n")), Some(RequestError::Version), "{version}");
    }
}

#[test]
fn the_absolute_form_is_reduced_to_the_path() {
    for (target, path, query) in [
        ("http://localhost/a?b", "/a", Some("b")),
        ("HTTP://LOCALHOST/a", "/a", None),
        ("http://localhost", "/", None),
        ("http://localhost?b", "/", Some("b")),
    ] {
        with_head(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"), |head| {
            let head = head.unwrap();
            assert_eq!((head.path, head.query), (path, query), "{target}");
        });
    }
}

#[test]
fn exactly_one_well_formed_host_is_needed() {
    let with_hosts = |lines: &str, minor: u8| refusal(&format!("GET / HTTP/1.{minor}\r\n{lines}\r\n"));
    for minor in [0, 1] {
        for lines in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nhost: b\r\n"] {
            assert!(matches!(with_hosts(lines, minor), Some(RequestError::Malformed(_))), "1.{minor} {lines:?}");
        }
    }
    for host in
        ["", "a b", "a/b", "u@a", "a,b", "a:b", "a:65536", "a:1:2", "a:+1", "::1", "[::1", "[::1]x", "[a]", ":80", "ä"]
    {
        assert!(matches!(with_hosts(&format!("Host: {host}\r\n"), 1), Some(RequestError::Malformed(_))), "{host}");
    }
    for host in ["localhost", "a.b-c_d.", "127.0.0.1:65535", "[::1]", "[::1]:5000", "a:"] {
        assert_eq!(with_hosts(&format!("Host: {host}\r\n"), 1), None, "{host}");
    }
}

#[test]
fn header_lines_that_are_none_are_malformed() {
    for line in [
        "Name : value", "Name", ": value", "Na me: value", "N\"me: value", "N(me): value", "Näme: value",
        "Name: a\x7fb", "Content-Length : 1", "Transfer-Encoding\t: chunked", "\x7f: a",
    ] {
        let refused = refusal(&get(&format!("{line}\r\n")));
        assert!(matches!(refused, Some(RequestError::Malformed(_))), "{line}: {refused:?}");
    }
    assert_eq!(refusal(&get("X: caf\u{e9}\r\nEmpty:\r\nTab: a\tb\r\n")), None, "values may hold obs-text and tabs");
}

#[test]
fn ambiguous_framing_is_malformed() {
    for lines in [
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1\r\ncontent-length: 2\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: 1 1\r\n",
        "Content-Length: 1.0\r\n",
        "Content-Length:\r\n",
        "Content-Length: a\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding:\r\n",
        "Authorization: Bearer a\r\nauthorization: Bearer b\r\n",
    ] {
        let refused = refusal(&get(lines));
        assert!(matches!(refused, Some(RequestError::Malformed(_))), "{lines:?}: {refused:?}");
    }
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(matches!(refusal(old), Some(RequestError::Malformed(_))));
}

#[test]
fn unambiguous_framing_is_understood() {
    let framing = |lines: &str| with_head(&get(lines), |head| head.unwrap().framing);
    assert_eq!(framing("Content-Length: 0017\r\n"), Framing::Length(17));
    assert_eq!(framing("Content-Length: 18446744073709551616\r\n"), Framing::Length(u64::MAX));
    assert_eq!(framing("transfer-encoding:  CHUNKED \r\n"), Framing::Chunked);
}

#[test]
fn persistence_follows_version_and_connection() {
    for (minor, lines, keep_alive) in [
        (1, "", true),
        (1, "Connection: close\r\n", false),
        (1, "Connection: upgrade, CLOSE\r\n", false),
        (1, "Connection: a\r\nConnection: close\r\n", false),
        (0, "", false),
        (0, "Connection: Keep-Alive\r\n", true),
        (0, "Connection: keep-alive, close\r\n", false),
    ] {
        with_head(&format!("HEAD / HTTP/1.{minor}\r\nHost: a\r\n{lines}\r\n"), |head| {
            let expected = Terms { head_only: true, keep_alive, http_1_0: minor == 0 };
            assert_eq!(head.unwrap().terms, expected, "1.{minor} {lines:?}");
        });
    }
}

#[test]
fn only_continue_can_be_expected() {
    with_head(&get("Expect: 100-Continue\r\n"), |head| assert!(head.unwrap().expects_continue));
    assert_eq!(refusal(&get("Expect: 200-ok\r\n")), Some(RequestError::Expectation));
    with_head("GET / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", |head| {
        assert!(!head.unwrap().expects_continue, "of HTTP/1.0 it is ignored");
    });
}
