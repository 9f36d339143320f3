//! Why the store was of no use.

use std::{fmt, io};

use redis::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Of the connection or the server.
    Server(String),
    /// Of one value.
    Value(&'static str),
    Keys(String),
    /// Not asked: it failed a moment ago, or the request has used up its time.
    Skipped,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(cause) | Self::Keys(cause) => f.write_str(cause),
            Self::Value(cause) => f.write_str(cause),
            Self::Skipped => f.write_str("not asked"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Server(error.to_string())
    }
}

/// A value of the answers, if it is no error.
pub fn expect(answer: Value) -> Result<Value, Failure> {
    match answer {
        // Somebody else's list or set under our name.
        Value::ServerError(error) if error.code() == "WRONGTYPE" => Err(Failure::Value("a value is of another type")),
        // Nothing of ours is in there, but the server's own words could be anything.
        Value::ServerError(error) => Err(Failure::Server(format!("the server answered {}", error.code()))),
        answer => Ok(answer),
    }
}
