//! The description of the endpoints for tools.

const DOCUMENT: &str = include_str!("openapi.json");

/// The OpenAPI 3.0 document, as JSON.
pub fn document() -> String {
    DOCUMENT.replace("@VERSION@", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::routes::route::Endpoint;

    fn parsed() -> Value {
        serde_json::from_str(&document()).unwrap()
    }

    #[test]
    fn every_endpoint_is_described() {
        let paths = parsed()["paths"].clone();
        for endpoint in Endpoint::ALL.into_iter().filter(|endpoint| *endpoint != Endpoint::OpenApi) {
            assert!(paths.get(endpoint.pattern()).is_some(), "{}", endpoint.pattern());
        }
    }

    #[test]
    fn every_override_is_described() {
        let parameters = parsed()["components"]["parameters"].clone();
        let names: Vec<&str> =
            parameters.as_object().unwrap().values().map(|parameter| parameter["name"].as_str().unwrap()).collect();
        for key in crate::options::query::known_keys() {
            let name = format!("optionsOverride.{}", key.replace("<Name>", "Name"));
            let alias = key.starts_with("ExtraHeaderParameters") || key.ends_with("PopClaim");
            assert!(alias || names.contains(&name.as_str()), "{name}");
        }
    }
}
