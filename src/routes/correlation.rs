//! The correlation id, sent upstream, logged and returned, and the trace that goes on to the API (docs/endpoints.md).

use crate::http::{Headers, RequestRecord};
use crate::value::guid::{self, Guid};

/// Returned with every answer.
pub use crate::outbound::CORRELATION as HEADER;

/// Longer ids are replaced.
const MAX_LENGTH: usize = 128;

/// An id that needs no allocation.
pub enum Id<'a> {
    /// As sent by the caller.
    Callers(&'a str),
    /// From the caller's trace, or newly generated.
    Made(Guid),
}

impl Id<'_> {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Callers(text) => text,
            Self::Made(guid) => guid.as_str(),
        }
    }
}

/// The caller's id, else the trace id of `traceparent`, else a GUID of the request, which stays the same however often it is
/// handled.
pub fn id<'a>(headers: Headers<'a>, request: &RequestRecord) -> Id<'a> {
    let own = [HEADER, "client-request-id"].into_iter().find_map(|name| {
        let text = headers.text(name)?.trim();
        is_harmless(text).then_some(Id::Callers(text))
    });
    own.unwrap_or_else(|| Id::Made(trace(headers).map_or_else(|| guid::numbered(request.number), |(_, id)| id)))
}

/// The headers by which the API continues the caller's trace. `tracestate` means nothing without a `traceparent` (W3C Trace
/// Context §3.3), and several fields of it are one list.
pub fn trace_context(headers: Headers<'_>) -> Vec<(String, String)> {
    let Some((parent, _)) = trace(headers) else { return Vec::new() };
    let states: Vec<_> = headers.all("tracestate").filter_map(|value| str::from_utf8(value).ok()).collect();
    vec![("traceparent".to_owned(), parent.to_owned()), ("tracestate".to_owned(), states.join(","))]
}

/// The one valid `traceparent`, and its trace id.
fn trace(headers: Headers<'_>) -> Option<(&str, Guid)> {
    let mut all = headers.all("traceparent");
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let parent = str::from_utf8(only).ok()?.trim();
    Some((parent, trace_id(parent)?))
}

/// True if it may appear in log lines and headers as it is.
fn is_harmless(text: &str) -> bool {
    (1..=MAX_LENGTH).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

/// The trace id of `00-<32 hex>-<16 hex>-<2 hex>` (W3C Trace Context §3.2.2) as a GUID. Later versions may append to it.
fn trace_id(traceparent: &str) -> Option<Guid> {
    let mut parts = traceparent.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let ends = version != "00" || parts.next().is_none();
    let valid = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && ends;
    let valid = valid && parent.bytes().any(|digit| digit != b'0');
    let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| valid && *trace != 0)?;
    Some(guid::of_bytes(trace.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&str, &str)]) -> String {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
        id(Headers(&fields), &RequestRecord::new(std::time::Instant::now())).as_str().to_owned()
    }

    #[test]
    fn the_callers_id_is_taken_over_in_this_order() {
        let trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(of(&[trace, ("client-request-id", "b"), ("x-ms-client-request-id", "a")]), "a");
        assert_eq!(of(&[trace, ("Client-Request-Id", "b")]), "b");
        assert_eq!(of(&[trace]), "0af76519-16cd-43dd-8448-eb211c80319c");
    }

    #[test]
    fn what_is_no_id_is_replaced_by_a_new_one() {
        let long = "a".repeat(MAX_LENGTH + 1);
        for text in ["", "a b", "a\tb", "a\"b", "\u{e9}", &long] {
            assert!(guid::is_guid(&of(&[("client-request-id", text)])), "{text:?}");
        }
        for text in [
            "00-0-0-0",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert_ne!(of(&[("traceparent", text)]), "0af76519-16cd-43dd-8448-eb211c80319c", "{text:?}");
        }
        let trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_ne!(of(&[trace, trace]), "0af76519-16cd-43dd-8448-eb211c80319c");
        assert_eq!(of(&[("client-request-id", &"a".repeat(MAX_LENGTH))]).len(), MAX_LENGTH);
    }
}
