//! Why a token was refused. Its words go into a header, so they hold little of the token, and that harmless.

/// The check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Longer than `TokenBytes`.
    TooLong,
    /// No compact JWS of base64url and strict JSON (RFC 7515 §7.1).
    Malformed,
    /// `alg` is absent or not one of the accepted ones (RFC 8725 §3.1).
    Algorithm,
    /// It insists on an extension (RFC 7515 §4.1.11).
    Critical,
    /// `kid` is absent.
    KeyNotNamed,
    /// No key of this name: fetching the keys again may help.
    UnknownKey {
        /// As the token has it.
        kid: String,
    },
    /// The key is not for this algorithm.
    KeyMismatch,
    /// The signature is wrong.
    Signature,
    /// A claim is not of the type that it must be.
    Claim {
        /// Its name.
        name: &'static str,
    },
    /// `iss` is no issuer that is accepted, or not with this `tid` or this key.
    Issuer {
        /// As the token has it.
        issuer: Option<String>,
    },
    /// The tenant is not among `Sidecar:AllowedTenants`.
    Tenant,
    /// `aud` names somebody else.
    Audience {
        /// As the token has it.
        audience: Option<String>,
    },
    /// No `exp`.
    NoExpiration,
    /// `nbf` is later than `exp`.
    Lifetime {
        /// Unix seconds.
        not_before: u64,
        /// Unix seconds.
        expires: u64,
    },
    /// `nbf` is to come.
    NotYetValid {
        /// Unix seconds.
        not_before: u64,
    },
    /// `exp` is past.
    Expired {
        /// Unix seconds.
        expires: u64,
    },
    /// None of the scopes that one of is required.
    ScopeMissing {
        /// Those.
        required: Vec<String>,
    },
    /// Neither scopes nor roles, where the ACL setting demands them.
    NoScopeNorRole,
}

impl Rejection {
    /// Every [`Rejection::code`].
    pub const CODES: [&'static str; 18] = [
        "too_long",
        "malformed",
        "algorithm",
        "critical",
        "key_not_named",
        "unknown_key",
        "key_mismatch",
        "signature",
        "claim",
        "issuer",
        "tenant",
        "audience",
        "no_expiration",
        "lifetime",
        "not_yet_valid",
        "expired",
        "scope_missing",
        "no_scope_nor_role",
    ];

    /// A stable name for logs and metrics.
    pub const fn code(&self) -> &'static str {
        Self::CODES[match self {
            Self::TooLong => 0,
            Self::Malformed => 1,
            Self::Algorithm => 2,
            Self::Critical => 3,
            Self::KeyNotNamed => 4,
            Self::UnknownKey { .. } => 5,
            Self::KeyMismatch => 6,
            Self::Signature => 7,
            Self::Claim { .. } => 8,
            Self::Issuer { .. } => 9,
            Self::Tenant => 10,
            Self::Audience { .. } => 11,
            Self::NoExpiration => 12,
            Self::Lifetime { .. } => 13,
            Self::NotYetValid { .. } => 14,
            Self::Expired { .. } => 15,
            Self::ScopeMissing { .. } => 16,
            Self::NoScopeNorRole => 17,
        }]
    }

    /// The challenge's `error_description`: the original's words where it has some (surface page, B.8).
    pub fn description(&self) -> String {
        match self {
            Self::TooLong => "The token is too long".to_owned(),
            Self::Malformed => "The token is malformed".to_owned(),
            Self::Algorithm => "The signature algorithm is not accepted".to_owned(),
            Self::Critical => "The token requires an extension that is not supported".to_owned(),
            Self::KeyNotNamed | Self::UnknownKey { .. } => "The signature key was not found".to_owned(),
            Self::KeyMismatch => "The signature key is not for this algorithm".to_owned(),
            Self::Signature => "The signature is invalid".to_owned(),
            Self::Claim { name } => format!("The claim '{name}' is malformed"),
            Self::Issuer { issuer } => format!("The issuer '{}' is invalid", shown(issuer.as_deref())),
            Self::Tenant => "The tenant is not allowed".to_owned(),
            Self::Audience { audience } => format!("The audience '{}' is invalid", shown(audience.as_deref())),
            Self::NoExpiration => "The token has no expiration".to_owned(),
            Self::Lifetime { not_before, expires } => format!(
                "The token lifetime is invalid; NotBefore: '{}', Expires: '{}'",
                date(*not_before),
                date(*expires)
            ),
            Self::NotYetValid { not_before } => format!("The token is not valid before '{}'", date(*not_before)),
            Self::Expired { expires } => format!("The token expired at '{}'", date(*expires)),
            Self::ScopeMissing { required } => format!("The scope '{}' is required", required.join("' or '")),
            Self::NoScopeNorRole => "The token has neither scopes nor roles".to_owned(),
        }
    }
}

/// A claim's text, short and without what could leave a quoted string (RFC 9110 §5.6.4).
fn shown(text: Option<&str>) -> String {
    const MAX_SHOWN: usize = 200;
    let Some(text) = text else { return "(null)".to_owned() };
    let clean = |c: char| if (' '..='~').contains(&c) && !matches!(c, '"' | '\\' | '\'') { c } else { '?' };
    text.chars().take(MAX_SHOWN).map(clean).collect()
}

/// `MM/dd/yyyy HH:mm:ss` in UTC.
fn date(unix: u64) -> String {
    // Beyond the year 9999 the exact moment is of no interest.
    let unix = unix.min(253_402_300_799);
    let (days, seconds) = (unix / 86_400, unix % 86_400);
    // Civil from days, with years that begin in March (the calendar repeats every 146,097 days).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{month:02}/{day:02}/{year:04} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_the_original_does() {
        for (unix, text) in [
            (0, "01/01/1970 00:00:00"),
            (951_782_400, "02/29/2000 00:00:00"),
            (1_767_225_599, "12/31/2025 23:59:59"),
            (u64::MAX, "12/31/9999 23:59:59"),
        ] {
            assert_eq!(date(unix), text);
        }
    }

    #[test]
    fn what_the_token_says_is_shown_short_and_harmless() {
        let text = Rejection::Issuer { issuer: Some("https://a\"\r\n'b\\".repeat(50)) }.description();
        assert!(text.len() < 240 && text.is_ascii() && !text.contains(['"', '\\', '\r', '\n']), "{text}");
        assert_eq!(Rejection::Audience { audience: None }.description(), "The audience '(null)' is invalid");
    }
}
