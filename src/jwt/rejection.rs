//! Why a token is rejected, worded for a `WWW-Authenticate` challenge.

use crate::value::date::to_invariant;
use std::borrow::Cow;

/// Why a token is rejected: the check that failed, its code and its description. Texts from the token
/// are truncated, and cannot leave a quoted string.
macro_rules! rejections {
    ($($(#[$doc:meta])* $kind:ident $(($($field:ident: $type:ty),*))? => $check:expr, $code:literal, $text:expr;)*) => {
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Rejection {
            $($(#[$doc])* $kind $(($($type),*))?,)*
        }

        #[allow(unused_variables, reason = "each method reads another column")]
        impl Rejection {
            /// All [codes](Rejection::code), for metric labels.
            pub const CODES: &[&'static str] = &[$($code),*];

            /// A stable name for metrics and logs.
            pub const fn code(&self) -> &'static str {
                match self { $(Self::$kind $(($($field),*))? => $code,)* }
            }

            pub const fn check(&self) -> Check {
                match self { $(Self::$kind $(($($field),*))? => $check,)* }
            }

            /// The `error_description` of the challenge. Quotes only `aud`, `iss` and times from
            /// the token, and is safe inside a quoted string.
            pub fn description(&self) -> Cow<'static, str> {
                match self { $(Self::$kind $(($($field),*))? => $text.into(),)* }
            }
        }
    };
}

rejections! {
    /// The limit in bytes.
    TooLarge(limit: usize) => Check::Size, "too_large", format!("The token is longer than {limit} bytes");
    /// Not a token; the text completes "The token is malformed:".
    Malformed(why: &'static str) => Check::Structure, "malformed", format!("The token is malformed: {why}");
    /// `alg` is missing or not supported.
    AlgorithmNotAllowed => Check::Header, "algorithm_not_allowed", "The signature algorithm is not allowed";
    /// `crit` requires an unsupported extension (RFC 7515 §4.1.11).
    CriticalHeader => Check::Header, "critical_header", "The token has a critical header that is not supported";
    KeyIdMissing => Check::Key, "key_id_missing", "The token does not name a signature key";
    /// The `kid` is unknown; a new fetch may find its key.
    KeyNotFound => Check::Key, "key_not_found", "The signature key was not found";
    KeyMismatch => Check::Key, "key_mismatch", "The signature key is not for this algorithm";
    SignatureInvalid => Check::Signature, "signature_invalid", "The signature is invalid";
    ClaimMalformed(name: &'static str) => reading(name), "claim_malformed", format!("The claim '{name}' is malformed");
    /// `iss` is missing, unknown, or contradicts `tid`.
    IssuerInvalid(issuer: Option<String>) => Check::Issuer, "issuer_invalid",
        format!("The issuer '{}' is invalid", or_null(issuer.as_ref()));
    TenantNotAllowed(tenant: Option<String>) => Check::Issuer, "tenant_not_allowed",
        format!("The tenant '{}' is not allowed", or_null(tenant.as_ref()));
    KeyIssuerInvalid(issuer: String) => Check::Issuer, "key_issuer_invalid",
        format!("The issuer '{issuer}' is invalid: the signature key belongs to another");
    /// `aud` is missing or does not match.
    AudienceInvalid(audience: Option<String>) => Check::Audience, "audience_invalid",
        format!("The audience '{}' is invalid", or_null(audience.as_ref()));
    NoExpiration => Check::Lifetime, "no_expiration", "The token has no expiration";
    /// `nbf` is after `exp`, in seconds since 1970.
    LifetimeInvalid(not_before: u64, expires: u64) => Check::Lifetime, "lifetime_invalid", format!(
        "The token lifetime is invalid; NotBefore: '{}', Expires: '{}'", to_invariant(*not_before), to_invariant(*expires)
    );
    NotYetValid(time: u64) => Check::Lifetime, "not_yet_valid",
        format!("The token is not valid before '{}'", to_invariant(*time));
    Expired(time: u64) => Check::Lifetime, "expired", format!("The token expired at '{}'", to_invariant(*time));
    /// The token has none of these scopes. The only rejection with status 403.
    ScopeRequired(scopes: Vec<String>) => Check::Permission, "scope_required", match scopes.as_slice() {
        [one] => format!("The scope '{one}' is required"),
        several => format!("One of the scopes '{}' is required", several.join("', '")),
    };
    NotAuthorized => Check::Permission, "not_authorized", "The token has neither scopes nor roles";
    /// Decryption failed. The cause is hidden, since revealing it would be an oracle.
    DecryptionFailed => Check::Decryption, "decryption_failed", "The token cannot be decrypted";
    RequestMismatch(what: &'static str) => Check::Binding, "request_mismatch", format!("The signed request is invalid: {what}");
    RequestExpired => Check::Binding, "request_expired", "The signed request is not within its lifetime";
    RequestReplayed => Check::Binding, "request_replayed", "The signed request was used before";
    ReplayMemoryFull => Check::Binding, "replay_memory_full", "The signed request cannot be checked for replay";
    NotAppOnly => Check::Permission, "not_app_only", "The token in a signed request must be an application's";
    ForMicrosoftGraph => Check::Signature, "for_microsoft_graph",
        "The signature is invalid: the token is for Microsoft Graph, which alone can check it; ask for a token for this \
         application";
    BoundAsBearer => Check::Binding, "bound_as_bearer",
        "The token is bound to a key, but came as Bearer without proof of it";
}

/// The checks that a token goes through, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    Size,
    /// Whether one of our keys decrypts an encrypted token.
    Decryption,
    /// Three parts, of which two are JSON.
    Structure,
    /// `alg`, `crit`.
    Header,
    /// `kid`.
    Key,
    Signature,
    /// `iss`, `tid`.
    Issuer,
    Audience,
    /// `nbf`, `exp`.
    Lifetime,
    /// `scp`, `roles`.
    Permission,
    Binding,
}

/// The check that reads this claim.
const fn reading(claim: &str) -> Check {
    match claim.as_bytes() {
        b"iss" | b"tid" => Check::Issuer,
        b"aud" => Check::Audience,
        b"nbf" | b"exp" | b"iat" => Check::Lifetime,
        _ => Check::Permission,
    }
}

fn or_null(value: Option<&String>) -> &str {
    value.map_or("(null)", String::as_str)
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.description())
    }
}

/// Truncates to 128 characters, and replaces everything that could end a quoted string (RFC 9110
/// §5.6.4) or a log line.
pub(super) fn harmless(text: &str) -> String {
    const MAX: usize = 128;
    let clean = |c: char| if (' '..='~').contains(&c) && !matches!(c, '"' | '\'' | '\\') { c } else { '?' };
    let mut harmless: String = text.chars().take(MAX).map(clean).collect();
    if text.chars().nth(MAX).is_some() {
        harmless.push_str("...");
    }
    harmless
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_among_the_labels() {
        let some = [Rejection::TooLarge(1), Rejection::KeyNotFound, Rejection::Expired(1), Rejection::RequestReplayed];
        assert!(some.iter().all(|rejection| Rejection::CODES.contains(&rejection.code())));
    }

    #[test]
    fn a_value_of_the_token_cannot_leave_its_quotes() {
        assert_eq!(harmless("api://a"), "api://a");
        assert_eq!(harmless("a\"b'c\\d\r\ne\u{f6}\0"), "a?b?c?d??e??");
        assert_eq!(harmless(&"x".repeat(128)), "x".repeat(128));
        assert_eq!(harmless(&"x".repeat(129)), format!("{}...", "x".repeat(128)));
    }

    #[test]
    fn the_texts_are_those_of_the_original() {
        for (rejection, text) in [
            (Rejection::AudienceInvalid(None), "The audience '(null)' is invalid"),
            (Rejection::AudienceInvalid(Some("x".into())), "The audience 'x' is invalid"),
            (Rejection::IssuerInvalid(Some("y".into())), "The issuer 'y' is invalid"),
            (Rejection::NoExpiration, "The token has no expiration"),
            (
                Rejection::LifetimeInvalid(1, 0),
                "The token lifetime is invalid; NotBefore: '01/01/1970 00:00:01', Expires: '01/01/1970 00:00:00'",
            ),
            (Rejection::NotYetValid(0), "The token is not valid before '01/01/1970 00:00:00'"),
            (Rejection::Expired(0), "The token expired at '01/01/1970 00:00:00'"),
            (Rejection::KeyNotFound, "The signature key was not found"),
            (Rejection::SignatureInvalid, "The signature is invalid"),
            (Rejection::ScopeRequired(vec!["a".into()]), "The scope 'a' is required"),
            (Rejection::ScopeRequired(vec!["a".into(), "b".into()]), "One of the scopes 'a', 'b' is required"),
        ] {
            assert_eq!(rejection.description(), text);
        }
    }
}
