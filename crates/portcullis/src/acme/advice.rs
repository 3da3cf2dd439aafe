//! When an authority wants a certificate to be renewed (ARI, RFC 9773): earlier than usual where it has to revoke it.

use super::certificate::Issued;
use super::order::account;
use super::{Managed, Manager};
use instant_acme::{CertificateIdentifier, Error};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How soon to ask again at most, and how late: the authority's own wish is taken in between.
const OFTENEST: Duration = Duration::from_secs(60);
const SELDOMEST: Duration = Duration::from_secs(24 * 3600);
/// How soon to ask again where there was no answer.
const AFTER_FAILURE: Duration = Duration::from_secs(6 * 3600);

/// What an authority has said of one certificate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Advice {
    /// When to renew it, if the authority says.
    pub(super) renew_at: Option<SystemTime>,
    /// When to ask again.
    pub(super) ask_at: SystemTime,
}

impl Advice {
    /// Nothing was asked yet.
    pub(super) const UNASKED: Advice = Advice { renew_at: None, ask_at: UNIX_EPOCH };

    /// Asks. Of the window that the authority suggests a moment is taken at random, as it wants its load spread.
    pub(super) async fn ask(managed: &Managed, manager: &Manager, issued: &Issued, random: f64) -> Self {
        let now = SystemTime::now();
        match window(managed, manager, issued).await {
            Ok((start, end, again)) => {
                let width = end.duration_since(start).unwrap_or_default();
                let renew_at = start + width.mul_f64(random.clamp(0.0, 1.0));
                Advice { renew_at: Some(renew_at), ask_at: now + again.clamp(OFTENEST, SELDOMEST) }
            }
            Err(error) => {
                if let Some(error) = error {
                    tracing::warn!(domains = ?managed.settings.domains, %error, "the authority does not say when to renew");
                }
                Advice { renew_at: None, ask_at: now + AFTER_FAILURE }
            }
        }
    }
}

/// The suggested window, and when to ask again; no error where the authority offers no such thing.
async fn window(
    managed: &Managed,
    manager: &Manager,
    issued: &Issued,
) -> Result<(SystemTime, SystemTime, Duration), Option<String>> {
    // Not worth an account of its own.
    if managed.storage.read_account().is_none() {
        return Err(None);
    }
    let own = issued.key.cert.first().ok_or(None)?;
    // One without an authority's key identifier cannot be asked about.
    let id = CertificateIdentifier::try_from(own).map_err(|_| None)?;
    let account = account(managed, manager).await.map_err(Some)?;
    match account.renewal_info(&id).await {
        Ok((info, again)) => {
            Ok((info.suggested_window.start.into(), info.suggested_window.end.into(), again))
        }
        Err(Error::Unsupported(_)) => Err(None),
        Err(error) => Err(Some(error.to_string())),
    }
}
