//! TLS of listeners: certificates by SNI, client certificates, resumption, ALPN. rustls speaks; here it is only set up.

mod handshake;
mod server_name;

pub(crate) use handshake::Opened;

use crate::acme::{self, Managed};
use portcullis_config::{Certificate, ClientAuthMode, Config, Listener, ListenerTls, TlsVersion};
use portcullis_http::{ClientCertificate, Host};
use portcullis_tls::{
    ClientAuth, ClientAuthSettings, HostNames, Validity, expiry, is_stale, next_update, pem, validity,
};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use rustls_pki_types::{CertificateDer, UnixTime};
use server_name::BySni;
use std::path::Path;
use std::sync::Arc;

/// A listener's TLS settings, compiled.
#[derive(Debug)]
pub(crate) struct TlsPlan {
    config: Arc<ServerConfig>,
    /// Whose certificates are taken, where any are asked for.
    pub(crate) client_auth: Option<ClientAuth>,
    /// Who vouches for a client's certificate, as a caller's provider.
    provider: String,
    /// The hosts that a client may ask for without SNI.
    default_names: HostNames,
    /// The certificates that it can show.
    certificates: Vec<CertificateDer<'static>>,
    /// When the first of them expires, in seconds since 1970.
    pub(crate) certificates_expire: Option<i64>,
    /// When the first revocation list is past its `nextUpdate`.
    pub(crate) revocation_lists_expire: Option<i64>,
    /// What is odd but not wrong.
    pub(crate) warnings: Vec<String>,
}

/// What a listener asks of its clients, compiled.
#[derive(Default)]
struct Clients {
    auth: Option<ClientAuth>,
    revocation_lists_expire: Option<i64>,
}

impl TlsPlan {
    /// Compiles a listener's TLS settings. What its predecessor (`previous`) has promised is kept: its tickets, unless
    /// other clients are asked now.
    ///
    /// # Errors
    /// Which file cannot be used, and why. A certificate that is out of its dates cannot, unless it is in use already: a
    /// gateway that starts must start, one that runs must not get worse.
    pub(crate) fn compile(
        config: &Config,
        listener: &Listener,
        tls: &ListenerTls,
        managed: Option<Arc<Managed>>,
        previous: Option<&TlsPlan>,
    ) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut warnings = Vec::new();
        let clients = clients(config, tls, &provider, &mut warnings)?;
        let client_auth = clients.auth;
        let (resolver, certificates) = resolver(config, &tls.certificates, &provider)?;
        for (entry, certificate) in tls.certificates.iter().zip(&certificates) {
            let file = config.resolve(&entry.certificate);
            let problem = match validity(certificate, UnixTime::now()) {
                Validity::Valid => continue,
                Validity::Expired => format!("{}: the certificate has expired", file.display()),
                Validity::NotYetValid => format!("{}: the certificate is not valid yet", file.display()),
            };
            if previous.is_some_and(|running| !running.certificates.contains(certificate)) {
                return Err(problem);
            }
            warnings.push(format!("listener `{}`: {problem}", listener.name));
        }
        let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
            TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::Tls13 => &[&version::TLS13],
        };
        let default =
            resolver.default_certificate().or(managed.as_deref().and_then(Managed::default_certificate));
        let default_names = HostNames::of(default.ok_or("no certificate")?);
        let validated = managed.as_deref().and_then(Managed::protocol);
        let resolver: Arc<dyn ResolvesServerCert> = match managed {
            Some(managed) => Arc::new(acme::Resolver::new(managed, resolver)),
            None => Arc::new(resolver),
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let builder = match &client_auth {
            Some(auth) => builder.with_client_cert_verifier(auth.verifier()),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_cert_resolver(resolver);
        server.ticketer = ticketer(client_auth.as_ref(), previous)?;
        // Only tickets, since their age is bounded: sessions in a store would be good for as long as it holds them.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        // What is sent as early data can be sent again by others (RFC 8446 §8).
        server.max_early_data_size = 0;
        // Ours are in order of strength; a client that wants the weakest gets it only where it has no other.
        server.ignore_client_order = true;
        server.alpn_protocols = if listener.http2 {
            vec![b"h2".to_vec(), b"http/1.1".to_vec()]
        } else {
            vec![b"http/1.1".to_vec()]
        };
        server.alpn_protocols.extend(validated.map(<[u8]>::to_vec));
        Ok(TlsPlan {
            config: Arc::new(server),
            client_auth,
            provider: format!("tls:{}", listener.name),
            default_names,
            certificates_expire: certificates.iter().filter_map(expiry).min(),
            revocation_lists_expire: clients.revocation_lists_expire,
            certificates,
            warnings,
        })
    }

    /// Whether a connection may be used for a host (RFC 9110 §15.5.20, RFC 9113 §9.1.2): for the one that was asked for in
    /// the handshake (SNI) and no other, since another may have other certificates. Without SNI, for those that the
    /// default certificate names, and for addresses, for which there is no SNI (RFC 6066 §3).
    pub(crate) fn serves(&self, server_name: Option<&str>, host: &Host) -> bool {
        if host.is_empty() {
            return true;
        }
        match server_name {
            Some(name) => name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case(host.name()),
            None => host.is_address() || self.default_names.contain(host.name()),
        }
    }

    /// Whether a client with this certificate, whose connection began under this plan, would be let in by `now`.
    pub(crate) fn still_admits(
        &self,
        certificate: Option<&ClientCertificate>,
        now: Option<&ClientAuth>,
    ) -> bool {
        let fingerprint = |auth: Option<&ClientAuth>| auth.map(|auth| *auth.fingerprint());
        if fingerprint(self.client_auth.as_ref()) == fingerprint(now) {
            return true;
        }
        let chain: Vec<_> = certificate
            .iter()
            .flat_map(|one| &one.chain)
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        match now {
            Some(auth) => auth.verify(&chain, UnixTime::now()).is_ok(),
            None => chain.is_empty(),
        }
    }
}

