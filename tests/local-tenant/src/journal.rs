//! What came in and what became of it, for tests to ask afterwards.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::message::Request;

/// Which part of the tenant a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The token endpoint.
    Token,
    /// OpenID metadata.
    Metadata,
    /// Signing keys.
    Jwks,
    /// The downstream API.
    Downstream,
    /// A managed identity endpoint.
    ManagedIdentity,
    /// Key Vault.
    Vault,
    /// Azure OpenAI.
    OpenAi,
    /// Microsoft Graph.
    Graph,
    /// Blob storage.
    Blob,
    /// The control interface, which is not recorded.
    Control,
    /// Anything else.
    Other,
}

impl Kind {
    /// All kinds with their names.
    const NAMES: [(Self, &'static str); 11] = [
        (Self::Token, "token"),
        (Self::Metadata, "metadata"),
        (Self::Jwks, "jwks"),
        (Self::Downstream, "downstream"),
        (Self::ManagedIdentity, "managed-identity"),
        (Self::Vault, "vault"),
        (Self::OpenAi, "openai"),
        (Self::Graph, "graph"),
        (Self::Blob, "blob"),
        (Self::Control, "control"),
        (Self::Other, "other"),
    ];

    /// The kind that a path belongs to.
    pub fn of_path(path: &str) -> Self {
        let starts = |prefix: &str| path.starts_with(prefix);
        if starts("/_control") {
            Self::Control
        } else if starts("/api/") || path == "/api" {
            Self::Downstream
        } else if starts("/metadata/i") || starts("/managed-identity/") {
            Self::ManagedIdentity
        } else if starts("/certificates/") || starts("/secrets/") || starts("/keys/") {
            Self::Vault
        } else if starts("/openai/") || starts("/models/") {
            Self::OpenAi
        } else if starts("/v1.0/") {
            Self::Graph
        } else if starts("/blob/") {
            Self::Blob
        } else if path.ends_with("/oauth2/v2.0/token") {
            Self::Token
        } else if path.ends_with("/.well-known/openid-configuration") {
            Self::Metadata
        } else if path.ends_with("/discovery/v2.0/keys") || path.ends_with("/discovery/keys") {
            Self::Jwks
        } else {
            Self::Other
        }
    }

    /// The name in the control interface.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("other", |(_, name)| name)
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, n)| *n == name).map(|(kind, _)| *kind)
    }
}

/// One request of the journal.
#[derive(Clone, Debug)]
pub struct Record {
    /// 1, 2, 3… in order of arrival.
    pub number: usize,
    /// What it was for.
    pub kind: Kind,
    /// The request itself; its body is empty when a fault left it unread.
    pub request: Request,
    /// The form fields, decoded.
    pub form: Vec<(String, String)>,
    /// The status that was answered; none while it is being handled or when the connection was cut.
    pub status: Option<u16>,
    /// The reason of a refusal, or the fault that was applied.
    pub note: Option<String>,
}

impl Record {
    /// A form field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The record as JSON.
    pub fn json(&self) -> Value {
        let pairs = |pairs: &[(String, String)]| pairs.iter().map(|(n, v)| json!([n, v])).collect::<Value>();
        json!({
            "number": self.number,
            "kind": self.kind.name(),
            "connection": self.request.connection,
            "method": self.request.method,
            "path": self.request.path,
            "query": pairs(&self.request.query_pairs()),
            "headers": pairs(&self.request.headers),
            "form": pairs(&self.form),
            "body": String::from_utf8_lossy(&self.request.body),
            "status": self.status,
            "note": self.note,
        })
    }
}

/// How many requests the journal remembers; the counts go on.
const REMEMBERED: usize = 20_000;
/// How much of a body it remembers.
const BODY: usize = 1024 * 1024;

/// The journal.
#[derive(Default)]
pub struct Journal {
    entries: Mutex<Entries>,
    changed: Condvar,
}

#[derive(Default)]
struct Entries {
    arrived: usize,
    counts: [usize; Kind::NAMES.len()],
    records: VecDeque<Record>,
}

impl Journal {
    /// Notes a request's arrival; gives its number.
    pub fn arrived(&self, request: &Request) -> usize {
        let kind = Kind::of_path(&request.path);
        let form = if kind == Kind::Downstream { Vec::new() } else { request.form() };
        let mut request = request.clone();
        request.body.truncate(BODY);
        let mut entries = self.entries.lock().unwrap();
        entries.arrived += 1;
        entries.counts[kind as usize] += 1;
        let number = entries.arrived;
        if entries.records.len() == REMEMBERED {
            entries.records.pop_front();
        }
        entries.records.push_back(Record { number, kind, request, form, status: None, note: None });
        drop(entries);
        self.changed.notify_all();
        number
    }

    /// Notes what became of a request.
    pub fn answered(&self, number: usize, status: Option<u16>) {
        self.change(number, |record| record.status = status);
    }

    /// Adds a remark to a request.
    pub fn note(&self, number: usize, note: &str) {
        self.change(number, |record| record.note = Some(note.to_owned()));
    }

    fn change(&self, number: usize, change: impl FnOnce(&mut Record)) {
        let mut entries = self.entries.lock().unwrap();
        // Newest first: the record is near the end. It is gone when the journal was cleared meanwhile.
        if let Some(record) = entries.records.iter_mut().rev().find(|record| record.number == number) {
            change(record);
        }
        drop(entries);
        self.changed.notify_all();
    }

    /// Everything that is remembered.
    pub fn all(&self) -> Vec<Record> {
        self.entries.lock().unwrap().records.iter().cloned().collect()
    }

    /// Everything of one kind.
    pub fn of(&self, kind: Kind) -> Vec<Record> {
        self.all().into_iter().filter(|record| record.kind == kind).collect()
    }

    /// How many requests of one kind have arrived.
    pub fn count(&self, kind: Kind) -> usize {
        self.entries.lock().unwrap().counts[kind as usize]
    }

    /// Waits until this many requests of a kind have arrived; false when `patience` ends first.
    pub fn wait_for(&self, kind: Kind, count: usize, patience: Duration) -> bool {
        let entries = self.entries.lock().unwrap();
        let waited =
            self.changed.wait_timeout_while(entries, patience, |entries| entries.counts[kind as usize] < count);
        waited.unwrap().0.counts[kind as usize] >= count
    }

    /// Forgets everything; numbers go on.
    pub fn clear(&self) {
        let mut entries = self.entries.lock().unwrap();
        *entries = Entries { arrived: entries.arrived, ..Entries::default() };
    }
}
