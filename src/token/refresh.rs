//! Renewal in the background: a few threads of their own, so that no worker and no caller waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use super::cache::Lead;
use super::leg::Job;
use super::{Acquirer, count};

const THREADS: usize = 2;

/// Renewals that may wait; one more is left to a later caller.
const QUEUE: usize = 1024;

/// Takes renewals.
pub struct Refresher {
    queue: SyncSender<(Job, Lead)>,
}

impl Refresher {
    /// Starts the threads, which end with the acquirer.
    pub fn start(acquirer: &Weak<Acquirer>) -> Self {
        let (queue, jobs) = sync_channel(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..THREADS {
            let (acquirer, jobs) = (Weak::clone(acquirer), Arc::clone(&jobs));
            let name = format!("refresh-{number}");
            if let Err(error) = thread::Builder::new().name(name).spawn(move || work(&acquirer, &jobs)) {
                log::error!("no thread for renewals: {error}");
            }
        }
        Self { queue }
    }

    /// Renews soon. With a full queue, or nobody to ask, the lead is dropped, which lets the next caller try again.
    pub fn enqueue(&self, job: Job, lead: Lead) {
        if matches!(job, Job::Hopeless(_)) {
            return;
        }
        if self.queue.try_send((job, lead)).is_err() {
            log::warn!("too many tokens to renew at once; one is left for later");
        }
    }
}

fn work(acquirer: &Weak<Acquirer>, jobs: &Mutex<Receiver<(Job, Lead)>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let (Ok((job, lead)), Some(acquirer)) = (next, acquirer.upgrade()) else { return };
        // A defect met in one renewal ends that renewal; its lead is dropped, and a later caller tries again.
        match catch_unwind(AssertUnwindSafe(|| acquirer.fly(&job, lead))) {
            Ok(Ok(_)) => count(&acquirer.results.refreshed),
            Ok(Err(_)) => {}
            Err(_) => log::error!("a renewal met a defect"),
        }
    }
}
