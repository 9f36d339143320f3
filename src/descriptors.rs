//! Reserves file descriptors for upstream calls, credential files and the log, so that a crowd of
//! callers cannot use them up.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Listeners, epoll, log and files, on top of three descriptors per upstream call: its own, and those of
/// idle connections, which may lead to other origins.
const OTHERS: usize = 32;

/// Returns how many of the wanted connections are possible, after raising the process's descriptor
/// limit as far as needed and allowed.
pub fn provide_for(connections: usize, calls: usize) -> usize {
    let needed = connections.saturating_add(reserve(usize::MAX, calls));
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let number = |limit: Option<u64>| limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut available = number(current);
    if available < needed {
        let more = needed.min(number(maximum));
        let raised = Rlimit { current: u64::try_from(more).ok(), maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            available = more;
        }
    }
    let possible = available.saturating_sub(reserve(available, calls)).max(1);
    if possible < connections {
        log::warn!(
            "Sidecar:Limits:Connections is {connections}, but the process may open {available} files (ulimit -n): \
             limited to {possible} connections"
        );
    }
    possible.min(connections)
}

/// Descriptors that are not for connections: at most half.
fn reserve(available: usize, calls: usize) -> usize {
    calls.saturating_mul(3).saturating_add(OTHERS).min(available / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_at_least_is_for_connections() {
        assert_eq!(reserve(20_000, 16), 80);
        assert_eq!(reserve(160, 16), 80);
        assert_eq!(reserve(64, 16), 32);
        assert_eq!(reserve(1, 16), 0);
    }

    #[test]
    fn what_is_wanted_is_had_where_the_limit_allows_it() {
        assert_eq!(provide_for(8, 2), 8);
    }
}
