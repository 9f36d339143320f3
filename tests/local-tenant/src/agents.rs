//! Agent identities (<https://learn.microsoft.com/entra/agent-id/agent-oauth-protocols>): the exchange token T1 that a
//! blueprint gets for its agent, T2 that the agent gets with it, and the `user_fic` grant in which both are presented, each
//! in its own place.

use crate::directory::{Api, App, EXCHANGE, User};
use crate::form::Form;
use crate::jwt::Decoded;
use crate::random::is_guid;
use crate::refusal::Refusal;
use crate::state::State;
use crate::verify;

/// The claim by which T1 names the agent that it was issued for.
pub const FMI_PATH: &str = "xms_fmipath";

/// Refuses a path that is no agent identity of this blueprint.
pub fn check_fmi_path(state: &State, blueprint: &App, path: &str) -> Result<(), Refusal> {
    let directory = state.directory.read().unwrap();
    match directory.app(path).and_then(|agent| agent.blueprint.as_deref()) {
        Some(owner) if owner == blueprint.client_id => Ok(()),
        _ => {
            let text = format!("The FMI path '{path}' is no agent identity of '{}'.", blueprint.client_id);
            Err(Refusal::client(82_001, text))
        }
    }
}

/// Whether a client assertion is T1 for this agent in this tenant.
pub fn check_exchange_token(
    state: &State,
    decoded: &Decoded,
    token: &str,
    agent: &App,
    tenant: &str,
) -> Result<(), Refusal> {
    let wrong = |reason: String| Refusal::client(700_213, format!("The agent's client assertion is not T1: {reason}."));
    verify::issued_here(state, token).map_err(wrong)?;
    check_exchange_audience(state, decoded).map_err(|reason| Refusal::client(7_002_206, reason))?;
    if decoded.text("tid") != Some(tenant) {
        return Err(wrong(format!("it was issued by tenant {}", decoded.text("tid").unwrap_or_default())));
    }
    if Some(verify::client_of(decoded)) != agent.blueprint.as_deref() {
        return Err(wrong(format!("it was issued to {}, not to the blueprint", verify::client_of(decoded))));
    }
    if decoded.text(FMI_PATH) != Some(&agent.client_id) {
        return Err(wrong("it was issued for another fmi_path".into()));
    }
    Ok(())
}

/// Checks T2 and the user of a `user_fic` grant.
pub fn federated_user(state: &State, form: &Form, agent: &App, tenant: &str) -> Result<User, Refusal> {
    if agent.blueprint.is_none() {
        return Err(Refusal::unauthorized(82_004, "The grant user_fic is for agent identities."));
    }
    let token = form.required("user_federated_identity_credential")?;
    let wrong =
        |reason: &str| Refusal::grant(50_013, format!("The user_federated_identity_credential is not T2: {reason}."));
    let decoded = verify::issued_here(state, token).map_err(|reason| wrong(&reason))?;
    check_exchange_audience(state, &decoded).map_err(|reason| wrong(&reason))?;
    if decoded.text("tid") != Some(tenant) {
        return Err(wrong("it was issued by another tenant"));
    }
    if verify::client_of(&decoded) != agent.client_id {
        return Err(wrong("it was not issued to the agent"));
    }
    let directory = state.directory.read().unwrap();
    let user = match (form.get("username"), form.get("user_id")) {
        (Some(upn), None) => directory.users.iter().find(|user| user.upn.eq_ignore_ascii_case(upn)),
        (None, Some(oid)) if is_guid(oid) => directory.users.iter().find(|user| user.oid == oid),
        (None, Some(_)) => return Err(Refusal::malformed("user_id", "a lower-case GUID with dashes")),
        (Some(_), Some(_)) => return Err(Refusal::malformed("username", "allowed beside 'user_id'")),
        (None, None) => return Err(Refusal::missing("username")),
    };
    let user = user.ok_or_else(|| Refusal::grant(50_034, "The user account does not exist in the directory."))?;
    if user.agent.as_deref() != Some(&agent.client_id) {
        return Err(Refusal::grant(82_004, format!("The user '{}' is no account of this agent.", user.upn)));
    }
    Ok(user.clone())
}

fn check_exchange_audience(state: &State, decoded: &Decoded) -> Result<(), String> {
    let directory = state.directory.read().unwrap();
    let is_exchange = |audience: &&str| directory.api(audience).is_some_and(Api::is_exchange);
    if verify::audiences(decoded).iter().any(is_exchange) {
        Ok(())
    } else {
        Err(format!("the audience is not {EXCHANGE}"))
    }
}
