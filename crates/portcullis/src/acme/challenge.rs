//! What proves to an authority that this gateway speaks for a name, for as long as an order is pending.

use super::{Managed, Manager, certificate};
use bytes::Bytes;
use portcullis_config::AcmeChallenge;
use portcullis_http::{Exchange, Method, Scheme};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Where authorities ask for HTTP-01 (RFC 8555, section 8.3).
const PREFIX: &str = "/.well-known/acme-challenge/";

/// Tokens of pending HTTP-01 challenges, by host and token.
#[derive(Debug, Default)]
pub(super) struct Tokens(RwLock<HashMap<(String, String), String>>);

/// Certificates of pending TLS-ALPN-01 challenges, by host.
#[derive(Debug, Default)]
pub(super) struct Certificates(RwLock<HashMap<String, Arc<CertifiedKey>>>);

impl Certificates {
    pub(super) fn get(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let host = host.to_ascii_lowercase();
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&host).cloned()
    }
}

/// The answer to a request that asks for the token of a pending challenge in clear; `None` for all others.
pub(crate) fn answer(manager: &Manager, exchange: &Exchange) -> Option<Bytes> {
    let token = exchange.target.path().strip_prefix(PREFIX)?;
    if exchange.client.scheme != Scheme::Http
        || !matches!(exchange.request.method, Method::Get | Method::Head)
    {
        return None;
    }
    let tokens = manager.tokens.0.read().unwrap_or_else(PoisonError::into_inner);
    tokens.get(&(exchange.host.name().to_owned(), token.to_owned())).map(|text| Bytes::from(text.clone()))
}

/// The challenges of one order; they are over when it is.
pub(super) struct Pending<'a> {
    manager: &'a Manager,
    managed: &'a Managed,
    tokens: Vec<(String, String)>,
    hosts: Vec<String>,
}

impl<'a> Pending<'a> {
    pub(super) fn new(manager: &'a Manager, managed: &'a Managed) -> Self {
        Pending { manager, managed, tokens: Vec::new(), hosts: Vec::new() }
    }

    /// Sets up the answer to a challenge: its token, and the key authorization (RFC 8555, section 8.1).
    ///
    /// # Errors
    /// When no certificate can be made.
    pub(super) fn add(&mut self, host: &str, token: &str, authorization: &str) -> Result<(), String> {
        let host = host.to_ascii_lowercase();
        match self.managed.settings.challenge {
            AcmeChallenge::Http01 => {
                let key = (host, token.to_owned());
                let mut tokens = self.manager.tokens.0.write().unwrap_or_else(PoisonError::into_inner);
                tokens.insert(key.clone(), authorization.to_owned());
                self.tokens.push(key);
            }
            AcmeChallenge::TlsAlpn01 => {
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, authorization.as_bytes());
                let digest: &[u8; 32] = digest.as_ref().try_into().map_err(|_| "a digest of another size")?;
                let names = [host.clone()];
                let shown = certificate::self_signed(&names, Some(digest), &self.managed.provider)?;
                let mut certificates =
                    self.managed.validations.0.write().unwrap_or_else(PoisonError::into_inner);
                certificates.insert(host.clone(), shown);
                self.hosts.push(host);
            }
        }
        Ok(())
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut tokens = self.manager.tokens.0.write().unwrap_or_else(PoisonError::into_inner);
        for token in &self.tokens {
            tokens.remove(token);
        }
        let mut certificates = self.managed.validations.0.write().unwrap_or_else(PoisonError::into_inner);
        for host in &self.hosts {
            certificates.remove(host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_http::{
        Client, ClientAddress, Host, RequestHead, RequestId, Target, TraceContext, Version,
    };

    fn exchange(method: &str, scheme: Scheme, host: &str, target: &str) -> Exchange {
        let mut head = RequestHead::default();
        head.set_line(method.as_bytes(), target.as_bytes(), Version::Http11);
        let address = "192.0.2.1:1".parse().unwrap();
        let client = Client {
            peer: address,
            local: address,
            address: ClientAddress { ip: address.ip(), peer_trusted: false },
            scheme,
            server_name: None,
            certificate: None,
            listener: "public".into(),
        };
        let (target, host) = (Target::parse(target.as_bytes()).unwrap(), Host::parse(host).unwrap());
        let trace = TraceContext::continue_from(None, false);
        Exchange::new(head, target, host, client, RequestId::random(), trace)
    }

    #[test]
    fn only_who_asks_as_an_authority_does_gets_a_proof() {
        let manager = Manager::default();
        let key = ("a.test".to_owned(), "token-1".to_owned());
        manager.tokens.0.write().unwrap().insert(key, "token-1.thumbprint".to_owned());
        let ask = |method: &str, scheme, host: &str, target: &str| {
            answer(&manager, &exchange(method, scheme, host, target))
        };
        const TOKEN: &str = "/.well-known/acme-challenge/token-1";
        for method in ["GET", "HEAD"] {
            let proof = ask(method, Scheme::Http, "A.test:80", TOKEN);
            assert_eq!(proof.as_deref(), Some(&b"token-1.thumbprint"[..]));
        }
        for (method, scheme, host, target) in [
            ("POST", Scheme::Http, "a.test", TOKEN),
            ("GET", Scheme::Https, "a.test", TOKEN),
            ("GET", Scheme::Http, "b.test", TOKEN),
            ("GET", Scheme::Http, "a.test", "/.well-known/acme-challenge/token-2"),
            ("GET", Scheme::Http, "a.test", "/.well-known/acme-challenge/"),
            ("GET", Scheme::Http, "a.test", "/.well-known/acme-challenge/token-1/"),
            ("GET", Scheme::Http, "a.test", "/x/.well-known/acme-challenge/token-1"),
            ("GET", Scheme::Http, "a.test", "/token-1"),
        ] {
            assert_eq!(ask(method, scheme, host, target), None, "{method} {host} {target}");
        }
    }
}
