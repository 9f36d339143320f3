//! `local-tenant [--port N]`: runs a tenant until it is killed, and says on standard output how to reach it.

use std::process::ExitCode;

use local_tenant::directory as known;
use local_tenant::{LocalTenant, Options};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let port = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Some(0),
        ["--port", port] => port.parse().ok(),
        _ => None,
    };
    let Some(port) = port else {
        eprintln!("usage: local-tenant [--port N]");
        return ExitCode::from(2);
    };
    let tenant = LocalTenant::start(Options { port, ..Options::default() });
    for (key, value) in [
        ("BASE_URL", tenant.base_url()),
        ("TENANT_ID", known::TENANT_ID),
        ("TENANT_DOMAIN", known::TENANT_DOMAIN),
        ("CLIENT_ID", known::APP_ID),
        ("CLIENT_SECRET", known::APP_SECRET),
        ("OTHER_CLIENT_ID", known::OTHER_APP_ID),
        ("OTHER_CLIENT_SECRET", known::OTHER_APP_SECRET),
        ("AGENT_ID", known::AGENT_ID),
        ("AGENT_USERNAME", "agent-user@contoso.onmicrosoft.com"),
        ("AGENT_USER_ID", "0b1ec700-0000-4000-8000-000000000006"),
        ("DOWNSTREAM_URL", &format!("{}/api/", tenant.base_url())),
        ("DOWNSTREAM_SCOPE", "api://downstream/read"),
        ("DOWNSTREAM_APP_SCOPE", "api://downstream/.default"),
        ("VAULT_URL", tenant.base_url()),
        ("USER_IDENTITY_CLIENT_ID", known::USER_IDENTITY_CLIENT_ID),
    ] {
        println!("{key}={}", quoted(value));
    }
    loop {
        std::thread::park();
    }
}

/// A value that a shell may read with `eval` or `source`.
fn quoted(value: &str) -> String {
    let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:/@".contains(&b));
    if plain { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}
