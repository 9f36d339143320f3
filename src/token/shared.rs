//! Between the token cache and the token service: what other replicas know.
//!
//! The leader of a flight looks here before it asks the token service, and publishes what that
//! gave. A lock in the store makes one replica the leader among all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::access_token::AccessToken;
use super::cache::{Freshness, Lead, freshness};
use super::error::Error;
use super::leg::{Grant, Job};
use super::session::{Owner, Session, SessionId, Sessions, User};
use crate::clock::Clock;
use crate::metrics::Histogram;
use crate::secret::Secret;
use crate::shared_cache::{Failure, Kind, Lock, Put, Seen, SharedCache, Visit, Wanted};
use crate::turns::Lane;

pub struct Shared {
    store: SharedCache,
    session_lifetime: Duration,
    figures: SharedFigures,
}

/// Look-ups by result, and the time that their commands took.
#[derive(Debug, Default)]
pub struct SharedFigures {
    pub hit: AtomicU64,
    pub miss: AtomicU64,
    pub error: AtomicU64,
    pub seconds: Histogram,
}

#[derive(Serialize, Deserialize)]
struct StoredToken {
    header: Zeroizing<String>,
    expires_at: u64,
    refresh_at: Option<u64>,
    written_at: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredSession {
    tenant: String,
    object_id: Option<String>,
    subject: Option<String>,
    refresh_token: Option<Zeroizing<String>>,
    renewed_at: u64,
}

/// The leader's use of the store: one look-up, and what it holds while it asks the token service.
pub struct Sharing<'a> {
    shared: &'a Shared,
    visit: Visit<'a>,
    sessions: &'a Sessions,
    clock: &'a dyn Clock,
    session: Option<(SessionId, Owner)>,
    /// The session as the store has it.
    seen: Option<Seen>,
    lock: Option<Lock>,
    unreadable: bool,
}

pub enum Answer<'a> {
    Found(Arc<AccessToken>),
    /// The token service must be asked, and what it gives is published.
    Ask(Option<Box<Sharing<'a>>>),
}

impl Shared {
    pub fn new(store: SharedCache, session_lifetime: Duration) -> Self {
        Self { store, session_lifetime, figures: SharedFigures::default() }
    }

    /// For look-ups that need no token service.
    pub fn lane() -> Lane {
        Lane::Origin(Arc::from("shared cache"))
    }

    pub const fn session_lifetime(&self) -> Duration {
        self.session_lifetime
    }

    pub const fn figures(&self) -> &SharedFigures {
        &self.figures
    }

    /// False while a store that failed is left alone.
    pub fn is_asked(&self) -> bool {
        self.store.is_asked()
    }

    /// Looks for a session, and keeps it in memory. Returns the time that it took. Blocks.
    pub fn find_session(&self, id: &SessionId, sessions: &Sessions, now: u64) -> Duration {
        let mut spent = Duration::ZERO;
        let found = self.store.visit(Duration::ZERO).and_then(|visit| {
            let looked = visit.read(&[self.wanted_session(id)], None);
            spent = visit.spent();
            let (_, seen) = looked?;
            Ok(seen.first().map_or((false, false), |seen| (adopt(id, seen, sessions, now), seen.unreadable)))
        });
        self.count(spent, &found, |(found, _)| *found, |(_, unreadable)| *unreadable);
        spent
    }

