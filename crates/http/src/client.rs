//! Where a request comes from.

use crate::Fields;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Whether the client's connection was encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The client's side of an exchange.
#[derive(Clone, Debug)]
pub struct Client {
    /// The socket's other end: perhaps a proxy.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// Who it is: the peer, or whom trusted proxies say they forward for.
    pub address: ClientAddress,
    /// In clear or over TLS.
    pub scheme: Scheme,
    /// The server name it asked for in the TLS handshake.
    pub server_name: Option<Arc<str>>,
    /// The listener it came in by.
    pub listener: Arc<str>,
}

/// Networks whose forwarding fields are believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Trusts these networks.
    #[must_use]
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        TrustedProxies(networks.into_iter().collect())
    }

    /// Whether an address belongs to a trusted network; an IPv4-mapped one counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The client's address, and whether a trusted proxy vouched for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The address, with IPv4-mapped IPv6 as IPv4.
    pub ip: IpAddr,
    /// Whether the peer is a trusted proxy, so that its forwarding fields are kept.
    pub peer_trusted: bool,
}

/// A proxy chain longer than this is nobody's: what lies beyond is not looked at.
const MAX_HOPS: usize = 32;

impl ClientAddress {
    /// The right-most untrusted address: the peer, unless it is a trusted proxy; then the hops that
    /// `X-Forwarded-For` (or else RFC 7239 `Forwarded`) names are walked from the last to the first while they
    /// are trusted. What cannot be read ends the walk at the hop that reported it: nothing a client writes can
    /// move its own address.
    ///
    /// ```
    /// use portcullis_http::{ClientAddress, Fields, TrustedProxies};
    ///
    /// let trusted = TrustedProxies::new(["10.0.0.0/8".parse().unwrap()]);
    /// let mut fields = Fields::default();
    /// fields.append("X-Forwarded-For", "6.6.6.6, 203.0.113.7, 10.0.0.2").unwrap();
    /// let client = ClientAddress::resolve("10.0.0.1".parse().unwrap(), &fields, &trusted);
    /// assert_eq!(client.ip.to_string(), "203.0.113.7");
    /// ```
    #[must_use]
    pub fn resolve(peer: IpAddr, fields: &Fields, trusted: &TrustedProxies) -> Self {
        let peer = peer.to_canonical();
        if !trusted.contains(peer) {
            return ClientAddress { ip: peer, peer_trusted: false };
        }
        let ip = if fields.contains("x-forwarded-for") {
            walk(peer, fields, "x-forwarded-for", parse_hop, trusted)
        } else {
            walk(peer, fields, "forwarded", parse_forwarded, trusted)
        };
        ClientAddress { ip, peer_trusted: true }
    }
}

fn walk(
    peer: IpAddr,
    fields: &Fields,
    name: &str,
    parse: fn(&str) -> Option<IpAddr>,
    trusted: &TrustedProxies,
) -> IpAddr {
    let lines: Vec<&[u8]> = fields.get_all(name).collect();
    let mut nearest = peer;
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(|b| *b == b','));
    for hop in hops.take(MAX_HOPS) {
        let Some(ip) = std::str::from_utf8(hop).ok().and_then(|hop| parse(hop.trim())) else { break };
        nearest = ip;
        if !trusted.contains(ip) {
            break;
        }
    }
    nearest
}

/// An address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `[::1]:80`, `::1`.
fn parse_hop(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// The `for` of one element of `Forwarded` (RFC 7239 §4).
fn parse_forwarded(element: &str) -> Option<IpAddr> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("for") {
            return None;
        }
        let value = value.trim();
        parse_hop(value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(peer: &str, lines: &[(&str, &str)]) -> String {
        let trusted = TrustedProxies::new(["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.append(name, value).unwrap();
        }
        ClientAddress::resolve(peer.parse().unwrap(), &fields, &trusted).ip.to_string()
    }

    #[test]
    fn h1_only_trusted_hops_are_believed() {
        const XFF: &str = "X-Forwarded-For";
        for (peer, lines, expected) in [
            ("203.0.113.9", &[(XFF, "1.1.1.1")][..], "203.0.113.9"),
            ("10.0.0.1", &[(XFF, "1.1.1.1")], "1.1.1.1"),
            ("::ffff:10.0.0.1", &[(XFF, "1.1.1.1")], "1.1.1.1"),
            ("10.0.0.1", &[(XFF, "6.6.6.6, 1.1.1.1")], "1.1.1.1"),
            ("10.0.0.1", &[(XFF, "6.6.6.6"), (XFF, "1.1.1.1, 10.9.9.9")], "1.1.1.1"),
            ("10.0.0.1", &[(XFF, "6.6.6.6, garbage")], "10.0.0.1"),
            ("10.0.0.1", &[(XFF, "6.6.6.6, garbage, 10.2.2.2")], "10.2.2.2"),
            ("10.0.0.1", &[(XFF, "1.1.1.1:443")], "1.1.1.1"),
            ("10.0.0.1", &[(XFF, "[2001:db8::1]:443")], "2001:db8::1"),
            ("10.0.0.1", &[(XFF, "[2001:db8::1]")], "2001:db8::1"),
            ("10.0.0.1", &[(XFF, "")], "10.0.0.1"),
            ("10.0.0.1", &[("Forwarded", "for=6.6.6.6, for=\"[2001:db8::1]:1\";proto=https")], "2001:db8::1"),
            ("10.0.0.1", &[("Forwarded", "proto=http;For=1.1.1.1")], "1.1.1.1"),
            ("10.0.0.1", &[("Forwarded", "for=_hidden")], "10.0.0.1"),
            ("fd00::1", &[(XFF, "::ffff:1.2.3.4")], "1.2.3.4"),
        ] {
            assert_eq!(resolve(peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_thousand_hops_end_somewhere() {
        let chain = vec!["10.1.1.1"; 1000].join(", ");
        assert_eq!(resolve("10.0.0.1", &[("X-Forwarded-For", &chain)]), "10.1.1.1");
    }
}
