//! Gregorian dates in UTC, in every format that the program reads or writes. Moments are Unix
//! seconds.

/// Every `IMF-fixdate` (`Sun, 06 Nov 1994 08:49:37 GMT`) has this length.
pub const HTTP_LEN: usize = 29;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[derive(Clone, Copy)]
struct Civil {
    year: u64,
    /// 1 to 12.
    month: usize,
    day: u64,
    /// 0 is Thursday, the weekday of 1970-01-01.
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    /// Clamps to the last second of the year 9999.
    fn of(unix: u64) -> Self {
        const LAST: u64 = 253_402_300_799;
        let unix = unix.min(LAST);
        let (days, second) = (unix / 86_400, unix % 86_400);
        // Days since 0000-03-01, in eras of 400 years, so that the leap day comes last in its year.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month: index(month),
            day: of_year - (153 * from_march + 2) / 5 + 1,
            weekday: index(days % 7),
            hour: second / 3_600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "every caller passes less than a hundred")]
const fn index(small: u64) -> usize {
    small as usize
}

/// Formats an `IMF-fixdate` (RFC 9110 §5.6.7).
pub fn to_http(unix: u64) -> [u8; HTTP_LEN] {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let Civil { year, month, day, weekday, hour, minute, second } = Civil::of(unix);
    let (weekday, month) = (DAYS[weekday], MONTHS[month - 1]);
    let text = format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT");
    text.into_bytes().try_into().unwrap_or([b' '; HTTP_LEN])
}

/// Formats RFC 3339 with milliseconds: `2026-01-31T12:34:56.789Z`.
pub fn to_rfc3339(unix: u64, milliseconds: u32) -> String {
    let mut text = to_rfc3339_seconds(unix);
    text.truncate(text.len() - 1);
    text + &format!(".{milliseconds:03}Z")
}

/// RFC 3339 without a fraction: `2026-01-31T12:34:56Z`.
pub fn to_rfc3339_seconds(unix: u64) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::of(unix);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Formats `MM/dd/yyyy HH:mm:ss`, as .NET's invariant culture does.
pub fn to_invariant(unix: u64) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::of(unix);
    format!("{month:02}/{day:02}/{year:04} {hour:02}:{minute:02}:{second:02}")
}

/// Parses the dates that .NET's invariant culture accepts: `2026-01-31T23:59:59Z` (RFC 3339),
/// `1/31/2026 11:59:59 PM +00:00`, `01/31/2026 23:59:59`, or an HTTP date. Defaults to UTC. The
/// seconds, or the whole time, are optional.
pub fn from_invariant(text: &str) -> Option<u64> {
    let text = text.trim();
    let (date, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, "0:0"));
    let date = match date.split_once('/') {
        Some((first, _)) if first.len() == 4 => fields(date, '/'),
        Some(_) => fields(date, '/').map(|[month, day, year]| [year, month, day]),
        None => fields(date, '-'),
    };
    let Some(date) = date else { return from_http(text) };
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
    u64::try_from(moment(date, [hour, minute, second], offset)?).ok()
}

/// Parses an offset to minutes east of UTC: `Z`, `GMT`, `+01:00`, `+0100` or `+01`.
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

/// Parses `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
pub fn from_http(text: &str) -> Option<u64> {
    let mut words = text.trim().split_once(", ")?.1.split(' ');
    let day = number(words.next()?)?;
    let name = words.next()?;
    let month = (1..).zip(MONTHS).find_map(|(month, own)| (own == name).then_some(month))?;
    let year = number(words.next()?)?;
    let time = fields(words.next()?, ':')?;
    let gmt = words.next() == Some("GMT") && words.next().is_none();
    moment([year, month, day], time, 0).filter(|_| gmt)?.try_into().ok()
}

/// Parses `Retry-After`, a number of seconds or a date, to seconds from `now` (RFC 9110 §10.2.3). A
/// number too large for `u64` saturates.
pub fn retry_after(text: &str, now: u64) -> Option<u64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().unwrap_or(u64::MAX));
    }
    from_http(text).map(|at| at.saturating_sub(now))
}

/// Parses a certificate's date (RFC 5280 §4.1.2.5): `YYMMDDHHMMSSZ`, or `YYYYMMDDHHMMSSZ` if
/// `year_digits` is 4. Dates before 1970 become 0.
pub fn from_asn1(text: &[u8], year_digits: usize) -> Option<u64> {
    let digits = std::str::from_utf8(text.strip_suffix(b"Z")?).ok()?;
    let (year, rest) = digits.split_at_checked(year_digits)?;
    let year = match (number(year)?, year_digits) {
        (year @ ..50, 2) => 2000 + year,
        (year, 2) => 1900 + year,
        (year, _) => year,
    };
    let field = |at: usize| number(rest.get(at..at + 2)?);
    let time = [field(4)?, field(6)?, field(8)?];
    let moment = moment([year, field(0)?, field(2)?], time, 0).filter(|_| rest.len() == 10)?;
    Some(u64::try_from(moment).unwrap_or(0))
}

