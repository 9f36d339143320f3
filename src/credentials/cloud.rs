//! What differs between the clouds (Microsoft Learn, "National clouds").

/// The scope of tokens that are exchanged for others, without its suffix; per cloud.
pub fn exchange_audience(host: &str) -> &'static str {
    match host {
        "login.microsoftonline.us" | "login.usgovcloudapi.net" => "api://AzureADTokenExchangeUSGov",
        "login.partner.microsoftonline.cn" | "login.chinacloudapi.cn" => "api://AzureADTokenExchangeChina",
        "login.sovcloud-identity.fr" => "api://AzureADTokenExchangeFrance",
        "login.sovcloud-identity.de" => "api://AzureADTokenExchangeGermany",
        _ => "api://AzureADTokenExchange",
    }
}
