//! Certificates and keys in PEM (RFC 7468) or PKCS#12 files.

use zeroize::Zeroizing;

use super::certificate::KeyMaterial;
use crate::secret::Secret;
use crate::value::der::{self, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, expect};
use crate::value::pem;

impl KeyMaterial {
    /// Adds the content of a PEM or PKCS#12 file. The content decides, not the file's name.
    pub fn add(&mut self, file: &[u8], password: Option<&Secret<String>>) -> Result<(), String> {
        let password = password.map_or("", |password| password.expose());
        let added = if pem::is_in(file) {
            from_pem(file, password)?
        } else if file.first() == Some(&SEQUENCE) {
            match describe_incomplete(file) {
                None => from_pkcs12(file, password)?,
                Some(what) => return Err(format!("{what}; provide PEM or PKCS#12 (PFX) with both, or both as PEM")),
            }
        } else {
            return Err("neither PEM nor PKCS#12 (PFX)".into());
        };
        self.certificates.extend(added.certificates);
        self.keys.extend(added.keys);
        Ok(())
    }
}

/// Describes a DER file that contains only a certificate or only a key.
fn describe_incomplete(der: &[u8]) -> Option<&'static str> {
    let (content, _) = expect(SEQUENCE, der)?;
    if der::Certificate::parse(der).is_some() {
        Some("a certificate in DER, without its private key")
    } else if expect(OBJECT_IDENTIFIER, content).is_some() {
        Some("PKCS#7 (P7B), which has certificates without a private key")
    } else {
        // A version followed by an INTEGER (PKCS#1), an algorithm (PKCS#8) or an OCTET STRING (SEC
        // 1); or just an algorithm (encrypted PKCS#8). In PKCS#12 the version is 3.
        let plain = expect(INTEGER, content).is_some_and(|(version, _)| matches!(version, [0 | 1]));
        let sealed = expect(SEQUENCE, content).is_some_and(|(_, rest)| expect(OCTET_STRING, rest).is_some());
        (plain || sealed).then_some("a private key in DER, without its certificate")
    }
}

#[cfg(feature = "pfx")]
fn from_pkcs12(file: &[u8], password: &str) -> Result<KeyMaterial, String> {
    super::pkcs12::read(file, password).map_err(|reason| format!("a PKCS#12 (PFX) file: {reason}"))
}

#[cfg(not(feature = "pfx"))]
fn from_pkcs12(_: &[u8], _: &str) -> Result<KeyMaterial, String> {
    Err("a PKCS#12 (PFX) file, which this build cannot read (feature pfx); convert it to PEM".into())
}

#[cfg(feature = "pfx")]
fn decrypted(key: &[u8], password: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let [password, ..] = &super::pbe::Password::candidates(password)[..] else { return Err("no password".into()) };
    super::pkcs12::private_key(key, password).map_err(|reason| format!("an encrypted private key: {reason}"))
}

#[cfg(not(feature = "pfx"))]
fn decrypted(_: &[u8], _: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    Err("an encrypted private key, which this build cannot read (feature pfx)".into())
}

fn from_pem(file: &[u8], password: &str) -> Result<KeyMaterial, String> {
    let unexpected = |expected| format!("expected {expected}");
    let mut material = KeyMaterial::default();
    for section in pem::sections(file) {
        let section = section.map_err(unexpected)?;
        let content = || section.decode().map_err(unexpected);
        match section.label {
            b"CERTIFICATE" | b"X509 CERTIFICATE" => material.certificates.push(content()?.to_vec()),
            b"ENCRYPTED PRIVATE KEY" => material.keys.push(decrypted(&content()?, password)?),
            // OpenSSL's encryption from before PKCS#8, declared in the PEM headers.
            b"RSA PRIVATE KEY" if section.body.windows(9).any(|text| text == b"ENCRYPTED") => {
                return Err("an encrypted PKCS#1 key; convert it with: openssl pkcs8 -topk8".into());
            }
            b"PRIVATE KEY" | b"RSA PRIVATE KEY" => material.keys.push(content()?),
            b"EC PRIVATE KEY" => {
                return Err("an elliptic curve key; Entra requires RSA keys for client assertions".into());
            }
            _ => {}
        }
    }
    Ok(material)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Certificates, then keys.
    fn read(text: &str) -> Result<[Vec<Vec<u8>>; 2], String> {
        let mut material = KeyMaterial::default();
        material.add(text.as_bytes(), None)?;
        Ok([material.certificates, material.keys.iter().map(|key| key.to_vec()).collect()])
    }

    #[test]
    fn sections_are_found_among_other_text() {
        let text = "subject=CN = a\r\n-----BEGIN CERTIFICATE-----\r\nAQ\r\nI=\r\n-----END CERTIFICATE-----\r\nBag Attributes\n\
            -----BEGIN PRIVATE KEY-----\nAw==\n-----END PRIVATE KEY-----\n-----BEGIN RSA PRIVATE KEY-----\nBA==\n-----END RSA PRIVATE KEY-----\n\
            -----BEGIN X509 CRL-----\n?\n-----END X509 CRL-----";
        assert_eq!(read(text), Ok([vec![vec![1, 2]], vec![vec![3], vec![4]]]));
    }

    #[test]
    fn der_that_holds_one_alone_is_told_to_be_that() {
        let told = |der: &[u8]| KeyMaterial::default().add(der, None).unwrap_err();
        let certificate = &crate::credentials::testing::certificates("leaf.crt.pem")[0];
        assert!(told(certificate).starts_with("a certificate in DER"));
        for name in ["key-pkcs8.pem", "key-pkcs1.pem", "sealed-aes256.pem"] {
            let text = std::fs::read(crate::credentials::testing::data(name)).unwrap();
            let mut sections = pem::sections(&text).map(Result::unwrap);
            let key = sections.find(|section| section.label.ends_with(b"PRIVATE KEY")).unwrap();
            assert!(told(&key.decode().unwrap()).starts_with("a private key in DER"), "{name}");
        }
        assert!(told(&[0x30, 0x0b, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2]).starts_with("PKCS#7"));
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (text, reason) in [
            ("", "neither"),
            ("hello", "neither"),
            ("-----BEGIN CERTIFICATE-----\nAQI=", "cut off"),
            ("-----BEGIN CERTIFICATE", "cut off"),
            ("-----BEGIN CERTIFICATE-----\n\u{fc}\n-----END CERTIFICATE-----", "base64"),
            ("-----BEGIN EC PRIVATE KEY-----\nAQI=\n-----END EC PRIVATE KEY-----", "elliptic curve"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAQI=\n-----END RSA PRIVATE KEY-----",
                "openssl pkcs8",
            ),
        ] {
            assert!(read(text).unwrap_err().contains(reason), "{text}");
        }
    }
}
