//! Networks in CIDR notation (RFC 4632, RFC 4291 §2.3).

use std::net::IpAddr;

use super::quantity::digits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Parses `10.0.0.0/8`, `fd00::/8` or a single address. An IPv4-mapped network becomes IPv4, as
    /// peers do (RFC 4291 §2.5.5.2). Bits beyond the prefix are ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        let width = width(address);
        let prefix = match prefix {
            None => width,
            Some(text) => digits(text).and_then(|bits| u8::try_from(bits).ok()).filter(|&bits| bits <= width)?,
        };
        Some(match address.to_canonical() {
            v4 @ IpAddr::V4(_) if address.is_ipv6() && prefix >= 96 => Self { address: v4, prefix: prefix - 96 },
            _ => Self { address, prefix },
        })
    }

    /// Like [`Network::parse`], but rejects bits beyond the prefix: `10.0.0.0/0` looks like one
    /// network and matches every address.
    pub fn parse_exact(text: &str) -> Result<Self, String> {
        let network = Self::parse(text).ok_or("a network such as 10.0.0.0/8, an address, or *")?;
        let Self { address, prefix } = network;
        let beyond = network.beyond();
        let kept = prefix_of(address, beyond).checked_shl(beyond).unwrap_or(0);
        if kept == bits(address) {
            return Ok(network);
        }
        let masked = match address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(kept).unwrap_or(0).into()),
            IpAddr::V6(_) => IpAddr::V6(kept.into()),
        };
        Err(format!(
            "a network without bits beyond its prefix: {masked}/{prefix} for the whole network, {address}/{} for the address",
            width(address)
        ))
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let beyond = self.beyond();
        self.address.is_ipv4() == address.is_ipv4() && prefix_of(self.address, beyond) == prefix_of(address, beyond)
    }

    fn beyond(&self) -> u32 {
        u32::from(width(self.address) - self.prefix)
    }

    /// True if every address in the network is loopback (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3).
    pub fn is_loopback(&self) -> bool {
        self.address.is_loopback() && self.prefix >= if self.address.is_ipv4() { 8 } else { 128 }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Without the last `beyond` bits.
fn prefix_of(address: IpAddr, beyond: u32) -> u128 {
    bits(address).checked_shr(beyond).unwrap_or(0)
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let Network { address, prefix } = Network::parse_exact(text).unwrap();
            assert_eq!(format!("{address}/{prefix}"), expected, "{text}");
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0/8", "example.com", "10.0.0.0/+8"] {
            assert!(Network::parse_exact(text).is_err(), "{text:?}");
        }
        for (text, meant) in [
            ("10.0.0.0/0", "0.0.0.0/0"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("fd00::1/8", "fd00::/8"),
            ("fd00::/0", "::/0"),
            ("::ffff:10.0.0.0/8", "::/8"),
            ("::ffff:10.1.0.0/104", "10.0.0.0/8"),
        ] {
            assert!(Network::parse_exact(text).unwrap_err().contains(meant), "{text}");
        }
    }

    #[test]
    fn an_address_is_of_a_network_by_its_prefix() {
        for (network, address, inside) in [
            ("10.1.0.0/16", "10.1.255.255", true),
            ("10.1.0.0/16", "10.2.0.0", false),
            ("10.1.2.3/8", "10.255.0.0", true),
            ("0.0.0.0/0", "192.168.0.1", true),
            ("0.0.0.0/0", "::1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.2", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("::/0", "fe00::1", true),
            ("::1", "::1", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
        ] {
            let network = Network::parse(network).unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{network:?} {address}");
        }
    }
}
