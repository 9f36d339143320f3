//! The `Date` field (RFC 9110 §6.6.1), made once a second.

/// `Sun, 06 Nov 1994 08:49:37 GMT` is as long as every other.
pub const LEN: usize = 29;

/// The text of the second that was last asked for.
#[derive(Debug)]
pub struct Cached {
    second: u64,
    text: [u8; LEN],
}

impl Default for Cached {
    fn default() -> Self {
        Self { second: 0, text: imf_fixdate(0) }
    }
}

impl Cached {
    /// The text for this second.
    pub fn at(&mut self, unix: u64) -> &[u8; LEN] {
        if self.second != unix {
            *self = Self { second: unix, text: imf_fixdate(unix) };
        }
        &self.text
    }
}

/// `IMF-fixdate` (RFC 9110 §5.6.7) of a moment before the year 10000; a later one shows as that year's eve.
fn imf_fixdate(unix: u64) -> [u8; LEN] {
    const LAST: u64 = 253_402_300_799;
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let unix = unix.min(LAST);
    let (days, second) = (unix / 86_400, unix % 86_400);
    let (year, month, day) = civil(days);
    let mut text = *b"Thu, 00 Jan 0000 00:00:00 GMT";
    text[..3].copy_from_slice(DAYS[index(days % 7)].as_bytes());
    two_digits(&mut text[5..7], day);
    text[8..11].copy_from_slice(MONTHS[index(month - 1)].as_bytes());
    two_digits(&mut text[12..14], year / 100);
    two_digits(&mut text[14..16], year % 100);
    two_digits(&mut text[17..19], second / 3600);
    two_digits(&mut text[20..22], second / 60 % 60);
    two_digits(&mut text[23..25], second % 60);
    text
}

/// Year, month and day of a day since 1970-01-01, counted in eras of 400 years that begin in March, so that
/// the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[expect(clippy::cast_possible_truncation, reason = "every caller passes less than a hundred")]
fn index(small: u64) -> usize {
    small as usize
}

fn two_digits(place: &mut [u8], value: u64) {
    let digit = |value: u64| b"0123456789"[index(value % 10)];
    place.copy_from_slice(&[digit(value / 10), digit(value)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_their_dates() {
        for (unix, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
            (1_767_225_599, "Wed, 31 Dec 2025 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&imf_fixdate(unix)), Ok(text));
        }
    }

    #[test]
    fn the_text_follows_the_second() {
        let mut cached = Cached::default();
        for unix in [0, 784_111_777, 784_111_777, 784_111_778, 0] {
            assert_eq!(*cached.at(unix), imf_fixdate(unix));
        }
    }
}
