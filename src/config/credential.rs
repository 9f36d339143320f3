//! Reads lists of credentials. The kind of each entry must be unambiguous. Files and vaults are not
//! accessed here.

use super::keys::is_index;
use super::reader::Reader;
use super::source::Origin;
use super::{CredentialDescription, CredentialSource, Selector, VaultCertificate, table};
use crate::secret::Secret;
use crate::value::syntax;

/// The field that identifies the kind of an entry without `SourceType`. The first match counts.
const IDENTIFYING_FIELDS: [(&str, &str); 8] = [
    ("ClientSecret", "ClientSecret"),
    ("CertificateDiskPath", "Path"),
    ("Base64EncodedValue", "Base64Encoded"),
    ("KeyVaultUrl", "KeyVault"),
    ("SignedAssertionFileDiskPath", "SignedAssertionFilePath"),
    ("SignedAssertionFilePath", "SignedAssertionFilePath"),
    ("CertificateThumbprint", "StoreWithThumbprint"),
    ("CertificateDistinguishedName", "StoreWithDistinguishedName"),
];

/// The fields of each kind. Other fields in the same entry are an error.
const FIELDS: [(&str, &[&str]); 10] = [
    ("ClientSecret", &["ClientSecret"]),
    ("Path", &["CertificateDiskPath", "CertificateKeyDiskPath", "CertificatePassword"]),
    ("Base64Encoded", &["Base64EncodedValue", "CertificatePassword"]),
    ("KeyVault", &["KeyVaultUrl", "KeyVaultCertificateName", "ManagedIdentityClientId"]),
    ("StoreWithThumbprint", &["CertificateStorePath", "CertificateThumbprint"]),
    ("StoreWithDistinguishedName", &["CertificateStorePath", "CertificateDistinguishedName"]),
    ("StoreWithSubjectName", &["CertificateStorePath", "CertificateSubjectName"]),
    ("SignedAssertionFromManagedIdentity", &["ManagedIdentityClientId", "TokenExchangeUrl"]),
    ("SignedAssertionFilePath", &["SignedAssertionFileDiskPath", "SignedAssertionFilePath"]),
    ("SignedAssertionFromVault", &["KeyVaultUrl", "KeyVaultCertificateName", "ManagedIdentityClientId"]),
];

/// The kinds that can decrypt inbound tokens.
const CERTIFICATES: [&str; 6] =
    ["Path", "Base64Encoded", "KeyVault", "StoreWithThumbprint", "StoreWithDistinguishedName", "StoreWithSubjectName"];

/// The kinds by their number in Microsoft.Identity.Web's `CredentialSource`.
const KINDS_BY_NUMBER: &[&str] = table::KNOWN_SOURCE_TYPES.split_at(14).0;

/// The credentials of a registration, older spellings last. Without any, and with a federated token
/// file in the environment: workload identity.
pub fn read_all(reader: &mut Reader<'_>, section: &str) -> Vec<CredentialDescription> {
    let mut credentials = list(reader, section, "ClientCredentials");
    credentials.extend(list(reader, section, "ClientCertificates"));
    let secret = format!("{section}:ClientSecret");
    if let Some(value) = reader.given(&secret).map(str::to_owned) {
        let listed = ["ClientCredentials", "ClientCertificates"].map(|name| format!("{section}:{name}"));
        if let Some(other) = listed.iter().find(|list| !reader.children(list).is_empty()) {
            reader.problem(&secret, &format!("given together with {other}: expected one of them (IDW10110)"));
        }
        let source = CredentialSource::ClientSecret(Secret::new(value));
        credentials.push(CredentialDescription { key: secret, kind: "ClientSecret", source });
    }
    let legacy = format!("{section}:ClientCredentialsUsingManagedIdentity");
    if reader.flag(&format!("{legacy}:IsEnabled")) {
        let client_id = reader.word(&format!("{legacy}:ManagedIdentityClientId"));
        let source = CredentialSource::SignedAssertionFromManagedIdentity { client_id, token_exchange_url: None };
        credentials.push(CredentialDescription { key: legacy, kind: "SignedAssertionFromManagedIdentity", source });
    }
    let none = credentials.is_empty() && reader.children(&format!("{section}:ClientCredentials")).is_empty();
    if none && let Some(path) = reader.variable("AZURE_FEDERATED_TOKEN_FILE") {
        let (key, source) =
            ("AZURE_FEDERATED_TOKEN_FILE".to_owned(), CredentialSource::SignedAssertionFilePath { path });
        credentials.push(CredentialDescription { key, kind: "SignedAssertionFilePath", source });
    }
    credentials
}

