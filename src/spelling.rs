//! How far a misspelt name is from a known one.

/// Longer names are compared by their beginnings: the cost is the product of the lengths.
const MAX_COMPARED: usize = 80;

/// The edits from one text to the other (Levenshtein), letters compared without regard to case.
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
