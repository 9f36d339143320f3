//! Claims by type. Absent, malformed and present are three cases, and whoever reads a claim has to say what each means.

use super::json::{self, Object, Value};

/// What a token says about one thing.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim<T> {
    /// There is no such member.
    Absent,
    /// There is one, of another type. `null` is of another type.
    Malformed,
    /// There is one.
    Present(T),
}

impl<T> Claim<T> {
    /// The same with what is present made into something else.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Claim<U> {
        match self {
            Self::Absent => Claim::Absent,
            Self::Malformed => Claim::Malformed,
            Self::Present(value) => Claim::Present(make(value)),
        }
    }
}

/// The members of a header or a payload.
#[derive(Debug)]
pub struct Claims<'a>(Object<'a>);

impl<'a> Claims<'a> {
    /// `None`: not one JSON object, or not a strict one.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        json::object(text).map(Self)
    }

    /// The members of an object within.
    pub const fn of(object: Object<'a>) -> Self {
        Self(object)
    }

    /// Whether there is a member of this name, whatever its value.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A string.
    pub fn text(&self, name: &str) -> Claim<&str> {
        match self.0.get(name) {
            None => Claim::Absent,
            Some(Value::Text(text)) => Claim::Present(text),
            Some(_) => Claim::Malformed,
        }
    }

    /// A string, or an array of strings (RFC 7519 §4.1.3).
    pub fn texts(&self, name: &str) -> Claim<Vec<&str>> {
        let texts = match self.0.get(name) {
            None => return Claim::Absent,
            Some(Value::Text(text)) => Some(vec![text.as_ref()]),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    Value::Text(text) => Some(text.as_ref()),
                    _ => None,
                })
                .collect(),
            Some(_) => None,
        };
        texts.map_or(Claim::Malformed, Claim::Present)
    }

    /// A `NumericDate`: seconds since 1970, which may have a fraction (RFC 7519 §2). Always finite.
    pub fn time(&self, name: &str) -> Claim<f64> {
        match self.0.get(name) {
            None => Claim::Absent,
            Some(Value::Number(seconds)) => Claim::Present(*seconds),
            Some(_) => Claim::Malformed,
        }
    }

    /// An object.
    pub fn object(&self, name: &str) -> Claim<&Object<'a>> {
        match self.0.get(name) {
            None => Claim::Absent,
            Some(Value::Object(object)) => Claim::Present(object),
            Some(_) => Claim::Malformed,
        }
    }

    /// An array, whatever is in it.
    pub fn array(&self, name: &str) -> Claim<&[Value<'a>]> {
        match self.0.get(name) {
            None => Claim::Absent,
            Some(Value::Array(items)) => Claim::Present(items),
            Some(_) => Claim::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_malformed_and_present_are_told_apart() {
        let claims = Claims::parse(br#"{"s":"x","n":1.5,"a":["x","y"],"m":["x",1],"z":null,"e":[]}"#).unwrap();
        assert_eq!(
            (claims.text("s"), claims.text("n"), claims.text("z")),
            (Claim::Present("x"), Claim::Malformed, Claim::Malformed)
        );
        assert_eq!(claims.text("S"), Claim::Absent);
        assert_eq!(
            (claims.time("n"), claims.time("s"), claims.time("z")),
            (Claim::Present(1.5), Claim::Malformed, Claim::Malformed)
        );
        assert_eq!(claims.time("exp"), Claim::Absent);
        assert_eq!(claims.texts("s"), Claim::Present(vec!["x"]));
        assert_eq!(claims.texts("a"), Claim::Present(vec!["x", "y"]));
        assert_eq!(claims.texts("e"), Claim::Present(vec![]));
        assert_eq!(
            (claims.texts("m"), claims.texts("n"), claims.texts("none")),
            (Claim::Malformed, Claim::Malformed, Claim::Absent)
        );
    }
}
