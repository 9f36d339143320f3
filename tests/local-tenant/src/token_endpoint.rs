//! The token endpoint: which grant it is, who asks, and what is issued (RFC 6749 §4.4 and §5).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::agents;
use crate::client_auth::authenticate;
use crate::directory::{Api, App, Condition, User};
use crate::form::Form;
use crate::jwt::Decoded;
use crate::message::{Answer, Request};
use crate::mint::Mint;
use crate::random;
use crate::refusal::Refusal;
use crate::scope::{self, Delegated};
use crate::state::{Refresh, State};
use crate::time::now;
use crate::verify;

/// Answers a token request; gives the reason when it refuses.
pub fn answer(state: &Arc<State>, request: &Request, tenant: &str) -> (Answer, Option<String>) {
    // Entra makes an id of its own where the client's is no GUID.
    let correlation = request.header("client-request-id").filter(|id| random::is_guid(&id.to_ascii_lowercase()));
    let correlation = correlation.map_or_else(random::guid, str::to_owned);
    let (answer, reason) = match issue(state, request, tenant) {
        Ok(body) => (Answer::json(200, &body), None),
        Err(refusal) => {
            let reason = format!("AADSTS{}: {}", refusal.code, refusal.text);
            (refusal.answer(&state.base, &correlation, state.settings().error_lines), Some(reason))
        }
    };
    let mut answer = answer
        .header("Cache-Control", "no-store, no-cache")
        .header("Pragma", "no-cache")
        .header("x-ms-request-id", random::guid());
    if request.header("return-client-request-id") == Some("true") {
        answer = answer.header("client-request-id", correlation);
    }
    (answer, reason)
}

fn issue(state: &Arc<State>, request: &Request, tenant: &str) -> Result<Value, Refusal> {
    let form = Form::of(request)?;
    let grant = form.required("grant_type")?;
    let own: &[&str] = match grant {
        "client_credentials" => &["fmi_path"],
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => &["assertion", "requested_token_use"],
        "refresh_token" => &["refresh_token"],
        "user_fic" => &["user_federated_identity_credential", "username", "user_id"],
        _ => {
            let text = format!("The app requested an unsupported grant type '{grant}'.");
            return Err(Refusal::other("unsupported_grant_type", 70_003, text));
        }
    };
    form.allow(own)?;
    let extras = Extras::of(state, &form)?;
    let tenant = match tenant {
        "common" | "organizations" => home_tenant(state, &form, grant)?,
        name => state.directory.read().unwrap().tenant(name).map(|entry| entry.id.clone()).ok_or_else(|| {
            Refusal::request(
                90_002,
                format!("Tenant '{name}' not found. Check to make sure you have the correct tenant ID."),
            )
        })?,
    };
    let app = authenticate(state, request, &form, &tenant)?;
    match grant {
        "client_credentials" => client_credentials(state, &form, &app, &tenant, &extras),
        "refresh_token" => {
            let user = refreshed_user(state, &form, &app, &tenant)?;
            delegated(state, &form, &app, &tenant, &user, &extras)
        }
        "user_fic" => {
            let user = agents::federated_user(state, &form, &app, &tenant)?;
            delegated(state, &form, &app, &tenant, &user, &extras)
        }
        _ => {
            let user = asserted_user(state, &form, &app, &tenant)?;
            delegated(state, &form, &app, &tenant, &user, &extras)
        }
    }
}

/// A meta tenant stands for that of the user's token; an app has none.
fn home_tenant(state: &State, form: &Form, grant: &str) -> Result<String, Refusal> {
    let from_assertion =
        || form.get("assertion").and_then(|token| Decoded::of(token).ok()?.text("tid").map(str::to_owned));
    let from_refresh = || {
        let tokens = state.refresh_tokens.lock().unwrap();
        tokens.get(form.get("refresh_token")?).map(|refresh| refresh.tenant.clone())
    };
    from_assertion().or_else(from_refresh).filter(|_| grant != "client_credentials").ok_or_else(|| {
        Refusal::request(
            50_059,
            "No tenant-identifying information found in either the request or implied by any provided credentials.",
        )
    })
}

/// The fields that bear on the token itself, whatever the grant.
struct Extras {
    claims: Option<Value>,
    confirmation: Option<Value>,
}

impl Extras {
    fn of(state: &State, form: &Form) -> Result<Self, Refusal> {
        let claims = form
            .get("claims")
            .map(|text| {
                serde_json::from_str::<Map<String, Value>>(text)
                    .map(Value::Object)
                    .map_err(|_| Refusal::request(9_000_410, "Malformed JSON in the parameter 'claims'."))
            })
            .transpose()?;
        let confirmation = match (form.get("token_type"), form.get("req_cnf")) {
            (None, None) => None,
            (Some("pop"), Some(text)) => Some(confirmation(text)?),
            (Some("pop"), None) => return Err(Refusal::missing("req_cnf")),
            (Some(_), _) => return Err(Refusal::malformed("token_type", "'pop'")),
            (None, Some(_)) => return Err(Refusal::missing("token_type")),
        };
        Ok(Self { claims, confirmation: confirmation.filter(|_| !state.settings().ignores_pop) })
    }

