//! The downstream request that the options describe, but for its token.

use super::{Effective, Target, downstream_content_type, downstream_method, sends_body};
use crate::outbound::relay::Call;

/// The body that came in, and what it says about itself.
#[derive(Clone, Copy, Debug)]
pub struct InboundBody<'a> {
    /// The inbound method, upper case.
    pub method: &'a str,
    /// The inbound `Content-Type`.
    pub content_type: Option<&'a str>,
    /// Empty: none came.
    pub body: &'a [u8],
}

impl Effective<'_> {
    /// The call of `target` with what came in.
    pub fn call<'b>(&'b self, target: &'b Target, inbound: InboundBody<'b>) -> Call<'b> {
        let configured = self.api.http_method.as_deref();
        let method = downstream_method(self.http_method, inbound.method, configured, !inbound.body.is_empty());
        Call {
            method,
            url: target.url(),
            accept: self.accept,
            content_type: downstream_content_type(
                self.content_type,
                inbound.content_type,
                self.api.content_type.as_deref(),
            ),
            headers: &self.extra_headers,
            body: if sends_body(method) { inbound.body } else { &[] },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Overrides;
    use super::*;
    use crate::config::Api;
    use crate::url::Url;

    /// Method, content type and body of the call.
    fn call(query: &str, inbound: InboundBody<'_>) -> (String, Option<String>, usize) {
        let api = Api {
            base_url: Url::parse("https://api.example").ok(),
            scopes: vec!["s".into()],
            content_type: Some("configured/type".into()),
            ..Api::default()
        };
        let overrides = Overrides::parse(Some(query)).unwrap();
        let options = Effective::merge(&api, &overrides).unwrap();
        let target = Target::new(&options).unwrap();
        let call = options.call(&target, inbound);
        (call.method.to_owned(), call.content_type.map(str::to_owned), call.body.len())
    }

    #[test]
    fn the_body_goes_along_unless_the_method_has_none() {
        let put = InboundBody { method: "PUT", content_type: Some("application/pdf"), body: b"%PDF" };
        let of_type = |text: &str| Some(text.to_owned());
        assert_eq!(call("", put), ("PUT".into(), of_type("application/pdf"), 4));
        assert_eq!(call("optionsOverride.HttpMethod=get", put), ("GET".into(), of_type("application/pdf"), 0));
        assert_eq!(call("optionsOverride.ContentType=a/b", put), ("PUT".into(), of_type("a/b"), 4));
        let untyped = InboundBody { method: "POST", content_type: None, ..put };
        assert_eq!(call("", untyped), ("POST".into(), of_type("configured/type"), 4));
        assert_eq!(call("", InboundBody { body: b"", ..untyped }).0, "GET");
    }
}
