//! The order of checks, on complete tokens.

use super::*;
use crate::jwks::testing::{P256, P384, RSA_A, RSA_B, TENANT, TestKey, b64, key_set};
use crate::jwks::{Issuer, V1, accepted_issuers};
use crate::jwt::testing::{CLIENT, NOW, payload, policy};
use crate::value::jwk::Algorithm;

const OTHER_TENANT: &str = "99999999-2222-3333-4444-555555555555";

fn token(changes: &[(&str, &str)]) -> String {
    RSA_A.jws(Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa-a"}"#, &payload(changes))
}

fn check(changes: &[(&str, &str)]) -> Result<Verified, Rejection> {
    verify(&token(changes), &key_set(), &policy(), NOW)
}

fn rejection(changes: &[(&str, &str)]) -> Rejection {
    check(changes).expect_err("the token must be refused")
}

#[test]
fn every_algorithm_verifies_with_a_key_of_its_type() {
    use Algorithm::{Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    for (algorithm, name, kid, key) in [
        (Rs256, "RS256", "rsa-a", RSA_A),
        (Rs384, "RS384", "rsa-a", RSA_A),
        (Rs512, "RS512", "rsa-b", RSA_B),
        (Ps256, "PS256", "rsa-a", RSA_A),
        (Ps384, "PS384", "rsa-a", RSA_A),
        (Ps512, "PS512", "rsa-a", RSA_A),
        (Es256, "ES256", "p256", P256),
        (Es384, "ES384", "p384", P384),
    ] {
        let token = key.jws(algorithm, &format!(r#"{{"alg":"{name}","kid":"{kid}"}}"#), &payload(&[]));
        let verified = verify(&token, &key_set(), &policy(), NOW).expect(name);
        assert_eq!((verified.kid(), verified.assertion()), (kid, token.as_str()));
    }
}

#[test]
fn what_was_verified_can_be_read() {
    let text = payload(&[("sub", "\"s\""), ("azp", "\"client\""), ("roles", "[\"r\"]")]).replace(',', " , ");
    let token = RSA_A.jws(Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa-a"}"#, &text);
    let verified = verify(&token, &key_set(), &policy(), NOW).unwrap();
    assert_eq!(verified.claims_json(), text, "unchanged");
    assert_eq!((verified.tenant(), verified.object_id()), (Some(TENANT), Some("user")));
    assert_eq!(verified.subject(), Some("s"));
    assert_eq!(verified.scopes().collect::<Vec<_>>(), ["access_as_user", "other"]);
    assert_eq!((verified.roles(), verified.expires_at()), (&["r".to_owned()][..], NOW + 3600));
    let shown = format!("{verified:?}");
    assert!(!shown.contains(&token) && !shown.contains("user"), "{shown}");
}

#[test]
fn a_key_is_used_for_its_own_algorithms_only() {
    let sign = |key: TestKey, algorithm, header: &str| {
        verify(&key.jws(algorithm, header, &payload(&[])), &key_set(), &policy(), NOW).map(|_| ())
    };
    for (key, algorithm, header, rejection) in [
        (RSA_B, Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa-a"}"#, Rejection::SignatureInvalid),
        (RSA_A, Algorithm::Rs256, r#"{"alg":"RS256","kid":"RSA-A"}"#, Rejection::KeyNotFound),
        (RSA_A, Algorithm::Rs256, r#"{"alg":"RS256","kid":""}"#, Rejection::KeyNotFound),
        (RSA_A, Algorithm::Rs256, r#"{"alg":"RS256"}"#, Rejection::KeyIdMissing),
        (RSA_A, Algorithm::Rs256, r#"{"alg":"PS256","kid":"rsa-a"}"#, Rejection::SignatureInvalid),
        (RSA_A, Algorithm::Rs256, r#"{"alg":"ES256","kid":"rsa-a"}"#, Rejection::KeyMismatch),
        (P256, Algorithm::Es256, r#"{"alg":"ES384","kid":"p256"}"#, Rejection::KeyMismatch),
        (P256, Algorithm::Es256, r#"{"alg":"RS256","kid":"p256"}"#, Rejection::KeyMismatch),
        (P384, Algorithm::Es384, r#"{"alg":"ES256","kid":"p384"}"#, Rejection::KeyMismatch),
    ] {
        assert_eq!(sign(key, algorithm, header), Err(rejection), "{header}");
    }
}

#[test]
fn the_size_is_judged_before_anything_else() {
    let limit = |max_bytes, token: &str| {
        verify(token, &key_set(), &Policy { max_bytes, ..policy() }, NOW).map(|_| ()).map_err(|it| it.code())
    };
    let token = token(&[]);
    assert_eq!(limit(token.len() + 1, &token), Ok(()));
    assert_eq!(limit(token.len(), &token), Ok(()));
    assert_eq!(limit(token.len() - 1, &token), Err("too_large"));
    assert_eq!(limit(9, "no token at all"), Err("too_large"));
}

#[test]
fn the_first_check_that_fails_names_the_rejection() {
    let everything_wrong = [("iss", "\"i\""), ("aud", "\"a\""), ("exp", "1"), ("nbf", ""), ("scp", "1")];
    let steps =
        [("iss", "issuer_invalid"), ("aud", "audience_invalid"), ("exp", "expired"), ("scp", "claim_malformed")];
    for (index, (_, code)) in steps.iter().enumerate() {
        let left: Vec<_> = everything_wrong
            .into_iter()
            .filter(|(name, _)| !steps[..index].iter().any(|(done, _)| done == name))
            .collect();
        assert_eq!(rejection(&left).code(), *code);
    }
    let mut forged = token(&everything_wrong);
    let last = forged.rfind('.').unwrap();
    forged.replace_range(last + 1.., &b64([0; 256]));
    assert_eq!(verify(&forged, &key_set(), &policy(), NOW).map(|_| ()), Err(Rejection::SignatureInvalid));
}

#[test]
fn a_payload_must_be_one_strict_object() {
    for text in ["", "null", "[]", "{}{}", r#"{"exp":1,"exp":2}"#, r#"{"exp":1e999}"#, r#"{"a":{"b":1,"b":1}}"#] {
        let token = RSA_A.jws(Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa-a"}"#, text);
        let code = verify(&token, &key_set(), &policy(), NOW).map(|_| ()).map_err(|it| it.code());
        assert_eq!(code, Err("malformed"), "{text:?}");
    }
}

#[test]
fn issuer_and_tenant_must_agree() {
    for (iss, tid, good) in [
        ("https://login.microsoftonline.com/T/v2.0", "T", true),
        ("https://login.windows.net/T/v2.0", "T", true),
        ("https://sts.windows.net/T/", "T", true),
        ("https://login.microsoftonline.com/T/v2.0", "U", false),
        ("https://sts.windows.net/T/", "U", false),
        ("https://sts.windows.net/T", "T", false),
        ("https://login.microsoftonline.com/T/v2.0/", "T", false),
        ("https://login.microsoftonline.com/T/", "T", false),
        ("https://login.microsoftonline.us/T/v2.0", "T", false),
        ("https://login.microsoftonline.com.evil.example/T/v2.0", "T", false),
        ("http://login.microsoftonline.com/T/v2.0", "T", false),
        ("", "T", false),
    ] {
        let full = |text: &str| format!("\"{}\"", text.replace('T', TENANT).replace('U', OTHER_TENANT));
        let outcome = check(&[("iss", &full(iss)), ("tid", &full(tid))]).map(|_| ()).map_err(|it| it.code());
        assert_eq!(outcome, if good { Ok(()) } else { Err("issuer_invalid") }, "{iss} {tid}");
    }
    assert_eq!(rejection(&[("iss", "")]), Rejection::IssuerInvalid(None));
    assert_eq!(rejection(&[("iss", "[\"x\"]")]), Rejection::ClaimMalformed("iss"));
    assert_eq!(rejection(&[("tid", "")]).code(), "issuer_invalid");
    assert_eq!(rejection(&[("tid", "7")]), Rejection::ClaimMalformed("tid"));
}

#[test]
fn configured_issuers_replace_those_of_the_metadata() {
    let policy = Policy { issuers: vec![Issuer::new("https://idp.example/{tenantid}/")], ..policy() };
    let check = |iss: &str| verify(&token(&[("iss", &format!("\"{iss}\""))]), &key_set(), &policy, NOW).map(|_| ());
    assert_eq!(check(&format!("https://idp.example/{TENANT}/")), Ok(()));
    assert!(check(&format!("https://login.microsoftonline.com/{TENANT}/v2.0")).is_err());
}

#[test]
fn only_allowed_tenants_are_accepted() {
    let with = |tenants: &[&str]| {
        let allowed_tenants = tenants.iter().map(|tenant| (*tenant).to_owned()).collect();
        verify(&token(&[]), &key_set(), &Policy { allowed_tenants, ..policy() }, NOW).map(|_| ())
    };
    assert_eq!(with(&[OTHER_TENANT, &TENANT.to_uppercase()]), Ok(()));
    assert_eq!(with(&[OTHER_TENANT]), Err(Rejection::TenantNotAllowed(Some(TENANT.into()))));
}

#[test]
fn a_key_signs_for_its_own_issuer_only() {
    let common = "https://login.microsoftonline.com/{tenantid}/v2.0";
    let with = |issuer: &str, changes: &[(&str, &str)]| {
        let jwk = RSA_A.jwk("rsa-a").replacen('{', &format!(r#"{{"issuer":"{issuer}","#), 1);
        let keys = KeySet::new(vec![Key::from_jwk(&jwk).unwrap()], common, accepted_issuers(common, V1::Unknown));
        verify(&token(changes), &keys, &policy(), NOW).map(|_| ()).map_err(|it| it.code())
    };
    let personal = "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0";
    assert_eq!(with(common, &[]), Ok(()));
    assert_eq!(with(common, &[("iss", &format!("\"https://sts.windows.net/{TENANT}/\""))]), Ok(()), "v1");
    assert_eq!(with(&common.replace("{tenantid}", TENANT), &[]), Ok(()));
    assert_eq!(with("", &[]), Ok(()), "blank is none");
    assert_eq!(with(personal, &[]), Err("key_issuer_invalid"));
    assert_eq!(with("https://login.microsoftonline.us/{tenantid}/v2.0", &[]), Err("key_issuer_invalid"));
}

#[test]
fn one_of_the_audiences_must_be_ours() {
    for (aud, good) in [
        ("\"C\"", true),
        ("\"api://C\"", true),
        ("\"api://C/\"", true),
        ("[\"x\",\"C\"]", true),
        ("\"api://C//\"", false),
        ("\"API://C\"", false),
        ("\"x\"", false),
        ("\"\"", false),
        ("[]", false),
    ] {
        let outcome = check(&[("aud", &aud.replace('C', CLIENT))]).map(|_| ()).map_err(|it| it.code());
        assert_eq!(outcome, if good { Ok(()) } else { Err("audience_invalid") }, "{aud}");
    }
    assert_eq!(rejection(&[("aud", "\"x\"")]).description(), "The audience 'x' is invalid");
    assert_eq!(rejection(&[("aud", "")]), Rejection::AudienceInvalid(None));
    for aud in ["7", "null", "[7]", "{}", &format!("[\"{CLIENT}\",7]")] {
        assert_eq!(rejection(&[("aud", aud)]), Rejection::ClaimMalformed("aud"), "{aud}");
    }
}

#[test]
fn times_have_five_minutes_of_grace() {
    let at =
        |name: &str, time: u64| check(&[("nbf", ""), (name, &time.to_string())]).map(|_| ()).map_err(|it| it.code());
    assert_eq!(at("exp", NOW - 299), Ok(()));
    assert_eq!(at("exp", NOW - 300), Ok(()));
    assert_eq!(rejection(&[("exp", &(NOW - 301).to_string()), ("nbf", "")]), Rejection::Expired(NOW - 301));
    assert_eq!(at("nbf", NOW + 299), Ok(()));
    assert_eq!(at("nbf", NOW + 300), Ok(()));
    assert_eq!(rejection(&[("nbf", &(NOW + 301).to_string())]), Rejection::NotYetValid(NOW + 301));
    assert_eq!(rejection(&[("nbf", &(NOW + 3601).to_string())]).code(), "lifetime_invalid");
    assert_eq!(rejection(&[("exp", "")]), Rejection::NoExpiration);
    for exp in ["\"1800000000\"", "null", "true", "[1]"] {
        assert_eq!(rejection(&[("exp", exp)]), Rejection::ClaimMalformed("exp"), "{exp}");
    }
    for name in ["nbf", "iat"] {
        assert_eq!(rejection(&[(name, "\"1\"")]).code(), "claim_malformed");
    }
    assert!(check(&[("exp", &format!("{}.5", NOW + 1))]).is_ok(), "a fraction is a number");
    assert!(check(&[("exp", "1e300")]).is_ok());
    assert_eq!(rejection(&[("exp", "-1"), ("nbf", "")]), Rejection::Expired(0));
}

#[test]
fn a_users_token_needs_one_of_the_scopes() {
    let with = |required: &[&str], changes: &[(&str, &str)]| {
        let required_scopes = required.iter().map(|scope| (*scope).to_owned()).collect();
        verify(&token(changes), &key_set(), &Policy { required_scopes, ..policy() }, NOW).map(|_| ())
    };
    let refused = |scopes: &[&str]| Err(Rejection::ScopeRequired(scopes.iter().map(|it| (*it).to_owned()).collect()));
    assert_eq!(with(&["access_as_user"], &[]), Ok(()));
    assert_eq!(with(&["none", "other"], &[]), Ok(()));
    assert_eq!(with(&["access"], &[]), refused(&["access"]), "no prefix");
    assert_eq!(with(&["Other"], &[]), refused(&["Other"]), "exact");
    assert_eq!(with(&["access_as_user other"], &[]), refused(&["access_as_user other"]));
    assert_eq!(with(&["a", "b"], &[("scp", "\"\"")]), refused(&["a", "b"]));
    assert_eq!(with(&["a"], &[("scp", ""), ("idtyp", "\"user\"")]), refused(&["a"]));
    assert_eq!(with(&["a"], &[("scp", "")]), refused(&["a"]), "a user's token may have no scopes at all");
    assert_eq!(with(&["a"], &[("scp", ""), ("oid", "")]), Ok(()), "an application has roles, not scopes");
}

#[test]
fn scopes_stand_under_one_of_three_names() {
    const LONG: &str = "http://schemas.microsoft.com/identity/claims/scope";
    let required_scopes = vec!["read".to_owned()];
    let policy = Policy { required_scopes, ..policy() };
    let with = |changes: &[(&str, &str)]| {
        let found = verify(&token(changes), &key_set(), &policy, NOW);
        found.map(|it| it.scopes().map(str::to_owned).collect::<Vec<_>>()).map_err(|it| it.code())
    };
    for name in ["scp", LONG, "scope"] {
        assert_eq!(with(&[("scp", ""), (name, "\"read write\"")]), Ok(vec!["read".into(), "write".into()]), "{name}");
        assert_eq!(with(&[("scp", ""), (name, "\"write\"")]), Err("scope_required"), "{name}");
        assert_eq!(with(&[("scp", ""), (name, "\"\"")]), Err("scope_required"), "{name}: there and empty is a user's");
        assert_eq!(with(&[("scp", ""), (name, "[\"read\"]")]), Err("claim_malformed"), "{name}");
    }
    for (changes, why) in [
        ([("scp", "\"write\""), ("scope", "\"read\"")], "the first counts"),
        ([("scp", "\"write\""), (LONG, "\"read\"")], "the first counts"),
        ([("scp", "\"\""), (LONG, "\"read\"")], "though it is empty"),
    ] {
        assert_eq!(with(&changes), Err("scope_required"), "{why}");
    }
    assert_eq!(with(&[("scp", "null"), ("scope", "\"read\"")]), Err("claim_malformed"));
    assert_eq!(
        with(&[("scp", ""), ("oid", ""), ("Scope", "\"write\"")]),
        Ok(vec![]),
        "an application's, for it names none"
    );
}

#[test]
fn an_application_needs_a_role_unless_an_access_list_stands_in() {
    let with = |allow_acl, changes: &[(&str, &str)]| {
        verify(&token(changes), &key_set(), &Policy { allow_acl, ..policy() }, NOW).map(|it| it.is_app_only())
    };
    assert_eq!(with(true, &[("scp", ""), ("oid", "")]), Ok(true));
    assert_eq!(with(true, &[("scp", ""), ("idtyp", "\"app\"")]), Ok(true));
    assert_eq!(with(true, &[("scp", ""), ("idtyp", "\"user\"")]), Ok(false));
    assert_eq!(with(false, &[("scp", "")]), Err(Rejection::NotAuthorized));
    assert_eq!(with(false, &[("scp", ""), ("roles", "[]")]), Err(Rejection::NotAuthorized));
    assert_eq!(with(false, &[("scp", ""), ("roles", "[\" \"]")]), Err(Rejection::NotAuthorized), "a blank is no role");
    assert_eq!(with(false, &[("scp", ""), ("oid", ""), ("roles", "[\"r\"]")]), Ok(true));
    assert_eq!(with(false, &[]), Ok(false));
    assert_eq!(with(false, &[("scp", "7")]), Err(Rejection::ClaimMalformed("scp")));
}

#[test]
fn absent_claims_do_not_make_a_token_an_applications() {
    let app_only = |changes: &[(&str, &str)]| {
        let changes: Vec<_> = [("scp", "")].into_iter().chain(changes.iter().copied()).collect();
        verify(&token(&changes), &key_set(), &policy(), NOW).unwrap().is_app_only()
    };
    let (same, text) = (("sub", "\"user\""), "\"x\"");
    assert!(app_only(&[same]), "v1 and v2: the service principal is both");
    assert!(app_only(&[("oid", ""), ("sub", text)]), "without an object id");
    assert!(app_only(&[("sub", text), ("idtyp", "\"app\"")]), "it says so");
    assert!(!app_only(&[same, ("idtyp", "\"user\"")]), "it says otherwise");
    assert!(!app_only(&[("sub", text)]), "a user's subject differs from the object id");
    assert!(!app_only(&[]), "there is no subject to equal the object id");
    for name in ["preferred_username", "upn", "unique_name", "name", "nonce", "at_hash", "c_hash", "amr", "email"] {
        assert!(!app_only(&[same, (name, text)]), "{name}");
        assert!(!app_only(&[same, (name, "null")]), "{name}, whatever it holds");
    }
}

#[test]
fn a_bound_token_is_refused_as_bearer_where_asked() {
    let bound = token(&[("cnf", "{\"kid\":\"k\"}")]);
    let with = |reject_bound_as_bearer, token: &str| {
        let validator = Validator::new(Policy { reject_bound_as_bearer, ..policy() }, 10);
        let twice = [validator.validate(token, &key_set(), NOW), validator.validate(token, &key_set(), NOW)];
        twice.map(|outcome| outcome.map(|_| ()))
    };
    assert_eq!(with(false, &bound), [Ok(()), Ok(())]);
    assert_eq!(with(true, &bound), [Err(Rejection::BoundAsBearer), Err(Rejection::BoundAsBearer)]);
    assert_eq!(with(true, &token(&[])), [Ok(()), Ok(())]);
}

#[test]
fn a_graph_token_is_told_to_be_one() {
    let header = r#"{"alg":"RS256","kid":"rsa-a","nonce":"n"}"#;
    let signed = RSA_A.jws(Algorithm::Rs256, header, &payload(&[]));
    // Graph's signature covers the hash of the nonce.
    let other = RSA_A.jws(Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa-a","nonce":"m"}"#, &payload(&[]));
    let (head, _) = signed.rsplit_once('.').unwrap();
    let (_, signature) = other.rsplit_once('.').unwrap();
    let outcome = verify(&format!("{head}.{signature}"), &key_set(), &policy(), NOW);
    assert_eq!(outcome.map(|_| ()), Err(Rejection::ForMicrosoftGraph));
}

#[test]
fn any_single_bit_of_a_token_matters() {
    let rsa = token(&[]);
    let curve = P256.jws(Algorithm::Es256, r#"{"alg":"ES256","kid":"p256"}"#, &payload(&[]));
    let (keys, policy) = (key_set(), policy());
    for token in [rsa, curve] {
        assert!(verify(&token, &keys, &policy, NOW).is_ok());
        for bit in 0..token.len() * 8 {
            let mut bytes = token.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let accepted = String::from_utf8(bytes).is_ok_and(|changed| verify(&changed, &keys, &policy, NOW).is_ok());
            assert!(!accepted, "bit {bit}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[A-Za-z0-9_.=-]{0,64}|.{0,64}", json in r#"[\[\]{}",:0-9a-e\\. -]{0,64}"#) {
        proptest::prop_assert!(verify(&text, &key_set(), &policy(), NOW).is_err());
        let _ = Claims::parse(json.as_bytes());
        let wrapped = format!("{}.{}.AAAA", b64(&json), b64(&text));
        proptest::prop_assert!(verify(&wrapped, &key_set(), &policy(), NOW).is_err());
    }
}
