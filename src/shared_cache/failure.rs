//! Why the store was of no use.

use std::io;

use redis::Value;

use crate::errors::errors;

errors! {
    Failure {
        /// Of the connection or the server.
        Server(cause: String) => "{cause}";
        /// Of one value.
        Value(cause: &'static str) => "{cause}";
        /// Of the key file.
        Keys(cause: String) => "{cause}";
        /// It failed a moment ago, or the request has used up its time.
        Skipped => "not asked";
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
