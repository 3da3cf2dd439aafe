//! Plans of certificates that the gateway orders itself.

use crate::acme::{AcmeSettings, ExternalAccount, Managed};
use crate::shared::Shared;
use portcullis_config as config;
use portcullis_config::Config;
use std::sync::Arc;

/// The certificate that a listener gets by ACME, if it does.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn managed(
    config: &Config,
    listener: &config::Listener,
    shared: &Shared,
) -> Result<Option<Arc<Managed>>, String> {
    let Some(acme) = listener.tls.as_ref().and_then(|tls| tls.acme.as_ref()) else { return Ok(None) };
    let authorities = acme.ca_file.as_ref().map(|file| {
        let file = config.resolve(file);
        let told = |error: String| format!("{}: {error}", file.display());
        let pem = std::fs::read(&file).map_err(|error| told(error.to_string()))?;
        portcullis_tls::pem::certificates(&pem).map_err(|error| told(error.to_string()))?;
        Ok::<_, String>(pem)
    });
    let settings = AcmeSettings {
        directory_url: acme.directory_url.clone(),
        domains: acme.domains.iter().map(|domain| domain.as_str().to_owned()).collect(),
        contact: acme.contact.clone(),
        challenge: acme.challenge,
        storage: config.resolve(&acme.storage),
        authorities: authorities.transpose()?,
        external_account: acme.external_account.as_ref().map(|external| ExternalAccount {
            key_id: external.kid.clone(),
            hmac_key: external.hmac_key.clone(),
        }),
        retry: acme.retry_interval.get(),
    };
    shared.acme.managed(settings, &shared.metrics).map(Some)
}
