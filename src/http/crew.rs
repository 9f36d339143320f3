//! How many of the workers wait on the epoll. As many as there are processors keep them all busy; were all
//! workers to wait, each event would wake another one, and two thirds of the time would go into switching between
//! them. The others are in reserve. The handler says how many workers it blocks, and as many of the reserve step in at
//! once. What it does not say is seen: a worker whose turn lasts is taken to be blocked as well. That takes longer, since a
//! worker that the kernel has not run for a moment looks the same, and replacing it would only crowd the processors.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A turn that is the same at two looks in a row has lasted this long at least.
pub(super) const LOOK_PERIOD: Duration = Duration::from_millis(10);
/// Looks at a crew that has nothing to do before the looking stops.
const QUIET_LOOKS: u32 = 4;

#[derive(Debug)]
pub(super) struct Crew {
    berths: Box<[Berth]>,
    /// How many are to be free to take an event.
    hands: usize,
    duty: Mutex<Duty>,
    /// Whether more are on duty than allowed: the one thing that a worker looks at between its turns.
    surplus: AtomicBool,
    relief: Condvar,
    /// How many the handler says that it blocks.
    told: AtomicUsize,
    /// Nobody looks; the next worker that has a turn is to say so.
    unwatched: AtomicBool,
}

#[derive(Debug)]
struct Duty {
    on: usize,
    allowed: usize,
}

/// One worker's count of turns begun and ended, so odd while it has one. On a cache line of its own, since it
/// is written with every event.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Berth(AtomicU64);

/// What was seen at the last look.
#[derive(Debug)]
pub(super) struct Watch {
    turns: Vec<u64>,
    quiet: u32,
}

impl Crew {
    /// All workers are on duty at first, and those beyond `hands` step back before they wait.
    pub fn new(workers: usize, hands: usize) -> Self {
        let hands = hands.clamp(1, workers);
        Self {
            berths: (0..workers).map(|_| Berth::default()).collect(),
            hands,
            duty: Mutex::new(Duty { on: workers, allowed: hands }),
            surplus: AtomicBool::new(workers > hands),
            relief: Condvar::new(),
            told: AtomicUsize::new(0),
            unwatched: AtomicBool::new(false),
        }
    }

    fn duty(&self) -> MutexGuard<'_, Duty> {
        self.duty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called between turns: comes back when the worker is to wait for events.
    pub fn report(&self) {
        if !self.surplus.load(Ordering::Relaxed) {
            return;
        }
        let mut duty = self.duty();
        if duty.on > duty.allowed {
            duty.on -= 1;
            self.note(&duty);
            while duty.on >= duty.allowed {
                duty = self.relief.wait(duty).unwrap_or_else(PoisonError::into_inner);
            }
            duty.on += 1;
        }
        self.note(&duty);
    }

    fn note(&self, duty: &Duty) {
        self.surplus.store(duty.on > duty.allowed, Ordering::Relaxed);
    }

    /// A worker has an event: whether somebody has to be woken to watch.
    pub fn begin_turn(&self, worker: usize) -> bool {
        self.berths[worker].0.fetch_add(1, Ordering::SeqCst);
        self.unwatched.load(Ordering::SeqCst) && self.unwatched.swap(false, Ordering::SeqCst)
    }

    /// It is done with it.
    pub fn end_turn(&self, worker: usize) {
        self.berths[worker].0.fetch_add(1, Ordering::Release);
    }

    pub fn busy(&self) -> usize {
        self.berths.iter().filter(|berth| berth.0.load(Ordering::SeqCst) % 2 == 1).count()
    }

    pub fn workers(&self) -> usize {
        self.berths.len()
    }

    pub fn watch(&self) -> Watch {
        Watch { turns: vec![0; self.berths.len()], quiet: 0 }
    }