/// The keys for decrypting inbound tokens. Only certificates qualify.
pub fn read_decryption(reader: &mut Reader<'_>, section: &str) -> Vec<CredentialDescription> {
    let mut credentials = list(reader, section, "TokenDecryptionCredentials");
    credentials.extend(list(reader, section, "TokenDecryptionCertificates"));
    for credential in &credentials {
        let CredentialDescription { key, kind, .. } = credential;
        if !CERTIFICATES.contains(kind) {
            let key = format!("{key}:SourceType");
            reader.problem(&key, &format!("{kind} cannot decrypt: expected one of {}", CERTIFICATES.join(", ")));
        }
    }
    credentials
}

fn list(reader: &mut Reader<'_>, section: &str, name: &str) -> Vec<CredentialDescription> {
    let list = format!("{section}:{name}");
    let entries = reader.children(&list);
    // One credential was written where the list belongs.
    let is_field = |name: &String| !is_index(name) && reader.settings.value(&format!("{list}:{name}")).is_some();
    if entries.iter().any(is_field) {
        reader.problem(&list, &format!("expected a list, whose first entry is {list}:0"));
        return Vec::new();
    }
    entries.iter().filter_map(|index| entry(reader, format!("{list}:{index}"))).collect()
}

fn entry(reader: &mut Reader<'_>, key: String) -> Option<CredentialDescription> {
    let at = |name: &str| format!("{key}:{name}");
    if reader.flag(&at("Skip")) {
        return None;
    }
    if reader.flag(&at("UseBoundCredential")) {
        reader.problem(&at("UseBoundCredential"), "true: expected false, since mutual TLS is not supported");
    }
    let kind = kind(reader, &key)?;
    contradictions(reader, &key, kind);
    let source = source(reader, &key, kind)?;
    Some(CredentialDescription { key, kind, source })
}

