//! Names and values as the store sees them. Whoever reads it learns neither; whoever writes it can
//! neither forge a value nor put it elsewhere.
//!
//! From the 32 bytes of the key file, HKDF (RFC 5869) derives one key for names (HMAC-SHA-256) and
//! one for each value (AES-256-GCM), so a random nonce can repeat within one name only.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::value::b64;

/// Changes with the form of sealed values or of what they hold, so that versions do not meet.
const SALT: &[u8] = b"entra-sidecar shared cache 1";

/// Bytes of a sealed value.
pub const MAX_VALUE: usize = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Token,
    Session,
    Lock,
    /// Of `check --online`.
    Probe,
}

impl Kind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Token => b"token",
            Self::Session => b"session",
            Self::Lock => b"lock",
            Self::Probe => b"probe",
        }
    }
}

pub struct Keys {
    pub current: Sealer,
    /// Only read with.
    pub previous: Option<Sealer>,
}

impl Keys {
    /// One key a line, the current one first.
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        const EXPECTED: &str = "expected 32 random bytes in base64 (openssl rand -base64 32), and at most a second such \
                                line with the previous key";
        let lines = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let mut keys = lines.map(|line| {
            let key = b64::secret(line).filter(|key| key.len() == 32)?;
            // An all too plain key is a mistake.
            if key.iter().all(|byte| *byte == key[0]) { None } else { Sealer::new(&key) }
        });
        match (keys.next().flatten(), keys.next(), keys.next()) {
            (Some(current), None, None) => Ok(Self { current, previous: None }),
            (Some(current), Some(Some(previous)), None) => Ok(Self { current, previous: Some(previous) }),
            _ => Err(EXPECTED.to_owned()),
        }
    }

    /// All keys to read with, the current one first.
    pub fn all(&self) -> impl Iterator<Item = &Sealer> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

pub struct Sealer {
    names: hmac::Key,
    values: hkdf::Prk,
}

/// A name in the store, without its prefix.
pub type Name = [u8; 32];

impl Sealer {
    fn new(secret: &[u8]) -> Option<Self> {
        let values = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret);
        let names = hmac::Key::from(values.expand(&[b"names"], hmac::HMAC_SHA256).ok()?);
        Some(Self { names, values })
    }

    pub fn name(&self, kind: Kind, key: &[u8; 32]) -> Name {
        let mut context = hmac::Context::with_key(&self.names);
        context.update(kind.label());
        context.update(b"\0");
        context.update(key);
        let mut name = [0; 32];
        name.copy_from_slice(context.sign().as_ref());
        name
    }

    fn key(&self, kind: Kind, name: &Name) -> Option<LessSafeKey> {
        let info = [b"value".as_slice(), kind.label(), name];
        let output = self.values.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(output)))
    }

    fn bound(kind: Kind, name: &Name) -> Aad<Vec<u8>> {
        Aad::from([kind.label(), b"\0", name].concat())
    }

    /// Visible ASCII: nonce, ciphertext and tag in base64url.
    pub fn seal(&self, kind: Kind, name: &Name, plain: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = Zeroizing::new(plain.to_vec());
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        let tag =
            self.key(kind, name)?.seal_in_place_separate_tag(nonce_used, Self::bound(kind, name), &mut sealed).ok()?;
        Some(b64::url([&nonce, sealed.as_slice(), tag.as_ref()].concat()))
    }

    /// `None` for whatever was not sealed for this name, with this key.
    pub fn open(&self, kind: Kind, name: &Name, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(b64::from_url(std::str::from_utf8(sealed).ok()?)?);
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.key(kind, name)?.open_in_place(nonce, Self::bound(kind, name), text).ok()?;
        Some(Zeroizing::new(plain.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const OTHER: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    fn keys(text: &str) -> Keys {
        Keys::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_key_file_has_one_key_or_two() {
        for good in [ONE.to_owned(), format!("{ONE}\n"), format!("{ONE}\r\n\n{OTHER}\n")] {
            assert!(Keys::parse(good.as_bytes()).is_ok(), "{good:?}");
        }
        assert_eq!(keys(&format!("{ONE}\n{OTHER}")).all().count(), 2);
        let zeros = "A".repeat(43) + "=";
        for bad in ["", "\n", "secret", &ONE[1..], &format!("{ONE}\nx"), &format!("{ONE}\n{OTHER}\n{ONE}"), &zeros] {
            assert!(Keys::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_value_opens_where_it_was_sealed_and_nowhere_else() {
        let sealer = keys(ONE).current;
        let (name, other) = (sealer.name(Kind::Token, &[1; 32]), sealer.name(Kind::Token, &[2; 32]));
        let value = sealer.seal(Kind::Token, &name, b"secret").unwrap();
        assert_eq!(sealer.open(Kind::Token, &name, value.as_bytes()).unwrap().as_slice(), b"secret");
        assert!(sealer.open(Kind::Token, &other, value.as_bytes()).is_none());
        assert!(sealer.open(Kind::Session, &name, value.as_bytes()).is_none());
        assert!(keys(OTHER).current.open(Kind::Token, &name, value.as_bytes()).is_none());
        assert_ne!(sealer.name(Kind::Session, &[1; 32]), name);
        assert_ne!(keys(OTHER).current.name(Kind::Token, &[1; 32]), name);
    }

    #[test]
    fn a_value_that_was_changed_anywhere_does_not_open() {
        let sealer = keys(ONE).current;
        let name = sealer.name(Kind::Token, &[1; 32]);
        let value = sealer.seal(Kind::Token, &name, b"secret").unwrap();
        for at in 0..value.len() {
            let mut changed = value.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(sealer.open(Kind::Token, &name, &changed).is_none(), "{at}");
            assert!(sealer.open(Kind::Token, &name, &value.as_bytes()[..at]).is_none(), "{at}");
        }
    }

    #[test]
    fn the_same_value_is_never_sealed_alike() {
        let sealer = keys(ONE).current;
        let name = sealer.name(Kind::Token, &[1; 32]);
        let seal = || sealer.seal(Kind::Token, &name, b"secret").unwrap();
        assert_ne!(seal(), seal());
    }
}
