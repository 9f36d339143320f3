//! Writes the head of a [`Reply`].

use super::head::Terms;
use super::message::Reply;
use crate::value::date::HTTP_LEN;

/// True if the status never has a body or a length (RFC 9110 §6.4.1, §8.6).
const fn has_no_content(status: u16) -> bool {
    matches!(status, 204 | 304)
}

/// True if the body is sent. It is not in answer to HEAD, nor with a status that allows none.
pub const fn sends_body(status: u16, terms: Terms) -> bool {
    !terms.head_only && !has_no_content(status)
}

/// Appends the head. `close` announces that the connection ends after this answer.
pub fn write_head(out: &mut Vec<u8>, reply: &Reply, terms: Terms, close: bool, date: &[u8; HTTP_LEN]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, usize::from(reply.status));
    out.push(b' ');
    out.extend_from_slice(phrase(reply.status).as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\nX-Content-Type-Options: nosniff\r\n");
    if let Some(content_type) = reply.content_type {
        push_field(out, "Content-Type", content_type);
    }
    out.extend_from_slice(reply.caching.fields().as_bytes());
    out.extend_from_slice(reply.fields().as_bytes());
    if close {
        push_field(out, "Connection", "close");
    } else if terms.http_1_0 {
        push_field(out, "Connection", "keep-alive");
    }
    if !has_no_content(reply.status) {
        out.extend_from_slice(b"Content-Length: ");
        push_number(out, reply.body_len());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn push_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn push_number(out: &mut Vec<u8>, mut number: usize) {
    // Room for any number of 64 bits.
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789"[number % 10];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The reason phrase, for each status that the sidecar sends (RFC 7231 §6.1, RFC 7235, RFC 6585,
/// RFC 4918).
pub const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Payload Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        424 => "Failed Dependency",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unassigned",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Terms = Terms { head_only: false, keep_alive: true, http_1_0: false };

    fn head(reply: &Reply, terms: Terms, close: bool) -> String {
        let mut out = Vec::new();
        write_head(&mut out, reply, terms, close, b"Thu, 01 Jan 1970 00:00:00 GMT");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_carries_the_fields_that_every_answer_has() {
        let reply = Reply::new(200).with_body("text/plain", b"Healthy".to_vec()).header("Pragma", "no-cache");
        assert_eq!(
            head(&reply, KEPT, false),
            "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nX-Content-Type-Options: nosniff\r\n\
             Content-Type: text/plain\r\nPragma: no-cache\r\nContent-Length: 7\r\n\r\n"
        );
    }

    #[test]
    fn persistence_is_said_where_it_is_not_understood() {
        let old = Terms { http_1_0: true, ..KEPT };
        for (terms, close, said) in [
            (KEPT, false, None),
            (KEPT, true, Some("close")),
            (old, false, Some("keep-alive")),
            (old, true, Some("close")),
        ] {
            let text = head(&Reply::new(404), terms, close);
            let value = text.split("\r\n").find_map(|line| line.strip_prefix("Connection: "));
            assert_eq!(value, said);
        }
    }

    #[test]
    fn head_keeps_the_length_and_statuses_without_content_have_none() {
        let body = |status| Reply::new(status).with_body("text/plain", vec![0; 1024]);
        assert!(head(&body(200), Terms { head_only: true, ..KEPT }, false).contains("\r\nContent-Length: 1024\r\n"));
        assert!(!sends_body(200, Terms { head_only: true, ..KEPT }));
        for status in [204, 304] {
            assert!(!head(&body(status), KEPT, false).contains("Content-Length"));
            assert!(!sends_body(status, KEPT));
        }
        assert!(sends_body(200, KEPT));
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 9, 10, 31_457_280, usize::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
