//! Claims that say the wrong thing, or the right thing in the wrong way, truly signed.

use crate::mint::{CLIENT, Case, NOW, OTHER_TENANT, PERSONAL, TENANT, case, with_claims};

pub fn cases() -> Vec<Case> {
    let mut cases = times();
    cases.extend(issuers());
    cases.extend(tenants());
    cases.extend(audiences());
    cases.extend(permissions());
    cases
}

fn times() -> Vec<Case> {
    let (malformed, expired) = ("claim_malformed", "expired");
    let mut cases = Vec::new();
    for (exp, code) in [
        ("\"1800000000\"", malformed),
        ("\"\"", malformed),
        ("\"Infinity\"", malformed),
        ("null", malformed),
        ("true", malformed),
        ("[1800000000]", malformed),
        ("{}", malformed),
        ("1e400", "malformed"),
        ("-1e400", "malformed"),
        ("NaN", "malformed"),
        ("Infinity", "malformed"),
        ("-Infinity", "malformed"),
        ("0x7fffffff", "malformed"),
        ("01800000000", "malformed"),
        ("+1800000000", "malformed"),
        ("1800000000.", "malformed"),
        (".5", "malformed"),
        ("1_800_000_000", "malformed"),
        ("0", expired),
        ("-0", expired),
        ("-1", expired),
        ("-1800000000", expired),
        ("-1e300", expired),
        ("1e-400", expired),
        ("-9223372036854775809", expired),
        ("0.9", expired),
        ("1699999699", expired),
        ("1699999699.999", expired),
        ("1.699999699e9", expired),
    ] {
        cases.push(case(format!("exp of {exp}"), with_claims(&[("exp", exp), ("nbf", "")]), code));
    }
    cases.push(case("no exp", with_claims(&[("exp", "")]), "no_expiration"));
    let beside = with_claims(&[("exp", ""), ("EXP", "1800000000")]);
    cases.push(case("exp in capitals", beside, "no_expiration"));
    for (nbf, code) in [
        ("\"0\"", malformed),
        ("null", malformed),
        ("[0]", malformed),
        ("1700000301", "not_yet_valid"),
        ("1.700000301e9", "not_yet_valid"),
        ("1700003601", "lifetime_invalid"),
        ("18446744073709551616", "lifetime_invalid"),
        ("1e300", "lifetime_invalid"),
        ("1e400", "malformed"),
    ] {
        cases.push(case(format!("nbf of {nbf}"), with_claims(&[("nbf", nbf)]), code));
    }
    let later = (NOW + 301).to_string();
    let never = with_claims(&[("nbf", &later), ("exp", "1e300")]);
    cases.push(case("a lifetime that has not begun and never ends", never, "not_yet_valid"));
    for iat in ["\"1700000000\"", "null", "{}"] {
        cases.push(case(format!("iat of {iat}"), with_claims(&[("iat", iat)]), malformed));
    }
    cases
}

fn issuers() -> Vec<Case> {
    let mut cases = Vec::new();
    for iss in [
        "",
        "T",
        "https://login.microsoftonline.com/T/v2.0/",
        "https://login.microsoftonline.com/T",
        "https://login.microsoftonline.com/T/v1.0",
        "https://login.microsoftonline.com/T/V2.0",
        "HTTPS://login.microsoftonline.com/T/v2.0",
        "http://login.microsoftonline.com/T/v2.0",
        "https://LOGIN.microsoftonline.com/T/v2.0",
        "https://login.microsoftonline.com:443/T/v2.0",
        "https://login.microsoftonline.com./T/v2.0",
        "https://login.microsoftonline.com//T/v2.0",
        "https://login.microsoftonline.com/T/../U/v2.0",
        "https://login.microsoftonline.com/%31T/v2.0",
        "https://login.microsoftonline.com/T/v2.0?x",
        "https://login.microsoftonline.com/T/v2.0#x",
        "https://login.microsoftonline.com/T/v2.0 ",
        " https://login.microsoftonline.com/T/v2.0",
        "https://login.microsoftonline.com/T/v2.0\\u0000",
        "https://login.microsoftonline.com.evil.example/T/v2.0",
        "https://evil.example/https://login.microsoftonline.com/T/v2.0",
        "https://user@login.microsoftonline.com/T/v2.0",
        "https://login.microsoftonline.com\\\\@evil.example/T/v2.0",
        "https://login.microsoftonline.us/T/v2.0",
        "https://login.partner.microsoftonline.cn/T/v2.0",
        "https://sts.microsoftonline.us/T/",
        "https://sts.chinacloudapi.cn/T/",
        "https://sts.windows.net/T",
        "https://sts.windows.net/T//",
        "https://sts.windows.net/",
        "https://login.microsoftonline.com/{tenantid}/v2.0",
        "https://login.microsoftonline.com/common/v2.0",
        "https://login.microsoftonline.com/organizations/v2.0",
        "https://login.microsoftonline.com/U/v2.0",
        "https://sts.windows.net/U/",
        "https://contoso.b2clogin.com/T/v2.0/",
        "https://T.ciamlogin.com/T/v2.0",
    ] {
        let value = format!("\"{}\"", iss.replace('T', TENANT).replace('U', OTHER_TENANT));
        cases.push(case(format!("the issuer '{iss}'"), with_claims(&[("iss", &value)]), "issuer_invalid"));
    }
    let good = format!("\"https://login.microsoftonline.com/{TENANT}/v2.0\"");
    for iss in [format!("[{good}]"), "null".into(), "0".into(), "{}".into(), "true".into()] {
        cases.push(case(format!("an issuer that is no text: {iss}"), with_claims(&[("iss", &iss)]), "claim_malformed"));
    }
    cases.push(case("no issuer", with_claims(&[("iss", "")]), "issuer_invalid"));
    cases.push(case("the issuer in capitals", with_claims(&[("iss", ""), ("ISS", &good)]), "issuer_invalid"));
    cases
}

