//! Joins `BaseUrl`, `RelativePath` and query into the URL of a downstream call, so that a token can
//! never leave the base URL's origin and path (deliberately not RFC 3986 §5).

use super::OptionsError;
use super::merge::Effective;
use crate::value::url::{Origin, Url};
use crate::value::{percent, syntax};

/// A URL that a token may be sent to: [`Effective::merge`] has checked its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    url: Url,
    /// Length of the path before what a proxied request appends to it.
    base: usize,
    /// The query without what a proxied request says itself.
    own_query: String,
}

/// A path that stays below the base URL, however the API reads it.
#[derive(Clone, Copy, Debug)]
pub struct ProxiedPath<'a>(&'a str);

impl<'a> ProxiedPath<'a> {
    pub fn new(path: &'a str) -> Result<Self, OptionsError> {
        syntax::proxied_path(path).map_err(OptionsError::ProxiedPath)?;
        Ok(Self(path))
    }
}

impl Target {
    pub fn new(effective: &Effective<'_>) -> Result<Self, OptionsError> {
        Self::join(effective, "", None)
    }

    /// The target of a proxied request: the caller's path is appended, and its query inserted before the configured
    /// parameters, both byte for byte.
    pub fn proxied(
        effective: &Effective<'_>,
        path: ProxiedPath<'_>,
        query: Option<&str>,
    ) -> Result<Self, OptionsError> {
        Self::join(effective, path.0, query)
    }

    fn join(effective: &Effective<'_>, passed: &str, passed_query: Option<&str>) -> Result<Self, OptionsError> {
        let options = &effective.options;
        let base = options.base_url.ok_or_else(|| OptionsError::NoBaseUrl(effective.api.name.clone()))?;
        let relative = options.relative_path;
        syntax::relative_path(relative).map_err(OptionsError::Path)?;
        let (path, query) = relative.split_once('?').map_or((relative, None), |(path, query)| (path, Some(query)));

        let mut joined = base.base_path().to_owned();
        // One slash in between, and none at the end unless the base or the path has it.
        if !path.is_empty() || base.path.ends_with('/') {
            joined.push('/');
        }
        joined.extend(percent::encode_rest(path.strip_prefix('/').unwrap_or(path)));
        let base_length = joined.trim_end_matches('/').len();
        if let Some(passed) = passed.strip_prefix('/') {
            joined.truncate(base_length);
            joined.push('/');
            joined.push_str(passed);
        }

        let mut own_query = base.query.clone().unwrap_or_default();
        if let Some(query) = query {
            separate(&mut own_query);
            own_query.extend(percent::encode_rest(query));
        }
        let mut parameters = own_query.clone();
        if let Some(query) = passed_query.filter(|query| !query.is_empty()) {
            separate(&mut parameters);
            parameters.push_str(query);
        }
        for (name, value) in options.extra_query.iter() {
            let (name, value) = (percent::encode_component(name), percent::encode_component(value));
            for query in [&mut own_query, &mut parameters] {
                separate(query);
                query.extend([&*name, "=", &*value]);
            }
        }
        let query = Some(parameters).filter(|parameters| !parameters.is_empty() || passed_query.is_some());
        Ok(Self { url: Url { origin: base.origin.clone(), path: joined, query }, base: base_length, own_query })
    }

    /// The URL. A signed request is bound to it.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    pub const fn origin(&self) -> &Origin {
        &self.url.origin
    }

    /// The configured part of the query.
    pub fn own_query(&self) -> &str {
        &self.own_query
    }

    /// The configured path, without a trailing slash. Below it everything is the proxied request's.
    pub fn base_path(&self) -> &str {
        &self.url.path[..self.base]
    }
}

fn separate(parameters: &mut String) {
    if !parameters.is_empty() {
        parameters.push('&');
    }
}

#[cfg(test)]
mod tests;
