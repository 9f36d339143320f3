//! `/identity/token`: the application's token by the protocol of App Service's managed identity endpoint, which every
//! Azure SDK speaks (<https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference>).

use std::borrow::Cow;
use std::sync::Arc;

use super::acquire::{Acquisition, Asked};
use super::admit::Denial;
use super::call::{Call, Halt, Parked};
use super::door::Door;
use super::problem::Problem;
use super::reply;
use super::service::Service;
use crate::config::{Api, ApiOptions};
use crate::http::{Keep, Reply, Resumed};
use crate::options::{Agent, Effective, OptionsError, Overrides, decode, parameters};
use crate::value::hash::sha256;
use crate::value::{guid, hex, resource};

/// The secret that an application has from its environment, in `IDENTITY_HEADER`.
const HEADER: &str = "x-identity-header";

const API_VERSION: &str = "2019-08-01";

/// The names of identities that are not told apart here.
const OTHER_IDENTITIES: [&str; 4] = ["principal_id", "object_id", "mi_res_id", "msi_res_id"];

#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    /// Without `/.default`.
    resource: String,
    client_id: Option<String>,
    /// The SHA-256 of a token that is of no more use.
    revoked: Option<Vec<u8>>,
}

impl Query {
    fn parse(query: &str) -> Result<Self, Problem> {
        let (mut parsed, mut version, mut named) = (Self::default(), String::new(), None);
        for parameter in parameters(query) {
            let (key, value) = parameter?;
            let is = |name: &str| key.eq_ignore_ascii_case(name);
            let value = || decode(&key, value);
            if is("resource") {
                named = Some(value()?.into_owned()).filter(|value| !value.is_empty()).or(named);
            } else if is("api-version") {
                version = value()?.into_owned();
            } else if is("token_sha256_to_refresh") {
                parsed.revoked = hex::decode(&value()?);
            } else if is("client_id") {
                let value = value()?.into_owned();
                if !value.is_empty() && parsed.client_id.replace(value).is_some() {
                    return Err(OptionsError::Repeated("client_id").into());
                }
            } else if let Some(name) = OTHER_IDENTITIES.into_iter().find(|name| is(name))
                && !value()?.is_empty()
            {
                let detail = format!("{name}: expected the identity in client_id, or none");
                return Err(Problem::with(400, detail));
            }
        }
        if version != API_VERSION {
            return Err(Problem::with(400, "api-version: expected 2019-08-01"));
        }
        let malformed = |expected| Problem::with(400, format!("resource: expected {expected}"));
        resource::parse(named.as_deref().unwrap_or_default()).map_err(malformed)?.clone_into(&mut parsed.resource);
        Ok(parsed)
    }
}

/// `{"access_token","expires_on","resource","token_type","client_id"}`.
pub fn token(call: &Call<'_>, resumed: Option<Resumed<Parked>>) -> Result<Reply, Halt> {
    admit(call)?;
    let query = Query::parse(call.request.query.unwrap_or_default())?;
    let api = api(call.service, &query.resource)?;
    let (client_id, agent) = identity(call, &api, query.client_id)?;
    call.body(Keep::No)?;
    let scopes = vec![[&query.resource, "/.default"].concat()];
    let options = ApiOptions { scopes, request_app_token: Some(true), ..ApiOptions::default() };
    let overrides = Cow::Owned(Overrides { agent, options });
    let asked = Asked { caller: None, api: &api, known_requests: None, overrides, door: Door::AppToken };
    let mut effective = Effective::merge(&api, &asked.overrides)?;
    if effective.options.pop {
        let detail = format!(
            "Tokens of the API '{}' are bound to a key, which clients of this endpoint cannot prove; \
             Sidecar:IdentityEndpoint:Api can name another API",
            api.name
        );
        return Err(Problem::with(500, detail).into());
    }
    // Whoever comes back with a token that was asked for anew does not ask again.
    let anew = matches!(&resumed, Some(Resumed { on: Parked::Lead(..), .. }));
    let acquire = |effective: &Effective<'_>, resumed: Option<Resumed<Parked>>| {
        Acquisition::new(call, &asked, effective, resumed.as_ref())?.token(call, resumed)
    };
    let mut token = acquire(&effective, resumed)?;
    if !anew && query.revoked.is_some_and(|revoked| revoked == sha256(token.token())) {
        effective.options.force_refresh = true;
        token = acquire(&effective, None)?;
    }
    let fields = [
        ("access_token", token.token()),
        ("expires_on", &token.expires_at.to_string()),
        ("resource", &query.resource),
        ("token_type", "Bearer"),
        ("client_id", &client_id),
    ];
    Ok(reply::object(&fields))
}

/// The header is what keeps a request out that was forged through the application: no page and no redirect can send it.
fn admit(call: &Call<'_>) -> Result<(), Problem> {
    let headers = call.request.headers;
    let challenge = |detail: &'static str| Problem::with(401, detail).header("WWW-Authenticate", "X-IDENTITY-HEADER");
    if headers.first(HEADER).is_none() {
        return Err(challenge("The X-IDENTITY-HEADER header is required"));
    }
    call.service.admission.admit_token(headers, HEADER, []).map_err(|refusal| match refusal {
        Denial::Token => challenge("The X-IDENTITY-HEADER header must hold the content of Sidecar:CallerTokenFile"),
        refusal => refusal.into(),
    })
}

/// The API that stands for a resource which the operator has named.
fn api(service: &Service, wanted: &str) -> Result<Arc<Api>, Problem> {
    let rules = &service.config.sidecar.identity_endpoint;
    let of_resource = |api: &&Arc<Api>| api.options.scopes.iter().any(|scope| resource::has_scope(wanted, scope));
    let mut apis = service.apis().filter(of_resource);
    // One whose tokens are bound to a key serves nobody here.
    let first = apis.clone().find(|api| !api.options.is_bound()).or_else(|| apis.next());
    if first.is_none() && !rules.resources.iter().any(|allowed| allowed == "*" || allowed == wanted) {
        let detail = "The resource belongs to no configured API and is not in Sidecar:IdentityEndpoint:Resources";
        return Err(Problem::with(403, detail));
    }
    let named = rules.api.as_ref().and_then(|name| service.api(name));
    Ok(named.or(first).cloned().unwrap_or_default())
}

/// Whose token it is: its client id, and the agent, where it is another than the registration's or the machine's own.
fn identity(call: &Call<'_>, api: &Api, asked: Option<String>) -> Result<(String, Option<Agent>), Problem> {
    let machine = api.options.managed_identity.as_ref();
    let own = machine.and_then(|identity| identity.client_id.as_ref());
    let own = own.unwrap_or(&call.service.client(api).registration.client_id);
    let Some(asked) = asked.filter(|asked| !asked.eq_ignore_ascii_case(own)) else { return Ok((own.clone(), None)) };
    let (true, Ok(identity)) = (machine.is_none(), guid::parse(&asked)) else {
        return Err(Problem::with(400, "client_id: expected that of the application, or of an agent"));
    };
    Door::AppToken.opens_further(call)?;
    Ok((identity.clone(), Some(Agent { identity, user: None })))
}
