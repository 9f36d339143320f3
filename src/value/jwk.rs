//! Public keys as JWKs (RFC 7517): parameters, thumbprint, and the algorithms that a key may
//! verify.
//!
//! Keys that cannot verify a token are rejected here, each for a named reason.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::b64;
use super::der::{self, RsaPublicKey};

/// At least 2048 bits (RFC 7518 §3.3, §3.5). Above 8192 bits, one verification costs too much.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The accepted signature algorithms (RFC 7518 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
}

impl Algorithm {
    pub const ALL: [(&'static str, Self); 8] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
    ];

    /// Exact match only. `none` and symmetric algorithms have no variant.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(own, _)| *own == name).map(|(_, algorithm)| *algorithm)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// Big-endian without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// Uncompressed point.
    P256(Vec<u8>),
    /// Uncompressed point.
    P384(Vec<u8>),
}

impl PublicKey {
    /// True if this type of key makes signatures of this algorithm: ES256 with P-256 only (RFC 7518
    /// §3.4).
    pub const fn fits(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Rsa { .. } => !matches!(algorithm, Algorithm::Es256 | Algorithm::Es384),
            Self::P256(_) => matches!(algorithm, Algorithm::Es256),
            Self::P384(_) => matches!(algorithm, Algorithm::Es384),
        }
    }

    /// `modulus` and `exponent` are big-endian without leading zeros.
    pub fn rsa(modulus: Vec<u8>, exponent: Vec<u8>) -> Result<Self, Unusable> {
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        let small = exponent.len() > 4 || exponent == [1];
        if !RSA_BITS.contains(&bits) || !odd(&modulus) || !odd(&exponent) || small {
            return Err(Unusable::Weak);
        }
        Ok(Self::Rsa { modulus, exponent })
    }

    /// From a `SubjectPublicKeyInfo` in DER (RFC 5280 §4.1).
    pub fn from_spki(spki: &[u8]) -> Result<Self, Unusable> {
        if let Some(RsaPublicKey { n, e }) = der::rsa_from_spki(spki) {
            return Self::rsa(n, e);
        }
        match der::ec_point_from_spki(spki) {
            Some(("P-256", point @ [4, ..])) => Ok(Self::P256(point.to_vec())),
            Some(("P-384", point @ [4, ..])) => Ok(Self::P384(point.to_vec())),
            _ => Err(Unusable::OtherType),
        }
    }

    /// Reads the members of a JWK. A member that is not a string counts as absent. `kid`, `use` and
    /// `alg` are ignored: a key in a token's `cnf` has none.
    pub fn from_members<'a>(member: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Unusable> {
        if PRIVATE_MEMBERS.iter().any(|name| member(name).is_some()) {
            return Err(Unusable::Private);
        }
        match member("kty") {
            Some("RSA") => Self::rsa(number(member("n"))?, number(member("e"))?),
            Some("EC") => match member("crv") {
                Some("P-256") => Ok(Self::P256(point(member("x"), member("y"), 32)?)),
                Some("P-384") => Ok(Self::P384(point(member("x"), member("y"), 48)?)),
                _ => Err(Unusable::OtherType),
            },
            _ => Err(Unusable::OtherType),
        }
    }

    /// The JWK with only its required members, in the form that is hashed (RFC 7638 §3).
    pub fn canonical(&self) -> String {
        let text = |bytes: &[u8]| b64::url(bytes);
        let curve = |name: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            format!(r#"{{"crv":"{name}","kty":"EC","x":"{}","y":"{}"}}"#, text(x), text(y))
        };
        match self {
            Self::Rsa { modulus, exponent } => {
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(exponent), text(modulus))
            }
            Self::P256(point) => curve("P-256", point),
            Self::P384(point) => curve("P-384", point),
        }
    }

    /// Base64url of the SHA-256 of the canonical JWK (RFC 7638 §3).
    pub fn thumbprint(&self) -> String {
        b64::url_sha256(self.canonical().as_bytes())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    kid: String,
    algorithm: Option<Algorithm>,
    issuer: Option<String>,
    public: PublicKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Not a JSON object with the members of a JWK.
    Malformed,
    /// No `kid`, so no token could refer to it.
    NoKeyId,
    /// `use` or `key_ops` exclude signatures (RFC 7517 §4.2, §4.3).
    OtherUse,
    /// `alg` is not supported, or does not match the key's type.
    OtherAlgorithm,
    /// `kty` or `crv` is not supported, or parameters are missing.
    OtherType,
    /// Too short, too long, or not the parameters of an RSA or EC key.
    Weak,
    /// Contains members of a private or symmetric key.
    Private,
}

