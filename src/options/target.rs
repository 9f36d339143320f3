//! Where a downstream call goes: `BaseUrl`, `RelativePath` and query joined so that a token can reach no other
//! origin and no path above the base path, whatever the caller writes (RFC 3986 §5 is deliberately not applied).

use super::merge::Effective;
use super::syntax::Expected;
use super::{Invalid, percent};
use crate::url::{Origin, Url};

/// A URL whose origin the operator named, as [`Effective::merge`] saw to. Only [`Target::new`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Url);

impl Target {
    /// Joins the options' base URL, path and query parameters.
    pub fn new(options: &Effective<'_>) -> Result<Self, Invalid> {
        let base = options.base_url.ok_or_else(|| Invalid::NoBaseUrl { api: options.api.name.clone() })?;
        let relative = options.relative_path;
        check_relative(relative).map_err(Invalid::Path)?;
        let (path, query) = relative.split_once('?').map_or((relative, None), |(path, query)| (path, Some(query)));

        let mut joined = base.base_path().to_owned();
        // One slash in between, and none at the end that neither side wrote.
        if !path.is_empty() || base.path.ends_with('/') {
            joined.push('/');
        }
        percent::encode_rest(&mut joined, path.strip_prefix('/').unwrap_or(path));

        let mut parameters = base.query.clone().unwrap_or_default();
        if let Some(query) = query {
            separate(&mut parameters);
            percent::encode_rest(&mut parameters, query);
        }
        for (name, value) in options.extra_query.iter() {
            separate(&mut parameters);
            percent::encode_component(&mut parameters, name);
            parameters.push('=');
            percent::encode_component(&mut parameters, value);
        }
        let query = Some(parameters).filter(|parameters| !parameters.is_empty());
        Ok(Self(Url { origin: base.origin.clone(), path: joined, query }))
    }

    /// The URL: what a signed request is bound to, and what its text is sent to.
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// Scheme, host and port.
    pub const fn origin(&self) -> &Origin {
        &self.0.origin
    }
}

fn separate(parameters: &mut String) {
    if !parameters.is_empty() {
        parameters.push('&');
    }
}

/// Whether a `RelativePath`, which may hold a query, stays below whatever base URL it is appended to.
pub(super) fn check_relative(text: &str) -> Result<(), Expected> {
    if text.contains('#') {
        return Err("a path without a fragment");
    }
    if text.chars().any(char::is_control) {
        return Err("a path without control characters");
    }
    if text.contains('\\') {
        return Err("a path without backslashes");
    }
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if percent::decode(query).is_none() {
        return Err("a query that is percent-encoded UTF-8");
    }
    if has_scheme(path) || percent::decode(path).is_some_and(|decoded| has_scheme(&decoded)) {
        return Err("a path without a scheme");
    }
    confined(path)
}

/// Whether a path has no segment that a server could take for a step up or sideways. It is judged as a server
/// sees it, after one percent-decoding; there `/` and `\` both separate, and `;` starts a segment's parameters
/// (RFC 3986 §3.3).
pub(super) fn confined(path: &str) -> Result<(), Expected> {
    let Some(decoded) = percent::decode(path) else {
        return Err("a path that is percent-encoded UTF-8");
    };
    if decoded.chars().any(char::is_control) {
        return Err("a path without control characters");
    }
    if decoded.contains('\\') {
        return Err("a path without backslashes");
    }
    // The one slash that a path may start with is the separator; an encoded one after it would make two.
    let below = path.strip_prefix('/').unwrap_or(path);
    if decoded.contains("//") || below.starts_with("%2f") || below.starts_with("%2F") {
        return Err("a path without //");
    }
    let name = |segment: &str| segment.split(';').next().unwrap_or_default().trim().to_owned();
    if decoded.split('/').any(|segment| matches!(name(segment).as_str(), "." | "..")) {
        return Err("a path without the segments . and ..");
    }
    Ok(())
}

/// Whether a reference starts with a scheme (RFC 3986 §3.1, §4.2): a colon in a later segment is none.
fn has_scheme(path: &str) -> bool {
    let Some((scheme, _)) = path.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests;
