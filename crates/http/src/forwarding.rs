//! What the gateway tells upstreams of itself and its client, and what a trusted proxy told it.

use crate::{Client, Exchange, Fields, ForwardedHeader, Scheme, TrustedProxies, ValueWriter};

/// What a trusted proxy's request said of its own client, taken before [`hygiene::request`](crate::hygiene::request) drops it.
#[derive(Clone, Debug, Default)]
pub struct Inherited {
    forwarded_for: Option<String>,
    proto: Option<&'static str>,
    host: Option<String>,
    /// `X-Request-Id`.
    pub request_id: Option<Vec<u8>>,
}

impl Inherited {
    /// Reads the forwarding fields of a trusted peer: those of the header that it sets.
    #[must_use]
    pub fn from_trusted(fields: &Fields, trusted: &TrustedProxies) -> Self {
        let request_id = fields.get("x-request-id").map(<[u8]>::to_vec);
        match trusted.header() {
            ForwardedHeader::XForwardedFor => Inherited { request_id, ..Self::from_x_forwarded(fields) },
            ForwardedHeader::Forwarded => Inherited { request_id, ..Self::from_forwarded(fields, trusted) },
        }
    }

    /// The host that the client asked for, canonical.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    fn from_x_forwarded(fields: &Fields) -> Self {
        let chain: Vec<&str> =
            fields.get_all("x-forwarded-for").filter_map(|v| std::str::from_utf8(v).ok()).collect();
        Inherited {
            forwarded_for: (!chain.is_empty()).then(|| chain.join(", ")),
            proto: match fields.get("x-forwarded-proto") {
                Some(b"https") => Some("https"),
                Some(b"http") => Some("http"),
                _ => None,
            },
            host: fields.get_str("x-forwarded-host").and_then(canonical_host),
            request_id: None,
        }
    }

    /// What the farthest trusted proxy says of its own client; of the hops before, which a client may have written,
    /// nothing.
    fn from_forwarded(fields: &Fields, trusted: &TrustedProxies) -> Self {
        let mut inherited = Inherited::default();
        for hop in trusted.hops(fields) {
            inherited.forwarded_for = Some(match inherited.forwarded_for {
                Some(nearer) => format!("{}, {nearer}", hop.ip),
                None => hop.ip.to_string(),
            });
            inherited.proto = hop.proto;
            inherited.host = hop.host.and_then(canonical_host);
        }
        inherited
    }
}

fn canonical_host(text: &str) -> Option<String> {
    crate::Host::parse(text).map(|host| host.to_string())
}

/// Writes what the gateway says to an upstream of itself and its client: `Forwarded` (RFC 7239),
/// `X-Forwarded-*`, `X-Real-IP`, `Via` (RFC 9110 §7.6.3), `X-Request-Id` and `traceparent`.
pub fn set_forwarding(exchange: &Exchange, inherited: &Inherited, via: &str, out: &mut Fields) {
    let Client { address, scheme, peer, local, .. } = &exchange.client;
    let proto = inherited.proto.unwrap_or(scheme.as_str());
    let has_host = inherited.host.is_some() || !exchange.host.is_empty();
    let write_host = |out: &mut ValueWriter<'_>| match &inherited.host {
        Some(host) => out.text(host),
        None => exchange.host.write(out),
    };
    let port = exchange.host.port().unwrap_or(match scheme {
        Scheme::Http if exchange.host.is_empty() => local.port(),
        Scheme::Http => 80,
        Scheme::Https => 443,
    });
    out.append_written(b"forwarded", |out| {
        if address.ip.is_ipv6() {
            out.text(b"for=\"[");
            out.address(address.ip);
            out.text(b"]\"");
        } else {
            out.text(b"for=");
            out.address(address.ip);
        }
        if has_host {
            out.text(b";host=\"");
            write_host(out);
            out.text(b"\"");
        }
        out.text(b";proto=");
        out.text(proto);
    });
    out.append_written(b"x-forwarded-for", |out| {
        if let Some(chain) = &inherited.forwarded_for {
            out.text(chain);
            out.text(b", ");
        }
        out.address(peer.ip().to_canonical());
    });
    out.append_parsed(b"x-forwarded-proto", proto.as_bytes());
    if has_host {
        out.append_written(b"x-forwarded-host", write_host);
    }
    out.append_written(b"x-forwarded-port", |out| out.decimal(u64::from(port)));
    out.append_written(b"x-real-ip", |out| out.address(address.ip));
    out.append_written(b"via", |out| {
        out.text(exchange.request.version.number());
        out.text(b" ");
        out.text(via);
    });
    out.append_parsed(b"x-request-id", exchange.id.as_bytes());
    out.append_parsed(b"traceparent", &exchange.trace.traceparent());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h1_what_a_proxy_says_of_its_client_is_read_of_its_own_header() {
        let mut fields = Fields::default();
        for (name, value) in [
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "x.test"),
            (
                "Forwarded",
                "for=7.7.7.7;proto=https;host=evil.test, for=1.1.1.1;proto=http;host=F.test, for=10.0.0.2",
            ),
            ("X-Request-Id", "id-1"),
        ] {
            fields.append(name, value).unwrap();
        }
        let read = |header| {
            let trusted = TrustedProxies::new(["10.0.0.0/8".parse().unwrap()], header);
            let inherited = Inherited::from_trusted(&fields, &trusted);
            assert_eq!(inherited.request_id.as_deref(), Some(&b"id-1"[..]));
            (inherited.forwarded_for.unwrap(), inherited.proto, inherited.host)
        };
        assert_eq!(
            read(ForwardedHeader::XForwardedFor),
            ("6.6.6.6".into(), Some("https"), Some("x.test".into()))
        );
        assert_eq!(
            read(ForwardedHeader::Forwarded),
            ("1.1.1.1, 10.0.0.2".into(), Some("http"), Some("f.test".into()))
        );
    }
}
