//! Finds the known name that a misspelled one most likely meant.

/// Longer names are compared by their first characters, since the cost is the product of the
/// lengths.
const MAX_COMPARED: usize = 80;

/// Prefers a name with the same last part, since forgotten and misplaced sections are the most
/// common mistakes, over the one with the fewest edits. A name without sections is also compared
/// with last parts alone.
///
/// `parts` returns the full name and its last part. `None` matches nothing, for names that stand
/// for any.
pub fn nearest<T>(
    name: &str,
    separator: char,
    known: impl IntoIterator<Item = T>,
    parts: impl Fn(&T) -> (String, Option<String>),
) -> Option<T> {
    let last = name.rsplit(separator).next().unwrap_or_default();
    let rank = |candidate: &T| {
        let (whole, end) = parts(candidate);
        let end = end.unwrap_or_default();
        let edits = distance(name, &whole);
        let of_end = if name.contains(separator) || end.is_empty() { edits } else { distance(name, &end) };
        (!last.eq_ignore_ascii_case(&end), edits.min(of_end), edits)
    };
    known.into_iter().min_by_key(rank)
}

/// Levenshtein distance, ignoring ASCII case.
pub fn distance(text: &str, known: &str) -> usize {
    let text: Vec<char> = text.chars().take(MAX_COMPARED).collect();
    let mut row: Vec<usize> = (0..=text.len()).collect();
    for (line, wanted) in known.chars().take(MAX_COMPARED).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, given) in text.iter().enumerate() {
            let replaced = diagonal + usize::from(!given.eq_ignore_ascii_case(&wanted));
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_without_regard_to_case() {
        for (text, known, edits) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "ABC", 0),
            ("scope", "Scopes", 1),
            ("a\u{e9}", "ae", 1),
        ] {
            assert_eq!(distance(text, known), edits, "{text} {known}");
        }
        assert_eq!(distance(&"x".repeat(1_000_000), "y"), MAX_COMPARED);
    }
}
