//! Background renewal on a few dedicated threads, so that no worker or caller waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::cache::Lead;
use super::leg::Job;
use crate::sync::Mutex;

const THREADS: usize = 2;

/// Capacity; when full, a later caller renews.
const QUEUE: usize = 1024;

pub struct Refresher {
    queue: SyncSender<(Job, Lead)>,
}

impl Refresher {
    /// Starts the threads. They end when this is dropped or `renew` returns false.
    pub fn start(renew: impl Fn(Job, Lead) -> bool + Send + Sync + 'static) -> Self {
        let (queue, jobs) = sync_channel(QUEUE);
        let (renew, jobs) = (Arc::new(renew), Arc::new(Mutex::new(jobs)));
        for number in 0..THREADS {
            let (renew, jobs) = (Arc::clone(&renew), Arc::clone(&jobs));
            let name = format!("refresh-{number}");
            if let Err(error) = thread::Builder::new().name(name).spawn(move || work(&*renew, &jobs)) {
                log::error!("failed to start a renewal thread: {error}");
            }
        }
        Self { queue }
    }

    /// Queues a renewal. If the queue is full or no request is possible, the lead is dropped, and
    /// the next caller tries again.
    pub fn enqueue(&self, job: Job, lead: Lead) {
        if matches!(job, Job::Impossible(_)) {
            return;
        }
        if self.queue.try_send((job, lead)).is_err() {
            log::warn!("the renewal queue is full; left one token for later");
        }
    }
}

fn work(renew: &impl Fn(Job, Lead) -> bool, jobs: &Mutex<Receiver<(Job, Lead)>>) {
    loop {
        let Ok((job, lead)) = jobs.lock().recv() else { return };
        // A bug ends this renewal only; its lead is dropped, and a later caller tries again.
        match catch_unwind(AssertUnwindSafe(|| renew(job, lead))) {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => log::error!("a bug interrupted a token renewal"),
        }
    }
}
