//! `[listener.tls.acme]`: certificates that the gateway orders itself.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{HostPattern, Secret, Timeout};

/// One certificate by ACME (RFC 8555), shown for its `domains`: ordered when there is none, renewed when two thirds of its
/// life are over, or earlier where the authority asks for it (RFC 9773). Until the first one is there, a certificate of `certificates` is shown, or a self-signed one. A failed
/// order is tried again, at longer and longer intervals, and the certificate in use stays.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// URL of the authority's directory: `https://acme-v02.api.letsencrypt.org/directory` is Let's Encrypt's,
    /// `https://acme-staging-v02.api.letsencrypt.org/directory` theirs for trying out.
    pub directory_url: String,
    /// DNS names that the certificate is for; no wildcards, since neither challenge proves them.
    #[schemars(length(min = 1, max = 100))]
    pub domains: Vec<HostPattern>,
    /// Where the authority may write to about the account, as URLs: `mailto:ops@example.com`.
    #[serde(default)]
    pub contact: Vec<String>,
    /// Whether you agree to the authority's terms of service. Without that there is no account.
    pub terms_of_service_agreed: bool,
    /// How it is proven that the names are this gateway's.
    #[serde(default)]
    pub challenge: AcmeChallenge,
    /// Folder for account keys and certificates, made where it is missing. It must outlive the process and be nobody else's;
    /// files in it are readable by their owner alone.
    pub storage: PathBuf,
    /// PEM file with the authorities that the directory's own certificate is judged by. Without it, the system's.
    pub ca_file: Option<PathBuf>,
    /// An account that you have with the authority already (external account binding), where it asks for one.
    pub external_account: Option<ExternalAccount>,
    /// How long to wait after a first failure; twice as long after each further one, up to 6h.
    #[serde(default = "retry_interval")]
    pub retry_interval: Timeout,
}

const fn retry_interval() -> Timeout {
    Timeout::from_secs(60)
}

/// How it is proven to an authority that a name is this gateway's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AcmeChallenge {
    /// The authority asks for a token on port 80 in clear (RFC 8555, 8.3): some listener without TLS must be reached by it.
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    /// The authority begins a TLS handshake on port 443 (RFC 8737): this listener must be reached by it, with nothing
    /// before it that ends TLS.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

impl fmt::Display for AcmeChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        })
    }
}

/// An account with the authority, made outside of ACME (RFC 8555, 7.3.4).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccount {
    /// The key's identifier that the authority gave out.
    #[schemars(length(min = 1))]
    pub kid: String,
    /// The key itself, in base64url as it was given out.
    pub hmac_key: Secret,
}
