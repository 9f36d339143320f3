//! The cache that replicas share in Redis or Valkey: sealed values under sealed names, and
//! short-lived locks. Whatever goes wrong here, the caller goes on as without it.
//!
//! [`SharedCache::visit`] begins one request's use of it; all commands of a [`Visit`] take at most
//! the configured time together.

mod connection;
mod failure;
mod pool;
mod seal;

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Value, cmd};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use self::connection::Target;
pub use self::failure::Failure;
use self::failure::expect;
use self::pool::Pool;
pub use self::seal::Kind;
use self::seal::{Keys, MAX_VALUE, Name};
use crate::config::SharedCache as Settings;
use crate::outbound::resolver::SystemResolver;
use crate::outbound::roots::Roots;
use crate::sync::Mutex;
use crate::value::b64;
use crate::value::store_url::StoreUrl;
use crate::watched::Watched;

/// How long a store that failed is left alone.
const PAUSE: Duration = Duration::from_secs(5);

const LOG_EVERY: Duration = Duration::from_secs(60);

/// How long a lock lasts if its holder is gone, and the longest wait for another's answer.
pub const LOCK: Duration = Duration::from_secs(2);

/// Interval between looks for another's answer.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Sets a value unless it is another one than was seen; then returns that one.
const COMPARE_AND_SET: &str = "\
local found = redis.pcall('GET', KEYS[1])
if type(found) == 'table' then found = false end
if (found or '') ~= ARGV[1] then return found end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ''";

/// Deletes a lock that is still one's own.
const COMPARE_AND_DELETE: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

pub struct SharedCache {
    /// For messages: without a password.
    url: StoreUrl,
    keys: Watched<Keys>,
    prefix: String,
    timeout: Duration,
    pool: Pool,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    /// While it is left alone.
    until: Option<Instant>,
    logged: Option<Instant>,
    /// Failures since then.
    unlogged: u64,
}

#[derive(Clone, Copy)]
struct Allowance {
    commands: Duration,
    waiting: Duration,
}

thread_local! {
    /// Of the request that this thread works on. Its nested token requests share it.
    static ALLOWANCE: Cell<Option<Allowance>> = const { Cell::new(None) };
}

pub struct Seen {
    /// Opened values: under the current key, then under the previous one.
    pub values: Vec<Zeroizing<Vec<u8>>>,
    /// As stored under the current key; empty if there is none.
    raw: Vec<u8>,
    /// True if there is a value that cannot be read.
    pub unreadable: bool,
}

pub struct Wanted<'a> {
    pub kind: Kind,
    pub key: &'a [u8; 32],
    /// Extends its life to this.
    pub extend: Option<Duration>,
}

pub struct Put<'a> {
    pub kind: Kind,
    pub key: &'a [u8; 32],
    pub plain: &'a [u8],
    pub lifetime: Duration,
    /// Writes only if the store still has this.
    pub unless_changed: Option<&'a Seen>,
}

/// The right to ask the token service on behalf of all replicas.
pub struct Lock {
    name: String,
    value: String,
}

impl SharedCache {
    pub fn new(url: StoreUrl, key_file: &Path, settings: &Settings, roots: &Roots) -> Result<Self, String> {
        let tls = roots.client_config().map_err(|error| format!("Sidecar:SharedCache:Url: {error}"))?;
        let target = Target { url: url.clone(), tls, resolver: Arc::new(SystemResolver) };
        Ok(Self {
            url,
            keys: key_file_of(key_file),
            prefix: settings.prefix.clone().unwrap_or_default(),
            timeout: settings.timeout,
            pool: Pool::new(target),
            health: Mutex::default(),
        })
    }