    fn apply(&self, mut mint: Mint) -> Mint {
        if let Some(claims) = &self.claims {
            if let Some(capabilities) = claims.pointer("/access_token/xms_cc/values") {
                mint = mint.claim("xms_cc", capabilities.clone());
            }
            mint = mint.claim("requested_claims", claims.clone());
        }
        match &self.confirmation {
            Some(confirmation) => mint.claim("cnf", confirmation.clone()),
            None => mint,
        }
    }

    fn token_type(&self) -> &'static str {
        if self.confirmation.is_some() { "pop" } else { "Bearer" }
    }
}

/// `req_cnf` is base64url of `{"kid":"<thumbprint>"}`; the key itself is not accepted.
fn confirmation(text: &str) -> Result<Value, Refusal> {
    let parsed: Option<Value> = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let is_kid = |value: &Value| {
        let thumbprint = value.get("kid").and_then(Value::as_str).unwrap_or_default();
        value.as_object().is_some_and(|members| members.len() == 1)
            && URL_SAFE_NO_PAD.decode(thumbprint).is_ok_and(|bytes| bytes.len() == 32)
    };
    parsed
        .filter(is_kid)
        .ok_or_else(|| Refusal::malformed("req_cnf", "base64url of {\"kid\":\"<SHA-256 thumbprint>\"}"))
}

fn client_credentials(
    state: &Arc<State>,
    form: &Form,
    app: &App,
    tenant: &str,
    extras: &Extras,
) -> Result<Value, Refusal> {
    if form.get("client_info").is_some_and(|level| level != "2") {
        return Err(Refusal::malformed("client_info", "'2' for an application"));
    }
    let api = scope::application(&state.directory.read().unwrap(), form.required("scope")?)?;
    let mut mint = Mint::app(state, app);
    let roles: Vec<&str> =
        app.roles.iter().filter(|(resource, _)| *resource == api.resource).map(|(_, role)| role.as_str()).collect();
    mint = if roles.is_empty() { mint.without("roles") } else { mint.claim("roles", roles) };
    if let Some(path) = form.get("fmi_path") {
        if app.blueprint.is_some() {
            return Err(Refusal::client(82_001, "An agent identity has no FMI paths of its own."));
        }
        if api.is_exchange() {
            agents::check_fmi_path(state, app, path)?;
        }
        mint = mint
            .claim(agents::FMI_PATH, path)
            .claim("sub", format!("/eid1/c/pub/t/{tenant}/a/{}/{path}", app.client_id));
    }
    mint = with_blueprint(mint, app);
    Ok(answered(state, extras, mint, app, &api, tenant))
}

fn delegated(
    state: &Arc<State>,
    form: &Form,
    app: &App,
    tenant: &str,
    user: &User,
    extras: &Extras,
) -> Result<Value, Refusal> {
    let wants_info = match form.get("client_info") {
        None => false,
        Some("1") => true,
        Some(_) => return Err(Refusal::malformed("client_info", "'1' for a user")),
    };
    check_condition(user, extras)?;
    let Delegated { api, names, requested } =
        scope::delegated(&state.directory.read().unwrap(), app, form.required("scope")?)?;
    let mut mint = Mint::user(state, user)
        .claim("azp", app.client_id.as_str())
        .claim("azpacr", if form.get("client_secret").is_some() { "1" } else { "2" })
        .claim("sub", format!("sub-of-{}-for-{}", user.oid, app.client_id))
        .scopes(&names.join(" "));
    mint = with_blueprint(mint, app);
    if user.agent.is_some() {
        mint = mint.claim("xms_sub_fct", "13");
    }
    let mut body = answered(state, extras, mint, app, &api, tenant);
    body["scope"] = requested.into();
    body["refresh_token"] = new_refresh_token(state, user, app, tenant).into();
    let id_token = Mint::user(state, user)
        .in_tenant(tenant)
        .audience(&app.client_id)
        .without("azp")
        .without("azpacr")
        .without("scp");
    body["id_token"] = id_token.token().into();
    if wants_info {
        let info = json!({"uid": user.oid, "utid": user.tenant}).to_string();
        body["client_info"] = URL_SAFE_NO_PAD.encode(info).into();
    }
    Ok(body)
}

fn with_blueprint(mint: Mint, app: &App) -> Mint {
    match &app.blueprint {
        Some(blueprint) => mint.claim("xms_par_app_azp", blueprint.as_str()),
        None => mint,
    }
}

/// The part of the answer that all grants share.
fn answered(state: &State, extras: &Extras, mint: Mint, app: &App, api: &Api, tenant: &str) -> Value {
    let settings = state.settings();
    let mut mint = extras.apply(mint).claim("azp", app.client_id.as_str()).in_tenant(tenant);
    if api.version == 1 {
        mint = mint.version_1();
    }
    mint =
        mint.audience(api.audience()).claim("iat", now()).claim("nbf", now()).claim("exp", now() + settings.expires_in);
    let number = |seconds: i64| {
        if settings.numbers_as_strings { seconds.to_string().into() } else { Value::from(seconds) }
    };
    let mut body = json!({
        "token_type": extras.token_type(),
        "expires_in": number(settings.expires_in),
        "ext_expires_in": number(settings.expires_in),
        "access_token": mint.token(),
    });
    if let Some(seconds) = settings.refresh_in {
        body["refresh_in"] = number(seconds);
    }
    body
}