    /// Replaces those that are blocked: whether to look again after [`LOOK_PERIOD`]. If not, [`Self::begin_turn`]
    /// tells when.
    pub fn look(&self, watch: &mut Watch) -> bool {
        let mut blocked = 0;
        for (berth, seen) in self.berths.iter().zip(&mut watch.turns) {
            let turn = berth.0.load(Ordering::Acquire);
            blocked += usize::from(turn % 2 == 1 && turn == *seen);
            *seen = turn;
        }
        self.allow(self.hands + blocked.max(self.told.load(Ordering::Relaxed)));
        watch.quiet = if self.busy() > 0 { 0 } else { watch.quiet + 1 };
        if watch.quiet < QUIET_LOOKS {
            return true;
        }
        self.unwatched.store(true, Ordering::SeqCst);
        // A turn that began before that was seen by nobody.
        self.busy() > 0 && self.unwatched.swap(false, Ordering::SeqCst)
    }

    /// Replaces as many as the handler says that it blocks.
    pub fn replace(&self, blocked: usize) {
        self.told.store(blocked, Ordering::Relaxed);
        self.allow(self.hands + blocked);
    }

    fn allow(&self, allowed: usize) {
        let mut duty = self.duty();
        duty.allowed = allowed.min(self.berths.len());
        self.note(&duty);
        for _ in duty.on..duty.allowed {
            self.relief.notify_one();
        }
    }

    /// Lets everybody go.
    pub fn dismiss(&self) {
        let mut duty = self.duty();
        duty.allowed = usize::MAX;
        self.note(&duty);
        self.relief.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(crew: &Crew) -> usize {
        crew.duty().allowed
    }

    #[test]
    fn a_turn_that_lasts_brings_in_the_reserve() {
        let crew = Crew::new(4, 2);
        let mut watch = crew.watch();
        for worker in 0..3 {
            crew.begin_turn(worker);
        }
        crew.look(&mut watch);
        assert_eq!(allowed(&crew), 2, "they have only begun");
        crew.end_turn(0);
        crew.begin_turn(0);
        crew.look(&mut watch);
        assert_eq!(allowed(&crew), 4, "two still have the turn that they had");
        crew.look(&mut watch);
        assert_eq!(allowed(&crew), 4, "there are no more than all");
        (0..3).for_each(|worker| crew.end_turn(worker));
        crew.look(&mut watch);
        assert_eq!(allowed(&crew), 2);
    }

    #[test]
    fn those_that_the_handler_blocks_are_replaced_at_once() {
        let crew = Crew::new(4, 2);
        let mut watch = crew.watch();
        crew.replace(1);
        assert_eq!(allowed(&crew), 3);
        crew.begin_turn(0);
        crew.look(&mut watch);
        crew.look(&mut watch);
        assert_eq!(allowed(&crew), 3, "the one that is seen is the one that was told");
        crew.replace(0);
        assert_eq!(allowed(&crew), 2);
    }

    #[test]
    fn a_quiet_crew_is_left_alone_until_somebody_has_a_turn() {
        let crew = Crew::new(2, 1);
        let mut watch = crew.watch();
        for _ in 1..QUIET_LOOKS {
            assert!(crew.look(&mut watch));
        }
        assert!(!crew.look(&mut watch));
        assert!(crew.begin_turn(0), "it says so");
        assert!(!crew.begin_turn(1), "once");
        assert!(crew.look(&mut watch));
    }

    #[test]
    fn those_beyond_the_hands_step_back_and_come_when_allowed() {
        let crew = Crew::new(3, 1);
        std::thread::scope(|scope| {
            let (sender, reported) = std::sync::mpsc::channel();
            for _ in 0..3 {
                let (crew, sender) = (&crew, sender.clone());
                scope.spawn(move || {
                    crew.report();
                    sender.send(()).unwrap();
                });
            }
            reported.recv().unwrap();
            while crew.duty().on > 1 {
                std::thread::yield_now();
            }
            assert!(reported.try_recv().is_err(), "one waits, two are in reserve");
            crew.allow(2);
            reported.recv().unwrap();
            assert_eq!(crew.duty().on, 2);
            crew.dismiss();
            reported.recv().unwrap();
        });
    }
}
