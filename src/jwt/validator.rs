//! Validates tokens against one policy, and remembers those that passed.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::explain::{Finding, explain};
use super::jwe::{self, DecryptionKey};
use super::memory::Memory;
use super::{Policy, Rejection, Verified, verify};
use crate::jwks::KeySet;
use crate::sync::RwLock;

pub struct Validator {
    policy: Policy,
    memory: Memory,
    decryption_keys: RwLock<Arc<[DecryptionKey]>>,
}

impl Validator {
    /// `remembered` is the capacity of the memory, in tokens.
    pub fn new(policy: Policy, remembered: usize) -> Self {
        let memory = Memory::new(remembered, policy.skew);
        Self { policy, memory, decryption_keys: RwLock::default() }
    }

    /// Replaces the decryption keys. Without any, encrypted tokens are rejected.
    #[cfg(feature = "jwe")]
    pub fn set_decryption_keys(&self, keys: Vec<DecryptionKey>) {
        *self.decryption_keys.write() = keys.into();
        // Tokens decrypted with a removed key must fail from now on.
        self.memory.clear();
    }

    /// Validates the credentials of a `Bearer` header at the moment `now`, in seconds since 1970.
    pub fn validate(&self, token: &str, keys: &KeySet, now: u64) -> Result<Arc<Verified>, Rejection> {
        let verified = self.recall_or(token, keys, now, |token| self.verify(token, keys, &self.policy, now))?;
        if self.policy.reject_bound_as_bearer && verified.is_bound() {
            return Err(Rejection::BoundAsBearer);
        }
        Ok(verified)
    }

    /// Describes each check of a token that was validated with this result.
    pub fn explain(&self, token: &str, keys: &KeySet, now: u64, rejection: Option<&Rejection>) -> Vec<Finding> {
        let opened = match rejection {
            Some(Rejection::TooLarge(_)) => None,
            _ if jwe::is_encrypted(token) => self.open(token).ok(),
            _ => None,
        };
        let inner = opened.as_ref().and_then(|inner| std::str::from_utf8(inner).ok());
        explain((token, inner), keys, &self.policy, now, rejection)
    }

    /// True if the token must be decrypted, which takes far longer than anything else.
    pub fn decrypts(&self, token: &str, keys: &KeySet, now: u64) -> bool {
        !self.decryption_keys().is_empty()
            && self.check_size(token).is_ok()
            && jwe::is_encrypted(token)
            && self.memory.find(token, keys, now).is_none()
    }

    /// Validates the access token in a signed HTTP request: it must be an application's, which
    /// needs no scope. Never remembers a token that [`Validator::validate`] would reject.
    pub(super) fn validate_bound(&self, token: &str, keys: &KeySet, now: u64) -> Result<Arc<Verified>, Rejection> {
        let policy = Policy { required_scopes: Vec::new(), ..self.policy.clone() };
        let app_only = |token: &Verified| if token.is_app_only() { Ok(()) } else { Err(Rejection::NotAppOnly) };
        let token = self.recall_or(token, keys, now, |token| {
            let verified = self.verify(token, keys, &policy, now)?;
            app_only(&verified).map(|()| verified)
        })?;
        app_only(&token).map(|()| token)
    }

    pub(super) const fn check_size(&self, token: &str) -> Result<(), Rejection> {
        if token.len() > self.policy.max_bytes { Err(Rejection::TooLarge(self.policy.max_bytes)) } else { Ok(()) }
    }

    fn recall_or(
        &self,
        token: &str,
        keys: &KeySet,
        now: u64,
        verify: impl FnOnce(&str) -> Result<Verified, Rejection>,
    ) -> Result<Arc<Verified>, Rejection> {
        self.check_size(token)?;
        if let Some(known) = self.memory.find(token, keys, now) {
            return Ok(known);
        }
        let verified = Arc::new(verify(token)?);
        self.memory.insert(token, Arc::clone(&verified), now);
        Ok(verified)
    }

    fn decryption_keys(&self) -> Arc<[DecryptionKey]> {
        Arc::clone(&self.decryption_keys.read())
    }

