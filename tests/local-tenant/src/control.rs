//! What tests change over HTTP and people with curl: `/_control/…`.
//!
//! | request | does |
//! |---|---|
//! | `GET /_control/mint?kind=user&user=alice` | a user's token; `kind=app&client_id=…` an application's |
//! | … `&version=1`, `aud`, `scp`, `roles` (spaces), `tid`, `kid`, `alg`, `expires_in`, `claim.NAME` (JSON or text), `header.NAME`, `without=NAME` | with these changes |
//! | `GET /_control/federated?sub=…&aud=…&expires_in=…` | an assertion of the federated issuer |
//! | `GET /_control/journal[?kind=token]`, `DELETE` | what came in; forget it |
//! | `POST /_control/faults?kind=token&times=2&status=503&retry_after=1&body=…` | a fault; or `delay_ms`, `hold`, `echo`, `cut=body`, `answer`, `work`, `truncate=N` in place of `status`; `path`, `field=name:value` narrow it |
//! | `DELETE /_control/faults`, `POST /_control/release` | forget faults; let held requests go |
//! | `POST /_control/keys/rotate`, `/add-unusable`, `/remove?kid=`, `/hide?kid=`, `/show?kid=`, `/members?kid=` (JSON body) | change the key set |
//! | `POST /_control/settings?expires_in=&refresh_in=&numbers_as_strings=&error_lines=&ignores_pop=&issuer=&vault_resource=&managed_identity_expires_in=&system_identity=&arc_key_path=` | change settings |
//! | `POST /_control/refresh-tokens/revoke` | revoke every refresh token |

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::directory::{APP_ID, APP_SUBJECT, App, CALLER_ID, EXCHANGE, User};
use crate::faults::{Action, Fault};
use crate::journal::Kind;
use crate::message::{Answer, Request};
use crate::mint::{Mint, federated_assertion};
use crate::state::State;

/// Answers a control request.
pub fn answer(state: &Arc<State>, request: &Request) -> Answer {
    let path = request.path.trim_start_matches("/_control/");
    let result = match (request.method.as_str(), path) {
        ("GET", "mint") => mint(state, request).map(|token| Answer::text(200, token)),
        ("GET", "federated") => Ok(Answer::text(200, federated(state, request))),
        ("GET", "journal") => journal(state, request),
        ("DELETE", "journal") => {
            state.journal.clear();
            Ok(Answer::status(204))
        }
        ("POST", "faults") => fault(request).map(|fault| {
            state.faults.add(fault);
            Answer::status(204)
        }),
        ("DELETE", "faults") => {
            state.faults.clear();
            Ok(Answer::status(204))
        }
        ("POST", "release") => {
            state.faults.release();
            Ok(Answer::status(204))
        }
        ("POST", "settings") => settings(state, request),
        ("POST", "refresh-tokens/revoke") => {
            state.refresh_tokens.lock().unwrap().clear();
            Ok(Answer::status(204))
        }
        ("POST", _) if path.starts_with("keys/") => keys(state, request, &path["keys/".len()..]),
        _ => return Answer::text(404, "no such control"),
    };
    result.unwrap_or_else(|reason| Answer::text(400, reason))
}

fn mint(state: &Arc<State>, request: &Request) -> Result<String, String> {
    let directory = state.directory.read().unwrap().clone();
    let mut mint = match request.query_value("kind").as_deref() {
        None | Some("user") => {
            let name = request.query_value("user").unwrap_or_else(|| "alice".into());
            Mint::user(state, &directory.user(&name).cloned().unwrap_or_else(|| User::new(&name, &name)))
        }
        Some("app") => {
            let id = request.query_value("client_id").unwrap_or_else(|| CALLER_ID.into());
            Mint::app(state, &directory.app(&id).cloned().unwrap_or_else(|| App::new(&id)))
        }
        Some(other) => return Err(format!("kind is user or app, not {other}")),
    };
    // The version first: it renames claims and changes the issuer that later parameters may replace.
    if request.query_value("version").as_deref() == Some("1") {
        mint = mint.version_1();
    }
    for (key, value) in request.query_pairs() {
        mint = match key.as_str() {
            "kind" | "user" | "client_id" | "version" => mint,
            "aud" => mint.audience(&value),
            "scp" => mint.scopes(&value),
            "roles" => mint.claim("roles", value.split(' ').collect::<Vec<_>>()),
            "tid" => mint.in_tenant(&value),
            "kid" if state.keys.read().unwrap().find(&value).is_none() => {
                return Err(format!("no key has the kid {value}"));
            }
            "kid" => mint.signed_by(&value),
            "alg" => mint.algorithm(&value),
            "expires_in" => mint.expires_in(value.parse().map_err(|_| "expires_in is no number")?),
            "without" => mint.without(&value),
            _ => match key.split_once('.') {
                Some(("claim", name)) => mint.claim(name, json_or_text(&value)),
                Some(("header", name)) => mint.header(name, json_or_text(&value)),
                _ => return Err(format!("unknown parameter {key}")),
            },
        };
    }
    Ok(mint.token())
}

fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn federated(state: &State, request: &Request) -> String {
    let subject = request.query_value("sub").unwrap_or_else(|| APP_SUBJECT.into());
    let audience = request.query_value("aud").unwrap_or_else(|| EXCHANGE.into());
    let expires_in = request.query_value("expires_in").and_then(|text| text.parse().ok()).unwrap_or(3600);
    federated_assertion(state, &subject, &audience, expires_in)
}

fn journal(state: &State, request: &Request) -> Result<Answer, String> {
    let records = match request.query_value("kind") {
        Some(name) => state.journal.of(Kind::named(&name).ok_or_else(|| format!("unknown kind {name}"))?),
        None => state.journal.all(),
    };
    Ok(Answer::json(200, &records.iter().map(crate::journal::Record::json).collect()))
}

fn fault(request: &Request) -> Result<Fault, String> {
    let value = |key: &str| request.query_value(key);
    let number =
        |key: &str| value(key).map(|text| text.parse::<u64>().map_err(|_| format!("{key} is no number"))).transpose();
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let kind =
        value("kind").map(|name| Kind::named(&name).ok_or_else(|| format!("unknown kind {name}"))).transpose()?;
    let action = if let Some(status) = number("status")? {
        let status = u16::try_from(status).map_err(|_| "status is no HTTP status")?;
        let body = value("body").unwrap_or_default();
        let content_type = value("content_type").unwrap_or_else(|| "application/json".into());
        let mut answer = Answer::of(status, &content_type, body);
        if let Some(delay) = value("retry_after") {
            answer = answer.header("Retry-After", delay);
        }
        Action::Answer(Box::new(answer))
    } else if let Some(delay) = number("delay_ms")? {
        Action::Delay(Duration::from_millis(delay))
    } else if let Some(length) = number("truncate")? {
        Action::Truncate(size(length))
    } else if value("hold").is_some() {
        Action::Hold
    } else if value("echo").is_some() {
        Action::Echo
    } else {
        match value("cut").as_deref() {
            Some("body") => Action::CutBeforeBody,
            Some("answer") => Action::CutBeforeAnswer,
            Some("work") => Action::CutAfterWork,
            _ => return Err("a fault needs status, delay_ms, truncate, hold, echo or cut=body|answer|work".into()),
        }
    };
    let field = value("field").and_then(|pair| pair.split_once(':').map(|(n, v)| (n.to_owned(), v.to_owned())));
    Ok(Fault { kind, path: value("path"), field, times: number("times")?.map_or(1, size), action })
}

fn settings(state: &State, request: &Request) -> Result<Answer, String> {
    let mut settings = state.settings();
    for (key, value) in request.query_pairs() {
        let number = || value.parse::<i64>().map_err(|_| format!("{key} is no number"));
        let flag = || value.parse::<bool>().map_err(|_| format!("{key} is true or false"));
        match key.as_str() {
            "expires_in" => settings.expires_in = number()?,
            "refresh_in" => settings.refresh_in = if value.is_empty() { None } else { Some(number()?) },
            "numbers_as_strings" => settings.numbers_as_strings = flag()?,
            "error_lines" => settings.error_lines = flag()?,
            "ignores_pop" => settings.ignores_pop = flag()?,
            "issuer" => settings.issuer = Some(value).filter(|issuer| !issuer.is_empty()),
            "vault_resource" => settings.vault_resource = value,
            "managed_identity_expires_in" => settings.managed_identity_expires_in = number()?,
            "system_identity" => settings.system_identity = flag()?,
            "arc_key_path" => settings.arc_key_path = value,
            _ => return Err(format!("unknown setting {key}")),
        }
    }
    *state.settings.write().unwrap() = settings;
    Ok(Answer::status(204))
}

fn keys(state: &State, request: &Request, change: &str) -> Result<Answer, String> {
    let kid = || request.query_value("kid").ok_or("kid is missing");
    let mut ring = state.keys.write().unwrap();
    match change {
        "rotate" => return Ok(Answer::json(200, &json!({"kid": ring.rotate()}))),
        "add-unusable" => ring.add_unusable(),
        "remove" => ring.remove(&kid()?),
        "hide" => ring.publish(&kid()?, false),
        "show" => ring.publish(&kid()?, true),
        "members" => {
            let members = serde_json::from_slice(&request.body).map_err(|_| "the body is no JSON")?;
            ring.set_members(&kid()?, &members);
        }
        _ => return Err(format!("unknown change {change}")),
    }
    Ok(Answer::json(200, &json!({"kids": ring.ids(), "client": APP_ID})))
}
