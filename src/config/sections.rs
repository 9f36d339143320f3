//! The sections with the shape of `AzureAd` that APIs refer to.

use super::keys;
use super::source::Settings;

/// The lower-case names of the sections that APIs refer to, without `AzureAd`.
pub fn named(settings: &Settings) -> Vec<String> {
    let mut sections: Vec<String> = settings
        .children("DownstreamApis")
        .iter()
        .filter_map(|api| name_of(settings, api))
        .map(|(_, section)| section.to_lowercase())
        .filter(|section| section != "azuread" && !is_reserved(section))
        .collect();
    sections.sort();
    sections.dedup();
    sections
}

/// The section that an API refers to, and the key that names it.
pub fn name_of(settings: &Settings, api: &str) -> Option<(String, String)> {
    let said = |name: &str| {
        let key = format!("DownstreamApis:{api}:AcquireTokenOptions:{name}");
        keys::row(&key, &[])?;
        let value = settings.value(&key)?.trim().to_owned();
        (!value.is_empty()).then_some((key, value))
    };
    // `AuthenticationScheme` is a protocol or, as Microsoft.Identity.Web documents it, a section.
    said("AuthenticationOptionsName").or_else(|| said("AuthenticationScheme").filter(|(_, value)| !is_protocol(value)))
}

pub fn is_protocol(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("Bearer") || scheme.eq_ignore_ascii_case("PoP")
}

/// True if the section has another meaning.
pub fn is_reserved(section: &str) -> bool {
    let first = section.split(':').next().unwrap_or_default();
    ["DownstreamApis", "Sidecar", "Logging", "Kestrel"].iter().any(|own| own.eq_ignore_ascii_case(first))
}

/// A section's name in the spelling of its keys, for messages.
pub fn as_written(settings: &Settings, section: &str) -> String {
    let names = settings.iter().map(|setting| setting.key.as_str());
    let written = names.filter_map(|key| key.get(..section.len())).find(|start| start.eq_ignore_ascii_case(section));
    written.unwrap_or(section).to_owned()
}
