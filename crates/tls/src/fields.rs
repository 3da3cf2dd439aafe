//! Telling upstreams of a client's certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_http::{ClientCertificate, Fields};

/// What of a client's certificate an upstream is told (RFC 9440).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertFields {
    /// Nothing.
    #[default]
    None,
    /// The certificate, in `Client-Cert`.
    Certificate,
    /// Also the rest of its chain, in `Client-Cert-Chain`.
    Chain,
}

impl ClientCertFields {
    /// Writes the fields (RFC 9440 §2): each certificate is a byte sequence of RFC 8941. What a client sends under these
    /// names never passes (`portcullis_http::hygiene`).
    pub fn write(self, certificate: &ClientCertificate, out: &mut Fields) {
        let item = |der: &Vec<u8>| format!(":{}:", STANDARD.encode(der));
        let Some((own, others)) = certificate.chain.split_first() else { return };
        if self == ClientCertFields::None {
            return;
        }
        out.append_parsed(b"client-cert", item(own).as_bytes());
        if self == ClientCertFields::Chain && !others.is_empty() {
            let list = others.iter().map(item).collect::<Vec<_>>().join(", ");
            out.append_parsed(b"client-cert-chain", list.as_bytes());
        }
    }
}