/// The configured kind, else the one that the fields imply. The original reads a missing
/// `SourceType` as `Certificate`.
fn kind(reader: &mut Reader<'_>, key: &str) -> Option<&'static str> {
    let type_key = format!("{key}:SourceType");
    let said = reader.given(&type_key).map(|text| text.trim().to_owned());
    if let Some(text) = &said {
        let name = text.parse().ok().and_then(|number: usize| KINDS_BY_NUMBER.get(number).copied()).unwrap_or(text);
        let known = KINDS_BY_NUMBER.iter().find(|known| known.eq_ignore_ascii_case(name))?;
        if FIELDS.iter().any(|(kind, _)| kind == known) {
            return Some(known);
        }
        if *known != "Certificate" {
            reader.problem(&type_key, &format!("{known} is not supported: expected one of {}", offered(key)));
            return None;
        }
    }
    let told = IDENTIFYING_FIELDS.iter().find(|(field, _)| reader.given(&format!("{key}:{field}")).is_some());
    if let Some((field, kind)) = told {
        reader.warn(&type_key, &format!("not set; taken for {kind}, because {field} is set"));
        return Some(kind);
    }
    let problem = said.map_or_else(|| "is not set".to_owned(), |text| format!("{text} is not enough"));
    reader.problem(&type_key, &format!("{problem}: expected one of {}", offered(key)));
    None
}

/// The kinds that the list of an entry may hold.
fn offered(key: &str) -> String {
    let list = key.rsplit(':').nth(1).unwrap_or_default().to_ascii_lowercase();
    if list.starts_with("tokendecryption") { CERTIFICATES.join(", ") } else { table::SOURCE_TYPES.join(", ") }
}

fn contradictions(reader: &mut Reader<'_>, key: &str, kind: &str) {
    let own = FIELDS.iter().find(|(name, _)| *name == kind).map_or::<&[&str], _>(&[], |(_, fields)| fields);
    let all: std::collections::BTreeSet<&str> = FIELDS.iter().flat_map(|(_, fields)| fields.iter().copied()).collect();
    // Often a file and a variable of the deployment meet in one entry, so the message names both.
    let surplus = all.into_iter().filter(|field| !own.contains(field));
    let surplus: Vec<&str> = surplus.filter(|field| reader.given(&format!("{key}:{field}")).is_some()).collect();
    for field in surplus {
        let from = reader.origin(&format!("{key}:{field}")).map_or(String::new(), Origin::to_string);
        let owners = FIELDS.iter().filter(|(_, fields)| fields.contains(&field)).map(|(owner, _)| *owner);
        let (owners, own) = (owners.collect::<Vec<_>>().join(" or "), own.join(", "));
        let message = format!(
            "belongs to SourceType {owners} (it comes from {from}), but SourceType is {kind}: expected only {own}"
        );
        reader.problem(&format!("{key}:{field}"), &message);
    }
}

fn source(reader: &mut Reader<'_>, key: &str, kind: &str) -> Option<CredentialSource> {
    use CredentialSource as Source;
    let at = |name: &str| format!("{key}:{name}");
    let password = |reader: &Reader<'_>| reader.text(&at("CertificatePassword")).map(Secret::new);
    let store = |reader: &Reader<'_>, wanted| Source::Store {
        store: reader.text(&at("CertificateStorePath")).unwrap_or_default(),
        wanted,
    };
    Some(match kind {
        "ClientSecret" => {
            let secret = required(reader, kind, &at("ClientSecret"))?;
            if secret.trim() != secret {
                reader.warn(&at("ClientSecret"), "begins or ends with white space, which is part of the secret");
            }
            Source::ClientSecret(Secret::new(secret))
        }
        "Path" => Source::Path {
            certificate: required(reader, kind, &at("CertificateDiskPath"))?.into(),
            key: reader.path(&at("CertificateKeyDiskPath")),
            password: password(reader),
        },
        "Base64Encoded" => Source::Base64Encoded {
            value: Secret::new(required(reader, kind, &at("Base64EncodedValue"))?),
            password: password(reader),
        },
        "KeyVault" => Source::KeyVault(vault(reader, kind, key)?),
        "SignedAssertionFromVault" => Source::SignedAssertionFromVault(vault(reader, kind, key)?),
        "StoreWithThumbprint" => {
            let thumbprint = syntax::thumbprint(&required(reader, kind, &at("CertificateThumbprint"))?).ok()?;
            store(reader, Selector::Thumbprint(thumbprint))
        }
        "StoreWithDistinguishedName" => {
            let name = required(reader, kind, &at("CertificateDistinguishedName"))?;
            store(reader, Selector::DistinguishedName(name))
        }
        "StoreWithSubjectName" => {
            let name = required(reader, kind, &at("CertificateSubjectName"))?;
            store(reader, Selector::SubjectName(name))
        }
        "SignedAssertionFromManagedIdentity" => Source::SignedAssertionFromManagedIdentity {
            client_id: reader.word(&at("ManagedIdentityClientId")),
            token_exchange_url: reader.text(&at("TokenExchangeUrl")),
        },
        _ => {
            let path =
                reader.path(&at("SignedAssertionFileDiskPath")).or_else(|| reader.path(&at("SignedAssertionFilePath")));
            let path = path.or_else(|| reader.variable("AZURE_FEDERATED_TOKEN_FILE"));
            let Some(path) = path else {
                reader.problem(
                    &at("SignedAssertionFileDiskPath"),
                    "is not set: expected a file, here or in AZURE_FEDERATED_TOKEN_FILE",
                );
                return None;
            };
            Source::SignedAssertionFilePath { path }
        }
    })
}

fn vault(reader: &mut Reader<'_>, kind: &str, key: &str) -> Option<VaultCertificate> {
    let url = required(reader, kind, &format!("{key}:KeyVaultUrl"));
    let name = required(reader, kind, &format!("{key}:KeyVaultCertificateName"));
    Some(VaultCertificate {
        vault: crate::value::url::Url::parse(url?.trim()).ok()?,
        name: name?.trim().to_owned(),
        managed_identity_client_id: reader.word(&format!("{key}:ManagedIdentityClientId")),
    })
}

fn required(reader: &mut Reader<'_>, kind: &str, key: &str) -> Option<String> {
    let said = reader.given(key).map(str::to_owned);
    if said.is_none() {
        reader.problem(key, &format!("is not set: expected a value, because SourceType is {kind}"));
    }
    said
}
