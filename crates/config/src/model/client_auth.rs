//! Client certificates: what listeners ask for and what routes demand.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::Fingerprint;

/// Client certificates that a listener asks for in the TLS handshake (mutual TLS). A certificate that is shown must be good
/// in any case: issued by an authority of `ca_file` for client authentication, within its dates, not revoked; else the
/// handshake fails. A session that is resumed is judged again, and none outlives a change of these settings or files.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuth {
    /// Whether a client must show one.
    #[serde(default)]
    pub mode: ClientAuthMode,
    /// PEM file with the authorities whose certificates are taken. Those of the operating system are never used.
    pub ca_file: PathBuf,
    /// PEM files with revocation lists (RFC 5280). Where there are any, each certificate of a chain but the authority's own
    /// must be covered by a list of its issuer that is not past its `nextUpdate`, else it is refused.
    #[serde(default)]
    pub crl_files: Vec<PathBuf>,
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMode {
    /// A handshake without one fails.
    #[default]
    Required,
    /// A client may show none; routes say whether they want one (`auth.client_certificate`).
    Optional,
}

/// The client certificate that a route wants. A caller known by none but its certificate has as subject the first URI of its
/// alternative names, else the first DNS name, else the first mail address, else the distinguished name; `auth.claims` can
/// ask for `subject`, `issuer`, `serial`, `fingerprint`, `san.uri`, `san.dns` and `san.email`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientCertificate {
    /// Whether there must be one; without it a request gets 403. With `false` it may be missing.
    pub required: bool,
    /// URIs of alternative names, such as SPIFFE IDs. Of all certificates those that have one of `uris`, `dns_names` or
    /// `fingerprints` pass, others get 403; without any of them all pass.
    pub uris: Vec<String>,
    /// DNS names of alternative names, exactly, in any case.
    pub dns_names: Vec<String>,
    /// SHA-256 fingerprints of certificates.
    pub fingerprints: Vec<Fingerprint>,
    /// What the upstream is told of the certificate (RFC 9440).
    pub forward: ForwardCertificate,
}

impl Default for ClientCertificate {
    fn default() -> Self {
        Self {
            required: true,
            uris: Vec::new(),
            dns_names: Vec::new(),
            fingerprints: Vec::new(),
            forward: ForwardCertificate::None,
        }
    }
}

/// What an upstream is told of a client's certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForwardCertificate {
    /// Nothing but who the caller is (`X-Consumer-*`).
    #[default]
    None,
    /// The certificate, in `Client-Cert`.
    Certificate,
    /// Also the chain that the client sent with it, in `Client-Cert-Chain`.
    Chain,
}