    fn wanted_session<'a>(&self, id: &'a SessionId) -> Wanted<'a> {
        Wanted { kind: Kind::Session, key: id.key(), extend: Some(self.session_lifetime) }
    }

    fn count<T>(
        &self,
        spent: Duration,
        outcome: &Result<T, Failure>,
        is_hit: impl Fn(&T) -> bool,
        is_broken: impl Fn(&T) -> bool,
    ) {
        let counter = match outcome {
            Err(Failure::Skipped) => return,
            Ok(found) if is_hit(found) => &self.figures.hit,
            Ok(found) if !is_broken(found) => &self.figures.miss,
            _ => &self.figures.error,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.figures.seconds.observe(spent);
    }

    /// Looks for the token of a job, and waits while another replica asks for it. A session's newer
    /// refresh token becomes the job's. Blocks.
    pub fn look_up<'a>(
        &'a self,
        job: &mut Job,
        lead: &Lead,
        sessions: &'a Sessions,
        clock: &'a dyn Clock,
    ) -> Answer<'a> {
        let session = match job {
            Job::Leg(leg) if leg.bound_key.as_ref().is_none_or(|key| !key.generated) => leg.session.clone(),
            Job::Impossible(Error::NoSession) => None,
            // A machine's own token, or one bound to a key that no other replica has.
            _ => return Answer::Ask(None),
        };
        let visit = match self.store.visit(lead.spent) {
            Ok(visit) => visit,
            Err(failure) => {
                self.count::<()>(Duration::ZERO, &Err(failure), |()| false, |()| false);
                return Answer::Ask(None);
            }
        };
        let (seen, lock, unreadable) = (None, None, false);
        let mut sharing = Sharing { shared: self, visit, sessions, clock, session, seen, lock, unreadable };
        let found = sharing.run(lead, job);
        if lead.reads() || found.is_err() {
            self.count(sharing.visit.spent(), &found, Option::is_some, |_| sharing.unreadable);
        }
        match found {
            Ok(Some(token)) => Answer::Found(token),
            // What cannot be read is replaced.
            Ok(None) | Err(Failure::Value(_)) => Answer::Ask(Some(Box::new(sharing))),
            Err(_) => Answer::Ask(None),
        }
    }
}

