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

/// Appended to the line of a call that its caller abandoned.
pub const CANCELLED: &str = " cancelled by the caller";

/// What has to be known of a request that ends elsewhere than where it was handled.
pub struct Receipt {
    pub metrics: Arc<Metrics>,
    recent: Option<Arc<Recent>>,
    endpoint: Endpoint,
    method: Method,
    received: Instant,
    pub correlation_id: String,
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

    /// Counts and logs it as [`finish`] does.
    pub fn finish(&self, status: u16, broken: &str, problem: &str) {
        let sinks = (&*self.metrics, self.recent.as_deref());
        let endpoint = Some(self.endpoint);
        finish(sinks, self.method, endpoint, status, self.received, &self.correlation_id, broken, problem);
    }

    /// Counts and logs an answer.
    pub fn reply(&self, reply: Reply) -> Reply {
        self.finish(reply.status, "", "");
        reply.header(correlation::HEADER, &self.correlation_id)
    }

    /// Counts and logs a problem in its form.
    pub fn problem(&self, problem: Problem, form: Form) -> Reply {
        self.finish(problem.status, "", problem.words());
        problem.into_reply_as(form).header(correlation::HEADER, &self.correlation_id)
    }
}

/// Counts and logs one request. `broken` is appended to the log line and says who broke the answer off; empty: nobody.
/// `problem` is what the caller was told of an error.
#[expect(clippy::too_many_arguments, reason = "each is a column of the access log or of the page")]
pub fn finish(
    (metrics, recent): (&Metrics, Option<&Recent>),
    method: Method,
    endpoint: Option<Endpoint>,
    status: u16,
    received: Instant,
    id: &str,
    broken: &str,
    problem: &str,
) {
    let duration = received.elapsed();
    metrics.request(endpoint.map(|endpoint| endpoint as usize), method, status, duration);
    // A caller may leave a stream when it has enough. OpenAI's SDKs do so at `[DONE]`, before the
    // last chunk.
    let succeeded = status < 400 && (broken.is_empty() || broken == CANCELLED);
    let level = if succeeded { log::Level::Info } else { log::Level::Warn };
    // Never the query, which may hold secrets.
    log::log!(
        target: "access",
        level,
        "{} {} {status} {:.3} ms {id}{broken}",
        method.as_str(),
        endpoint.map_or("unknown", Endpoint::pattern),
        duration.as_secs_f64() * 1e3,
    );
    // The page itself asks every few seconds.
    if let Some(recent) = recent.filter(|_| endpoint != Some(Endpoint::Page)) {
        recent.add(Answered {
            time: date::to_rfc3339_seconds(SystemClock.unix()),
            method: method.as_str(),
            route: endpoint.map_or("unknown", Endpoint::pattern),
            status,
            milliseconds: duration.as_secs_f64() * 1e3,
            id: id.to_owned(),
            problem: problem.to_owned(),
        });
    }
}
