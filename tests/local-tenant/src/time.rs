//! The machine's time, and the ways in which answers spell it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// `2026-01-31 23:59:59Z`, as Entra's error bodies spell a moment.
pub fn timestamp(unix: i64) -> String {
    let (year, month, day) = date(unix);
    format!("{year:04}-{month:02}-{day:02} {}Z", time_of_day(unix))
}

/// `Sat, 31 Jan 2026 23:59:59 GMT`, as HTTP spells it (RFC 9110 §5.6.7).
pub fn http_date(unix: i64) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day) = date(unix);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][index(unix.div_euclid(86_400).rem_euclid(7))];
    let month = MONTHS[index(month - 1)];
    format!("{weekday}, {day:02} {month} {year:04} {} GMT", time_of_day(unix))
}

fn index(number: i64) -> usize {
    usize::try_from(number).unwrap_or_default()
}

fn time_of_day(unix: i64) -> String {
    let seconds = unix.rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// Year, month and day.
fn date(unix: i64) -> (i64, i64, i64) {
    // Days since 0000-03-01 make leap days the last of their year (Howard Hinnant, chrono-compatible calendars).
    let shifted = unix.div_euclid(86_400) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{http_date, timestamp};

    #[test]
    fn dates_across_leap_days_are_right() {
        assert_eq!(timestamp(0), "1970-01-01 00:00:00Z");
        assert_eq!(timestamp(951_782_399), "2000-02-28 23:59:59Z");
        assert_eq!(timestamp(951_782_400), "2000-02-29 00:00:00Z");
        assert_eq!(timestamp(1_767_225_600), "2026-01-01 00:00:00Z");
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
