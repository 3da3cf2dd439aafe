//! What keeps requests together: what of them is hashed, and the cookie that names an endpoint.

use portcullis_config as config;
use portcullis_http::{Exchange, Fields, cookie};
use portcullis_upstream::{StickyToken, Upstream, hash_key};
use std::fmt::Write as _;
use std::net::IpAddr;

/// What of a request is hashed.
#[derive(Clone, Debug)]
pub(crate) enum HashKey {
    Address,
    Consumer,
    Field(String),
    Cookie(String),
    Claim(String),
}

impl HashKey {
    pub(crate) fn new(key: &config::HashKey) -> Self {
        match key {
            config::HashKey::Address => HashKey::Address,
            config::HashKey::Consumer => HashKey::Consumer,
            config::HashKey::Header(name) => HashKey::Field(name.as_str().to_owned()),
            config::HashKey::Cookie(name) => HashKey::Cookie(name.as_str().to_owned()),
            config::HashKey::Claim(name) => HashKey::Claim(name.clone()),
        }
    }

    /// The hash of what the request has of it, if anything.
    pub(crate) fn hash(&self, exchange: &Exchange) -> Option<u64> {
        let (fields, principal) = (&exchange.request.fields, exchange.principal.as_deref());
        match self {
            HashKey::Address => Some(match exchange.client.address.ip.to_canonical() {
                IpAddr::V4(ip) => hash_key(&ip.octets()),
                IpAddr::V6(ip) => hash_key(&ip.octets()),
            }),
            // A name of one provider is nobody at another: their hashes are apart.
            HashKey::Consumer => principal.map(|principal| {
                let provider = hash_key(principal.provider.as_bytes());
                provider.rotate_left(1) ^ hash_key(principal.subject.as_bytes())
            }),
            HashKey::Field(name) => fields.get(name).map(hash_key),
            HashKey::Cookie(name) => cookie(fields, name).map(hash_key),
            HashKey::Claim(name) => {
                let principal = principal?;
                match principal.claim(name)?.as_str() {
                    Some(text) => Some(hash_key(text.as_bytes())),
                    None => principal.claim_text(name).map(|text| hash_key(text.as_bytes())),
                }
            }
        }
    }
}

/// The cookie by which a client stays with an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct StickyCookie {
    name: String,
    /// What stands behind its value, from the first semicolon on.
    attributes: String,
}

impl StickyCookie {
    pub(crate) fn new(sticky: &config::Sticky) -> Self {
        let mut attributes = format!("; Path={}", sticky.path);
        if let Some(age) = sticky.max_age {
            // Writing to a string does not fail.
            let _ = write!(attributes, "; Max-Age={}", age.get().as_secs());
        }
        if sticky.secure {
            attributes.push_str("; Secure");
        }
        if sticky.http_only {
            attributes.push_str("; HttpOnly");
        }
        attributes.push_str(match sticky.same_site {
            config::SameSite::Strict => "; SameSite=Strict",
            config::SameSite::Lax => "; SameSite=Lax",
            config::SameSite::None => "; SameSite=None",
        });
        StickyCookie { name: sticky.cookie.as_str().to_owned(), attributes }
    }

    /// What the request brought along.
    pub(crate) fn read(&self, fields: &Fields) -> Option<StickyToken> {
        StickyToken::parse(cookie(fields, &self.name)?)
    }

    /// Sets the cookie where the request brought another than that of the endpoint that answered it.
    pub(crate) fn renew(
        &self,
        upstream: &Upstream,
        endpoint: &str,
        brought: Option<StickyToken>,
        answer: &mut Fields,
    ) {
        if let Some(token) = upstream.sticky_token(endpoint).filter(|token| brought != Some(*token)) {
            let value = format!("{}={token}{}", self.name, self.attributes);
            answer.append_parsed(b"set-cookie", value.as_bytes());
        }
    }
}
