//! The order of credentials, and the handling of failures.

use std::sync::Mutex;
use std::time::Duration;

use super::testing::World;
use super::*;

/// Returns a fixed result, and counts.
#[derive(Clone)]
struct Scripted(Arc<Mutex<(Result<(), Failure>, usize)>>);

impl Scripted {
    fn new(outcome: Result<(), Failure>) -> Self {
        Self(Arc::new(Mutex::new((outcome, 0))))
    }

    /// Attempts since the last call.
    fn tries(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }
}

impl Source for Scripted {
    fn authenticate(&self, _: &Context<'_>) -> Result<ClientAuth, Failure> {
        let mut state = self.0.lock().unwrap();
        state.1 += 1;
        state.0.clone().map(|()| ClientAuth::Secret(Secret::new("s".into())))
    }
}

fn credentials(sources: &[&Scripted]) -> Credentials {
    let credential = |(index, source): (usize, &&Scripted)| Credential {
        index,
        source_type: "Path",
        source: Box::new((*source).clone()),
        rests_until: AtomicU64::new(0),
    };
    Credentials { list: sources.iter().enumerate().map(credential).collect() }
}

fn unavailable() -> Result<(), Failure> {
    Err(Failure::Unavailable("down".into()))
}

fn unusable() -> Result<(), Failure> {
    Err(Failure::Unusable("wrong".into()))
}

#[test]
fn the_first_that_yields_something_is_used() {
    let (broken, good, unneeded) = (Scripted::new(unusable()), Scripted::new(Ok(())), Scripted::new(Ok(())));
    let list = credentials(&[&broken, &good, &unneeded]);
    for _ in 0..2 {
        assert!(list.authenticate(&World::at(0).context()).is_ok());
        // Retrying it costs no wait, and it may have been fixed.
        assert_eq!((broken.tries(), good.tries(), unneeded.tries()), (1, 1, 0));
    }
}

#[test]
fn a_credential_whose_upstream_fails_rests_for_a_minute() {
    let (down, good) = (Scripted::new(unavailable()), Scripted::new(Ok(())));
    let list = credentials(&[&down, &good]);
    let world = World::at(1000);
    let tries = |seconds| {
        world.clock.advance(Duration::from_secs(seconds));
        assert!(list.authenticate(&world.context()).is_ok());
        (down.tries(), good.tries())
    };
    assert_eq!([tries(0), tries(59), tries(1)], [(1, 1), (0, 1), (1, 1)]);
    down.0.lock().unwrap().0 = Ok(());
    assert_eq!([tries(59), tries(1)], [(0, 1), (1, 0)], "it comes back to its place");
}

#[test]
fn what_rests_is_tried_before_all_fail_and_every_reason_is_told() {
    let (down, other) = (Scripted::new(unavailable()), Scripted::new(Ok(())));
    let list = credentials(&[&down, &other]);
    let world = World::at(0);
    assert!(list.authenticate(&world.context()).is_ok());
    other.0.lock().unwrap().0 = unusable();
    let failures = list.authenticate(&world.context()).unwrap_err();
    let lines: Vec<_> = failures.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["credential 0 (Path): down", "credential 1 (Path): wrong"]);
    assert_eq!((down.tries(), other.tries()), (2, 2));
    assert!(list.authenticate(&world.context()).is_err());
    assert_eq!((down.tries(), other.tries()), (1, 1), "where none works, none rests any longer than it must");
}
