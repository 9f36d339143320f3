//! Why a token is rejected, worded for a `WWW-Authenticate` challenge.

use crate::value::date::to_invariant;
use std::borrow::Cow;

/// The failed check. Texts from the token are truncated, and cannot leave a quoted string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The limit in bytes.
    TooLarge(usize),
    /// Not a token; the text completes "The token is malformed:".
    Malformed(&'static str),
    /// `alg` is missing or not supported.
    AlgorithmNotAllowed,
    /// `crit` requires an unsupported extension (RFC 7515 §4.1.11).
    CriticalHeader,
    KeyIdMissing,
    /// The `kid` is unknown; a new fetch may find its key.
    KeyNotFound,
    /// The key with this `kid` does not support this `alg`.
    KeyMismatch,
    SignatureInvalid,
    ClaimMalformed(&'static str),
    /// `iss` is missing, unknown, or contradicts `tid`.
    IssuerInvalid(Option<String>),
    TenantNotAllowed(Option<String>),
    /// The key may only sign for another issuer.
    KeyIssuerInvalid(String),
    /// `aud` is missing or does not match.
    AudienceInvalid(Option<String>),
    NoExpiration,
    /// `nbf` is after `exp`, in seconds since 1970.
    LifetimeInvalid {
        not_before: u64,
        expires: u64,
    },
    NotYetValid(u64),
    Expired(u64),
    /// The token has none of these scopes. The only rejection with status 403.
    ScopeRequired(Vec<String>),
    /// Neither scopes nor roles, and no access list.
    NotAuthorized,
    /// Decryption failed. The cause is hidden, since revealing it would be an oracle.
    DecryptionFailed,
    /// A signed HTTP request does not match the request it came with.
    RequestMismatch(&'static str),
    /// A signed HTTP request is too old, or from the future.
    RequestExpired,
    RequestReplayed,
    /// The replay memory is full, so new signed HTTP requests cannot be checked.
    ReplayMemoryFull,
    /// A signed HTTP request contains a user's token.
    NotAppOnly,
    /// Only Microsoft Graph can check the signature.
    ForMicrosoftGraph,
    /// A token that is bound to a key came without proof of it.
    BoundAsBearer,
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

/// Each rejection with the check that failed, its code and its description.
macro_rules! rejections {
    ($($variant:pat => $check:expr, $code:literal, $text:expr;)*) => {
        #[allow(unused_variables, reason = "each method reads another column")]
        impl Rejection {
            /// All [codes](Rejection::code), for metric labels.
            pub const CODES: &[&'static str] = &[$($code),*];

            /// A stable name for metrics and logs.
            pub const fn code(&self) -> &'static str {
                match self { $($variant => $code,)* }
            }

            pub const fn check(&self) -> Check {
                match self { $($variant => $check,)* }
            }

            /// The `error_description` of the challenge. Quotes only `aud`, `iss` and times from
            /// the token, and is safe inside a quoted string.
            pub fn description(&self) -> Cow<'static, str> {
                match self { $($variant => $text.into(),)* }
            }
        }
    };
}

rejections! {
    Self::TooLarge(limit) => Check::Size, "too_large", format!("The token is longer than {limit} bytes");
    Self::Malformed(why) => Check::Structure, "malformed", format!("The token is malformed: {why}");
    Self::AlgorithmNotAllowed => Check::Header, "algorithm_not_allowed", "The signature algorithm is not allowed";
    Self::CriticalHeader => Check::Header, "critical_header", "The token has a critical header that is not supported";
    Self::KeyIdMissing => Check::Key, "key_id_missing", "The token does not name a signature key";
    Self::KeyNotFound => Check::Key, "key_not_found", "The signature key was not found";
    Self::KeyMismatch => Check::Key, "key_mismatch", "The signature key is not for this algorithm";
    Self::SignatureInvalid => Check::Signature, "signature_invalid", "The signature is invalid";
    Self::ClaimMalformed(name) => reading(name), "claim_malformed", format!("The claim '{name}' is malformed");
    Self::IssuerInvalid(issuer) => Check::Issuer, "issuer_invalid",
        format!("The issuer '{}' is invalid", or_null(issuer.as_ref()));
    Self::TenantNotAllowed(tenant) => Check::Issuer, "tenant_not_allowed",
        format!("The tenant '{}' is not allowed", or_null(tenant.as_ref()));
    Self::KeyIssuerInvalid(issuer) => Check::Issuer, "key_issuer_invalid",
        format!("The issuer '{issuer}' is invalid: the signature key belongs to another");
    Self::AudienceInvalid(audience) => Check::Audience, "audience_invalid",
        format!("The audience '{}' is invalid", or_null(audience.as_ref()));
    Self::NoExpiration => Check::Lifetime, "no_expiration", "The token has no expiration";
    Self::LifetimeInvalid { not_before, expires } => Check::Lifetime, "lifetime_invalid", format!(
        "The token lifetime is invalid; NotBefore: '{}', Expires: '{}'", to_invariant(*not_before), to_invariant(*expires)
    );
    Self::NotYetValid(time) => Check::Lifetime, "not_yet_valid",
        format!("The token is not valid before '{}'", to_invariant(*time));
    Self::Expired(time) => Check::Lifetime, "expired", format!("The token expired at '{}'", to_invariant(*time));
    Self::ScopeRequired(scopes) => Check::Permission, "scope_required", match scopes.as_slice() {
        [one] => format!("The scope '{one}' is required"),
        several => format!("One of the scopes '{}' is required", several.join("', '")),
    };
    Self::NotAuthorized => Check::Permission, "not_authorized", "The token has neither scopes nor roles";
    Self::DecryptionFailed => Check::Decryption, "decryption_failed", "The token cannot be decrypted";
    Self::RequestMismatch(what) => Check::Binding, "request_mismatch", format!("The signed request is invalid: {what}");
    Self::RequestExpired => Check::Binding, "request_expired", "The signed request is not within its lifetime";
    Self::RequestReplayed => Check::Binding, "request_replayed", "The signed request was used before";
    Self::ReplayMemoryFull => Check::Binding, "replay_memory_full", "The signed request cannot be checked for replay";
    Self::NotAppOnly => Check::Permission, "not_app_only", "The token in a signed request must be an application's";
    Self::ForMicrosoftGraph => Check::Signature, "for_microsoft_graph",
        "The signature is invalid: the token is for Microsoft Graph, which alone can check it; ask for a token for this \
         application";
    Self::BoundAsBearer => Check::Binding, "bound_as_bearer",
        "The token is bound to a key, but came as Bearer without proof of it";
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
                Rejection::LifetimeInvalid { not_before: 1, expires: 0 },
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
