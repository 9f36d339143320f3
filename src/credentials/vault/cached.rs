//! Caches what was read from a vault. It is read again when it is about to expire, every few hours
//! at most, or when the token service has rejected it.

use std::sync::Arc;

use crate::credentials::Failure;
use crate::credentials::certificate::Validity;
use crate::sync::Mutex;

/// Seconds between reads.
const INTERVAL: u64 = 4 * 60 * 60;

/// Seconds before expiry from which a renewed certificate may exist.
const NEAR: u64 = 30 * 24 * 60 * 60;

pub struct Cached<T> {
    state: Mutex<CachedState<T>>,
}

struct CachedState<T> {
    content: Option<Reading<T>>,
    /// Unix seconds of the last attempt.
    read_at: u64,
    forgotten: bool,
}

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self { state: Mutex::new(CachedState { content: None, read_at: 0, forgotten: false }) }
    }
}

type Reading<T> = (Arc<T>, Validity);

impl<T> Cached<T> {
    /// Returns the value, after a read if there is none or it is due. If the read fails, a value
    /// that is still valid is kept.
    pub fn get(&self, now: u64, read: impl FnOnce() -> Result<(T, Validity), Failure>) -> Result<Reading<T>, Failure> {
        let old = {
            let mut state = self.state.lock();
            if let Some(fresh) = state.content.clone().filter(|(_, validity)| !state.is_due(*validity, now)) {
                return Ok(fresh);
            }
            // Recorded before the vault is asked, and without the lock held, so that others use the
            // current value meanwhile.
            state.read_at = now;
            state.forgotten = false;
            state.content.clone().filter(|(_, validity)| validity.check(now).is_ok())
        };
        match (read(), old) {
            (Ok((content, validity)), _) => Ok(self.state.lock().content.insert((Arc::new(content), validity)).clone()),
            (Err(failure), Some(old)) => {
                log::warn!("{failure}; keeping the cached certificate");
                Ok(old)
            }
            (Err(failure), None) => Err(failure),
        }
    }

    /// The cached value, without asking the vault.
    pub fn known(&self) -> Option<Reading<T>> {
        self.state.lock().content.clone()
    }

    /// Forces a read at the next use.
    pub fn forget(&self) {
        self.state.lock().forgotten = true;
    }
}

impl<T> CachedState<T> {
    fn is_due(&self, validity: Validity, now: u64) -> bool {
        let near = validity.not_after.saturating_sub(now) <= NEAR && now.saturating_sub(self.read_at) >= INTERVAL;
        self.forgotten || near || validity.check(now).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 100 * 24 * 60 * 60;

    /// Whether each of these moments caused a read; each value is valid until [`END`].
    fn readings<const N: usize>(kept: &Cached<u64>, moments: [u64; N]) -> [bool; N] {
        moments.map(|now| {
            let mut read = false;
            let content = kept.get(now, || {
                read = true;
                Ok((now, Validity { not_before: 0, not_after: END }))
            });
            assert!(content.is_ok());
            read
        })
    }

    #[test]
    fn it_is_reread_near_its_end_at_most_every_four_hours() {
        let near = END - NEAR;
        let moments = [1, near - 1, near, near + 1, near + INTERVAL - 1, near + INTERVAL];
        assert_eq!(readings(&Cached::default(), moments), [true, false, true, false, false, true]);
    }

    #[test]
    fn it_is_read_again_when_it_is_forgotten() {
        let kept = Cached::default();
        assert_eq!(readings(&kept, [1, 2]), [true, false]);
        kept.forget();
        assert_eq!(readings(&kept, [3, 4]), [true, false]);
    }

    #[test]
    fn a_failure_leaves_what_is_still_valid() {
        let kept = Cached::default();
        let failing = |now| kept.get(now, || Err(Failure::Unavailable("down".into())));
        assert!(failing(1).is_err());
        assert_eq!(readings(&kept, [2]), [true]);
        kept.forget();
        assert_eq!(failing(END).map(|(content, _)| *content), Ok(2));
        assert!(failing(END + 1).is_err());
    }
}
