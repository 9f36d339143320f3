//! The last requests, which the page at `/` shows.

use std::collections::VecDeque;

use serde::Serialize;

use crate::sync::Mutex;

/// The last requests, newest first.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Answered>>);

/// A request that was answered: what the access log says of it, and what its caller was told of an error.
#[derive(Clone, Debug, Serialize)]
pub struct Answered {
    /// RFC 3339.
    pub time: String,
    pub method: &'static str,
    pub route: &'static str,
    pub status: u16,
    pub milliseconds: f64,
    pub id: String,
    /// Empty if nothing went wrong.
    pub problem: String,
}

impl Recent {
    const MOST: usize = 50;

    /// The oldest one makes room.
    pub fn add(&self, answered: Answered) {
        let mut list = self.0.lock();
        list.truncate(Self::MOST - 1);
        list.push_front(answered);
    }

    pub fn all(&self) -> Vec<Answered> {
        self.0.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_fifty_requests_are_kept() {
        let recent = Recent::default();
        for status in 400..460 {
            recent.add(Answered {
                time: String::new(),
                method: "GET",
                route: "/Validate",
                status,
                milliseconds: 2.0,
                id: String::new(),
                problem: String::new(),
            });
        }
        let all = recent.all();
        assert_eq!((all.len(), all[0].status, all[49].status), (50, 459, 410));
    }
}