/// Keys for session tickets (RFC 5077, RFC 8446 §4.6.1). A session holds the client's certificate as it was judged, so
/// none may be taken up by a listener that judges otherwise: it gets keys of its own. rustls makes new keys every six hours
/// and takes tickets of the keys before them, so that a ticket is good for twelve hours at most.
fn ticketer(
    client_auth: Option<&ClientAuth>,
    previous: Option<&TlsPlan>,
) -> Result<Arc<dyn ProducesTickets>, String> {
    let same = |running: &&TlsPlan| {
        running.client_auth.as_ref().map(ClientAuth::fingerprint) == client_auth.map(ClientAuth::fingerprint)
    };
    match previous.filter(same) {
        Some(running) => Ok(running.config.ticketer.clone()),
        None => {
            rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| format!("no session tickets: {error}"))
        }
    }
}

fn clients(
    config: &Config,
    tls: &ListenerTls,
    provider: &Arc<CryptoProvider>,
    warnings: &mut Vec<String>,
) -> Result<Clients, String> {
    let Some(auth) = &tls.client_auth else { return Ok(Clients::default()) };
    let mut revocation_lists = Vec::new();
    for file in &auth.crl_files {
        let file = config.resolve(file);
        let lists = read(&file, pem::revocation_lists)?;
        if lists.iter().any(|list| is_stale(list, UnixTime::now())) {
            warnings.push(format!(
                "{}: a revocation list is past its `nextUpdate`: the clients that it is about are refused",
                file.display()
            ));
        }
        revocation_lists.extend(lists);
    }
    let revocation_lists_expire = revocation_lists.iter().filter_map(next_update).min();
    let file = config.resolve(&auth.ca_file);
    let settings = ClientAuthSettings {
        required: auth.mode == ClientAuthMode::Required,
        authorities: read(&file, pem::certificates)?,
        revocation_lists,
    };
    let auth = ClientAuth::new(settings, provider.clone())
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Clients { auth: Some(auth), revocation_lists_expire })
}

/// The certificates by name, and each entry's own in the order of the entries.
fn resolver(
    config: &Config,
    entries: &[Certificate],
    provider: &CryptoProvider,
) -> Result<(BySni, Vec<CertificateDer<'static>>), String> {
    let (mut resolver, mut certificates) = (BySni::default(), Vec::with_capacity(entries.len()));
    for entry in entries {
        let (certificate, key) = (config.resolve(&entry.certificate), config.resolve(&entry.key));
        let chain = read(&certificate, pem::certificates)?;
        let own = chain.first().ok_or_else(|| format!("{}: no certificate", certificate.display()))?;
        certificates.push(own.clone());
        let names = dns_names(own, &certificate)?;
        let pair =
            CertifiedKey::from_der(chain, read(&key, pem::private_key)?, provider).map_err(|error| {
                format!("{} and {} do not belong together: {error}", certificate.display(), key.display())
            })?;
        resolver.add(names, Arc::new(pair));
    }
    Ok((resolver, certificates))
}

fn read<T>(path: &Path, parse: impl Fn(&[u8]) -> Result<T, pem::PemError>) -> Result<T, String> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The DNS names of a server's certificate, in lower case.
fn dns_names(certificate: &CertificateDer<'_>, path: &Path) -> Result<Vec<String>, String> {
    let parsed = webpki::EndEntityCert::try_from(certificate)
        .map_err(|error| format!("{}: not a server's certificate: {error}", path.display()))?;
    Ok(parsed.valid_dns_names().map(str::to_ascii_lowercase).collect())
}
