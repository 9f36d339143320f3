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
            let path = endpoint.pattern().replace("{serviceName}", "{apiName}");
            assert!(paths.get(&path).is_some(), "{path}");
        }
    }

    // As in Microsoft.Identity.Web.Sidecar.json of AzureAD/microsoft-identity-web. Generators name
    // modules, functions and arguments after these, so clients of either document are called alike.
    #[test]
    fn names_are_those_of_the_original_document() {
        let document = parsed();
        let original = [
            ("/Validate", "get", "ValidateAuthorizationHeader", "ValidateRequestEndpoints"),
            ("/AuthorizationHeader/{apiName}", "get", "AuthorizationHeader", "AuthorizationHeaderEndpoint"),
            (
                "/AuthorizationHeaderUnauthenticated/{apiName}",
                "get",
                "AuthorizationHeaderUnauthenticated",
                "AuthorizationHeaderEndpoint",
            ),
            ("/DownstreamApi/{apiName}", "post", "DownstreamApi", "DownstreamApiEndpoint"),
            (
                "/DownstreamApiUnauthenticated/{apiName}",
                "post",
                "DownstreamApiUnauthenticated",
                "DownstreamApiEndpoint",
            ),
        ];
        for (path, method, id, tag) in original {
            let operation = &document["paths"][path][method];
            assert_eq!((&operation["operationId"], &operation["tags"]), (&json!(id), &json!([tag])), "{path}");
        }
        let parameters = &document["components"]["parameters"];
        assert_eq!(parameters["ApiName"]["name"], "apiName");
        for agent in ["AgentIdentity", "AgentUsername", "AgentUserId"] {
            assert_eq!(parameters[agent]["name"], agent);
        }
        let required = [
            ("AuthorizationHeaderResult", json!(["authorizationHeader"])),
            ("DownstreamApiResult", json!(["statusCode", "headers", "content"])),
            ("ValidateAuthorizationHeaderResult", json!(["protocol", "token", "claims"])),
        ];
        for (schema, members) in required {
            assert_eq!(document["components"]["schemas"][schema]["required"], members, "{schema}");
        }
    }

    #[test]
    fn every_operation_has_an_id_of_its_own_and_a_tag() {
        let document = parsed();
        let mut ids = Vec::new();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values().filter(|member| member.is_object()) {
                assert_eq!(operation["tags"].as_array().unwrap().len(), 1);
                ids.push(operation["operationId"].as_str().unwrap());
            }
        }
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all);
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
                document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.ends_with("/{apiName}"))
            {
                assert!(item["parameters"].as_array().unwrap().contains(&reference), "{path}: {name}");
            }
        }
    }
}
