//! Microsoft Graph, as far as users go: pages of them, one of them and `/me`. As in Graph, the link
//! to the next page is absolute and so leads past a proxy.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1.0/users?$select=id,displayName&$top=2` | a page |
//! | `GET /v1.0/users/{id or principal name}` | a user |
//! | `GET /v1.0/me` | the token's user |
//!
//! <https://learn.microsoft.com/graph/api/user-list>, <https://learn.microsoft.com/graph/paging>

use serde_json::{Map, Value, json};

use crate::directory::{GRAPH, User};
use crate::message::{Answer, Request};
use crate::random::guid;
use crate::state::State;
use crate::verify;

/// Answers a request for Graph.
pub fn answer(state: &State, request: &Request) -> Answer {
    users(state, request).unwrap_or_else(|refused| refused).header("request-id", guid())
}

fn users(state: &State, request: &Request) -> Result<Answer, Answer> {
    let token = verify::bearer(state, request, GRAPH)
        .map_err(|reason| refusal(401, "InvalidAuthenticationToken", &format!("Access token is refused: {reason}.")))?;
    if request.method != "GET" {
        return Err(refusal(405, "Request_BadRequest", "Specified HTTP method is not allowed for the request target."));
    }
    let options = Options::of(request)?;
    let tenant = token.text("tid").unwrap_or_default();
    let mut users = state.directory.read().unwrap().users.clone();
    users.retain(|user| user.tenant == tenant);
    let found = |name: &str| {
        let user = users.iter().find(|user| user.oid == name || user.upn == name);
        user.map(|user| Answer::json(200, &options.selected(user))).ok_or_else(|| {
            let text = format!("Resource '{name}' does not exist.");
            refusal(404, "Request_ResourceNotFound", &text)
        })
    };
    let segments = request.segments();
    match segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["v1.0", "users"] => Ok(Answer::json(200, &options.page(&users))),
        ["v1.0", "users", name] => found(name),
        ["v1.0", "me"] if token.text("scp").is_none() => {
            Err(refusal(400, "BadRequest", "/me request is only valid with delegated authentication flow."))
        }
        ["v1.0", "me"] => found(token.text("oid").unwrap_or_default()),
        _ => Err(refusal(400, "BadRequest", "Resource not found for the segment.")),
    }
}

/// The query options; others are refused.
#[derive(Default)]
struct Options {
    select: String,
    top: Option<usize>,
    skip: usize,
}

impl Options {
    fn of(request: &Request) -> Result<Self, Answer> {
        let mut options = Self::default();
        for (name, value) in request.query_pairs() {
            let number = value.parse().map_err(|_| ());
            let known = match name.as_str() {
                "$select" => {
                    options.select = value;
                    Ok(())
                }
                "$top" => number.map(|top| options.top = Some(top)),
                "$skiptoken" => number.map(|skip| options.skip = skip),
                _ => Err(()),
            };
            known.map_err(|()| refusal(400, "BadRequest", &format!("Query option '{name}' is not allowed.")))?;
        }
        Ok(options)
    }

    fn page(&self, users: &[User]) -> Value {
        let top = self.top.unwrap_or(100);
        let rest = users.get(self.skip..).unwrap_or_default();
        let mut page = json!({
            "@odata.context": format!("{GRAPH}/v1.0/$metadata#users"),
            "value": rest.iter().take(top).map(|user| self.selected(user)).collect::<Vec<_>>(),
        });
        if rest.len() > top {
            let next = format!("{GRAPH}/v1.0/users?$top={top}&$select={}&$skiptoken={}", self.select, self.skip + top);
            page["@odata.nextLink"] = next.into();
        }
        page
    }

    fn selected(&self, user: &User) -> Value {
        let wanted = |name: &str| self.select.is_empty() || self.select.split(',').any(|chosen| chosen == name);
        let members = [("id", &user.oid), ("displayName", &user.name), ("userPrincipalName", &user.upn)];
        let chosen = members.iter().filter(|(name, _)| wanted(name));
        Value::Object(chosen.map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<Map<_, _>>())
    }
}

fn refusal(status: u16, code: &str, text: &str) -> Answer {
    let inner = json!({"date": "2026-01-01T00:00:00", "request-id": guid(), "client-request-id": guid()});
    Answer::json(status, &json!({"error": {"code": code, "message": text, "innerError": inner}}))
}
