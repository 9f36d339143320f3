//! `/` in Development: what is configured, what was asked last, and what a pasted token is worth, for the developer's
//! eyes. The page reads all of it from its own address as JSON, and sends a token there as its own.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::authenticate::{Presented, explained};
use super::call::{Call, Halt, Parked};
use super::door::is_shut;
use super::health;
use super::reply;
use super::route::Endpoint;
use crate::config::Api;
use crate::credentials::Client;
use crate::http::{Keep, Reply, Resumed};
use crate::jwt::Finding;
use crate::value::b64;
use crate::value::date::to_rfc3339_seconds;
use crate::value::hash::sha256;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page, or what it shows.
pub fn page(call: &Call<'_>, resumed: Option<&Resumed<Parked>>) -> Result<Reply, Halt> {
    call.body(Keep::No)?;
    if !call.request.headers.text("accept").is_some_and(|accepted| accepted.contains("application/json")) {
        return Ok(document());
    }
    let findings = match Presented::of(call) {
        // A token that is refused is an answer here.
        Presented::Bearer(token) => explained(call, token, resumed)?.1,
        _ => Vec::new(),
    };
    let (service, open) = (call.service, |endpoint| !is_shut(endpoint, &call.service.config));
    let now = call.shared.clock.unix();
    let proxies = service.config.sidecar.proxy;
    let state = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "health": String::from_utf8_lossy(&health::health(call).body),
        "registrations": service.clients().map(|client| registration(client, now)).collect::<Vec<_>>(),
        "apis": service.apis().map(|own| api(own, &service.client(own).registration.section, proxies)).collect::<Vec<_>>(),
        "oauth": open(Endpoint::OAuthToken),
        "identity": open(Endpoint::Identity),
        "requests": call.shared.recent.as_ref().map(|recent| recent.all()),
        "checks": findings.iter().map(check).collect::<Vec<_>>(),
    });
    Ok(reply::json(state.to_string().into_bytes()))
}

/// Why a credential cannot be used is for the log.
fn registration(client: &Client, now: u64) -> Value {
    let registration = &client.registration;
    let authority = match &registration.authority {
        Some(authority) => authority.to_string(),
        None => format!("{}{}", registration.instance, registration.tenant),
    };
    let credentials = client.credentials.inspect(now).into_iter().map(|inspection| {
        json!({
            "type": inspection.source_type,
            "expires": inspection.expires_at.map(to_rfc3339_seconds),
            "usable": inspection.result.is_ok(),
        })
    });
    json!({
        "section": registration.section,
        "authority": authority,
        "clientId": registration.client_id,
        "credentials": credentials.collect::<Vec<_>>(),
    })
}

fn api(api: &Api, section: &str, proxies: bool) -> Value {
    let options = &api.options;
    let whose = match (&options.managed_identity, options.request_app_token) {
        (Some(_), _) => "the managed identity",
        (None, Some(true)) => "the application",
        _ => "the user",
    };
    json!({
        "name": api.name,
        "registration": section,
        "baseUrl": options.base_url.as_ref().map(ToString::to_string),
        "scopes": options.scopes,
        "whose": whose,
        // Whether requests can be passed through to it.
        "proxy": proxies && options.passes_through(),
    })
}

fn check(finding: &Finding) -> Value {
    json!({
        "check": finding.check.to_string(),
        "outcome": finding.outcome.name(),
        "lookedAt": finding.looked_at,
        "expected": finding.expected,
        "found": finding.found,
    })
}

/// The page. Its policy lets nothing run and nothing be loaded but what is in it, and no other page frame it
/// (Content Security Policy Level 3, §6).
fn document() -> Reply {
    let hash = |text: &str| b64::standard(sha256(text));
    let mut policy = "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'"
        .to_owned();
    let _ = write!(policy, "; style-src 'sha256-{}'; script-src 'sha256-{}'", hash(STYLE), hash(SCRIPT));
    let text = PAGE.replace("@STYLE@", STYLE).replace("@SCRIPT@", SCRIPT);
    reply::uncached("text/html; charset=utf-8", text.into_bytes())
        .header("Content-Security-Policy", &policy)
        .header("Cross-Origin-Resource-Policy", "same-origin")
        .header("Referrer-Policy", "no-referrer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_page_comes_from_elsewhere() {
        let text = String::from_utf8(document().body).unwrap();
        assert!(text.contains(STYLE) && text.contains(SCRIPT));
        for foreign in ["http:", "https:", "src=", "@import", "@STYLE@", "@SCRIPT@"] {
            assert!(!text.contains(foreign), "{foreign}");
        }
        assert!(!STYLE.contains("url("));
        // What others said is shown as text alone.
        for parsed in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval"] {
            assert!(!SCRIPT.contains(parsed), "{parsed}");
        }
    }
}
