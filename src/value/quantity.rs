//! Numbers, sizes and durations in the configuration, each within a range.

use std::ops::RangeInclusive;
use std::time::Duration;

pub fn count(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    digits(text)
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
}

/// Bytes, or a number with `KiB`, `MiB` or `GiB`.
pub fn size(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" => Some(1),
        "kib" => Some(1 << 10),
        "mib" => Some(1 << 20),
        "gib" => Some(1 << 30),
        _ => None,
    };
    factor.and_then(|factor| digits(number)?.checked_mul(factor)).filter(|bytes| range.contains(bytes)).ok_or_else(
        || format!("a size from {} to {} bytes (a number, or one with KiB or MiB)", range.start(), range.end()),
    )
}

/// Seconds (`2`, `0.5`) or .NET's `hh:mm:ss` and `d.hh:mm:ss`. The range is in milliseconds.
pub fn duration(text: &str, range: &RangeInclusive<u64>) -> Result<Duration, String> {
    let parsed = if text.contains(':') { time_span(text) } else { seconds(text) };
    parsed.filter(|duration| range.contains(&u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))).ok_or_else(
        || {
            let bound = |milliseconds: u64| Duration::from_millis(milliseconds).as_secs_f64();
            format!("a duration from {} to {} s (seconds or hh:mm:ss)", bound(*range.start()), bound(*range.end()))
        },
    )
}

/// Decimal digits only; `parse` alone would accept a leading plus sign.
pub fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Decimal seconds, exact to the nanosecond.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let nanoseconds = digits(&format!("{fraction:0<9}"))?;
    Some(Duration::new(digits(whole)?, u32::try_from(nanoseconds).ok()?))
}

fn time_span(text: &str) -> Option<Duration> {
    let mut parts = text.split(':');
    let (first, minutes, last) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
    if parts.next().is_some() {
        return None;
    }
    let (days, hours) = first.split_once('.').unwrap_or(("0", first));
    let (days, hours, minutes, last) = (digits(days)?, digits(hours)?, digits(minutes)?, seconds(last)?);
    if days > 36_500 || hours > 23 || minutes > 59 || last.as_secs() > 59 {
        return None;
    }
    Some(Duration::from_secs(((days * 24 + hours) * 60 + minutes) * 60) + last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_dotnet_time_spans() {
        let any = 0..=u64::MAX;
        for (text, milliseconds) in [
            ("2", 2_000),
            ("0.5", 500),
            ("0", 0),
            ("00:05:00", 300_000),
            ("00:05", 300_000),
            ("1.02:03:04", 93_784_000),
            ("00:00:00.250", 250),
        ] {
            assert_eq!(duration(text, &any), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in
            ["", "-1", "+1", "1s", ".5", "5.", "1e3", "25:00:00", "00:60:00", "00:00:60", "1:2:3:4", "x:y", "::", "NaN"]
        {
            assert!(duration(text, &any).is_err(), "{text:?}");
        }
    }

    #[test]
    fn limits_hold_below_at_and_above() {
        let range = 10..=20;
        for (text, good) in [("9", false), ("10", true), ("20", true), ("21", false), ("99999999999999999999", false)] {
            assert_eq!(count(text, &range).is_ok(), good, "{text}");
            assert_eq!(size(text, &range).is_ok(), good, "{text}");
            assert_eq!(duration(&format!("0.{text:0>3}"), &range).is_ok(), good, "{text} ms");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        let any = 0..=u64::MAX;
        for (text, bytes) in [("7", 7), ("32KiB", 32 << 10), ("30 MiB", 30 << 20), ("1gib", 1 << 30)] {
            assert_eq!(size(text, &any), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "1KB", "1.5MiB", "-1", "+1", "18446744073709551615KiB"] {
            assert!(size(text, &any).is_err(), "{text:?}");
        }
    }
}