fn check_condition(user: &User, extras: &Extras) -> Result<(), Refusal> {
    // The answer to a challenge comes with its claims, and is taken to have met them.
    let answered = |name: &str| {
        extras
            .claims
            .as_ref()
            .is_some_and(|claims| claims.pointer("/access_token").is_some_and(|c| c.get(name).is_some()))
    };
    let challenge = json!({"access_token": {"polids": {"essential": true, "values": ["c1a2b3d4"]}}});
    match user.condition {
        Condition::None => Ok(()),
        Condition::Disabled => {
            Err(Refusal::grant(50_057, "The user account is disabled.").suberror("user_account_disabled"))
        }
        Condition::NeedsMfa if answered("polids") => Ok(()),
        Condition::NeedsMfa => {
            let text = "Due to a configuration change made by your administrator, or because you moved to a new \
                        location, you must use multi-factor authentication.";
            Err(Refusal::other("interaction_required", 50_076, text).suberror("basic_action").claims(challenge))
        }
        Condition::Blocked => {
            let text = "Access has been blocked by Conditional Access policies.";
            Err(Refusal::other("interaction_required", 53_003, text).suberror("message_only").claims(challenge))
        }
    }
}

/// The user of an on-behalf-of request's assertion
/// (<https://learn.microsoft.com/entra/identity-platform/v2-oauth2-on-behalf-of-flow>).
fn asserted_user(state: &State, form: &Form, app: &App, tenant: &str) -> Result<User, Refusal> {
    if form.required("requested_token_use")? != "on_behalf_of" {
        return Err(Refusal::malformed("requested_token_use", "'on_behalf_of'"));
    }
    let invalid = |reason: String| {
        let code = if reason.contains("expired") { 500_133 } else { 50_013 };
        Refusal::grant(code, format!("Assertion failed validation: {reason}."))
    };
    let assertion = verify::issued_here(state, form.required("assertion")?).map_err(invalid)?;
    // An agent's user token may be addressed to its blueprint.
    let own: Vec<&str> = [Some(app.client_id.as_str()), app.blueprint.as_deref()].into_iter().flatten().collect();
    let is_own = |audience: &&str| own.contains(&audience.strip_prefix("api://").unwrap_or(audience));
    if !verify::audiences(&assertion).iter().any(is_own) {
        let text = "Assertion audience does not match the Client app presenting the assertion.";
        return Err(Refusal::grant(500_131, text));
    }
    if assertion.text("idtyp") == Some("app") || assertion.text("scp").is_none() {
        let text = format!("Application '{}' is not allowed to make application on-behalf-of calls.", app.client_id);
        return Err(Refusal::grant(7_000_114, text));
    }
    if assertion.text("tid") != Some(tenant) {
        let text = format!("The assertion's tenant is not '{tenant}', in which the token is wanted.");
        return Err(Refusal::grant(50_020, text));
    }
    let oid = assertion.text("oid").unwrap_or_default();
    let directory = state.directory.read().unwrap();
    let known = directory.users.iter().find(|user| user.oid == oid);
    Ok(known.cloned().unwrap_or_else(|| {
        // A test may mint for any identity; one that is not registered meets no condition.
        User { tenant: tenant.into(), ..User::new(oid, assertion.text("preferred_username").unwrap_or(oid)) }
    }))
}

fn refreshed_user(state: &State, form: &Form, app: &App, tenant: &str) -> Result<User, Refusal> {
    let token = form.required("refresh_token")?;
    let tokens = state.refresh_tokens.lock().unwrap();
    let refresh = tokens.get(token).ok_or_else(|| {
        Refusal::grant(
            70_008,
            "The provided authorization code or refresh token has expired due to inactivity or revocation.",
        )
        .suberror("bad_token")
    })?;
    if refresh.client_id != app.client_id || refresh.tenant != tenant {
        return Err(Refusal::grant(70_000, "The refresh token was issued to another client or by another tenant."));
    }
    let directory = state.directory.read().unwrap();
    let known = directory.users.iter().find(|user| user.oid == refresh.user).cloned();
    Ok(known.unwrap_or_else(|| User { tenant: tenant.into(), ..User::new(&refresh.user, &refresh.user) }))
}

fn new_refresh_token(state: &State, user: &User, app: &App, tenant: &str) -> String {
    let token = format!("0.refresh.{}{}", random::text(), random::text());
    let refresh = Refresh { user: user.oid.clone(), client_id: app.client_id.clone(), tenant: tenant.into() };
    state.refresh_tokens.lock().unwrap().insert(token.clone(), refresh);
    token
}
