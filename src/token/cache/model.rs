//! Single flight, proven by trying everything: three callers of one key, in every order in which their steps can happen and
//! with every way in which a request can end. Each step is one operation under the cache's lock, so these orders are all there are.

use super::super::error::{OAuthRefusal, Unavailable};
use super::super::key::KeyBuilder;
use super::*;
use crate::clock::ManualClock;
use crate::secret::Secret;
use std::sync::atomic::{AtomicBool, Ordering};

const CLAIMS: Mode = Mode { force: false, anew: false, claims: Some([1; 32]) };
const FORCE: Mode = Mode { force: true, anew: false, claims: None };

enum Stage {
    Asks,
    Leads(Lead),
    Waits(Arc<Flight>, bool),
    Done,
}

/// How a leader's request ends.
#[derive(Clone, Copy)]
enum End {
    Token,
    Outage,
    Refusal,
    /// By a defect of the program.
    Lost,
}

const ENDS: [End; 4] = [End::Token, End::Outage, End::Refusal, End::Lost];

struct World {
    cache: Arc<Cache>,
    clock: ManualClock,
    callers: Vec<(Mode, Stage, Arc<AtomicBool>)>,
}

impl World {
    fn new(modes: &[Mode]) -> Self {
        let caller = |mode: &Mode| (*mode, Stage::Asks, Arc::default());
        Self {
            cache: Cache::new(10, 10_000),
            clock: ManualClock::at(1_000),
            callers: modes.iter().map(caller).collect(),
        }
    }

    /// What can happen next: whose step, and how the request ends where it is a leader's.
    fn choices(&self) -> Vec<(usize, End)> {
        let ways = |(_, stage, woken): &(Mode, Stage, Arc<AtomicBool>)| match stage {
            Stage::Leads(_) => &ENDS[..],
            Stage::Waits(..) if !woken.load(Ordering::SeqCst) => &[],
            Stage::Asks | Stage::Waits(..) => &ENDS[..1],
            Stage::Done => &[],
        };
        let each = self.callers.iter().enumerate();
        each.flat_map(|(who, caller)| ways(caller).iter().map(move |end| (who, *end))).collect()
    }

    fn step(&mut self, (who, end): (usize, End)) {
        let (mode, stage, woken) = &mut self.callers[who];
        let mode = *mode;
        *stage = match std::mem::replace(stage, Stage::Done) {
            Stage::Asks => {
                woken.store(false, Ordering::SeqCst);
                let wake = Arc::clone(woken);
                let wake = move || -> Wake { Box::new(move || wake.store(true, Ordering::SeqCst)) };
                let key = KeyBuilder::new("model").finish();
                match self.cache.look_up(&key, &self.clock, mode, wake) {
                    Lookup::Lead(lead) => Stage::Leads(lead),
                    Lookup::Follow(flight, shared) => Stage::Waits(flight, shared),
                    Lookup::Hit(token) => Self::answered(mode, &Ok(token)),
                    Lookup::Blocked(error) => Self::answered(mode, &Err(error)),
                    other @ Lookup::HitAndRefresh(..) => panic!("{other:?}"),
                }
            }
            Stage::Leads(lead) => {
                // The token says which claims it was asked for with.
                let name = if mode.claims.is_some() { "with claims" } else { "plain" };
                let header = Secret::new(format!("Bearer {name}"));
                let outcome = match end {
                    End::Token => Ok(Arc::new(AccessToken { header, expires_at: 5_000, refresh_at: None })),
                    End::Outage => {
                        Err(Error::Unavailable(Arc::new(Unavailable { cause: "down".into(), retry_after: None })))
                    }
                    End::Refusal => Err(Error::Refused(Arc::new(OAuthRefusal::default()))),
                    End::Lost => {
                        drop(lead);
                        return;
                    }
                };
                Self::answered(mode, &lead.land(&self.clock, outcome))
            }
            Stage::Waits(flight, shared) => match flight.outcome().filter(|_| shared) {
                Some(outcome) => Self::answered(mode, &outcome),
                None => Stage::Asks,
            },
            Stage::Done => panic!("a step of one that is done"),
        };
        let leaders = self.callers.iter().filter(|(_, stage, _)| matches!(stage, Stage::Leads(_))).count();
        assert!(leaders <= 1, "two requests for one key");
    }

    fn answered(mode: Mode, outcome: &Result<Arc<AccessToken>, Error>) -> Stage {
        if let (Some(_), Ok(token)) = (mode.claims, outcome) {
            assert_eq!(token.token(), "with claims", "claims were asked for");
        }
        Stage::Done
    }
}

/// Goes through all that can follow these choices; how many ends there are.
fn explore(modes: &[Mode], past: &mut Vec<(usize, End)>) -> usize {
    let mut world = World::new(modes);
    for choice in past.iter() {
        world.step(*choice);
    }
    let choices = world.choices();
    if choices.is_empty() {
        let done = world.callers.iter().all(|(_, stage, _)| matches!(stage, Stage::Done));
        assert!(done, "somebody waits and nobody comes");
        return 1;
    }
    drop(world);
    choices
        .into_iter()
        .map(|choice| {
            past.push(choice);
            let ends = explore(modes, past);
            past.pop();
            ends
        })
        .sum()
}

#[test]
fn whatever_happens_one_asks_nobody_is_forgotten_and_claims_are_met() {
    let plain = Mode::default();
    for modes in [[plain, plain, plain], [plain, plain, CLAIMS], [plain, CLAIMS, CLAIMS], [plain, FORCE, CLAIMS]] {
        let ends = explore(&modes, &mut Vec::new());
        assert!(ends > 300, "{ends}");
    }
}