    /// Begins one request's use of the store, of which `spent` is over.
    pub fn visit(&self, spent: Duration) -> Result<Visit<'_>, Failure> {
        let keys = self.keys.current().map_err(|error| self.failed(Failure::Keys(error)))?;
        let outer = ALLOWANCE.get();
        if outer.is_none() {
            let commands = self.timeout.saturating_sub(spent);
            ALLOWANCE.set(Some(Allowance { commands, waiting: LOCK }));
        }
        Ok(Visit { cache: self, keys, outermost: outer.is_none(), spent: Cell::default() })
    }

    /// False while it is left alone.
    pub fn is_asked(&self) -> bool {
        self.health.lock().until.is_none_or(|until| until <= Instant::now())
    }

    /// True if it may be asked now. After a pause, one request tries it first.
    fn may_ask(&self) -> bool {
        let (mut health, now) = (self.health.lock(), Instant::now());
        match health.until {
            Some(until) if now < until => return false,
            Some(_) => health.until = Some(now + PAUSE),
            None => {}
        }
        true
    }

    /// Logs a failure, once in a while, and leaves a server alone that failed.
    fn failed(&self, failure: Failure) -> Failure {
        let (mut health, now) = (self.health.lock(), Instant::now());
        match failure {
            Failure::Skipped => return failure,
            Failure::Server(_) => health.until = Some(now + PAUSE),
            Failure::Value(_) | Failure::Keys(_) => {}
        }
        if health.logged.is_some_and(|logged| now.duration_since(logged) < LOG_EVERY) {
            health.unlogged += 1;
            return failure;
        }
        let unlogged = std::mem::take(&mut health.unlogged);
        health.logged = Some(now);
        drop(health);
        log::warn!("shared cache {}: {failure}; going on without it ({unlogged} further failures since)", self.url);
        failure
    }

    fn ask(&self, commands: &[Cmd], time: Duration) -> Result<Vec<Value>, Failure> {
        if time.is_zero() || !self.may_ask() {
            return Err(Failure::Skipped);
        }
        let answers = self.pool.ask(commands, Instant::now() + time);
        if matches!(answers, Ok(_) | Err(Failure::Value(_))) {
            self.health.lock().until = None;
        }
        answers.map_err(|failure| self.failed(failure))
    }

    fn place(&self, name: &Name) -> String {
        format!("{}{}", self.prefix, b64::url(name))
    }

    /// Writes, reads and deletes a value. For `check`.
    pub fn probe(&self) -> Result<String, String> {
        let start = Instant::now();
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).map_err(|_| "no random numbers".to_owned())?;
        let run = || {
            let visit = self.visit(Duration::ZERO)?;
            let put = Put { kind: Kind::Probe, key: &key, plain: b"?", lifetime: PAUSE, unless_changed: None };
            visit.write(&[put], None)?;
            let seen = visit.read(&[Wanted { kind: Kind::Probe, key: &key, extend: None }], None)?.1;
            let read =
                seen.first().is_some_and(|seen| seen.values.first().is_some_and(|value| value.as_slice() == b"?"));
            if read { Ok(()) } else { Err(Failure::Value("what was written is not there")) }
        };
        run().map_err(|failure: Failure| failure.to_string())?;
        Ok(format!("{} answers, in {} ms", self.url, start.elapsed().as_millis()))
    }
}

fn key_file_of(path: &Path) -> Watched<Keys> {
    Watched::new(vec![path.to_owned()], |contents| Keys::parse(contents.first().map_or(&[][..], |bytes| bytes)))
}

/// Judges a key file: which keys it has, or what is wrong with it.
pub fn judge(key_file: &Path) -> Result<&'static str, String> {
    let keys = key_file_of(key_file).current()?;
    Ok(if keys.previous.is_some() { "usable, with a previous key" } else { "usable" })
}

pub struct Visit<'a> {
    cache: &'a SharedCache,
    keys: Arc<Keys>,
    outermost: bool,
    spent: Cell<Duration>,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if self.outermost {
            ALLOWANCE.set(None);
        }
    }
}

