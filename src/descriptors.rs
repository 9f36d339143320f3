//! Descriptors are divided before they are short: a crowd of callers must not take those that the calls to Entra, the files of
//! credentials and the log need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Beside three for each upstream call, one that is under way and two that are kept for the next, by the client and for
/// what passes through: listeners, epoll, log, files.
const OTHERS: usize = 32;

/// How many of the wanted connections there can be. Asks the kernel for as many descriptors as are needed, up to the hard
/// limit of the process.
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
             {possible} connections at most"
        );
    }
    possible.min(connections)
}

/// What is not for connections: never more than half.
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
