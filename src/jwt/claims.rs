//! Typed access to claims. Absent, malformed and present are three cases, and every reader must
//! handle each.

use super::json::{self, Object, Value};

#[derive(Clone, Debug, PartialEq)]
pub enum Claim<T> {
    Absent,
    /// Another type, including `null`.
    Malformed,
    Present(T),
}

impl<T> Claim<T> {
    /// Converts a value that is present.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Claim<U> {
        match self {
            Self::Absent => Claim::Absent,
            Self::Malformed => Claim::Malformed,
            Self::Present(value) => Claim::Present(convert(value)),
        }
    }
}

/// The members of a header or payload.
#[derive(Debug)]
pub struct Claims<'a>(Object<'a>);

impl<'a> Claims<'a> {
    /// `None` unless the text is one strict JSON object.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        json::object(text).map(Self)
    }

    /// The members of a nested object.
    pub const fn of(object: Object<'a>) -> Self {
        Self(object)
    }

    /// True if the member exists, whatever its value.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn typed<'b, T>(&'b self, name: &str, read: impl FnOnce(&'b Value<'a>) -> Option<T>) -> Claim<T> {
        self.0.get(name).map_or(Claim::Absent, |value| read(value).map_or(Claim::Malformed, Claim::Present))
    }

    pub fn text(&self, name: &str) -> Claim<&str> {
        self.typed(name, Value::as_text)
    }

    /// A string or an array of strings (RFC 7519 §4.1.3).
    pub fn texts(&self, name: &str) -> Claim<Vec<&str>> {
        self.typed(name, |value| match value {
            Value::Array(items) => items.iter().map(Value::as_text).collect(),
            one => one.as_text().map(|text| vec![text]),
        })
    }

    /// A string, a number or a switch as a word; of an array each of its items that is one. Anything else is no word.
    pub fn words(&self, name: &str) -> Vec<String> {
        let word = |value: &Value<'_>| match value {
            Value::Text(text) => Some(text.to_string()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(switch) => Some(switch.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        match self.0.get(name) {
            Some(Value::Array(items)) => items.iter().filter_map(word).collect(),
            value => value.and_then(word).into_iter().collect(),
        }
    }

    /// A `NumericDate`: seconds since 1970, possibly fractional (RFC 7519 §2). Always finite.
    pub fn time(&self, name: &str) -> Claim<f64> {
        self.typed(name, |value| if let Value::Number(seconds) = value { Some(*seconds) } else { None })
    }

    pub fn object(&self, name: &str) -> Claim<&Object<'a>> {
        self.typed(name, |value| if let Value::Object(object) = value { Some(object) } else { None })
    }

    pub fn array(&self, name: &str) -> Claim<&[Value<'a>]> {
        self.typed(name, |value| if let Value::Array(items) = value { Some(items.as_slice()) } else { None })
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
        let words = ["s", "n", "a", "m", "z", "none"].map(|name| claims.words(name).join("|"));
        assert_eq!(words, ["x", "1.5", "x|y", "x|1", "", ""]);
        assert_eq!(claims.texts("s"), Claim::Present(vec!["x"]));
        assert_eq!(claims.texts("a"), Claim::Present(vec!["x", "y"]));
        assert_eq!(claims.texts("e"), Claim::Present(vec![]));
        assert_eq!(
            (claims.texts("m"), claims.texts("n"), claims.texts("none")),
            (Claim::Malformed, Claim::Malformed, Claim::Absent)
        );
    }
}
