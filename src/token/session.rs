//! Long-running sessions: on-behalf-of continues after the user's token has expired, with the
//! refresh token it yielded. A session belongs to the user who started it.

use ring::rand::{SecureRandom, SystemRandom};

use super::key::KeyBuilder;
use crate::config::Registration;
use crate::lru::Lru;
use crate::secret::Secret;
use crate::sync::Mutex;
use crate::value::b64;
use crate::value::hash::Digest;

pub const ALLOCATE: &str = "AllocateForMe";

/// Seconds. A refresh token that is unused for 14 days is forgotten, as MSAL does.
pub(super) const LIFETIME: u64 = 14 * 24 * 3600;

/// The weight of a session apart from its texts: key, links, counters.
const OVERHEAD: usize = 256;

/// Generates a key. It has 256 bits, since it gives access to the user's tokens.
pub fn allocate() -> Result<String, ring::error::Unspecified> {
    let mut bytes = [0u8; 32];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(b64::url(bytes))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `tid`.
    pub tenant: String,
    pub user: User,
}

/// A user's id. The two kinds never match each other: a subject could be chosen to equal another
/// user's object id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// `oid`.
    ObjectId(String),
    /// `sub`, for a token without an object id.
    Subject(String),
}

impl User {
    /// `None` if the token has neither, so that users could not be told apart.
    pub fn of(object_id: Option<&str>, subject: Option<&str>) -> Option<Self> {
        let named = |text: &&str| !text.is_empty();
        let object_id = object_id.filter(named).map(|oid| Self::ObjectId(oid.to_owned()));
        object_id.or_else(|| subject.filter(named).map(|sub| Self::Subject(sub.to_owned())))
    }

    /// For a cache key.
    pub(super) fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::ObjectId(oid) => ("oid", oid),
            Self::Subject(sub) => ("sub", sub),
        }
    }
}

/// Identifies a session by the caller's key, the agent, and the registration with its authority and
/// client, since a refresh token is only valid for these. Stores none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(Digest);

impl SessionId {
    pub fn new(registration: &Registration, agent: Option<&str>, key: &str) -> Self {
        let agent = agent.map(str::to_ascii_lowercase);
        let authority = registration.authority.as_ref().unwrap_or(&registration.instance).to_string();
        let id = KeyBuilder::new("session")
            .text(&registration.section)
            .text(&authority)
            .text(&registration.tenant)
            .option(registration.policy.as_deref())
            .text(&registration.client_id)
            .option(agent.as_deref())
            .text(key);
        Self(id.finish())
    }

    pub(super) const fn key(&self) -> &Digest {
        &self.0
    }
}

#[derive(Clone, Debug)]
pub struct Session {
    pub owner: Owner,
    pub refresh_token: Option<Secret<String>>,
    /// Unix seconds: when its tokens came from the token service.
    #[cfg_attr(not(feature = "shared-cache"), expect(dead_code, reason = "compared with what other replicas know"))]
    pub(super) renewed_at: u64,
    /// Unix seconds: when it was last known to be kept elsewhere too.
    touched_at: u64,
}

impl Session {
    pub(super) const fn new(owner: Owner, refresh_token: Option<Secret<String>>, renewed_at: u64) -> Self {
        Self { owner, refresh_token, renewed_at, touched_at: renewed_at }
    }

    fn weight(&self) -> usize {
        let token = self.refresh_token.as_ref().map_or(0, |token| token.expose().len());
        OVERHEAD + self.owner.tenant.len() + self.owner.user.parts().1.len() + token
    }
}

/// Evicts the least recently used session.
#[derive(Debug)]
pub struct Sessions {
    state: Mutex<Lru<Digest, Session>>,
    /// Seconds.
    lifetime: u64,
}

impl Sessions {
    pub fn new(limit: usize, bytes: usize, lifetime: u64) -> Self {
        Self { state: Mutex::new(Lru::new(limit, bytes)), lifetime }
    }

    const fn is_over(&self, session: &Session, now: u64) -> bool {
        session.touched_at.saturating_add(self.lifetime) <= now
    }

    pub fn find(&self, id: &SessionId, now: u64) -> Option<Session> {
        let mut sessions = self.state.lock();
        if self.is_over(sessions.get(&id.0)?, now) {
            sessions.remove(&id.0);
            return None;
        }
        sessions.get(&id.0).cloned()
    }

    /// True if other replicas should hear soon that a session is in use.
    pub(super) const fn is_due(&self, session: &Session, now: u64) -> bool {
        session.touched_at.saturating_add(self.lifetime / 4) <= now
    }

    /// Starts or renews a session. If the answer has no refresh token, the old one stays (RFC 6749
    /// §6). A session that another user has started meanwhile stays theirs.
    pub(super) fn renew(&self, id: &SessionId, owner: &Owner, refresh_token: Option<Secret<String>>, now: u64) {
        let mut sessions = self.state.lock();
        let old = sessions.remove(&id.0).filter(|old| !self.is_over(old, now));
        let session = match old {
            Some(old) if old.owner != *owner => old,
            old => {
                let refresh_token = refresh_token.or_else(|| old.and_then(|old| old.refresh_token));
                Session::new(owner.clone(), refresh_token, now)
            }
        };
        keep(&mut sessions, id, session);
    }
}

