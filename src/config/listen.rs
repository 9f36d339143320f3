//! Where to listen, in ASP.NET Core's spellings: URLs, Kestrel endpoints or ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Listen;
use super::reader::Reader;
use super::source::Origin;
use crate::value::text::quote;
use crate::value::url::{parse_port, split_port};

/// The length of `sun_path` on Linux, without the terminating NUL.
const LONGEST_SOCKET_PATH: usize = 107;

/// The sockets in the order written. `--urls` beats Kestrel's endpoints, which beat `URLS`, which
/// beats ports.
pub fn read(reader: &mut Reader<'_>) -> Vec<Listen> {
    let endpoints: Vec<(String, String)> = reader
        .children("Kestrel:Endpoints")
        .iter()
        .map(|name| format!("Kestrel:Endpoints:{name}:Url"))
        .filter_map(|key| Some((key.clone(), reader.given(&key)?.to_owned())))
        .collect();
    let urls_said = reader.given("urls").is_some() || !reader.children("urls").is_empty();
    let on_command_line = reader.origin("urls") == Some(&Origin::CommandLine);
    let ports: Vec<u16> = reader.items("http_ports").iter().filter_map(|port| port.parse().ok()).collect();

    let urls: Vec<(String, String)> = if !endpoints.is_empty() && !on_command_line {
        if urls_said {
            reader.warn("urls", "not used, because Kestrel:Endpoints is set");
        }
        endpoints
    } else if urls_said || ports.is_empty() {
        // An image presets its port in the environment of the host. Other addresses are no contradiction.
        let preset = matches!(reader.origin("http_ports"), Some(Origin::AspNetHost | Origin::DotnetHost));
        if urls_said && !ports.is_empty() && !preset {
            reader.warn("http_ports", "not used, because urls is set");
        }
        if !urls_said && reader.given("https_ports").is_some() {
            reader.problem("https_ports", "https is not served: expected http_ports or urls with http:// or unix:");
        }
        let urls: Vec<_> = reader.items("urls").iter().map(|url| ("urls".to_owned(), (*url).to_owned())).collect();
        if urls_said && urls.is_empty() {
            reader.problem("urls", "names no address: expected http://address:port or unix:/path");
        }
        urls
    } else {
        return ports.into_iter().map(|port| Listen::Tcp((Ipv6Addr::UNSPECIFIED, port).into())).collect();
    };

    let mut sockets: Vec<Listen> = Vec::new();
    for (key, url) in urls {
        match parse(url.trim()) {
            Ok((listen, note)) => {
                sockets.extend(listen.into_iter().filter(|one| !sockets.contains(one)).collect::<Vec<_>>());
                if let Some(note) = note {
                    reader.warn(&key, &format!("{}: {note}", quote(&url)));
                }
            }
            Err(expected) => reader.refuse(&key, &url, &expected),
        }
    }
    if reader.given("forwardedHeaders_Enabled").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
        reader.warn(
            "forwardedHeaders_Enabled",
            "no effect (ASPNETCORE_FORWARDEDHEADERS_ENABLED): X-Forwarded-* headers are never believed",
        );
    }
    sockets
}

/// The sockets of a URL, and what to warn of.
fn parse(url: &str) -> Result<(Vec<Listen>, Option<&'static str>), String> {
    const EXPECTED: &str = "http://address:port or unix:/path";
    let lower = url.to_ascii_lowercase();
    let socket = ["http://unix:", "unix://", "unix:"].iter().find(|prefix| lower.starts_with(**prefix));
    if let Some(prefix) = socket {
        let path = url[prefix.len()..].trim_end_matches(":/");
        if path.is_empty() || path.len() > LONGEST_SOCKET_PATH || path.contains('\0') {
            return Err(format!("a socket path of 1 to {LONGEST_SOCKET_PATH} bytes"));
        }
        return Ok((vec![Listen::Unix(path.into())], None));
    }
    if lower.starts_with("https://") {
        return Err("http://, since https is not served: TLS ends at the caller's own machine".to_owned());
    }
    let rest = lower.strip_prefix("http://").ok_or(EXPECTED)?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
        return Err(format!("{EXPECTED}, without a path"));
    }
    let (host, port) = split_port(authority);
    let port = port.map_or(Some(80), parse_port).ok_or("a port from 0 to 65535")?;
    let tcp = |address: IpAddr| Listen::Tcp(SocketAddr::new(address, port));
    let everywhere = tcp(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    Ok(match host {
        // Port 0 would give each of two sockets a different port.
        "localhost" if port == 0 => (vec![tcp(Ipv4Addr::LOCALHOST.into())], None),
        "localhost" => (vec![tcp(Ipv4Addr::LOCALHOST.into()), tcp(Ipv6Addr::LOCALHOST.into())], None),
        "+" | "*" => (vec![everywhere], None),
        _ if host.starts_with('[') => {
            let address = host.trim_matches(['[', ']']).parse::<Ipv6Addr>();
            (vec![tcp(address.map_err(|_| "an IPv6 address between the brackets")?.into())], None)
        }
        _ => match host.parse::<Ipv4Addr>() {
            Ok(address) => (vec![tcp(address.into())], None),
            Err(_)
                if host.is_empty()
                    || host.contains([':', '[', ']'])
                    || host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') =>
            {
                return Err(EXPECTED.to_owned());
            }
            Err(_) => (vec![everywhere], Some("a name listens on every address, as in ASP.NET Core")),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listens(url: &str) -> String {
        let show = |listen: &Listen| match listen {
            Listen::Tcp(address) => address.to_string(),
            Listen::Unix(path) => path.display().to_string(),
        };
        parse(url).map_or_else(
            |expected| format!("! {expected}"),
            |(listen, _)| listen.iter().map(show).collect::<Vec<_>>().join(" "),
        )
    }

    #[test]
    fn addresses_are_those_of_asp_net_core() {
        for (url, expected) in [
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("HTTP://LOCALHOST:5000/", "127.0.0.1:5000 [::1]:5000"),
            ("http://localhost:0", "127.0.0.1:0"),
            ("http://+:5000", "[::]:5000"),
            ("http://*:0", "[::]:0"),
            ("http://0.0.0.0", "0.0.0.0:80"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://sidecar:5000", "[::]:5000"),
            ("unix:/run/Entra.sock", "/run/Entra.sock"),
            ("http://unix:/run/entra.sock", "/run/entra.sock"),
        ] {
            assert_eq!(listens(url), expected, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_listened_on_is_refused() {
        for url in [
            "", "5000", "127.0.0.1:5000", "https://localhost:5001", "http://", "http://:5000", "http://x:",
            "http://x:y", "http://x:+1", "http://x:65536", "http://x/path", "http://u@x:1", "http://[::1:80",
            "http://1.2.3:80", "http://::1:80", "ftp://x", "unix:", "http://unix:",
        ] {
            assert!(listens(url).starts_with('!'), "{url}");
        }
        assert!(listens(&format!("unix:/{}", "x".repeat(106))).starts_with('/'));
        assert!(listens(&format!("unix:/{}", "x".repeat(107))).starts_with('!'));
    }
}
