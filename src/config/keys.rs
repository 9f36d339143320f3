//! Finds the row of a path in the table of settings.

use super::row::Row;
use super::table;
use crate::spelling;
use crate::value::text::strip_prefix;

/// Sections with the shape of another one that is in the table.
const SAME_SHAPE: [(&str, &str); 3] = [
    ("ClientCertificates", "ClientCredentials"),
    ("TokenDecryptionCredentials", "ClientCredentials"),
    ("TokenDecryptionCertificates", "ClientCredentials"),
];

/// The path's segments as the table spells them: a registration is `AzureAd`, a list of credentials
/// `ClientCredentials`.
fn canonical<'a>(path: &'a str, registrations: &[String]) -> Vec<&'a str> {
    let named = registrations
        .iter()
        .find_map(|name| strip_prefix(path, name).filter(|rest| rest.is_empty() || rest.starts_with(':')));
    let mut segments: Vec<&str> = match named {
        Some(rest) => std::iter::once("AzureAd").chain(rest.split(':').skip(1)).collect(),
        None => path.split(':').collect(),
    };
    if let [section, list, ..] = segments.as_mut_slice()
        && section.eq_ignore_ascii_case("AzureAd")
        && let Some((_, shape)) = SAME_SHAPE.iter().find(|(name, _)| name.eq_ignore_ascii_case(list))
    {
        *list = shape;
    }
    segments
}

pub fn find(path: &str, registrations: &[String]) -> Option<&'static Row> {
    let segments = canonical(path, registrations);
    table::rows().find(|key| key.matches(&segments))
}

/// The row of a key that the program reads. A key without a row would always be absent, and unknown
/// to operators who set it.
pub fn row(path: &str, registrations: &[String]) -> Option<&'static Row> {
    let row = find(path, registrations);
    debug_assert!(row.is_some(), "{path} is read, and no row has it");
    #[cfg(test)]
    tests::READ.with_borrow_mut(|read| read.extend(row.map(|row| row.pattern)));
    row
}

/// True if the path is a section: the table has keys below it.
pub fn is_section(path: &str, registrations: &[String]) -> bool {
    let segments = canonical(path, registrations);
    table::rows().filter(|key| key.is_setting()).any(|key| {
        let mut own = key.pattern.split(':');
        let above =
            segments.iter().all(|part| own.next().is_some_and(|own| own == "*" || own.eq_ignore_ascii_case(part)));
        above && own.next().is_some()
    })
}

/// True if the path is in a section that belongs to the sidecar alone.
pub fn is_ours(path: &str) -> bool {
    let first = path.split(':').next().unwrap_or_default();
    path.contains(':') && SECTIONS.iter().any(|own| own.eq_ignore_ascii_case(first))
}

/// Sections that belong to the sidecar alone, so an unknown key in them deserves a warning.
pub const SECTIONS: [&str; 3] = ["AzureAd", "DownstreamApis", "Sidecar"];

/// True for the place of an entry in a list.
pub fn is_index(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name or index at a place of a path. `None` for a field of a credential without an index.
fn named<'a>(segments: &[&'a str], at: usize) -> Option<&'a str> {
    let name = segments.get(at).copied()?;
    (is_index(name) || !segments[at - 1].eq_ignore_ascii_case("ClientCredentials")).then_some(name)
}

/// The known key most similar to the path, with the path's own names and indices.
pub fn nearest(path: &str, registrations: &[String]) -> String {
    let segments = canonical(path, registrations);
    let written: Vec<&str> = path.split(':').collect();
    let joined = segments.join(":").to_lowercase();
    let candidate = |key: &Row| {
        let fill =
            |(at, own): (usize, &'static str)| if own == "*" { named(&segments, at).unwrap_or("0") } else { own };
        key.pattern.split(':').enumerate().map(fill).collect::<Vec<_>>()
    };
    let first = segments.first().copied().unwrap_or_default();
    let related = |key: &&Row| {
        let own = key.pattern.split(':').next().unwrap_or_default();
        own.eq_ignore_ascii_case(first) || SECTIONS.contains(&own)
    };
    let known = table::rows().filter(|key| key.is_setting()).filter(related);
    let best = spelling::nearest(&joined, ':', known, |key| {
        let last = key.pattern.rsplit(':').next().filter(|last| *last != "*").map(str::to_owned);
        (candidate(key).join(":").to_lowercase(), last)
    });
    let mut best = best.map(candidate).unwrap_or_default();
    // Restore the spelling that `canonical` replaced.
    for at in 0..best.len().min(written.len()) {
        if segments.len() == written.len() && best[at] == segments[at] {
            best[at] = written[at];
        }
    }
    best.join(":")
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::super::row::Split;
    use super::*;

    thread_local! {
        /// The patterns of the rows that this test has read.
        pub static READ: RefCell<BTreeSet<&'static str>> = RefCell::default();
    }

    #[test]
    fn the_table_is_sound() {
        for (at, key) in table::rows().enumerate() {
            assert!(!key.help.is_empty(), "{}", key.pattern);
            assert!(
                table::rows().take(at).all(|other| !other.pattern.eq_ignore_ascii_case(key.pattern)),
                "{} stands here twice",
                key.pattern
            );
            for item in key.default.iter().flat_map(|text| text.split(key.list.map_or(|_| false, Split::divides))) {
                assert!(key.kind.parse("x", item).is_ok(), "{}", key.pattern);
            }
        }
    }

    #[test]
    fn paths_find_their_row_whatever_the_case_and_the_section() {
        let other = ["Other:App".to_lowercase()];
        for (path, pattern) in [
            ("AZUREAD:tenantid", "AzureAd:TenantId"),
            ("Other:App:TenantId", "AzureAd:TenantId"),
            ("AzureAd:TokenDecryptionCertificates:3:sourceType", "AzureAd:ClientCredentials:*:SourceType"),
            ("DownstreamApis:Graph:Scopes:7", "DownstreamApis:*:Scopes"),
            ("Logging:LogLevel:Microsoft.AspNetCore", "Logging:LogLevel:*"),
        ] {
            assert_eq!(find(path, &other).map(|key| key.pattern), Some(pattern), "{path}");
        }
        for path in ["AzureAd", "AzureAd:TenantId:0", "Other:TenantId", "DownstreamApis:Graph", "Sidecar:Metric"] {
            assert!(find(path, &other).is_none(), "{path}");
        }
    }

    #[test]
    fn the_nearest_key_keeps_names_and_indices() {
        let other = ["second".to_owned()];
        for (path, known) in [
            ("AzureAd:TenentId", "AzureAd:TenantId"),
            ("Second:ClientID2", "Second:ClientId"),
            ("AzureAd:TokenDecryptionCredentials:1:SourceTyp", "AzureAd:TokenDecryptionCredentials:1:SourceType"),
            ("AzureAd:ClientCredential:0:ClientSecret", "AzureAd:ClientCredentials:0:ClientSecret"),
            ("DownstreamApis:Graph:Scope", "DownstreamApis:Graph:Scopes"),
            ("Sidecar:Limits:Worker", "Sidecar:Limits:Workers"),
            ("DownstreamApis:Graph:Tenant", "DownstreamApis:Graph:AcquireTokenOptions:Tenant"),
            ("Sidecar:TenantId", "AzureAd:TenantId"),
            ("Sidecar:HeadTimeout", "Sidecar:Limits:HeadTimeout"),
            ("AzureAd:ClientCredentials:ClientSecret", "AzureAd:ClientCredentials:0:ClientSecret"),
        ] {
            assert_eq!(nearest(path, &other), known);
        }
    }
}