/// The issuer's template must not be filled with something else than the tenant.
fn tenants() -> Vec<Case> {
    let mut cases = Vec::new();
    for tid in [
        "", " ", "{tenantid}", "*", "T/v2.0", "T/../T", "../T", "T ", " T", "T\\u0000", "T?", "T#", "%54", "common",
        "U",
    ] {
        let value = format!("\"{}\"", tid.replace('T', TENANT).replace('U', OTHER_TENANT));
        cases.push(case(format!("the tenant '{tid}'"), with_claims(&[("tid", &value)]), "issuer_invalid"));
    }
    for tid in ["T/v2.0", "{tenantid}", "", "T?x", "a b", "a/b", "a%2fb", "a\\\\b", "\u{e9}"] {
        let tid = tid.replace('T', TENANT);
        let issuer = format!("\"https://login.microsoftonline.com/{tid}/v2.0\"");
        let token = with_claims(&[("tid", &format!("\"{tid}\"")), ("iss", &issuer)]);
        cases.push(case(format!("the issuer's tenant is '{tid}', and so is the token's"), token, "issuer_invalid"));
    }
    for tid in [format!("[\"{TENANT}\"]"), "null".into(), "0".into(), "{}".into()] {
        cases.push(case(format!("a tenant that is no text: {tid}"), with_claims(&[("tid", &tid)]), "claim_malformed"));
    }
    cases.push(case("no tenant", with_claims(&[("tid", "")]), "issuer_invalid"));
    let long = format!("\"{TENANT}\"");
    let long = with_claims(&[("tid", ""), ("http://schemas.microsoft.com/identity/claims/tenantid", &long)]);
    cases.push(case("the tenant under its long name alone", long, "issuer_invalid"));
    let personal = with_claims(&[("tid", &format!("\"{PERSONAL}\""))]);
    cases.push(case("the tenant of personal accounts under an organization's issuer", personal, "issuer_invalid"));
    cases
}

fn audiences() -> Vec<Case> {
    let mut cases = Vec::new();
    for aud in [
        "", "/", "//", "*", "c", "C//", "/C", "C ", " C", "C\\u0000", "C,other", "other C", "api://C//", "api:/C",
        "API://C", "https://C", "api://C/read", "api://", "00000003-0000-0000-c000-000000000000",
        "https://graph.microsoft.com", "spn:C", "api://C?x",
    ] {
        let value = format!("\"{}\"", if aud == "c" { CLIENT.to_uppercase() } else { aud.replace('C', CLIENT) });
        cases.push(case(format!("the audience '{aud}'"), with_claims(&[("aud", &value)]), "audience_invalid"));
    }
    for (aud, code) in [
        ("[]", "audience_invalid"),
        (r#"["other"]"#, "audience_invalid"),
        (r#"["",""]"#, "audience_invalid"),
        (r#"[["C"]]"#, "claim_malformed"),
        (r#"["C",0]"#, "claim_malformed"),
        (r#"["C",null]"#, "claim_malformed"),
        (r#"{"0":"C"}"#, "claim_malformed"),
        ("null", "claim_malformed"),
        ("true", "claim_malformed"),
        ("0", "claim_malformed"),
    ] {
        let value = aud.replace('C', CLIENT);
        cases.push(case(format!("an audience of {aud}"), with_claims(&[("aud", &value)]), code));
    }
    cases.push(case("no audience", with_claims(&[("aud", "")]), "audience_invalid"));
    let other = with_claims(&[("aud", "\"other\""), ("azp", &format!("\"{CLIENT}\""))]);
    cases.push(case("our id as the authorized party alone", other, "audience_invalid"));
    cases
}

fn permissions() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, value) in [
        ("scp", r#"["access_as_user"]"#),
        ("scp", "null"),
        ("scp", "{}"),
        ("roles", "7"),
        ("roles", "[7]"),
        ("roles", "null"),
        ("roles", r#"{"admin":true}"#),
        ("idtyp", "[]"),
        ("idtyp", "true"),
        ("oid", "7"),
        ("sub", "[]"),
        ("azp", "{}"),
        ("appid", "null"),
    ] {
        cases.push(case(format!("{name} of {value}"), with_claims(&[(name, value)]), "claim_malformed"));
    }
    cases
}