fn moment([year, month, day]: [i64; 3], [hour, minute, second]: [i64; 3], offset: i64) -> Option<i64> {
    let next_month = if month == 12 { days_since_1970(year + 1, 1, 1) } else { days_since_1970(year, month + 1, 1) };
    let days = days_since_1970(year, month, day);
    let valid = (1..=12).contains(&month) && day >= 1 && days < next_month && hour < 24 && minute < 60 && second <= 60;
    valid.then_some(days * 86_400 + hour * 3600 + (minute - offset) * 60 + second)
}

/// The year starts in March, so that the leap day is its last day.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

fn fields(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(number);
    let fields = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(fields)
}

/// At most four digits, so that no arithmetic on them overflows.
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
            assert_eq!(from_invariant(text), Some(unix), "{text}");
        }
        for text in [
            "", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "x", "2026-01-01T00:00:00Zulu",
            "99999-01-01T00:00:00Z", "14/9/2027 12:00:00 AM", "02/29/2027 00:00:00", "04/31/2027 00:00:00",
            "1/1/2026 13:00:00 PM", "1/1/2026 12:00:00 XM", "1/1/2026 00:00:00 +15:00", "1/1/2026 00:00:00 +00:60",
            "1/1/2026 00:00:00 +\u{e9}", "1/1 00:00:00", "1/1/2026/1 00:00:00",
        ] {
            assert_eq!(from_invariant(text), None, "{text}");
        }
    }

    #[test]
    fn http_dates_are_read() {
        assert_eq!(from_http("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for text in ["", "5", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Foo 1994 08:49:37 GMT", "06 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(from_http(text), None, "{text}");
        }
    }

    #[test]
    fn moments_have_their_dates() {
        for (unix, http, rfc3339, invariant) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00.007Z", "01/01/1970 00:00:00"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37.007Z", "11/06/1994 08:49:37"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT", "2000-02-28T23:59:59.007Z", "02/28/2000 23:59:59"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT", "2000-02-29T00:00:00.007Z", "02/29/2000 00:00:00"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT", "2000-02-29T23:59:59.007Z", "02/29/2000 23:59:59"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT", "2000-03-01T00:00:00.007Z", "03/01/2000 00:00:00"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT", "2024-02-29T00:00:00.007Z", "02/29/2024 00:00:00"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT", "2024-12-31T23:59:59.007Z", "12/31/2024 23:59:59"),
            (1_735_689_600, "Wed, 01 Jan 2025 00:00:00 GMT", "2025-01-01T00:00:00.007Z", "01/01/2025 00:00:00"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT", "2100-03-01T00:00:00.007Z", "03/01/2100 00:00:00"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59.007Z", "12/31/9999 23:59:59"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59.007Z", "12/31/9999 23:59:59"),
        ] {
            assert_eq!(std::str::from_utf8(&to_http(unix)), Ok(http));
            assert_eq!(to_rfc3339(unix, 7), rfc3339);
            assert_eq!(to_invariant(unix), invariant);
            assert_eq!(from_http(http), Some(unix.min(253_402_300_799)));
            assert_eq!(from_invariant(invariant), Some(unix.min(253_402_300_799)));
        }
    }

    #[test]
    fn certificate_dates_of_both_forms_are_read() {
        for (text, year_digits, unix) in [
            ("700101000000Z", 2, Some(0)),
            ("000229120000Z", 2, Some(951_825_600)),
            ("491231235959Z", 2, Some(2_524_607_999)),
            ("20500101000000Z", 4, Some(2_524_608_000)),
            ("500101000000Z", 2, Some(0)),
            ("7001010000Z", 2, None),
            ("701301000000Z", 2, None),
            ("700230000000Z", 2, None),
            ("700101240000Z", 2, None),
            ("70010100000aZ", 2, None),
            ("700101000000+0100", 2, None),
            ("700101000000Z", 4, None),
            ("7001010000000Z", 2, None),
        ] {
            assert_eq!(from_asn1(text.as_bytes(), year_digits), unix, "{text}");
        }
    }

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        for (text, seconds) in [
            ("5", Some(5)),
            (" 7 ", Some(7)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Thu, 01 Jan 1970 00:00:40 GMT", Some(30)),
            ("Thu, 01 Jan 1970 00:00:05 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, 10), seconds, "{text}");
        }
    }
}
