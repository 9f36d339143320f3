//! The thread pool for work that may block. It makes a thread when no idle one is left, and reuses
//! the one that became idle last, so that surplus threads reach the idle timeout and end.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex, MutexGuard};

/// Idle time after which a thread ends.
const IDLE: Duration = Duration::from_secs(10);

/// Enough for a TLS handshake. Pages become resident only when touched, but `RLIMIT_DATA` counts
/// all of them. Unoptimised code needs much more.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 2 * 1024 * 1024 } else { 128 * 1024 };

pub(super) type Job = Box<dyn FnOnce() + Send>;

pub(super) struct Pool {
    most: usize,
    state: Mutex<PoolState>,
}

struct PoolState {
    jobs: VecDeque<Job>,
    /// The last element became idle last.
    idle: Vec<Arc<IdleThread>>,
    threads: usize,
    /// Threads that were made and have not looked for a job yet.
    starting: usize,
    stopped: bool,
}

/// The mailbox of an idle thread.
struct IdleThread {
    job: Mutex<Option<Job>>,
    given: Condvar,
}

impl Pool {
    /// A pool of at most `most` threads, with none at the beginning.
    pub fn new(most: usize) -> Self {
        let state = PoolState { jobs: VecDeque::new(), idle: Vec::new(), threads: 0, starting: 0, stopped: false };
        Self { most: most.max(1), state: Mutex::new(state) }
    }

    #[cfg(test)]
    fn threads(&self) -> usize {
        self.state.lock().threads
    }

    /// Runs a job on an idle thread, else on a new one, else on the first thread that becomes free.
    pub fn run(self: &Arc<Self>, job: Job) {
        let mut state = self.state.lock();
        if state.stopped {
            return;
        }
        if let Some(thread) = state.idle.pop() {
            drop(state);
            *thread.job.lock() = Some(job);
            thread.given.notify_one();
            return;
        }
        state.jobs.push_back(job);
        self.grow(state);
    }

    /// Makes a thread if a job is waiting that no other thread is being made for. If the system refuses, they wait for the existing
    /// threads or for the next attempt.
    fn grow(self: &Arc<Self>, mut state: MutexGuard<'_, PoolState>) {
        if state.jobs.len() <= state.starting || state.threads >= self.most {
            return;
        }
        state.threads += 1;
        state.starting += 1;
        drop(state);
        let pool = Arc::clone(self);
        let thread = thread::Builder::new().name("upstream".to_owned()).stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(move || pool.work()) {
            let mut state = self.state.lock();
            state.threads -= 1;
            state.starting -= 1;
            drop(state);
            log::warn!("cannot create a thread for upstream calls: {error}; they wait for existing ones");
        }
    }

    /// Tries again to make a thread for waiting jobs.
    pub fn retry(self: &Arc<Self>) {
        self.grow(self.state.lock());
    }

    fn work(&self) {
        let thread = Arc::new(IdleThread { job: Mutex::new(None), given: Condvar::new() });
        let mut is_new = true;
        while let Some(job) = self.next(&thread, mem::take(&mut is_new)) {
            job();
        }
    }

    /// The next job. `None`: the thread has been removed from the count and must end.
    fn next(&self, thread: &Arc<IdleThread>, is_new: bool) -> Option<Job> {
        let mut state = self.state.lock();
        state.starting -= usize::from(is_new);
        if let Some(job) = state.jobs.pop_front() {
            return Some(job);
        }
        if state.stopped {
            state.threads -= 1;
            return None;
        }
        state.idle.push(Arc::clone(thread));
        drop(state);
        self.wait(thread)
    }

    /// Waits for a job, for at most [`IDLE`].
    fn wait(&self, thread: &Arc<IdleThread>) -> Option<Job> {
        let end = Instant::now() + IDLE;
        let mut job = thread.job.lock();
        loop {
            if let Some(job) = job.take() {
                return Some(job);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(job);
                let mut state = self.state.lock();
                if let Some(at) = state.idle.iter().position(|own| Arc::ptr_eq(own, thread)) {
                    state.idle.remove(at);
                    state.threads -= 1;
                    return None;
                }
                // A job is being handed over.
                drop(state);
                job = thread.job.lock();
                while job.is_none() {
                    job = thread.given.wait(job);
                }
                continue;
            }
            job = thread.given.wait_timeout(job, left);
        }
    }

    /// Ends idle threads and drops jobs that have not begun.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        let (jobs, idle) = (std::mem::take(&mut state.jobs), std::mem::take(&mut state.idle));
        drop(state);
        drop(jobs);
        for thread in idle {
            *thread.job.lock() = Some(Box::new(|| ()));
            thread.given.notify_one();
        }
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
            while pool.state.lock().idle.is_empty() {
                thread::yield_now();
            }
        }
        assert_eq!(pool.threads(), 1);
        pool.stop();
    }

    #[test]
    fn a_job_whose_thread_is_starting_gets_no_second_one() {
        let pool = Arc::new(Pool::new(8));
        let (sender, done) = mpsc::channel();
        pool.run(Box::new(move || sender.send(()).unwrap()));
        for _ in 0..100 {
            pool.retry();
        }
        done.recv().unwrap();
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