/// Members found only in private and symmetric keys (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// RFC 7517 §4. Serde rejects duplicates of these members.
#[derive(Deserialize)]
pub(super) struct Members {
    pub kty: Option<String>,
    pub kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    issuer: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    #[serde(flatten)]
    #[expect(clippy::zero_sized_map_values, reason = "the values may be secret, and are not kept")]
    others: BTreeMap<String, IgnoredAny>,
}

impl Members {
    pub fn public_key(&self) -> Result<PublicKey, Unusable> {
        PublicKey::from_members(|name| {
            let member = match name {
                "kty" => &self.kty,
                "n" => &self.n,
                "e" => &self.e,
                "crv" => &self.crv,
                "x" => &self.x,
                "y" => &self.y,
                other => return self.others.contains_key(other).then_some(""),
            };
            member.as_deref()
        })
    }
}

impl Key {
    /// Reads one key of a JWKS. Ignores a chain in `x5c`: Entra also sends `n` and `e`.
    pub fn from_jwk(text: &str) -> Result<Self, Unusable> {
        let jwk: Members = serde_json::from_str(text).map_err(|_| Unusable::Malformed)?;
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err(Unusable::OtherUse);
        }
        if jwk.key_ops.as_ref().is_some_and(|all| !all.iter().any(|one| one == "verify" || one == "sign")) {
            return Err(Unusable::OtherUse);
        }
        let public = jwk.public_key()?;
        let algorithm = match &jwk.alg {
            None => None,
            Some(name) => {
                let known = Algorithm::parse(name).filter(|algorithm| public.fits(*algorithm));
                Some(known.ok_or(Unusable::OtherAlgorithm)?)
            }
        };
        let kid = jwk.kid.filter(|kid| !kid.is_empty()).ok_or(Unusable::NoKeyId)?;
        let issuer = jwk.issuer.filter(|issuer| !issuer.trim().is_empty());
        Ok(Self { kid, algorithm, issuer, public })
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// `issuer`, Entra's extension: whose tokens this key may sign. May contain `{tenantid}`.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// True if the key's type and its own `alg` allow this algorithm (RFC 8725 §3.1).
    pub fn allows(&self, algorithm: Algorithm) -> bool {
        self.public.fits(algorithm) && self.algorithm.is_none_or(|own| own == algorithm)
    }
}

/// `Base64urlUInt` (RFC 7518 §2). Leading zeros are not allowed there, but harmless, and some
/// encoders add one.
fn number(text: Option<&str>) -> Result<Vec<u8>, Unusable> {
    let mut bytes = b64::from_url(text.ok_or(Unusable::OtherType)?).ok_or(Unusable::Malformed)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    Ok(bytes)
}

