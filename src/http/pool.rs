//! The pool for what may block: threads are made when there is more work than idle threads, end when they have been
//! idle for a while, and are reused last in, first out, so that few are kept where few are needed.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// An idle thread ends after this.
const IDLE: Duration = Duration::from_secs(10);

/// Enough for a TLS handshake. Only what is touched becomes resident, but limits on data count all of it. Code that is
/// not optimised needs much more.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 2 * 1024 * 1024 } else { 128 * 1024 };

/// What may block.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// The threads.
pub(super) struct Pool {
    most: usize,
    state: Mutex<State>,
}

struct State {
    /// Work that found no thread.
    jobs: VecDeque<Job>,
    /// The one that became idle last is the last.
    idle: Vec<Arc<Seat>>,
    threads: usize,
    stopped: bool,
}

/// Where an idle thread waits for its next job.
struct Seat {
    job: Mutex<Option<Job>>,
    given: Condvar,
}

impl Pool {
    /// Of at most so many threads; none is there until it is needed.
    pub fn new(most: usize) -> Self {
        let state = State { jobs: VecDeque::new(), idle: Vec::new(), threads: 0, stopped: false };
        Self { most: most.max(1), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn threads(&self) -> usize {
        self.lock().threads
    }

    /// Has a job done: by an idle thread, else by a new one, else by the first that is done with another job.
    pub fn run(self: &Arc<Self>, job: Job) {
        let mut state = self.lock();
        if state.stopped {
            return;
        }
        if let Some(seat) = state.idle.pop() {
            drop(state);
            *seat.lock() = Some(job);
            seat.given.notify_one();
            return;
        }
        state.jobs.push_back(job);
        self.grow(state);
    }

    /// Makes a thread if there is work for it. The system may have none left: then the work waits for the threads that
    /// there are, or for the next attempt.
    fn grow(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.jobs.is_empty() || state.threads >= self.most {
            return;
        }
        state.threads += 1;
        drop(state);
        let pool = Arc::clone(self);
        let thread = thread::Builder::new().name("upstream".to_owned()).stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(move || pool.work()) {
            self.lock().threads -= 1;
            log::warn!("no further thread for upstream calls: {error}; they wait for those that there are");
        }
    }

    /// Tries again where work waits and the system had no thread left.
    pub fn retry(self: &Arc<Self>) {
        self.grow(self.lock());
    }

    fn work(&self) {
        let seat = Arc::new(Seat { job: Mutex::new(None), given: Condvar::new() });
        while let Some(job) = self.next(&seat) {
            job();
        }
    }

    /// The next job. `None`: the thread has ended, and is counted no more.
    fn next(&self, seat: &Arc<Seat>) -> Option<Job> {
        let mut state = self.lock();
        if let Some(job) = state.jobs.pop_front() {
            return Some(job);
        }
        if state.stopped {
            state.threads -= 1;
            return None;
        }
        state.idle.push(Arc::clone(seat));
        drop(state);
        self.wait(seat)
    }

    /// Waits for a job, at most [`IDLE`].
    fn wait(&self, seat: &Arc<Seat>) -> Option<Job> {
        let end = Instant::now() + IDLE;
        let mut job = seat.lock();
        loop {
            if let Some(job) = job.take() {
                return Some(job);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(job);
                let mut state = self.lock();
                if let Some(at) = state.idle.iter().position(|own| Arc::ptr_eq(own, seat)) {
                    state.idle.remove(at);
                    state.threads -= 1;
                    return None;
                }
                // A job is on its way.
                drop(state);
                job = seat.lock();
                while job.is_none() {
                    job = seat.given.wait(job).unwrap_or_else(PoisonError::into_inner);
                }
                continue;
            }
            job = seat.given.wait_timeout(job, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the idle threads, and drops the work that none has begun.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        let (jobs, idle) = (std::mem::take(&mut state.jobs), std::mem::take(&mut state.idle));
        drop(state);
        drop(jobs);
        for seat in idle {
            *seat.lock() = Some(Box::new(|| ()));
            seat.given.notify_one();
        }
    }
}

impl Seat {
    fn lock(&self) -> MutexGuard<'_, Option<Job>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("most", &self.most).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn threads_are_made_when_needed_and_reused() {
        let pool = Arc::new(Pool::new(2));
        let (sender, done) = mpsc::channel();
        for _ in 0..20 {
            let sender = sender.clone();
            pool.run(Box::new(move || sender.send(()).unwrap()));
            done.recv().unwrap();
            while pool.lock().idle.is_empty() {
                thread::yield_now();
            }
        }
        assert_eq!(pool.threads(), 1);
        pool.stop();
    }

    #[test]
    fn work_beyond_the_bound_waits_for_a_thread() {
        let pool = Arc::new(Pool::new(2));
        let (sender, done) = mpsc::channel();
        let barrier = Arc::new(std::sync::Barrier::new(3));
        for number in 0..4 {
            let (sender, barrier) = (sender.clone(), Arc::clone(&barrier));
            pool.run(Box::new(move || {
                if number < 2 {
                    barrier.wait();
                }
                sender.send(number).unwrap();
            }));
        }
        assert_eq!(pool.threads(), 2);
        assert!(done.try_recv().is_err());
        barrier.wait();
        let mut all: Vec<_> = (0..4).map(|_| done.recv().unwrap()).collect();
        all.sort_unstable();
        assert_eq!((all, pool.threads()), (vec![0, 1, 2, 3], 2));
        pool.stop();
        while pool.threads() > 0 {
            thread::yield_now();
        }
    }
}
