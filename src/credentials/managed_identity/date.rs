//! Moments in the spellings that these endpoints use beside plain seconds.

use crate::credentials::der::days_since_1970;

/// What .NET's invariant culture reads as a date and a time: `2026-01-31T23:59:59Z` (RFC 3339), `1/31/2026 11:59:59 PM +00:00`,
/// `01/31/2026 23:59:59`, or the date of HTTP. Without an offset it is UTC; seconds, or the whole time, may be left out.
pub fn invariant(text: &str) -> Option<u64> {
    let text = text.trim();
    let (date, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, "0:0"));
    let date = match date.split_once('/') {
        Some((first, _)) if first.len() == 4 => fields(date, '/'),
        Some(_) => fields(date, '/').map(|[month, day, year]| [year, month, day]),
        None => fields(date, '-'),
    };
    let Some(date) = date else { return http_date(text) };
    let (time, offset) = match time.find(['Z', 'z', 'G', '+', '-']) {
        Some(at) => (&time[..at], offset(&time[at..])?),
        None => (time, 0),
    };
    let (clock, half) = match time.find(|letter: char| letter.is_ascii_alphabetic()) {
        Some(at) => (&time[..at], Some(time[at..].trim_end())),
        None => (time, None),
    };
    let clock = clock.trim();
    let clock = clock.split_once('.').map_or(clock, |(whole, _)| whole);
    let [hour, minute, second] = fields(clock, ':').or_else(|| fields(&format!("{clock}:0"), ':'))?;
    let hour = match half {
        None => hour,
        Some(half) if half.eq_ignore_ascii_case("AM") && hour <= 12 => hour % 12,
        Some(half) if half.eq_ignore_ascii_case("PM") && hour <= 12 => hour % 12 + 12,
        Some(_) => return None,
    };
    moment(date, [hour, minute, second], offset)
}

/// Minutes east of UTC: `Z`, `GMT`, `+01:00`, `+0100` or `+01`.
fn offset(text: &str) -> Option<i64> {
    let (sign, rest) = match text.trim_end() {
        "Z" | "z" | "GMT" => return Some(0),
        other => other.split_at_checked(1)?,
    };
    let (hours, minutes) = rest.split_once(':').or_else(|| rest.split_at_checked(2))?;
    let minutes = if minutes.is_empty() { 0 } else { number(minutes)? };
    let hours = number(hours).filter(|hours| *hours <= 14 && minutes < 60)?;
    let offset = hours * 60 + minutes;
    match sign {
        "+" => Some(offset),
        "-" => Some(-offset),
        _ => None,
    }
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
    let next_month = if month == 12 { days_since_1970(year + 1, 1, 1) } else { days_since_1970(year, month + 1, 1) };
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && day >= 1
        && days_since_1970(year, month, day) < next_month
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
    fn dates_are_read_as_net_reads_them() {
        for (text, unix) in [
            ("2026-01-01T00:00:00Z", 1_767_225_600),
            ("2026-01-01 00:00:00 +00:00", 1_767_225_600),
            ("2026-01-01T00:00:00.1234567Z", 1_767_225_600),
            ("2026-01-01T01:30:00+01:30", 1_767_225_600),
            ("2025-12-31T22:30:00-01:30", 1_767_225_600),
            ("2026-01-01T01:30:00+0130", 1_767_225_600),
            ("2026-01-01T01:00:00+01", 1_767_225_600),
            ("2026-01-01T00:00:00", 1_767_225_600),
            ("2026-01-01T00:00Z", 1_767_225_600),
            ("2026-01-01", 1_767_225_600),
            ("1/1/2026 12:00:00 AM +00:00", 1_767_225_600),
            ("1/1/2026 12:00:00AM", 1_767_225_600),
            ("01/01/2026 00:00:00", 1_767_225_600),
            ("01/01/2026 01:00:00 +01:00", 1_767_225_600),
            ("01/01/2026 00:00:00 GMT", 1_767_225_600),
            ("12/31/2025 11:30:00 pm -00:30", 1_767_225_600),
            ("1/1/2026 12:00 AM", 1_767_225_600),
            ("2026/01/01 00:00:00", 1_767_225_600),
            ("Thu, 01 Jan 2026 00:00:00 GMT", 1_767_225_600),
            ("1/1/2026 12:00:01 PM", 1_767_225_600 + 43_201),
            ("1/1/2026 1:00:00 PM", 1_767_225_600 + 46_800),
            ("9/14/2027 12:00:00 AM +00:00", 1_820_880_000),
            ("02/29/2028 23:59:59", 1_835_481_599),
        ] {
            assert_eq!(invariant(text), Some(unix), "{text}");
        }
        for text in [
            "",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "x",
            "2026-01-01T00:00:00Zulu",
            "99999-01-01T00:00:00Z",
            "14/9/2027 12:00:00 AM",
            "02/29/2027 00:00:00",
            "04/31/2027 00:00:00",
            "1/1/2026 13:00:00 PM",
            "1/1/2026 12:00:00 XM",
            "1/1/2026 00:00:00 +15:00",
            "1/1/2026 00:00:00 +00:60",
            "1/1/2026 00:00:00 +\u{e9}",
            "1/1 00:00:00",
            "1/1/2026/1 00:00:00",
        ] {
            assert_eq!(invariant(text), None, "{text}");
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
