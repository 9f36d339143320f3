//! A plain client: one request, one connection, the whole answer.
#![allow(dead_code, reason = "each test program uses a part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use local_tenant::LocalTenant;
use local_tenant::directory::{APP_ID, APP_SECRET, TENANT_ID};
use local_tenant::message::percent_encode;
use serde_json::Value;

pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
pub const ON_BEHALF_OF: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    /// The AADSTS number of a refusal.
    pub fn code(&self) -> u64 {
        assert_ne!(self.status, 200, "{}", self.text());
        self.json()["error_codes"][0].as_u64().unwrap()
    }
}

pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

pub fn call(tenant: &LocalTenant, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let address = tenant.address();
    let host = address.to_string();
    let length = body.len().to_string();
    let mut lines = vec![format!("{method} {target} HTTP/1.1")];
    if !headers.iter().any(|(name, _)| *name == "Host") {
        lines.push(format!("Host: {host}"));
    }
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    lines.extend([format!("Content-Length: {length}"), "Connection: close\r\n\r\n".into()]);
    let bytes = lines.join("\r\n");
    let answer = exchange(address, &[bytes.as_bytes(), body].concat());
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a complete head");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head, body: answer[end + 4..].to_vec() }
}

pub fn get(tenant: &LocalTenant, target: &str, headers: &[(&str, &str)]) -> Reply {
    call(tenant, "GET", target, headers, b"")
}

pub fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(n, v)| format!("{}={}", percent_encode(n), percent_encode(v))).collect();
    pairs.join("&")
}

pub fn token(tenant: &LocalTenant, fields: &[(&str, &str)]) -> Reply {
    token_at(tenant, TENANT_ID, fields)
}

pub fn token_at(tenant: &LocalTenant, directory: &str, fields: &[(&str, &str)]) -> Reply {
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