/// Coordinates must have the full length of the field (RFC 7518 §6.2.1.2).
fn point(x: Option<&str>, y: Option<&str>, length: usize) -> Result<Vec<u8>, Unusable> {
    let mut point = vec![4];
    for coordinate in [x, y] {
        let bytes = b64::from_url(coordinate.ok_or(Unusable::OtherType)?).ok_or(Unusable::Malformed)?;
        if bytes.len() != length {
            return Err(Unusable::Weak);
        }
        point.extend_from_slice(&bytes);
    }
    Ok(point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwks::testing::{P256, RSA_A};

    fn jwk(extra: &str) -> String {
        RSA_A.jwk("one").replacen('{', &format!("{{{extra}"), 1)
    }

    #[test]
    fn a_key_for_signatures_is_read() {
        for extra in ["", r#""use":"sig","#, r#""key_ops":["verify"],"#, r#""alg":"RS256","x5c":["AA"],"#] {
            assert_eq!(Key::from_jwk(&jwk(extra)).unwrap().kid(), "one", "{extra}");
        }
        assert!(
            matches!(Key::from_jwk(&P256.jwk("two")).unwrap().public_key(), PublicKey::P256(point) if point.len() == 65)
        );
    }

    #[test]
    fn what_cannot_verify_is_left_out() {
        for (text, reason) in [
            (jwk(r#""use":"enc","#), Unusable::OtherUse),
            (jwk(r#""key_ops":["encrypt","wrapKey"],"#), Unusable::OtherUse),
            (jwk(r#""key_ops":[],"#), Unusable::OtherUse),
            (jwk(r#""alg":"RSA-OAEP","#), Unusable::OtherAlgorithm),
            (jwk(r#""alg":"ES256","#), Unusable::OtherAlgorithm),
            (jwk(r#""alg":"RS256","alg":"RS256","#), Unusable::Malformed),
            (RSA_A.jwk(""), Unusable::NoKeyId),
            (r#"{"kty":"oct","kid":"one","k":"AAAA"}"#.into(), Unusable::Private),
            (r#"{"kty":"RSA","kid":"one","x5c":["AAAA"]}"#.into(), Unusable::OtherType),
            (r#"{"kty":"EC","kid":"one","crv":"P-521","x":"AA","y":"AA"}"#.into(), Unusable::OtherType),
            (r#"{"kty":"EC","kid":"one","crv":"P-256","x":"AA","y":"AA"}"#.into(), Unusable::Weak),
            (r#"{"kty":1}"#.into(), Unusable::Malformed),
            ("[]".into(), Unusable::Malformed),
        ] {
            assert_eq!(Key::from_jwk(&text), Err(reason), "{text}");
        }
    }

    #[test]
    fn the_modulus_has_2048_to_8192_bits() {
        let with = |modulus: Vec<u8>| {
            let n = b64::url(modulus);
            Key::from_jwk(&format!(r#"{{"kty":"RSA","kid":"one","e":"AQAB","n":"{n}"}}"#)).map(|_| ())
        };
        let of = |first: u8, length: usize| {
            let mut modulus = vec![0xff; length];
            modulus[0] = first;
            modulus
        };
        assert_eq!(with(of(0x7f, 256)), Err(Unusable::Weak), "2047");
        assert_eq!(with(of(0x80, 256)), Ok(()), "2048");
        assert_eq!(with(of(0x00, 257)), Ok(()), "2048 with a leading zero");
        assert_eq!(with(of(0xff, 1024)), Ok(()), "8192");
        assert_eq!(with(of(0x01, 1025)), Err(Unusable::Weak), "8193");
        assert_eq!(with(Vec::new()), Err(Unusable::Weak), "0");
    }

    #[test]
    fn an_algorithm_fits_its_type_and_the_keys_own_algorithm() {
        let any = Key::from_jwk(&RSA_A.jwk("one")).unwrap();
        assert!(any.allows(Algorithm::Rs256) && any.allows(Algorithm::Ps512) && !any.allows(Algorithm::Es256));
        let one = Key::from_jwk(&jwk(r#""alg":"RS256","#)).unwrap();
        assert!(one.allows(Algorithm::Rs256) && !one.allows(Algorithm::Ps256) && !one.allows(Algorithm::Rs384));
        let curve = Key::from_jwk(&P256.jwk("two")).unwrap();
        assert!(curve.allows(Algorithm::Es256) && !curve.allows(Algorithm::Es384) && !curve.allows(Algorithm::Rs256));
        assert_eq!(["none", "HS256", "rs256", "ES512", "RSA-OAEP", ""].map(Algorithm::parse), [None; 6]);
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        let jwk = concat!(
            r#"{"kid":"2011-04-29","kty":"RSA","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86"#,
            "zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_",
            "FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr",
            r#"3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}"#
        );
        let thumbprint = Key::from_jwk(jwk).unwrap().public_key().thumbprint();
        assert_eq!(thumbprint, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
