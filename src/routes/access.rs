//! Counts and logs a request once it is over, and in Development remembers it for the page.

use std::sync::Arc;
use std::time::Instant;

use super::call::Call;
use super::correlation;
use super::problem::{Form, Problem};
use super::recent::{Answered, Recent};
use super::route::Endpoint;
use crate::clock::{Clock as _, SystemClock};
use crate::http::{Method, Reply};
use crate::metrics::Metrics;
use crate::value::date;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Whole,
    /// The caller closed the connection.
    Cancelled,
    /// The API broke off or was too slow.
    CutByApi,
    /// The request's body was malformed or too slow.
    CutByBody,
}

impl Ended {
    /// For the log line, which it ends, and for the page.
    const fn words(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Cancelled => "cancelled by the caller",
            Self::CutByApi => "broken off by the API",
            Self::CutByBody => "broken off: the request body was refused",
        }
    }
}

/// What is known of a request before its answer.
pub struct Entry<'a> {
    pub metrics: &'a Metrics,
    pub recent: Option<&'a Recent>,
    pub method: Method,
    /// `None` if the path leads to none.
    pub endpoint: Option<Endpoint>,
    pub received: Instant,
    pub id: &'a str,
}

impl Entry<'_> {
    /// Counts and logs an answer.
    pub fn reply(&self, reply: Reply) -> Reply {
        self.finish(reply, "")
    }

    /// Counts and logs a problem in its form.
    pub fn problem(&self, problem: Problem, form: Form) -> Reply {
        let words = self.recent.map_or_else(String::new, |_| problem.words().to_owned());
        self.finish(problem.into_reply_as(form), &words)
    }

    fn finish(&self, reply: Reply, problem: &str) -> Reply {
        self.add(reply.status, Ended::Whole, problem);
        reply.header(correlation::HEADER, self.id)
    }

    /// `problem` is what the caller was told of an error.
    pub fn add(&self, status: u16, ended: Ended, problem: &str) {
        let duration = self.received.elapsed();
        self.metrics.request(self.endpoint.map(|endpoint| endpoint as usize), self.method, status, duration);
        // A caller may leave a stream when it has enough. OpenAI's SDKs do so at `[DONE]`, before the
        // last chunk.
        let succeeded = status < 400 && matches!(ended, Ended::Whole | Ended::Cancelled);
        let level = if succeeded { log::Level::Info } else { log::Level::Warn };
        let (method, route) = (self.method.as_str(), self.endpoint.map_or("unknown", Endpoint::pattern));
        let milliseconds = duration.as_secs_f64() * 1e3;
        let (id, blank) = (self.id, if ended == Ended::Whole { "" } else { " " });
        // Never the query, which may hold secrets.
        log::log!(
            target: "access",
            level,
            "{method} {route} {status} {milliseconds:.3} ms {id}{blank}{}",
            ended.words()
        );
        // The page itself asks every few seconds.
        if let Some(recent) = self.recent.filter(|_| self.endpoint != Some(Endpoint::Page)) {
            recent.add(Answered {
                time: date::to_rfc3339_seconds(SystemClock.unix()),
                method,
                route,
                status,
                milliseconds,
                id: id.to_owned(),
                problem: if problem.is_empty() { ended.words() } else { problem }.to_owned(),
            });
        }
    }
}

/// The entry of a request that ends elsewhere than where it was handled.
pub struct Receipt {
    pub metrics: Arc<Metrics>,
    recent: Option<Arc<Recent>>,
    endpoint: Endpoint,
    method: Method,
    received: Instant,
    correlation_id: String,
}

impl Receipt {
    pub fn new(call: &Call<'_>, endpoint: Endpoint) -> Self {
        Self {
            metrics: Arc::clone(&call.shared.metrics),
            recent: call.shared.recent.clone(),
            endpoint,
            method: call.request.method,
            received: call.request.record.received,
            correlation_id: call.correlation_id.to_owned(),
        }
    }

    pub fn entry(&self) -> Entry<'_> {
        Entry {
            metrics: &self.metrics,
            recent: self.recent.as_deref(),
            method: self.method,
            endpoint: Some(self.endpoint),
            received: self.received,
            id: &self.correlation_id,
        }
    }
}
