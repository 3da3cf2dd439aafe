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
