//! Requests of the local tenant, each on a connection of its own.
#![allow(dead_code, reason = "each test program uses a part")]

use local_tenant::LocalTenant;
use local_tenant::client::{Client, Request, Response};
use local_tenant::directory::{APP_ID, APP_SECRET, TENANT_ID};
use local_tenant::message::percent_encode;

pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
pub const ON_BEHALF_OF: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// One request on a connection of its own.
pub fn call(tenant: &LocalTenant, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let request = Request::new(method, target).header("Host", &tenant.address().to_string()).bytes(body);
    headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send(tenant.address())
}

/// Whatever comes in return for these bytes until the end of the connection.
pub fn exchange(tenant: &LocalTenant, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    Client::connect(tenant.address()).send(bytes).rest()
}

pub fn get(tenant: &LocalTenant, target: &str, headers: &[(&str, &str)]) -> Response {
    call(tenant, "GET", target, headers, b"")
}

pub fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(n, v)| format!("{}={}", percent_encode(n), percent_encode(v))).collect();
    pairs.join("&")
}

pub fn token(tenant: &LocalTenant, fields: &[(&str, &str)]) -> Response {
    token_at(tenant, TENANT_ID, fields)
}

pub fn token_at(tenant: &LocalTenant, directory: &str, fields: &[(&str, &str)]) -> Response {
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    call(tenant, "POST", &format!("/{directory}/oauth2/v2.0/token"), &headers, form(fields).as_bytes())
}

/// The fields of an app token request with the secret, then these changes; an empty value removes a field.
pub fn app_fields<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    changed(
        &[
            ("client_id", APP_ID),
            ("client_secret", APP_SECRET),
            ("scope", "api://downstream/.default"),
            ("grant_type", "client_credentials"),
            ("client_info", "2"),
        ],
        changes,
    )
}

/// The fields of an on-behalf-of request with the secret, then these changes.
pub fn user_fields<'a>(assertion: &'a str, changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    changed(
        &[
            ("client_id", APP_ID),
            ("client_secret", APP_SECRET),
            ("scope", "openid offline_access profile api://downstream/read"),
            ("grant_type", ON_BEHALF_OF),
            ("client_info", "1"),
            ("assertion", assertion),
            ("requested_token_use", "on_behalf_of"),
        ],
        changes,
    )
}

fn changed<'a>(fields: &[(&'a str, &'a str)], changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = fields.to_vec();
    for (name, value) in changes {
        fields.retain(|(n, _)| n != name);
        if !value.is_empty() {
            fields.push((name, value));
        }
    }
    fields
}
