//! Differences between the national clouds.

/// The audience of tokens that are exchanged for others, without `/.default`.
/// <https://learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity>
pub fn exchange_audience(host: &str) -> &'static str {
    match host {
        "login.microsoftonline.us" | "login.usgovcloudapi.net" => "api://AzureADTokenExchangeUSGov",
        "login.partner.microsoftonline.cn" | "login.chinacloudapi.cn" => "api://AzureADTokenExchangeChina",
        "login.sovcloud-identity.fr" => "api://AzureADTokenExchangeFrance",
        "login.sovcloud-identity.de" => "api://AzureADTokenExchangeGermany",
        _ => "api://AzureADTokenExchange",
    }
}