    fn open(&self, token: &str) -> Result<Zeroizing<Vec<u8>>, Rejection> {
        jwe::decrypt(token, &self.decryption_keys())
    }

    fn verify(&self, token: &str, keys: &KeySet, policy: &Policy, now: u64) -> Result<Verified, Rejection> {
        if !jwe::is_encrypted(token) {
            return verify(token, keys, policy, now);
        }
        let inner = self.open(token)?;
        let inner =
            std::str::from_utf8(&inner).map_err(|_| Rejection::Malformed("its decrypted content is not a token"))?;
        verify(inner, keys, policy, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwks::testing::{RSA_A, key_set};
    use crate::jwt::testing::{NOW, payload, policy};
    use crate::value::jwk::Algorithm;

    fn token() -> String {
        RSA_A.jws(Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa-a"}"#, &payload(&[]))
    }

    #[test]
    fn a_token_that_passed_is_not_verified_again() {
        let validator = Validator::new(policy(), 10);
        let first = validator.validate(&token(), &key_set(), NOW).unwrap();
        assert!(Arc::ptr_eq(&first, &validator.validate(&token(), &key_set(), NOW + 1).unwrap()));
        assert!(!Arc::ptr_eq(&first, &validator.validate(&token(), &key_set(), NOW + 301).unwrap()));
        let long_after = validator.validate(&token(), &key_set(), NOW + 3901).map(|_| ());
        assert_eq!(long_after, Err(Rejection::Expired(NOW + 3600)));
    }

    #[test]
    fn a_rejection_is_not_remembered() {
        let validator = Validator::new(policy(), 10);
        assert_eq!(validator.validate(&token(), &KeySet::default(), NOW).map(|_| ()), Err(Rejection::KeyNotFound));
        assert!(validator.validate(&token(), &key_set(), NOW).is_ok());
        let limited = Validator::new(Policy { max_bytes: 10, ..policy() }, 10);
        assert_eq!(limited.validate(&token(), &key_set(), NOW).map(|_| ()), Err(Rejection::TooLarge(10)));
    }

    #[cfg(feature = "jwe")]
    mod encrypted {
        use super::*;
        use crate::jwks::testing::{RSA_B, b64};
        use crate::jwt::jwe::Random;
        use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
        use rsa::PrivateKey;
        use rsa::pkcs8::DecodePrivateKey as _;

        /// Wraps a token with RSA-OAEP and A256GCM for key B.
        fn encrypt(header: &str, inner: &str) -> String {
            let (content_key, iv) = ([7; 32], [9; 12]);
            let public = PrivateKey::from_pkcs8_der(&RSA_B.pk8()).unwrap().to_public_key();
            let wrapped = public.oaep_encrypt_with_rng::<sha1::Sha1, _>(&mut Random, &content_key).unwrap();
            let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &content_key).unwrap());
            let (header, mut text) = (b64(header), inner.as_bytes().to_vec());
            let nonce = Nonce::assume_unique_for_key(iv);
            let tag = cipher.seal_in_place_separate_tag(nonce, Aad::from(header.as_bytes()), &mut text).unwrap();
            format!("{header}.{}.{}.{}.{}", b64(wrapped), b64(iv), b64(text), b64(tag))
        }

        fn validator() -> Validator {
            let validator = Validator::new(policy(), 10);
            let keys = [RSA_A, RSA_B].map(|key| DecryptionKey::new(&key.pk8(), Some(&key.pk8())).unwrap());
            validator.set_decryption_keys(keys.into());
            validator
        }

        const HEADER: &str = r#"{"alg":"RSA-OAEP","enc":"A256GCM","cty":"JWT"}"#;

        #[test]
        fn the_inner_token_is_what_counts() {
            let validator = validator();
            let outer = encrypt(HEADER, &token());
            let verified = validator.validate(&outer, &key_set(), NOW).unwrap();
            assert_eq!((verified.assertion(), verified.claims_json()), (token().as_str(), payload(&[]).as_str()));
            assert!(Arc::ptr_eq(&verified, &validator.validate(&outer, &key_set(), NOW).unwrap()), "remembered");
            let expired = encrypt(
                HEADER,
                &RSA_A.jws(
                    Algorithm::Rs256,
                    r#"{"alg":"RS256","kid":"rsa-a"}"#,
                    &payload(&[("exp", "1"), ("nbf", "")]),
                ),
            );
            assert_eq!(validator.validate(&expired, &key_set(), NOW).map(|_| ()), Err(Rejection::Expired(1)));
        }

        #[test]
        fn a_key_is_chosen_by_its_thumbprint() {
            let named = |key: crate::jwks::testing::TestKey| {
                let sha1 = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &key.pk8());
                (format!("{sha1:?}").split_once(':').unwrap().1.to_uppercase(), b64(sha1))
            };
            let ((hex_a, x5t_a), (hex_b, x5t_b)) = (named(RSA_A), named(RSA_B));
            let with = |name: &str| {
                let header = format!(r#"{{"alg":"RSA-OAEP","enc":"A256GCM",{name}}}"#);
                validator().validate(&encrypt(&header, &token()), &key_set(), NOW).map(|_| ())
            };
            for right in [format!(r#""kid":"{hex_b}""#), format!(r#""x5t":"{x5t_b}""#), r#""kid":"unknown""#.into()] {
                assert_eq!(with(&right), Ok(()), "{right}");
            }
            for wrong in [format!(r#""kid":"{hex_a}""#), format!(r#""x5t":"{x5t_a}""#)] {
                assert_eq!(with(&wrong), Err(Rejection::DecryptionFailed), "{wrong}");
            }
        }

        #[test]
        fn every_failure_is_the_same() {
            let validator = validator();
            let good = encrypt(HEADER, &token());
            let part = |index: usize| good.split('.').nth(index).unwrap();
            let mut refused: Vec<String> = (1..5)
                .map(|index| {
                    let first = if part(index).starts_with('A') { "B" } else { "A" };
                    good.replacen(part(index), &format!("{first}{}", &part(index)[1..]), 1)
                })
                .collect();
            refused.extend((1..5).map(|index| good.replacen(part(index), "", 1)));
            refused.extend(
                [
                    r#"{"alg":"RSA-OAEP","enc":"A256GCM","zip":"DEF"}"#,
                    r#"{"alg":"RSA-OAEP","enc":"A256GCM","crit":["x"]}"#,
                    r#"{"alg":"RSA-OAEP-256","enc":"A256GCM"}"#,
                    r#"{"alg":"RSA1_5","enc":"A256GCM"}"#,
                    r#"{"alg":"dir","enc":"A256GCM"}"#,
                    r#"{"alg":"RSA-OAEP","enc":"A192GCM"}"#,
                    r#"{"alg":"RSA-OAEP","enc":"A128GCM"}"#,
                    r#"{"alg":"RSA-OAEP"}"#,
                    r#"{"alg":"RSA-OAEP","alg":"RSA-OAEP","enc":"A256GCM"}"#,
                    "",
                ]
                .map(|header| encrypt(header, &token())),
            );
            refused.push("....".into());
            for token in refused {
                let outcome = validator.validate(&token, &key_set(), NOW).map(|_| ());
                assert_eq!(outcome, Err(Rejection::DecryptionFailed), "{token}");
            }
            let without_keys = Validator::new(policy(), 10).validate(&good, &key_set(), NOW).map(|_| ());
            assert_eq!(without_keys, Err(Rejection::DecryptionFailed));
        }

        #[test]
        fn what_is_inside_must_be_a_signed_token() {
            let validator = validator();
            for inner in ["", "text", &encrypt(HEADER, &token()), "\u{f6}"] {
                let code =
                    validator.validate(&encrypt(HEADER, inner), &key_set(), NOW).map(|_| ()).map_err(|it| it.code());
                assert_eq!(code, Err("malformed"), "{inner}");
            }
        }

        #[test]
        fn only_rsa_keys_decrypt() {
            let of = |der: &[u8]| DecryptionKey::new(der, None).map(|_| ());
            assert_eq!(of(&RSA_A.pk8()), Ok(()));
            assert_eq!(of(&crate::jwks::testing::P256.pk8()), Err("the key is not an RSA private key"));
            assert_eq!(of(b""), Err("the key is not an RSA private key"));
        }
    }
}
