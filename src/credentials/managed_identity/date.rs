//! Moments in the two spellings that these endpoints use beside plain seconds.

use crate::credentials::der::days_since_1970;

/// `2026-01-31T23:59:59Z`, with a blank for the `T`, a fraction, or an offset such as `+01:00` (RFC 3339).
pub fn iso8601(text: &str) -> Option<u64> {
    let (date, time) = text.trim().split_once(['T', 't', ' '])?;
    let [year, month, day] = fields(date, '-')?;
    let (time, offset) = match time.find(['Z', 'z', '+', '-']) {
        Some(at) => (&time[..at], time[at..].trim()),
        None => (time, "Z"),
    };
    let time = time.trim_end();
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let [hour, minute, second] = fields(time, ':')?;
    let offset = match offset.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        (sign, rest) => {
            let (hours, minutes) = rest.split_once(':')?;
            let minutes = number(hours)? * 60 + number(minutes)?;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    moment([year, month, day], [hour, minute, second], offset)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
pub fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.trim().split_once(", ")?.1.split(' ');
    let day = number(words.next()?)?;
    let name = words.next()?;
    let month = (1..).zip(MONTHS).find_map(|(month, own)| (own == name).then_some(month))?;
    let year = number(words.next()?)?;
    let time = fields(words.next()?, ':')?;
    let gmt = words.next() == Some("GMT") && words.next().is_none();
    moment([year, month, day], time, 0).filter(|_| gmt)
}

fn moment([year, month, day]: [i64; 3], [hour, minute, second]: [i64; 3], offset: i64) -> Option<u64> {
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + (minute - offset) * 60 + second;
    u64::try_from(seconds).ok().filter(|_| valid)
}

fn fields(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(number);
    let fields = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(fields)
}

/// Up to four digits, so that no arithmetic here can overflow.
fn number(text: &str) -> Option<i64> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_dates_are_read_with_their_offset() {
        for (text, unix) in [
            ("2026-01-01T00:00:00Z", 1_767_225_600),
            ("2026-01-01 00:00:00 +00:00", 1_767_225_600),
            ("2026-01-01T00:00:00.1234567Z", 1_767_225_600),
            ("2026-01-01T01:30:00+01:30", 1_767_225_600),
            ("2025-12-31T22:30:00-01:30", 1_767_225_600),
            ("2026-01-01T00:00:00", 1_767_225_600),
        ] {
            assert_eq!(iso8601(text), Some(unix), "{text}");
        }
        for text in [
            "",
            "2026-01-01",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00Z",
            "x",
            "2026-01-01T00:00:00Zulu",
            "99999-01-01T00:00:00Z",
        ] {
            assert_eq!(iso8601(text), None, "{text}");
        }
    }

    #[test]
    fn http_dates_are_read() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for text in ["", "5", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Foo 1994 08:49:37 GMT", "06 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(http_date(text), None, "{text}");
        }
    }
}
