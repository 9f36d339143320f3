//! Faults on demand: the next requests of a kind are answered wrongly, late or not at all.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::journal::Kind;
use crate::message::{Answer, Ending, Request};

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Action {
    /// This answer instead of the real one.
    Answer(Box<Answer>),
    /// A refusal whose description repeats what the form proved itself with, as it came and decoded.
    Echo,
    /// The real answer, this much later.
    Delay(Duration),
    /// The real answer once [`Faults::release`] is called.
    Hold,
    /// The connection is cut when the head has been read and the body has not.
    CutBeforeBody,
    /// The connection is cut when the request has been read; nothing was done.
    CutBeforeAnswer,
    /// The request is carried out, and the connection is cut in place of its answer.
    CutAfterWork,
    /// The real answer breaks off after this many bytes of head and body.
    Truncate(usize),
}

/// A fault and when it applies.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Only requests of this kind.
    pub kind: Option<Kind>,
    /// Only paths that contain this.
    pub path: Option<String>,
    /// Only forms with this field and value.
    pub field: Option<(String, String)>,
    /// How often it applies.
    pub times: usize,
    /// What happens.
    pub action: Action,
}

impl Fault {
    /// A fault for the next request of this kind.
    pub fn once(kind: Kind, action: Action) -> Self {
        Self::times(kind, 1, action)
    }

    /// A fault for the next requests of this kind.
    pub fn times(kind: Kind, times: usize, action: Action) -> Self {
        Self { kind: Some(kind), path: None, field: None, times, action }
    }

    /// A fault for every request of this kind until it is cleared.
    pub fn always(kind: Kind, action: Action) -> Self {
        Self::times(kind, usize::MAX, action)
    }

    /// Limits it to paths that contain this text.
    #[must_use]
    pub fn on_path(mut self, path: &str) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Limits it to forms with this field.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: &str) -> Self {
        self.field = Some((name.into(), value.into()));
        self
    }

    fn matches(&self, request: &Request) -> bool {
        self.times > 0
            && self.kind.is_none_or(|kind| kind == Kind::of_path(&request.path))
            && self.path.as_ref().is_none_or(|path| request.path.contains(path.as_str()))
            && self.field.as_ref().is_none_or(|field| request.form().contains(field))
    }
}

/// The faults in force; the first that matches applies.
#[derive(Default)]
pub struct Faults {
    planned: Mutex<Vec<Fault>>,
    gate: Mutex<Gate>,
    opened: Condvar,
}

#[derive(Default)]
struct Gate {
    waiting: usize,
    releases: u64,
}

impl Faults {
    /// Adds a fault behind those that are there.
    pub fn add(&self, fault: Fault) {
        self.planned.lock().unwrap().push(fault);
    }

    /// Forgets all faults and lets go what they hold.
    pub fn clear(&self) {
        self.planned.lock().unwrap().clear();
        self.release();
    }

    /// Lets every held request go on.
    pub fn release(&self) {
        self.gate.lock().unwrap().releases += 1;
        self.opened.notify_all();
    }

    /// How many requests are held now.
    pub fn held(&self) -> usize {
        self.gate.lock().unwrap().waiting
    }

    /// Waits until this many requests are held; false when `patience` ends first.
    pub fn wait_held(&self, count: usize, patience: Duration) -> bool {
        let gate = self.gate.lock().unwrap();
        self.opened.wait_timeout_while(gate, patience, |gate| gate.waiting < count).unwrap().0.waiting >= count
    }

    /// Takes the fault for a request whose head has been read, when it concerns the body.
    pub fn at_head(&self, request: &Request) -> Option<Answer> {
        let mut planned = self.planned.lock().unwrap();
        let fault = planned.iter_mut().find(|f| matches!(f.action, Action::CutBeforeBody) && f.matches(request))?;
        fault.times -= 1;
        Some(Answer { ending: Ending::Silent, ..Answer::default() })
    }

    /// Takes the fault for a complete request.
    pub fn take(&self, request: &Request) -> Option<Action> {
        let mut planned = self.planned.lock().unwrap();
        let fault = planned.iter_mut().find(|f| !matches!(f.action, Action::CutBeforeBody) && f.matches(request))?;
        fault.times -= 1;
        Some(fault.action.clone())
    }

    /// Waits for the next release.
    pub fn hold(&self) {
        let mut gate = self.gate.lock().unwrap();
        let before = gate.releases;
        gate.waiting += 1;
        self.opened.notify_all();
        let mut gate = self.opened.wait_while(gate, |gate| gate.releases == before).unwrap();
        gate.waiting -= 1;
    }
}
