//! Token requests as they came over the wire, compared to the last field and header.

use local_tenant::directory::{AGENT_ID, APP_ID, APP_SECRET, TENANT_ID};
use local_tenant::message::percent_encode;
use local_tenant::{Kind, LocalTenant, Record};

pub const ASSERTION_TYPE: (&str, &str) =
    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
pub const ON_BEHALF_OF: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");

/// What every token request carries beside its length.
const HEADERS: [(&str, &str); 5] = [
    ("accept", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("return-client-request-id", "true"),
    ("x-ms-lib-capability", "retry-after, h429"),
    ("user-agent", concat!("entra-sidecar/", env!("CARGO_PKG_VERSION"))),
];

type Pairs = Vec<(String, String)>;

fn sorted(pairs: impl IntoIterator<Item = (String, String)>) -> Pairs {
    let mut pairs: Pairs = pairs.into_iter().collect();
    pairs.sort();
    pairs
}

fn owned(pairs: &[(&str, &str)]) -> Pairs {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Every token request so far.
pub fn requests(tenant: &LocalTenant) -> Vec<Record> {
    tenant.journal().of(Kind::Token)
}

/// The last token request.
pub fn last(tenant: &LocalTenant) -> Record {
    requests(tenant).pop().unwrap()
}

/// An override of the token's acquisition, as a query parameter.
pub fn acquire(name: &str, value: &str) -> String {
    format!("optionsOverride.AcquireTokenOptions.{name}={}", percent_encode(value))
}

/// A request of [`TENANT_ID`]'s token endpoint with these fields and, beside the usual ones, these headers: none
/// less and none more.
#[track_caller]
pub fn is_exactly(record: &Record, fields: &[(&str, &str)], headers: &[(&str, &str)]) {
    is_exactly_in(record, TENANT_ID, fields, headers);
}

/// The same in another tenant.
#[track_caller]
pub fn is_exactly_in(record: &Record, tenant: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) {
    let request = &record.request;
    assert_eq!((request.method.as_str(), request.query.as_str()), ("POST", ""));
    assert_eq!(request.path, format!("/{tenant}/oauth2/v2.0/token"));
    assert_eq!(sorted(record.form.clone()), sorted(owned(fields)));
    let of_the_message = ["host", "content-length", "client-request-id"];
    let sent = request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    let (framing, sent): (Pairs, Pairs) = sent.partition(|(name, _)| of_the_message.contains(&name.as_str()));
    assert_eq!(sorted(sent), sorted([owned(&HEADERS), owned(headers)].concat()));
    assert_eq!(framing.len(), of_the_message.len(), "{framing:?}");
    assert_eq!(request.header("client-request-id").unwrap().len(), 36, "a GUID");
    assert_eq!(request.header("content-length"), Some(request.body.len().to_string().as_str()));
}

/// The fields by which the blueprint obtains [`AGENT_ID`]'s exchange token T1.
pub fn t1_fields() -> Vec<(&'static str, &'static str)> {
    vec![
        ("client_id", APP_ID),
        ("client_secret", APP_SECRET),
        ("scope", "api://AzureADTokenExchange/.default"),
        ("grant_type", "client_credentials"),
        ("client_info", "2"),
        ("fmi_path", AGENT_ID),
    ]
}
