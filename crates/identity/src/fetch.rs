//! Fetching a key set: one GET, tightly bounded.

use crate::GuardedResolver;
use crate::jwks::{MAX_SET, SetError};
use reqwest::{Client, Url, redirect};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long one fetch may take from connecting to the last byte.
pub(crate) const FETCH_TIME: Duration = Duration::from_secs(5);

/// Why a fetch brought no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchError {
    /// No connection, no TLS session, or it broke.
    Unreachable,
    /// It took longer than [`FETCH_TIME`].
    Timeout,
    /// A status other than 200; redirects are not followed.
    Status(u16),
    /// More than [`MAX_SET`] bytes.
    TooLarge,
    /// What came is no usable set.
    Set(SetError),
    /// The runtime went away before it ended.
    Abandoned,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Unreachable => f.write_str("cannot be reached"),
            FetchError::Timeout => f.write_str("took longer than 5 s"),
            FetchError::Status(status) => write!(f, "answered with status {status}"),
            FetchError::TooLarge => f.write_str("answered with more than 1 MiB"),
            FetchError::Set(error) => write!(f, "answered with what {error}"),
            FetchError::Abandoned => f.write_str("was abandoned"),
        }
    }
}

/// Why the key store cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyStoreError {
    /// The additional roots are not PEM certificates.
    Roots,
    /// The TLS client cannot be set up.
    Tls(String),
}

impl fmt::Display for KeyStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyStoreError::Roots => f.write_str("the additional roots for key sets are not PEM certificates"),
            KeyStoreError::Tls(why) => write!(f, "the TLS client for key sets cannot be set up: {why}"),
        }
    }
}

impl std::error::Error for KeyStoreError {}

/// The client all fetches share. It keeps no connection: its runtimes come and go, and a connection would
/// belong to one of them. Proxies from the environment are not used; neither are redirects, so that a key set's
/// host cannot send the gateway to an address inside (matrix G12).
pub(crate) fn client(extra_roots: Option<&[u8]>, resolver: GuardedResolver) -> Result<Client, KeyStoreError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = extra_roots {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = certificates.map_err(|_| KeyStoreError::Roots)?;
        if certificates.is_empty() {
            return Err(KeyStoreError::Roots);
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|_| KeyStoreError::Roots)?;
        }
    }
    if roots.is_empty() {
        tracing::warn!("this system has no certificate authorities: key sets cannot be fetched over https");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| KeyStoreError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Whatever anybody answers for that name: clear text may be spoken to it.
    let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
    Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .pool_max_idle_per_host(0)
        .resolve_to_addrs("localhost", &loopback)
        .dns_resolver(resolver)
        .connect_timeout(FETCH_TIME)
        .timeout(FETCH_TIME)
        .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| KeyStoreError::Tls(error.to_string()))
}

/// The body of a 200 answer of at most [`MAX_SET`] bytes.
pub(crate) async fn get(client: &Client, url: Url) -> Result<Vec<u8>, FetchError> {
    let broken = |error: reqwest::Error| {
        if error.is_timeout() { FetchError::Timeout } else { FetchError::Unreachable }
    };
    let request = client.get(url).header("accept", "application/jwk-set+json, application/json");
    let mut response = request.send().await.map_err(broken)?;
    if response.status() != 200 {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > MAX_SET {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads the URL of a key set: `https`, or `http` to the loopback where that is allowed; no user information.
pub(crate) fn parse_url(text: &str, allow_http_loopback: bool) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is no URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password");
    }
    let loopback = match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()),
        None => return Err("names no host"),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback && allow_http_loopback => Ok(url),
        "http" if loopback => {
            Err("must be https; http to the loopback has to be allowed explicitly, for development")
        }
        _ => Err("must be https"),
    }
}
