//! Fetches an authority's documents once.

use std::mem;
use std::time::Duration;

use super::authority::{Authority, is_safe};
use super::document::{self, DocumentError};
use super::issuer::{self, V1};
use super::{Issuer, KeySet};
use crate::config::{Config, Registration};
use crate::errors::errors;
use crate::outbound::{Exchange, OutError, OutRequest, Upstream};
use crate::value::url::Url;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySettings {
    pub authority: Authority,
    /// `Sidecar:AllowInsecureUpstream`.
    pub allow_insecure: bool,
    /// Per document.
    pub timeout: Duration,
    /// Between scheduled fetches.
    pub refresh: Duration,
    /// Between fetches for an unknown `kid`, so that callers with made-up tokens cannot flood the
    /// authority.
    pub minimum: Duration,
}

impl KeySettings {
    /// From the section `AzureAd`. `None` if it has neither a tenant nor an authority.
    pub fn of(config: &Config) -> Option<Self> {
        let registration = &config.azure_ad;
        Some(Self {
            authority: Authority::of(registration)?,
            allow_insecure: config.sidecar.allow_insecure_upstream,
            timeout: registration.metadata_timeout,
            refresh: registration.key_refresh,
            minimum: registration.key_refresh_minimum,
        })
    }
}

errors! {
    FetchError {
        Unreachable(error: OutError) => "no answer: {error}";
        /// Any status but 200. Redirects are not followed.
        Status(status: u16) => "the answer has status {status}{}", hint(*status);
        Metadata(error: DocumentError) => "the metadata document is unusable: {error}";
        Keys(error: DocumentError) => "the key document is unusable: {error}";
        /// The metadata points to an origin that does not belong to the authority.
        ForeignKeys(origin: String) => "the document names {origin}, which does not belong to this authority";
        /// Plain HTTP beyond loopback.
        Insecure(origin: String) => "{origin} is neither https nor loopback";
    }
}

/// Entra answers 400 for an unknown tenant.
const fn hint(status: u16) -> &'static str {
    if status == 400 { "; does the tenant exist (TenantId)?" } else { "" }
}

/// Fetches metadata and keys. Reuses the v1 issuer of `known` as long as the v2 issuer is
/// unchanged.
pub fn fetch(settings: &KeySettings, exchange: &dyn Exchange, known: Option<&KeySet>) -> Result<KeySet, FetchError> {
    let authority = &settings.authority;
    let metadata = document::metadata(&get(settings, exchange, &authority.metadata)?).map_err(FetchError::Metadata)?;
    if !authority.trusts(&metadata.jwks_uri) {
        return Err(FetchError::ForeignKeys(metadata.jwks_uri.origin.to_string()));
    }
    let jwks = get(settings, exchange, &metadata.jwks_uri)?;
    let (keys, skipped) = document::keys(&jwks).map_err(FetchError::Keys)?;
    let same = |set: &&KeySet| set.metadata_issuer().is_some_and(|issuer| issuer.as_str() == metadata.issuer);
    let issuers = match known.filter(same) {
        Some(known) => known.issuers().to_vec(),
        None => issuers(settings, exchange, &metadata.issuer)
            .into_iter()
            // A single-tenant registration accepts no other tenant, even if the metadata covers all
            // of them.
            .map(|issuer| {
                authority.tenant.as_deref().map_or(issuer.clone(), |tenant| Issuer::new(issuer.of_tenant(tenant)))
            })
            .collect(),
    };
    Ok(KeySet::new(keys, &metadata.issuer, issuers).skipping(skipped))
}

/// The token endpoint in a registration's metadata. It receives credentials, so it must belong to
/// the authority, as the keys must.
pub fn token_endpoint(
    registration: &Registration,
    exchange: &dyn Exchange,
    timeout: Duration,
) -> Result<Url, FetchError> {
    let authority = Authority::of(registration).ok_or(FetchError::Metadata(DocumentError::Malformed))?;
    // Plain HTTP was checked when the authority was configured, and the endpoint must belong to it.
    let bytes = get_within(true, timeout, exchange, &authority.metadata)?;
    let metadata = document::metadata(&bytes).map_err(FetchError::Metadata)?;
    let endpoint = metadata.token_endpoint.ok_or(FetchError::Metadata(DocumentError::NoTokenEndpoint))?;
    if authority.trusts(&endpoint) { Ok(endpoint) } else { Err(FetchError::ForeignKeys(endpoint.origin.to_string())) }
}

fn issuers(settings: &KeySettings, exchange: &dyn Exchange, v2: &str) -> Vec<Issuer> {
    match &settings.authority.v1 {
        V1::None => issuer::accepted(v2, V1::None),
        V1::Unknown => issuer::accepted(v2, V1::Unknown),
        V1::Known(url) => {
            let learnt = get(settings, exchange, url)
                .and_then(|bytes| document::issuer(&bytes).map_err(FetchError::Metadata))
                .inspect_err(|error| log::debug!("failed to fetch the v1 document at {}: {error}", url.origin))
                .ok();
            issuer::accepted(v2, learnt.as_deref().map_or(V1::Unknown, V1::Known))
        }
    }
}

fn get(settings: &KeySettings, exchange: &dyn Exchange, url: &Url) -> Result<Vec<u8>, FetchError> {
    get_within(settings.allow_insecure, settings.timeout, exchange, url)
}

fn get_within(
    allow_insecure: bool,
    timeout: Duration,
    exchange: &dyn Exchange,
    url: &Url,
) -> Result<Vec<u8>, FetchError> {
    if !is_safe(&url.origin, allow_insecure) {
        return Err(FetchError::Insecure(url.origin.to_string()));
    }
    let request = OutRequest::new(Upstream::Metadata, "GET", url.clone(), timeout, document::MAX_BYTES);
    let mut answer = exchange.send(request.header("accept", "application/json")).map_err(FetchError::Unreachable)?;
    if answer.status == 200 { Ok(mem::take(&mut answer.body)) } else { Err(FetchError::Status(answer.status)) }
}
