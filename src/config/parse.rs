//! One value in, its meaning or what was expected out. Nothing here knows keys, sources or files.
//!
//! An error is text that follows the word "expected".

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Network;
use crate::value::syntax::is_domain;

/// A whole number in a range.
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

/// Seconds (`2`, `0.5`) or .NET's `hh:mm:ss` and `d.hh:mm:ss`, in a range of milliseconds.
pub fn duration(text: &str, range: &RangeInclusive<u64>) -> Result<Duration, String> {
    let parsed = if text.contains(':') { time_span(text) } else { seconds(text) };
    parsed.filter(|duration| range.contains(&u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))).ok_or_else(
        || {
            let bound = |milliseconds: u64| Duration::from_millis(milliseconds).as_secs_f64();
            format!("a duration from {} to {} s (seconds or hh:mm:ss)", bound(*range.start()), bound(*range.end()))
        },
    )
}

fn digits(text: &str) -> Option<u64> {
    // `parse` alone would take a leading plus sign.
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

/// An entry of `AllowedHosts`: `*`, `*.example.com`, a name or an address, without its port; in lower case, IPv6
/// addresses in brackets.
pub fn host(text: &str) -> Result<String, String> {
    let expected = || "a host name, an address, *.domain or *".to_owned();
    let lower = text.to_ascii_lowercase();
    if let Ok(address) = lower.trim_start_matches('[').trim_end_matches(']').parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    let (name, port) = lower.split_once(':').unwrap_or((&lower, "0"));
    let known = name == "*" || is_domain(name.strip_prefix("*.").unwrap_or(name));
    if known && digits(port).is_some() && !port.is_empty() { Ok(name.to_owned()) } else { Err(expected()) }
}

/// `10.0.0.0/8`, `fd00::/8`, or an address alone. A network with bits beyond its prefix says two things: `10.0.0.0/0` looks
/// like a part and is everything. An IPv4 network in its IPv6 form is turned back, as peers are (RFC 4291 §2.5.5.2).
pub fn network(text: &str) -> Result<Network, String> {
    let expected = || "a network such as 10.0.0.0/8, an address, or *".to_owned();
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().map_err(|_| expected())?;
    let width: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => width,
        Some(text) => {
            digits(text).and_then(|bits| u8::try_from(bits).ok()).filter(|&bits| bits <= width).ok_or_else(expected)?
        }
    };
    let (address, prefix) = match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) if prefix >= 96 => (IpAddr::V4(v4), prefix - 96),
            _ => (address, prefix),
        },
        IpAddr::V4(_) => (address, prefix),
    };
    let masked = match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0)).into()),
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(u32::from(128 - prefix)).unwrap_or(0)).into())
        }
    };
    if masked != address {
        let width = if address.is_ipv4() { 32 } else { 128 };
        return Err(format!(
            "a network without bits beyond its prefix: {masked}/{prefix} for the whole network, {address}/{width} for the address"
        ));
    }
    Ok(Network { address, prefix })
}

/// A SHA-1 thumbprint as people paste it, in lower case without separators.
pub fn thumbprint(text: &str) -> Result<String, String> {
    // Windows' certificate dialog puts an invisible mark before the first digit.
    let hex: String = text.chars().filter(|c| !matches!(c, ' ' | ':' | '\u{200e}')).collect();
    if hex.len() == 40 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(hex.to_ascii_lowercase())
    } else {
        Err("a certificate thumbprint of 40 hexadecimal digits".to_owned())
    }
}

/// A level by its .NET name.
pub fn level(text: &str) -> Result<log::LevelFilter, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "trace" | "0" => log::LevelFilter::Trace,
        "debug" | "1" => log::LevelFilter::Debug,
        "information" | "info" | "2" => log::LevelFilter::Info,
        "warning" | "warn" | "3" => log::LevelFilter::Warn,
        "error" | "4" | "critical" | "5" => log::LevelFilter::Error,
        "none" | "off" | "6" => log::LevelFilter::Off,
        _ => return Err("a level: Trace, Debug, Information, Warning, Error, Critical or None".to_owned()),
    })
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

    #[test]
    fn networks_have_no_bits_beyond_their_prefix() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00::/8", "fd00::/8"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            let Network { address, prefix } = network(text).unwrap();
            assert_eq!(format!("{address}/{prefix}"), expected, "{text}");
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0/8", "example.com", "10.0.0.0/+8"] {
            assert!(network(text).is_err(), "{text:?}");
        }
        for (text, meant) in [
            ("10.0.0.0/0", "0.0.0.0/0"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("fd00::1/8", "fd00::/8"),
            ("fd00::/0", "::/0"),
            ("::ffff:10.0.0.0/8", "::/8"),
            ("::ffff:10.1.0.0/104", "10.0.0.0/8"),
        ] {
            assert!(network(text).unwrap_err().contains(meant), "{text}");
        }
    }

    #[test]
    fn hosts_lose_case_and_port() {
        for (text, expected) in [
            ("*", "*"),
            ("*.Example.com", "*.example.com"),
            ("API:8080", "api"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[FD00::1]", "[fd00::1]"),
            ("fd00::1", "[fd00::1]"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "http://x", "a b", "x:", "x:y", "*x", "x/y"] {
            assert!(host(text).is_err(), "{text:?}");
        }
    }
}
