//! The OpenAPI document of the endpoints.

use serde_json::json;

use crate::config::Override;

const DOCUMENT: &str = include_str!("openapi.json");

/// OpenAPI 3.0 as JSON. The table of options describes the overrides.
pub fn document() -> String {
    let (mut described, mut named) = (Vec::new(), Vec::new());
    for option in Override::all() {
        let name = option.name().replace("<Name>", "Name");
        let (schema, example) = option.schema();
        let parameter = json!({
            "name": format!("optionsOverride.{name}"),
            "in": "query",
            "required": false,
            "description": option.row().help.replace('`', ""),
            "schema": schema,
            "example": example,
            "allowEmptyValue": true,
        });
        described.push(format!("\"{name}\": {parameter}"));
        named.push(json!({ "$ref": format!("#/components/parameters/{name}") }).to_string());
    }
    DOCUMENT
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("\"@OVERRIDES@\": {}", &described.join(",\n   "))
        .replace("{\n     \"$ref\": \"@OVERRIDES@\"\n    }", &named.join(",\n    "))
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
        for (endpoint, ..) in Endpoint::ALL.into_iter().filter(|(endpoint, ..)| *endpoint != Endpoint::OpenApi) {
            assert!(paths.get(endpoint.pattern()).is_some(), "{}", endpoint.pattern());
        }
    }

    #[test]
    fn every_override_is_described() {
        let document = parsed();
        let parameters = &document["components"]["parameters"];
        for option in Override::all() {
            let name = option.name().replace("<Name>", "Name");
            assert_eq!(parameters[&name]["name"], format!("optionsOverride.{name}"));
            let reference = json!({ "$ref": format!("#/components/parameters/{name}") });
            for (path, item) in
                document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.ends_with("/{serviceName}"))
            {
                assert!(item["parameters"].as_array().unwrap().contains(&reference), "{path}: {name}");
            }
        }
    }
}
