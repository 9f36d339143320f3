//! The header fields of an answer, in three buffers rather than two for each field.

use crate::value::wide;

/// Room for a usual name or value, in bytes.
const USUAL: usize = 24;

/// Names in lower case, with their values as received, in the order received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderFields {
    names: String,
    values: Vec<u8>,
    /// Where each name and each value ends.
    ends: Vec<(usize, usize)>,
}

impl HeaderFields {
    /// All fields. HTTP does not promise that values are UTF-8.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        (0..self.ends.len()).map(|at| self.field(at))
    }

    /// The values of one name, in lower case.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> + Clone {
        self.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value)
    }

    fn field(&self, at: usize) -> (&str, &[u8]) {
        let (name, value) = at.checked_sub(1).map_or((0, 0), |before| self.ends[before]);
        let (name_end, value_end) = self.ends[at];
        (&self.names[name..name_end], &self.values[value..value_end])
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for HeaderFields {
    /// Names may have any case.
    fn from_iter<T: IntoIterator<Item = (N, V)>>(fields: T) -> Self {
        let fields = fields.into_iter();
        let count = fields.size_hint().0;
        let mut all = Self {
            names: String::with_capacity(count * USUAL),
            values: Vec::with_capacity(count * USUAL),
            ends: Vec::with_capacity(count),
        };
        for (name, value) in fields {
            all.names.push_str(name.as_ref());
            wide::push(&mut all.values, value.as_ref());
            all.ends.push((all.names.len(), all.values.len()));
        }
        all.names.make_ascii_lowercase();
        all
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>, const COUNT: usize> From<[(N, V); COUNT]> for HeaderFields {
    fn from(fields: [(N, V); COUNT]) -> Self {
        fields.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_their_values() {
        let fields = HeaderFields::from([("Set-Cookie", &b"a"[..]), ("ETag", b""), ("set-cookie", b"\xe9")]);
        let seen: Vec<_> = fields.iter().collect();
        assert_eq!(seen, [("set-cookie", &b"a"[..]), ("etag", b""), ("set-cookie", b"\xe9")]);
        assert_eq!(fields.all("set-cookie").collect::<Vec<_>>(), [&b"a"[..], b"\xe9"]);
        assert_eq!(HeaderFields::default().iter().count(), 0);
    }
}
