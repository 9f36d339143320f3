//! The `scope` field: which API a token is for, and what it may do there.

use crate::directory::{Api, App, Directory, GRAPH};
use crate::refusal::Refusal;

/// The scopes that a user's request always carries and an application's never.
const RESERVED: [&str; 3] = ["openid", "profile", "offline_access"];

/// The scopes of a user's token.
pub struct Delegated {
    /// The one API that they belong to.
    pub api: Api,
    /// Their short names, as `scp` holds them.
    pub names: Vec<String>,
    /// The `scope` of the answer.
    pub requested: String,
}

/// The API of an application's token: one scope, `<resource>/.default`.
pub fn application(directory: &Directory, scope: &str) -> Result<Api, Refusal> {
    let invalid = || {
        let text = format!(
            "The provided value for scope {scope} is not valid. Client credential flows must have a scope value \
             with /.default suffixed to the resource identifier (application ID URI)."
        );
        Refusal::scope(1_002_012, text)
    };
    if scope.contains(' ') {
        return Err(Refusal::scope(
            70_011,
            format!("The provided value for the input parameter 'scope' is not valid: {scope}."),
        ));
    }
    let resource = scope.strip_suffix("/.default").ok_or_else(invalid)?;
    directory.api(resource).cloned().ok_or_else(|| unknown_resource(resource))
}

/// The API and scopes of a user's token.
pub fn delegated(directory: &Directory, app: &App, scope: &str) -> Result<Delegated, Refusal> {
    let words: Vec<&str> = scope.split(' ').filter(|word| !word.is_empty()).collect();
    if let Some(reserved) = RESERVED.iter().find(|reserved| !words.contains(reserved)) {
        // Entra would answer without the tokens that the scope stands for; a client that left it out has a defect.
        return Err(Refusal::scope(70_011, format!("The scope '{reserved}' is missing from a user's request.")));
    }
    let mut wanted: Option<Api> = None;
    let mut names = Vec::new();
    for word in words.iter().filter(|word| !RESERVED.contains(word)) {
        let (api, name) = resolve(directory, word)?;
        if wanted.as_ref().is_some_and(|wanted| wanted.resource != api.resource) {
            let text =
                "Provided value for the input parameter scope is not valid because it contains more than one resource.";
            return Err(Refusal::scope(28_000, text));
        }
        let missing = directory.missing_consents.iter().any(|(client, resource, scope)| {
            *client == app.client_id && *resource == api.resource && scope.eq_ignore_ascii_case(name)
        });
        if missing {
            let text = format!(
                "The user or administrator has not consented to use the application with ID '{}'. Send an \
                 interactive authorization request for this user and resource.",
                app.client_id
            );
            return Err(Refusal::grant(65_001, text).suberror("consent_required"));
        }
        if name == ".default" {
            let consented = api.scopes.iter().filter(|scope| {
                !directory.missing_consents.iter().any(|(client, resource, missing)| {
                    *client == app.client_id && *resource == api.resource && missing == *scope
                })
            });
            names.extend(consented.cloned());
        } else {
            let known = api.scopes.iter().find(|scope| scope.eq_ignore_ascii_case(name));
            let text = || {
                format!(
                    "The application asked for scope '{name}' that doesn't exist on the resource '{}'.",
                    api.resource
                )
            };
            names.push(known.ok_or_else(|| Refusal::scope(650_053, text()))?.clone());
        }
        wanted = Some(api.clone());
    }
    let api = wanted.ok_or_else(|| Refusal::scope(70_011, "The scope names no resource."))?;
    Ok(Delegated { api, names, requested: words.join(" ") })
}

/// The API and short name of one scope; one without a resource belongs to Graph.
fn resolve<'d, 's>(directory: &'d Directory, scope: &'s str) -> Result<(&'d Api, &'s str), Refusal> {
    match scope.rsplit_once('/') {
        None => directory.api(GRAPH).map(|api| (api, scope)).ok_or_else(|| unknown_resource(GRAPH)),
        Some((resource, name)) => {
            directory.api(resource).map(|api| (api, name)).ok_or_else(|| unknown_resource(resource))
        }
    }
}

fn unknown_resource(resource: &str) -> Refusal {
    let text = format!("The resource principal named {resource} was not found in the tenant.");
    Refusal::other("invalid_resource", 500_011, text)
}
