//! A token that another issuer made for this workload, in a file that the platform renews: the
//! projected service account token of Kubernetes.
//! <https://learn.microsoft.com/azure/aks/workload-identity-overview>

use std::path::PathBuf;

use serde::Deserialize;

use super::{ClientAuth, Context, Failure, Source};
use crate::secret::Secret;
use crate::value::b64;
use crate::watched::Watched;

pub struct FederatedToken {
    path: PathBuf,
    file: Watched<Token>,
}

struct Token {
    text: Secret<String>,
    /// Unix seconds.
    expires_at: Option<u64>,
}

#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
}

impl FederatedToken {
    /// Reads nothing yet.
    pub fn new(path: PathBuf) -> Self {
        let file = Watched::new(vec![path.clone()], |contents| parse(contents.first().map_or(&[][..], |bytes| bytes)));
        Self { path, file }
    }

    fn valid(&self, now: u64) -> Result<Secret<String>, String> {
        let token = self.file.current()?;
        match token.expires_at {
            Some(at) if at <= now => {
                Err(format!("{}: its token expired {} s ago and was not renewed", self.path.display(), now - at))
            }
            _ => Ok(token.text.clone()),
        }
    }
}

impl Source for FederatedToken {
    fn authenticate(&self, context: &Context<'_>) -> Result<ClientAuth, Failure> {
        self.valid(context.clock.unix()).map(ClientAuth::Assertion).map_err(Failure::Unusable)
    }

    fn inspect(&self, now: u64) -> Result<(), String> {
        self.valid(now).map(drop)
    }

    fn reload(&self) {
        self.file.forget();
    }
}

/// Trims a trailing newline; the rest must have the form of a compact JWS.
fn parse(content: &[u8]) -> Result<Token, String> {
    let text = std::str::from_utf8(content).map_err(|_| "not text")?.trim();
    let mut parts = text.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err("not a compact JWT (three parts separated by dots)".into());
    };
    let payload = b64::from_url(payload).ok_or("a JWT whose payload is not base64url")?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| "a JWT whose payload is not a JSON object")?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; what is absurd is expired")]
    let expires_at = claims.exp.map(|exp| exp as u64);
    Ok(Token { text: Secret::new(text.to_owned()), expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(payload: &str) -> String {
        format!("e30.{}.c2ln", b64::url(payload))
    }

    #[test]
    fn white_space_around_the_token_is_not_part_of_it() {
        let token = parse(format!("\n{}\r\n", jwt(r#"{"exp":100}"#)).as_bytes()).unwrap();
        assert_eq!(token.text.expose(), &jwt(r#"{"exp":100}"#));
        assert_eq!(token.expires_at, Some(100));
    }

    #[test]
    fn what_is_no_jwt_is_refused() {
        for text in ["", "a.b", "a.b.c.d", "e30.!!.c", &jwt("[]"), &jwt(r#"{"exp":"soon"}"#)] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_not_sent_to_entra() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let text = jwt(r#"{"exp":100}"#);
        std::fs::write(&path, format!("\u{feff}{text}\r\n")).unwrap();
        assert_eq!(FederatedToken::new(path).valid(99).unwrap().expose(), &text);
    }

    #[test]
    fn an_expired_token_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, jwt(r#"{"exp":100}"#)).unwrap();
        let token = FederatedToken::new(path);
        assert!(token.inspect(99).is_ok());
        assert!(token.inspect(100).unwrap_err().contains("expired 0 s ago"));
    }
}
