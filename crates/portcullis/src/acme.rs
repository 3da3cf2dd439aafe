//! Certificates by ACME (RFC 8555): ordered, proven by challenge, stored, renewed, and swapped under open listeners.
//!
//! One task of the process looks after each certificate ([`Manager::follow`]), whatever the number of threads that show
//! it; threads read the current one without a lock. What a task learns outlives every snapshot: a reload that asks for the
//! same certificate goes on with it.

mod advice;
mod certificate;
mod challenge;
mod client;
mod order;
mod renew;
mod resolver;
mod storage;

pub(crate) use challenge::answer;
pub(crate) use resolver::{Resolver, is_validation};

use certificate::Issued;
use challenge::{Certificates, Tokens};
use portcullis_config::{AcmeChallenge, Secret};
use portcullis_identity::GuardedResolver;
use portcullis_telemetry::{AcmeMetrics, Metrics};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use storage::Storage;
use tokio::task::AbortHandle;

/// What a certificate is ordered with. Another value is another certificate; listeners with the same show the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcmeSettings {
    pub(crate) directory_url: String,
    /// DNS names in lower case.
    pub(crate) domains: Vec<String>,
    /// URLs, such as `mailto:`.
    pub(crate) contact: Vec<String>,
    pub(crate) challenge: AcmeChallenge,
    pub(crate) storage: PathBuf,
    /// What the directory's own certificate is judged by, in PEM; without it the system's authorities.
    pub(crate) authorities: Option<Vec<u8>>,
    pub(crate) external_account: Option<ExternalAccount>,
    /// The pause after a first failure.
    pub(crate) retry: Duration,
}

/// An account that the operator has with the authority already (RFC 8555, 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExternalAccount {
    pub(crate) key_id: String,
    /// Base64url.
    pub(crate) hmac_key: Secret,
}

/// One certificate that this process looks after.
#[derive(Debug)]
pub(crate) struct Managed {
    pub(crate) settings: AcmeSettings,
    storage: Storage,
    current: RwLock<Option<Arc<Issued>>>,
    /// Self-signed, so that a listener can begin before there is a certificate.
    stopgap: Arc<CertifiedKey>,
    /// For TLS-ALPN-01.
    validations: Certificates,
    trouble: Mutex<Trouble>,
    metrics: AcmeMetrics,
    provider: Arc<CryptoProvider>,
}

/// Failures since the last success.
#[derive(Debug, Default)]
struct Trouble {
    failures: u32,
    error: Option<String>,
}

impl Managed {
    fn new(settings: AcmeSettings, metrics: AcmeMetrics) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let storage = Storage::new(&settings);
        let managed = Managed {
            current: RwLock::default(),
            stopgap: certificate::self_signed(&settings.domains, None, &provider)?,
            validations: Certificates::default(),
            trouble: Mutex::default(),
            storage,
            metrics,
            provider,
            settings,
        };
        managed.take_stored();
        Ok(managed)
    }

    /// What to show: the certificate, or until there is one the stopgap.
    fn certificate(&self) -> Arc<CertifiedKey> {
        self.current().map_or_else(|| self.stopgap.clone(), |issued| issued.key.clone())
    }

    fn current(&self) -> Option<Arc<Issued>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A certificate for the same names as the one to come.
    pub(crate) fn default_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.stopgap.cert.first()
    }

    /// The protocol in which the authority speaks to the listener by ALPN, if it does.
    pub(crate) fn protocol(&self) -> Option<&'static [u8]> {
        (self.settings.challenge == AcmeChallenge::TlsAlpn01).then_some(resolver::ALPN)
    }

    /// Whether it is for this name.
    fn covers(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.settings.domains.iter().any(|domain| domain.eq_ignore_ascii_case(name))
    }

    /// Takes up the stored certificate, if that is good for longer than the one in use: a process before this one, or one
    /// beside it, may have got it.
    fn take_stored(&self) {
        let Some(pem) = self.storage.read_certificate() else { return };
        match Issued::read(&pem, &self.settings.domains, &self.provider) {
            Ok(stored) if self.current().is_none_or(|current| current.not_after < stored.not_after) => {
                self.show(stored);
            }
            Ok(_) => {}
            Err(error) => {
                let file = self.storage.certificate_file();
                tracing::warn!(file = %file.display(), %error, "a stored certificate cannot be used");
            }
        }
    }

    /// From now on handshakes get this certificate.
    fn show(&self, issued: Issued) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(issued));
    }

    /// Tells the metrics when the certificate in use ends.
    fn publish(&self) {
        let not_after = self.current().map_or(UNIX_EPOCH, |issued| issued.not_after);
        let expiry = not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.metrics.expiry.set(i64::try_from(expiry).unwrap_or(i64::MAX));
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a failure; how many there were since the last success.
    fn failed(&self, error: &str) -> u32 {
        let mut trouble = self.trouble();
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.error = Some(error.to_owned());
        trouble.failures
    }

    fn status(&self) -> AcmeStatus {
        let (current, trouble) = (self.current(), self.trouble());
        let now = SystemTime::now();
        AcmeStatus {
            domains: self.settings.domains.clone(),
            state: match &current {
                None => "pending",
                Some(issued) if issued.not_after <= now => "expired",
                Some(_) => "valid",
            },
            expires_in_seconds: current
                .map(|issued| issued.not_after.duration_since(now).unwrap_or_default().as_secs()),
            failures: trouble.failures,
            error: trouble.error.clone(),
        }
    }
}

