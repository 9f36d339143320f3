//! The method and the body of the downstream request.

use crate::config::Ranked;

/// The downstream method, in upper case: the override, else an inbound PUT, PATCH or DELETE, else
/// the configured one. Otherwise POST for a POST with a body, else GET: clients of the C# sidecar
/// can only send POST.
pub fn downstream_method<'a>(said: Ranked<'a>, inbound: &'a str, has_body: bool) -> &'a str {
    let deliberate = matches!(inbound, "PUT" | "PATCH" | "DELETE").then_some(inbound);
    let implied = if inbound == "POST" && has_body { "POST" } else { "GET" };
    said.asked.or(deliberate).or(said.configured).unwrap_or(implied)
}

/// True if the body is sent. Content has no defined meaning in GET and HEAD, and servers may refuse
/// it (RFC 9110 §9.3.1).
pub fn sends_body(method: &str) -> bool {
    !matches!(method, "GET" | "HEAD")
}

/// The body's type: the override, else the inbound one, else the configured one.
pub fn downstream_content_type<'a>(said: Ranked<'a>, inbound: Option<&'a [u8]>) -> Option<&'a [u8]> {
    let own = |text: Option<&'a str>| text.map(str::as_bytes);
    own(said.asked).or(inbound.filter(|value| !value.trim_ascii().is_empty())).or(own(said.configured))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_method_follows_the_order_of_precedence() {
        for (asked, inbound, configured, has_body, method) in [
            (Some("PATCH"), "PUT", Some("POST"), true, "PATCH"),
            (Some("GET"), "POST", Some("POST"), true, "GET"),
            (None, "PUT", Some("POST"), true, "PUT"),
            (None, "PATCH", Some("GET"), false, "PATCH"),
            (None, "DELETE", Some("POST"), false, "DELETE"),
            (None, "GET", Some("POST"), false, "POST"),
            (None, "POST", Some("GET"), true, "GET"),
            (None, "POST", Some("DELETE"), false, "DELETE"),
            (None, "GET", None, false, "GET"),
            (None, "GET", None, true, "GET"),
            (None, "POST", None, false, "GET"),
            (None, "POST", None, true, "POST"),
        ] {
            let case = (asked, inbound, configured, has_body);
            assert_eq!(downstream_method(Ranked { asked, configured }, inbound, has_body), method, "{case:?}");
        }
    }

    #[test]
    fn a_get_has_no_body() {
        assert!(!sends_body("GET") && !sends_body("HEAD"));
        assert!(["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "REPORT"].iter().all(|method| sends_body(method)));
    }

    #[test]
    fn the_bodys_type_is_the_callers_first() {
        let of = |asked, inbound: Option<&'static str>, configured| {
            let inbound = inbound.map(str::as_bytes);
            downstream_content_type(Ranked { asked, configured }, inbound).map(|value| str::from_utf8(value).unwrap())
        };
        assert_eq!(of(Some("a/a"), Some("b/b"), Some("c/c")), Some("a/a"));
        assert_eq!(of(None, Some("b/b"), Some("c/c")), Some("b/b"));
        assert_eq!(of(None, None, Some("c/c")), Some("c/c"));
        assert_eq!(of(None, Some(" "), Some("c/c")), Some("c/c"));
        assert_eq!(of(None, None, None), None);
    }
}
