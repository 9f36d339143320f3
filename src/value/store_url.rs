//! The address of a Redis or Valkey server: `redis://`, `rediss://` (TLS) or `unix:`, with user,
//! password and database.
//! <https://www.iana.org/assignments/uri-schemes/prov/redis>

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use super::percent::decode;
use super::quantity::digits;
use super::url::{Origin, parse_authority};
use super::{Expected, ensure};
use crate::secret::Secret;

const DEFAULT_PORT: u16 = 6379;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    pub server: Server,
    pub user: Option<String>,
    pub password: Option<Secret<String>>,
    pub database: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// `https` stands for TLS.
    Tcp(Origin),
    Unix(PathBuf),
}

impl StoreUrl {
    pub fn parse(text: &str) -> Result<Self, Expected> {
        const EXPECTED: &str = "redis://, rediss:// or unix:, e.g. rediss://:password@host:6379/0";
        ensure(text.bytes().all(|byte| byte.is_ascii_graphic()), "a URL of visible ASCII characters")?;
        let (scheme, rest) = text.split_once(':').ok_or(EXPECTED)?;
        match (scheme.to_ascii_lowercase().as_str(), rest.strip_prefix("//")) {
            ("redis", Some(rest)) => tcp(false, rest),
            ("rediss", Some(rest)) => tcp(true, rest),
            ("unix", rest_of_slashes) => unix(rest_of_slashes.unwrap_or(rest)),
            _ => Err(EXPECTED),
        }
    }

    fn new(server: Server, user: Option<&str>, password: Option<&str>, database: &str) -> Result<Self, Expected> {
        let word = |text: Option<&str>| -> Result<Option<String>, Expected> {
            let text = text.filter(|text| !text.is_empty()).map(decode).transpose()?;
            Ok(text.map(Cow::into_owned))
        };
        let number = |text| digits(text).ok_or("the number of a database after the /");
        Ok(Self {
            server,
            user: word(user)?,
            password: word(password)?.map(Secret::new),
            database: if database.is_empty() { 0 } else { number(database)? },
        })
    }

    /// True if what is sent can be read on a network.
    pub fn is_exposed(&self) -> bool {
        matches!(&self.server, Server::Tcp(origin) if !origin.https && !origin.is_loopback())
    }
}

fn tcp(tls: bool, rest: &str) -> Result<StoreUrl, Expected> {
    ensure(!rest.contains(['?', '#']), "a URL without query and fragment")?;
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, host) = authority.rsplit_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
    let (user, password) = match login.map(|login| login.split_once(':')) {
        None => (None, None),
        Some(None) => return Err("a password after the user: //user:password@host or //:password@host"),
        Some(Some((user, password))) => (Some(user), Some(password)),
    };
    StoreUrl::new(Server::Tcp(parse_authority(tls, DEFAULT_PORT, host)?), user, password, database)
}

/// `unix:/path` or `unix:///path`, and after a `?` what a path has no place for: `user`, `pass`, `db`.
fn unix(rest: &str) -> Result<StoreUrl, Expected> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    ensure(path.starts_with('/'), "an absolute path after unix:")?;
    let (mut user, mut password, mut database) = (None, None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("user=, pass= or db= after the ?")?;
        let field = match name {
            "user" => &mut user,
            "pass" => &mut password,
            "db" => &mut database,
            _ => return Err("user=, pass= or db= after the ?"),
        };
        *field = Some(value);
    }
    StoreUrl::new(Server::Unix(decode(path)?.into_owned().into()), user, password, database.unwrap_or_default())
}

/// Without user and password.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Server::Tcp(origin) => {
                let scheme = if origin.https { "rediss" } else { "redis" };
                write!(f, "{scheme}://{}:{}/{}", origin.host(), origin.port, self.database)
            }
            Server::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_with_user_password_and_database() {
        for (text, shown, user, password, database) in [
            ("redis://cache", "redis://cache:6379/0", None, None, 0),
            ("rediss://Cache:6380/3", "rediss://cache:6380/3", None, None, 3),
            ("redis://:p%40ss@[::1]/", "redis://[::1]:6379/0", None, Some("p@ss"), 0),
            ("rediss://me:pass@cache", "rediss://cache:6379/0", Some("me"), Some("pass"), 0),
            ("unix:/run/redis.sock", "unix:/run/redis.sock", None, None, 0),
            ("unix:///run/redis.sock?db=2&user=me&pass=p", "unix:/run/redis.sock", Some("me"), Some("p"), 2),
        ] {
            let url = StoreUrl::parse(text).unwrap();
            let password_of = url.password.as_ref().map(|password| password.expose().as_str());
            assert_eq!((url.to_string().as_str(), url.user.as_deref()), (shown, user), "{text}");
            assert_eq!((password_of, url.database), (password, database), "{text}");
            assert!(!format!("{url:?}").contains("pass\""), "{text}");
        }
    }

    #[test]
    fn what_names_no_store_is_refused() {
        for text in [
            "", "cache:6379", "http://cache", "redis:cache", "redis://", "redis://user@cache", "redis://cache/x",
            "redis://cache:0", "redis://cache?db=1", "redis://cache/0#insecure", "unix:run/redis.sock", "unix:/a?x=1",
            "redis://:%zz@cache",
        ] {
            assert!(StoreUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_plain_tcp_beyond_loopback_is_exposed() {
        for (text, exposed) in [
            ("redis://cache", true),
            ("redis://127.0.0.1", false),
            ("redis://localhost", false),
            ("rediss://cache", false),
            ("unix:/run/redis.sock", false),
        ] {
            assert_eq!(StoreUrl::parse(text).unwrap().is_exposed(), exposed, "{text}");
        }
    }
}