/// How it stands with a certificate, for readiness.
#[derive(Debug, Serialize)]
pub(crate) struct AcmeStatus {
    domains: Vec<String>,
    /// `pending` until there is a first one.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_seconds: Option<u64>,
    /// Orders that failed since the last that did not.
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// All certificates of the process. Lives outside the snapshots.
#[derive(Debug, Default)]
pub(crate) struct Manager {
    entries: Mutex<Vec<Entry>>,
    /// For HTTP-01.
    tokens: Tokens,
    /// One task at a time registers an account.
    registration: tokio::sync::Mutex<()>,
    /// Looks up authorities.
    resolver: GuardedResolver,
}

#[derive(Debug)]
struct Entry {
    managed: Arc<Managed>,
    task: Option<AbortHandle>,
}

impl Manager {
    /// One that looks after nothing yet.
    pub(crate) fn new(resolver: GuardedResolver) -> Self {
        Manager { resolver, ..Manager::default() }
    }

    /// The certificate of these settings: the one that is looked after already, else one that will be.
    ///
    /// # Errors
    /// When no key can be made.
    pub(crate) fn managed(&self, settings: AcmeSettings, metrics: &Metrics) -> Result<Arc<Managed>, String> {
        let mut entries = self.entries();
        if let Some(entry) = entries.iter().find(|entry| entry.managed.settings == settings) {
            return Ok(entry.managed.clone());
        }
        let metrics = metrics.acme(settings.domains.first().map_or("", String::as_str));
        let managed = Arc::new(Managed::new(settings, metrics)?);
        entries.push(Entry { managed: managed.clone(), task: None });
        Ok(managed)
    }

    /// Looks after these and no others from now on.
    pub(crate) fn follow(self: &Arc<Self>, wanted: &[Arc<Managed>]) {
        self.entries().retain_mut(|entry| {
            if !wanted.iter().any(|one| Arc::ptr_eq(one, &entry.managed)) {
                if let Some(task) = &entry.task {
                    task.abort();
                    entry.managed.metrics.expiry.set(0);
                }
                return false;
            }
            entry.task.get_or_insert_with(|| {
                tokio::spawn(renew::look_after(entry.managed.clone(), self.clone())).abort_handle()
            });
            true
        });
        for entry in self.entries().iter() {
            entry.managed.publish();
        }
    }

    /// How it stands with all that are looked after.
    pub(crate) fn status(&self) -> Vec<AcmeStatus> {
        self.entries()
            .iter()
            .filter(|entry| entry.task.is_some())
            .map(|entry| entry.managed.status())
            .collect()
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