fn keep(sessions: &mut Lru<Digest, Session>, id: &SessionId, session: Session) {
    let weight = session.weight();
    sessions.insert(id.0, session, weight);
}

/// For what other replicas know.
#[cfg(feature = "shared-cache")]
impl Sessions {
    /// Takes over another replica's session, unless the one in memory is newer.
    pub(super) fn adopt(&self, id: &SessionId, mut stored: Session, now: u64) {
        let mut sessions = self.state.lock();
        let own = sessions.remove(&id.0).filter(|own| own.renewed_at > stored.renewed_at && !self.is_over(own, now));
        if let Some(own) = own {
            stored = own;
        }
        stored.touched_at = now;
        keep(&mut sessions, id, stored);
    }

    /// Puts another replica's session in the place of the one in memory.
    pub(super) fn replace(&self, id: &SessionId, mut stored: Session, now: u64) {
        stored.touched_at = now;
        keep(&mut self.state.lock(), id, stored);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(user: &str) -> Owner {
        Owner { tenant: "t".into(), user: User::ObjectId(user.into()) }
    }

    fn registration(section: &str, client_id: &str) -> Registration {
        Registration { section: section.into(), client_id: client_id.into(), ..super::super::tests::registration() }
    }

    fn id(key: &str) -> SessionId {
        SessionId::new(&registration("s", "c"), None, key)
    }

    #[test]
    fn a_subject_is_never_taken_for_an_object_id() {
        let user = User::of;
        assert_ne!(user(Some("x"), None), user(None, Some("x")));
        assert_eq!(user(Some("x"), Some("y")), Some(User::ObjectId("x".into())));
        assert_eq!((user(None, None), user(Some(""), Some(""))), (None, None));
    }

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_session_is_found_by_key_agent_and_registration_together() {
        let sessions = Sessions::new(10, 10_000, LIFETIME);
        let new = |section: &str, client: &str, agent: Option<&str>, key: &str| {
            SessionId::new(&registration(section, client), agent, key)
        };
        let id = new("AzureAd", "c", Some("A1"), "k");
        sessions.renew(&id, &owner("u"), Some(secret("r")), 0);
        assert!(sessions.find(&new("AzureAd", "c", Some("a1"), "k"), 0).is_some());
        for other in [
            new("AzureAd", "c", None, "k"),
            new("AzureAd", "c", Some("a2"), "k"),
            new("Other", "c", Some("a1"), "k"),
            new("AzureAd", "other", Some("a1"), "k"),
            new("AzureAd", "c", Some("a1"), "K"),
        ] {
            assert!(sessions.find(&other, 0).is_none());
        }
    }

    #[test]
    fn a_session_ends_after_its_lifetime_and_its_bound() {
        let sessions = Sessions::new(1, 10_000, LIFETIME);
        let (first, second) = (id("1"), id("2"));
        sessions.renew(&first, &owner("u"), Some(secret("r")), 0);
        assert!(sessions.find(&first, LIFETIME - 1).is_some());
        assert!(sessions.find(&first, LIFETIME).is_none());
        sessions.renew(&first, &owner("u"), Some(secret("r")), 0);
        sessions.renew(&second, &owner("u"), Some(secret("r")), 0);
        assert!(sessions.find(&first, 0).is_none() && sessions.find(&second, 0).is_some());
    }

    #[test]
    fn sessions_are_bounded_by_what_they_hold() {
        let sessions = Sessions::new(100, 10_000, LIFETIME);
        let ids: Vec<_> = (0..4).map(|number| id(&number.to_string())).collect();
        for id in &ids {
            sessions.renew(id, &owner("u"), Some(secret(&"r".repeat(3000))), 0);
        }
        let found: Vec<_> = ids.iter().map(|id| sessions.find(id, 0).is_some()).collect();
        assert_eq!(found, [false, true, true, true]);
    }

    #[test]
    fn a_session_keeps_its_owner_and_its_refresh_token() {
        let sessions = Sessions::new(1, 10_000, LIFETIME);
        let id = id("k");
        sessions.renew(&id, &owner("u"), Some(secret("r1")), 0);
        sessions.renew(&id, &owner("u"), None, 0);
        sessions.renew(&id, &owner("thief"), Some(secret("r2")), 0);
        let session = sessions.find(&id, 0).unwrap();
        assert_eq!((session.owner, session.refresh_token.unwrap().expose().as_str()), (owner("u"), "r1"));
    }

    #[test]
    fn allocated_keys_are_long_and_differ() {
        let (a, b) = (allocate().unwrap(), allocate().unwrap());
        assert!(a.len() == 43 && a != b);
    }
}
