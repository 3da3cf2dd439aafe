//! TLS of listeners: certificates by SNI, resumption, ALPN. rustls speaks; here it is only set up.

use portcullis_config::{Certificate, Config, ListenerTls, TlsVersion};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Chooses the certificate by the name the client asks for; the first one serves everybody else.
#[derive(Debug)]
struct BySni {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// `*.example.com` stands here as `example.com`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            let parent = name.split_once('.').map(|(_, parent)| parent);
            self.exact.get(&name).or_else(|| parent.and_then(|parent| self.wildcard.get(parent))).cloned()
        });
        Some(chosen.unwrap_or_else(|| self.default.clone()))
    }
}

/// Compiles a listener's TLS settings.
///
/// # Errors
/// Which file cannot be used, and why.
pub(crate) fn server_config(config: &Config, tls: &ListenerTls, http2: bool) -> Result<ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let resolver = Arc::new(resolver(config, &tls.certificates, &provider)?);
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
        TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
        TlsVersion::Tls13 => &[&version::TLS13],
    };
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    server.ticketer =
        rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| format!("no session tickets: {error}"))?;
    server.alpn_protocols =
        if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(server)
}

fn resolver(
    config: &Config,
    certificates: &[Certificate],
    provider: &CryptoProvider,
) -> Result<BySni, String> {
    let (mut exact, mut wildcard, mut default) = (HashMap::new(), HashMap::new(), None);
    for entry in certificates {
        let (certificate, key) = (config.resolve(&entry.certificate), config.resolve(&entry.key));
        let chain = read_chain(&certificate)?;
        let names = dns_names(&chain, &certificate)?;
        let private = PrivateKeyDer::from_pem_file(&key)
            .map_err(|error| format!("{}: no private key: {error}", key.display()))?;
        let pair = CertifiedKey::from_der(chain, private, provider).map_err(|error| {
            format!("{} and {} do not belong together: {error}", certificate.display(), key.display())
        })?;
        let pair = Arc::new(pair);
        for name in names {
            match name.strip_prefix("*.") {
                Some(parent) => wildcard.entry(parent.to_owned()).or_insert_with(|| pair.clone()),
                None => exact.entry(name).or_insert_with(|| pair.clone()),
            };
        }
        default.get_or_insert(pair);
    }
    let default = default.ok_or("a TLS listener needs a certificate")?;
    Ok(BySni { exact, wildcard, default })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(format!("{}: holds no certificate", path.display())),
        Err(error) => Err(format!("{}: not a PEM certificate chain: {error}", path.display())),
    }
}

/// The DNS names of the first certificate, in lower case.
fn dns_names(chain: &[CertificateDer<'_>], path: &Path) -> Result<Vec<String>, String> {
    let first = chain.first().ok_or("no certificate")?;
    let parsed = webpki::EndEntityCert::try_from(first)
        .map_err(|error| format!("{}: not a certificate: {error}", path.display()))?;
    Ok(parsed.valid_dns_names().map(str::to_ascii_lowercase).collect())
}
