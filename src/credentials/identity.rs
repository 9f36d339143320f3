//! A managed identity's token as client assertion.
//! <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity>

use super::{ClientAuth, Context, Failure, Source};
use crate::value::resource::of_app_scope;

/// The audience of tokens that are exchanged for others, without `/.default`.
pub fn exchange_audience(host: &str) -> &'static str {
    match host {
        "login.microsoftonline.us" | "login.usgovcloudapi.net" => "api://AzureADTokenExchangeUSGov",
        "login.partner.microsoftonline.cn" | "login.chinacloudapi.cn" => "api://AzureADTokenExchangeChina",
        "login.sovcloud-identity.fr" => "api://AzureADTokenExchangeFrance",
        "login.sovcloud-identity.de" => "api://AzureADTokenExchangeGermany",
        _ => "api://AzureADTokenExchange",
    }
}

pub struct IdentityAssertion {
    /// `None`: the system-assigned identity.
    pub client_id: Option<String>,
    /// `None`: the audience of the registration's cloud.
    pub token_exchange_url: Option<String>,
}

impl Source for IdentityAssertion {
    fn needs_network(&self) -> bool {
        true
    }

    fn authenticate(&self, context: &Context<'_>) -> Result<ClientAuth, Failure> {
        // A resource, not a scope: with `/.default` the exchange fails.
        let audience = match &self.token_exchange_url {
            Some(url) => of_app_scope(url),
            None => exchange_audience(context.registration.instance.origin.host()),
        };
        context.identities.managed_identity(self.client_id.as_deref(), audience).map(ClientAuth::Assertion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::testing::World;
    use crate::value::url::Url;

    fn asked(instance: &str, client_id: Option<&str>, url: Option<&str>) -> (Option<String>, String) {
        let mut world = World::at(0);
        world.registration.instance = Url::parse(instance).unwrap();
        let source =
            IdentityAssertion { client_id: client_id.map(str::to_owned), token_exchange_url: url.map(str::to_owned) };
        assert_eq!(world.authenticate(&source), Ok("MI".into()));
        world.asked.into_inner().unwrap().remove(0)
    }

    #[test]
    fn the_identitys_token_for_the_exchange_is_the_assertion() {
        const PUBLIC: &str = "https://login.microsoftonline.com/";
        let exchange = "api://AzureADTokenExchange";
        assert_eq!(asked(PUBLIC, None, None), (None, exchange.into()));
        assert_eq!(asked(PUBLIC, Some("m"), None), (Some("m".into()), exchange.into()));
        assert_eq!(asked(PUBLIC, None, Some("api://own/.default")), (None, "api://own".into()));
        assert_eq!(asked("https://login.microsoftonline.us/", None, None).1, "api://AzureADTokenExchangeUSGov");
        assert_eq!(asked("https://login.partner.microsoftonline.cn/", None, None).1, "api://AzureADTokenExchangeChina");
    }

    #[test]
    fn its_failure_is_passed_on() {
        let failure = Failure::Unavailable("no IMDS".into());
        let world = World::at(0).identity(Err(failure.clone()));
        assert_eq!(world.authenticate(&IdentityAssertion { client_id: None, token_exchange_url: None }), Err(failure));
    }
}
