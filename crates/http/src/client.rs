//! Where a request comes from.

use crate::ClientCertificate;
use crate::Fields;
use crate::forwarded::{ForwardedHeader, Hop};
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
    /// The certificate it showed there.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The listener it came in by.
    pub listener: Arc<str>,
}

/// Networks whose forwarding header is believed, and which header that is.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    networks: Arc<[IpNet]>,
    header: ForwardedHeader,
}

impl TrustedProxies {
    /// Trusts these networks to set this header; what a client wrote into the other one they may well pass on.
    #[must_use]
    pub fn new(networks: impl IntoIterator<Item = IpNet>, header: ForwardedHeader) -> Self {
        TrustedProxies { networks: networks.into_iter().collect(), header }
    }

    /// The header they set.
    #[must_use]
    pub fn header(&self) -> ForwardedHeader {
        self.header
    }

    /// Whether an address belongs to a trusted network; an IPv4-mapped one counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The hops that trusted proxies vouch for, the nearest first: each but the last is a trusted proxy itself. What
    /// cannot be read ends them.
    pub(crate) fn hops<'a>(&'a self, fields: &'a Fields) -> impl Iterator<Item = Hop<'a>> {
        let mut lines: Vec<&[u8]> = fields.get_all(self.header.name()).collect();
        lines.reverse();
        let mut ended = false;
        let hops = lines.into_iter().flat_map(|line| self.header.hops(line)).take(MAX_HOPS);
        hops.map_while(move |hop| {
            let hop = hop.filter(|_| !ended)?;
            ended = !self.contains(hop.ip);
            Some(hop)
        })
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
    /// The right-most untrusted address: the peer, unless it is a trusted proxy; then the hops that the header names
    /// which trusted proxies set are walked from the last to the first while they are trusted. What cannot be read
    /// ends the walk at the hop that reported it, and the other header is never read: nothing a client writes can
    /// move its own address.
    ///
    /// ```
    /// use portcullis_http::{ClientAddress, Fields, ForwardedHeader, TrustedProxies};
    ///
    /// let networks = ["10.0.0.0/8".parse().unwrap()];
    /// let trusted = TrustedProxies::new(networks, ForwardedHeader::XForwardedFor);
    /// let mut fields = Fields::default();
    /// fields.append("X-Forwarded-For", "6.6.6.6, 203.0.113.7, 10.0.0.2").unwrap();
    /// fields.append("Forwarded", "for=6.6.6.6").unwrap();
    /// let client = ClientAddress::resolve("10.0.0.1".parse().unwrap(), &fields, &trusted);
    /// assert_eq!(client.ip.to_string(), "203.0.113.7");
    /// ```
    #[must_use]
    pub fn resolve(peer: IpAddr, fields: &Fields, trusted: &TrustedProxies) -> Self {
        let peer = peer.to_canonical();
        if !trusted.contains(peer) {
            return ClientAddress { ip: peer, peer_trusted: false };
        }
        let ip = trusted.hops(fields).last().map_or(peer, |hop| hop.ip);
        ClientAddress { ip, peer_trusted: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XFF: &str = "X-Forwarded-For";
    const FWD: &str = "Forwarded";

    fn resolve(header: ForwardedHeader, peer: &str, lines: &[(&str, &str)]) -> String {
        let networks = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let trusted = TrustedProxies::new(networks, header);
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.append(name, value).unwrap();
        }
        ClientAddress::resolve(peer.parse().unwrap(), &fields, &trusted).ip.to_string()
    }

    #[test]
    fn h1_only_trusted_hops_are_believed() {
        for (peer, lines, expected) in [
            ("203.0.113.9", &[(XFF, "1.1.1.1")][..], "203.0.113.9"),
            ("10.0.0.1", &[(XFF, "1.1.1.1")], "1.1.1.1"),
            ("::ffff:10.0.0.1", &[(XFF, "1.1.1.1")], "1.1.1.1"),
            ("10.0.0.1", &[(XFF, "6.6.6.6, 1.1.1.1")], "1.1.1.1"),
            ("10.0.0.1", &[(XFF, "6.6.6.6"), (XFF, "1.1.1.1, 10.9.9.9")], "1.1.1.1"),
            ("10.0.0.1", &[(XFF, "6.6.6.6, garbage")], "10.0.0.1"),
            ("10.0.0.1", &[(XFF, "6.6.6.6, garbage, 10.2.2.2")], "10.2.2.2"),
            ("10.0.0.1", &[(XFF, "6.6.6.6, unknown")], "10.0.0.1"),
            ("10.0.0.1", &[(XFF, "1.1.1.1:443")], "1.1.1.1"),
            ("10.0.0.1", &[(XFF, "[2001:db8::1]:443")], "2001:db8::1"),
            ("10.0.0.1", &[(XFF, "[2001:db8::1]")], "2001:db8::1"),
            ("10.0.0.1", &[(XFF, "2001:db8::1")], "2001:db8::1"),
            ("10.0.0.1", &[(XFF, "")], "10.0.0.1"),
            ("10.0.0.1", &[(XFF, "1.1.1.1,")], "10.0.0.1"),
            ("fd00::1", &[(XFF, "::ffff:1.2.3.4")], "1.2.3.4"),
            // A proxy that sets `X-Forwarded-For` and passes the client's `Forwarded` on.
            ("10.0.0.1", &[(FWD, "for=6.6.6.6"), (XFF, "1.1.1.1")], "1.1.1.1"),
            ("10.0.0.1", &[(FWD, "for=6.6.6.6")], "10.0.0.1"),
            ("10.0.0.1", &[(FWD, "for=6.6.6.6"), (XFF, "garbage")], "10.0.0.1"),
        ] {
            assert_eq!(resolve(ForwardedHeader::XForwardedFor, peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn h1_the_header_that_proxies_set_is_the_only_one_read() {
        for (lines, expected) in [
            (&[(FWD, "for=6.6.6.6, for=\"[2001:db8::1]:1\";proto=https")][..], "2001:db8::1"),
            (&[(FWD, "proto=http;For=1.1.1.1")], "1.1.1.1"),
            (&[(FWD, "for=6.6.6.6"), (FWD, "for=1.1.1.1, for=10.0.0.2")], "1.1.1.1"),
            (&[(FWD, "for=_hidden")], "10.0.0.1"),
            (&[(FWD, "for=6.6.6.6, for=unknown, for=10.0.0.2")], "10.0.0.2"),
            // A proxy that sets `Forwarded` and passes the client's `X-Forwarded-For` on.
            (&[(XFF, "6.6.6.6"), (FWD, "for=1.1.1.1")], "1.1.1.1"),
            (&[(XFF, "6.6.6.6")], "10.0.0.1"),
            (&[(XFF, "6.6.6.6"), (FWD, "for=_hidden")], "10.0.0.1"),
            (&[(XFF, "6.6.6.6"), (FWD, "\"")], "10.0.0.1"),
        ] {
            assert_eq!(resolve(ForwardedHeader::Forwarded, "10.0.0.1", lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn h1_a_thousand_hops_end_somewhere() {
        let chain = vec!["10.1.1.1"; 1000].join(", ");
        assert_eq!(resolve(ForwardedHeader::XForwardedFor, "10.0.0.1", &[(XFF, &chain)]), "10.1.1.1");
        let lines = vec![(FWD, "for=10.1.1.1"); 1000];
        assert_eq!(resolve(ForwardedHeader::Forwarded, "10.0.0.1", &lines), "10.1.1.1");
    }
}