impl Sharing<'_> {
    fn run(&mut self, lead: &Lead, job: &mut Job) -> Result<Option<Arc<AccessToken>>, Failure> {
        if let Some(token) = self.once(lead, job, None)?.1 {
            return Ok(Some(token));
        }
        if !lead.reads() || !matches!(job, Job::Leg(_)) {
            return Ok(None);
        }
        let Some(lock) = self.visit.lock(&lead.key().digest()) else { return Ok(None) };
        loop {
            let (locked, found) = self.once(lead, job, Some(&lock))?;
            match (locked, found) {
                (true, Some(token)) => {
                    self.visit.write(&[], Some(&lock))?;
                    return Ok(Some(token));
                }
                (false, Some(token)) => return Ok(Some(token)),
                (true, None) => {
                    self.lock = Some(lock);
                    return Ok(None);
                }
                (false, None) if !Visit::wait() => return Ok(None),
                (false, None) => {}
            }
        }
    }

    /// Returns whether the lock was taken, and the token if it may be served.
    fn once(
        &mut self,
        lead: &Lead,
        job: &mut Job,
        lock: Option<&Lock>,
    ) -> Result<(bool, Option<Arc<AccessToken>>), Failure> {
        let now = self.clock.unix();
        let reads = lead.reads();
        let key = lead.key().digest();
        let mut wanted = Vec::new();
        if reads {
            wanted.push(Wanted { kind: Kind::Token, key: &key, extend: None });
        }
        wanted.extend(self.session.as_ref().map(|(id, _)| self.shared.wanted_session(id)));
        if wanted.is_empty() {
            return Ok((false, None));
        }
        let (locked, seen) = self.visit.read(&wanted, lock)?;
        let mut seen = seen.into_iter();
        let token = reads.then(|| seen.next()).flatten();
        self.unreadable = token.as_ref().is_some_and(|token| token.unreadable);
        // A token of an earlier session with this key does not start one.
        let mut may_serve = !lead.starts();
        if let (Some((id, owner)), Some(stored)) = (&self.session, seen.next()) {
            if adopt(id, &stored, self.sessions, now) {
                let session = self.sessions.find(id, now).filter(|session| session.owner == *owner);
                may_serve |= session.is_some();
                renew_with(job, session.and_then(|session| session.refresh_token));
            }
            self.seen = Some(stored);
        }
        let Some(token) = token.as_ref().filter(|_| may_serve).and_then(latest_token) else {
            return Ok((locked, None));
        };
        let newer = lead.held().is_none_or(|held| token.expires_at > held.expires_at);
        Ok(match freshness(now, token.expires_at, token.refresh_at) {
            Freshness::Fresh | Freshness::RefreshDue if newer => (locked, Some(Arc::new(token))),
            Freshness::Expiring if newer => {
                lead.offer(&Arc::new(token), self.clock);
                (locked, None)
            }
            _ => (locked, None),
        })
    }

    /// Publishes what the token service gave, and lets the other replicas go on.
    pub fn publish(&self, lead: &Lead, outcome: &Result<Arc<AccessToken>, Error>) {
        let now = self.clock.unix();
        let token = outcome.as_ref().ok().map(|token| {
            let stored = StoredToken {
                header: Zeroizing::new(token.authorization().to_owned()),
                expires_at: token.expires_at,
                refresh_at: token.refresh_at,
                written_at: now,
            };
            (encoded(&stored), Duration::from_secs(token.expires_at.saturating_sub(now)))
        });
        let session = self.session.as_ref().zip(self.seen.as_ref()).filter(|_| outcome.is_ok());
        let session = session.and_then(|((id, owner), seen)| {
            let session = self.sessions.find(id, now).filter(|session| session.owner == *owner)?;
            Some((id, encoded(&StoredSession::from(&session)), seen))
        });
        let key = lead.key().digest();
        let mut puts = Vec::new();
        if let Some((plain, lifetime)) = token.as_ref().filter(|(_, lifetime)| !lifetime.is_zero()) {
            puts.push(Put { kind: Kind::Token, key: &key, plain, lifetime: *lifetime, unless_changed: None });
        }
        if let Some((id, plain, seen)) = &session {
            let (key, lifetime) = (id.key(), self.shared.session_lifetime);
            puts.push(Put { kind: Kind::Session, key, plain, lifetime, unless_changed: Some(seen) });
        }
        match self.visit.write(&puts, self.lock.as_ref()) {
            // Another replica has written meanwhile: that session stays.
            Ok(standing) => {
                if let (Some((id, ..)), Some(value)) = (session, standing.into_iter().flatten().next())
                    && let Some(stored) = opened_session(&value)
                {
                    self.sessions.replace(id, stored, now);
                }
            }
            Err(Failure::Skipped) => {}
            Err(_) => drop(self.shared.figures.error.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// Takes the latest session that the store has, if there is one.
fn adopt(id: &SessionId, seen: &Seen, sessions: &Sessions, now: u64) -> bool {
    // The last of equals is the one under the current key.
    let stored = seen.values.iter().rev().filter_map(|value| opened_session(value));
    let Some(latest) = stored.max_by_key(|session| session.renewed_at) else { return false };
    sessions.adopt(id, latest, now);
    true
}

/// A refresh token that another replica got later replaces the one in hand.
fn renew_with(job: &mut Job, refresh_token: Option<Secret<String>>) {
    if let (Job::Leg(leg), Some(latest)) = (job, refresh_token)
        && let Grant::RefreshToken(token) = &mut leg.grant
    {
        *token = latest;
    }
}

/// The bytes to be sealed, wiped afterwards.
fn encoded(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    // Texts and numbers alone cannot fail.
    let _ = serde_json::to_writer(&mut *bytes, value);
    bytes
}

/// The token that was written last. The last of equals is the one under the current key.
fn latest_token(seen: &Seen) -> Option<AccessToken> {
    let stored = seen.values.iter().rev().filter_map(|value| serde_json::from_slice::<StoredToken>(value).ok());
    let StoredToken { header, expires_at, refresh_at, .. } = stored.max_by_key(|token| token.written_at)?;
    Some(AccessToken::new(header.as_str().to_owned(), expires_at, refresh_at))
}

fn opened_session(bytes: &[u8]) -> Option<Session> {
    let stored: StoredSession = serde_json::from_slice(bytes).ok()?;
    let user = match (stored.object_id, stored.subject) {
        (Some(oid), None) => User::ObjectId(oid),
        (None, Some(sub)) => User::Subject(sub),
        _ => return None,
    };
    let refresh_token = stored.refresh_token.map(|token| Secret::new(token.as_str().to_owned()));
    Some(Session::new(Owner { tenant: stored.tenant, user }, refresh_token, stored.renewed_at))
}

impl From<&Session> for StoredSession {
    fn from(session: &Session) -> Self {
        let (object_id, subject) = match &session.owner.user {
            User::ObjectId(oid) => (Some(oid.clone()), None),
            User::Subject(sub) => (None, Some(sub.clone())),
        };
        Self {
            tenant: session.owner.tenant.clone(),
            object_id,
            subject,
            refresh_token: session.refresh_token.as_ref().map(|token| Zeroizing::new(token.expose().clone())),
            renewed_at: session.renewed_at,
        }
    }
}