impl Visit<'_> {
    /// The time that its commands took.
    pub fn spent(&self) -> Duration {
        self.spent.get()
    }

    /// `counts` unless the commands belong to the wait for another replica.
    fn ask(&self, commands: &[Cmd], counts: bool) -> Result<Vec<Value>, Failure> {
        let left = ALLOWANCE.get().map_or(Duration::ZERO, |allowance| allowance.commands);
        let start = Instant::now();
        let answers = self.cache.ask(commands, left);
        let took = start.elapsed();
        self.spent.set(self.spent.get() + took);
        if let Some(mut allowance) = ALLOWANCE.get() {
            let part = if counts || answers.is_err() { &mut allowance.commands } else { &mut allowance.waiting };
            *part = part.saturating_sub(took);
            ALLOWANCE.set(Some(allowance));
        }
        answers
    }

    /// Reads all entries in one round trip. With a lock, first tries to take it; true if it is taken.
    pub fn read(&self, wanted: &[Wanted<'_>], lock: Option<&Lock>) -> Result<(bool, Vec<Seen>), Failure> {
        let mut commands = Vec::new();
        if let Some(Lock { name, value }) = lock {
            commands.push(cmd("SET").arg(name).arg(value).arg("NX").arg("PX").arg(milliseconds(LOCK)).take());
        }
        let mut names = Vec::new();
        for entry in wanted {
            for sealer in self.keys.all() {
                let name = sealer.name(entry.kind, entry.key);
                let place = self.cache.place(&name);
                names.push(name);
                commands.push(cmd("GET").arg(&place).take());
                if let Some(lifetime) = entry.extend {
                    commands.push(cmd("PEXPIRE").arg(&place).arg(milliseconds(lifetime)).take());
                }
            }
        }
        let waits = lock.is_some() && ALLOWANCE.get().is_some_and(|allowance| allowance.waiting < LOCK);
        let mut answers = self.ask(&commands, !waits)?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let server = |answer| match expect(answer) {
            Err(failure @ Failure::Server(_)) => Err(self.cache.failed(failure)),
            answer => Ok(answer.unwrap_or(Value::Nil)),
        };
        let locked = lock.is_some() && server(next())? == Value::Okay;
        let (mut found, mut names) = (Vec::new(), names.into_iter());
        for entry in wanted {
            let mut seen = Seen { values: Vec::new(), raw: Vec::new(), unreadable: false };
            for (index, (sealer, name)) in self.keys.all().zip(names.by_ref()).enumerate() {
                let answer = next();
                if entry.extend.is_some() {
                    server(next())?;
                }
                match expect(answer) {
                    Ok(Value::BulkString(raw)) => {
                        match sealer.open(entry.kind, &name, &raw).filter(|_| raw.len() <= MAX_VALUE) {
                            Some(value) => seen.values.push(value),
                            None => seen.unreadable = true,
                        }
                        if index == 0 {
                            seen.raw = raw;
                        }
                    }
                    Ok(_) => {}
                    Err(failure @ Failure::Server(_)) => return Err(self.cache.failed(failure)),
                    Err(_) => seen.unreadable = true,
                }
            }
            if seen.unreadable {
                self.cache.failed(Failure::Value("a value cannot be read"));
            }
            found.push(seen);
        }
        Ok((locked, found))
    }

    /// Writes all entries and gives the lock back, in one round trip. Returns the value that stands
    /// in the way of each conditional entry.
    pub fn write(&self, puts: &[Put<'_>], lock: Option<&Lock>) -> Result<Vec<Option<Zeroizing<Vec<u8>>>>, Failure> {
        let sealer = &self.keys.current;
        let mut commands = Vec::new();
        let mut conditional = Vec::new();
        for put in puts {
            let name = sealer.name(put.kind, put.key);
            let value = sealer.seal(put.kind, &name, put.plain).filter(|value| value.len() <= MAX_VALUE);
            let Some(value) = value else {
                self.cache.failed(Failure::Value("a value is longer than 256 KiB"));
                continue;
            };
            let (place, lifetime) = (self.cache.place(&name), milliseconds(put.lifetime));
            let mut command = match put.unless_changed {
                None => cmd("SET").arg(place).arg(value).arg("PX").take(),
                Some(seen) => cmd("EVAL").arg(COMPARE_AND_SET).arg(1).arg(place).arg(&seen.raw).arg(value).take(),
            };
            commands.push(command.arg(lifetime).take());
            conditional.push(put.unless_changed.is_some().then_some((put.kind, name)));
        }
        if let Some(Lock { name, value }) = lock {
            commands.push(cmd("EVAL").arg(COMPARE_AND_DELETE).arg(1).arg(name).arg(value).take());
        }
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut standing = Vec::new();
        let mut conditional = conditional.into_iter();
        for answer in self.ask(&commands, true)? {
            let answer = expect(answer).map_err(|failure| self.cache.failed(failure))?;
            if let (Some(Some((kind, name))), Value::BulkString(raw)) = (conditional.next(), answer) {
                standing.push(sealer.open(kind, &name, &raw));
            }
        }
        Ok(standing)
    }

    /// A lock for this key, not taken yet.
    pub fn lock(&self, key: &[u8; 32]) -> Option<Lock> {
        let mut value = [0; 16];
        SystemRandom::new().fill(&mut value).ok()?;
        let name = self.cache.place(&self.keys.current.name(Kind::Lock, key));
        Some(Lock { name, value: b64::url(value) })
    }

    /// Waits until it makes sense to look again for another replica's answer. False: no longer.
    pub fn wait() -> bool {
        let Some(mut allowance) = ALLOWANCE.get() else { return false };
        let pause = LOOK_EVERY.min(allowance.waiting);
        if pause.is_zero() {
            return false;
        }
        let start = Instant::now();
        std::thread::sleep(pause);
        allowance.waiting = allowance.waiting.saturating_sub(start.elapsed());
        ALLOWANCE.set(Some(allowance));
        true
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
