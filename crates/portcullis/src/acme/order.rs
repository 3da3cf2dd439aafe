//! One order, from the account to the certificate (RFC 8555, section 7).

use super::certificate::{self, Issued};
use super::challenge::Pending;
use super::client::Https;
use super::{Managed, Manager};
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use portcullis_config::AcmeChallenge;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long an authority may take to validate, and to sign.
const PATIENCE: Duration = Duration::from_secs(120);
/// What an authority says of an account that it does not know, as after a change of its database.
const UNKNOWN_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// An account as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored<C> {
    contact: Vec<String>,
    credentials: C,
}

/// Orders a certificate, proves what there is to prove, and stores it.
///
/// # Errors
/// Whatever failed, for the operator.
pub(super) async fn obtain(managed: &Managed, manager: &Manager) -> Result<Issued, String> {
    let account = account(managed, manager).await?;
    let identifiers: Vec<_> = managed.settings.domains.iter().cloned().map(Identifier::Dns).collect();
    let new = NewOrder::new(&identifiers);
    let mut order = match account.new_order(&new).await {
        Ok(order) => order,
        Err(error) if is_unknown_account(&error) => {
            managed.storage.forget_account();
            let account = self::account(managed, manager).await?;
            account.new_order(&new).await.map_err(|error| told("the order", &error))?
        }
        Err(error) => return Err(told("the order", &error)),
    };
    {
        // Its challenges are answered until it is known how they went.
        let mut pending = Pending::new(manager, managed);
        prove(managed, &mut order, &mut pending).await?;
        let retries = RetryPolicy::default().timeout(PATIENCE);
        match order.poll_ready(&retries).await {
            Ok(OrderStatus::Ready) => {}
            Ok(_) => return Err(why_invalid(&mut order).await),
            Err(error) => return Err(told("the validation", &error)),
        }
    }
    let domains = managed.settings.domains.clone();
    let (key, request) = certificate::request(&domains)?;
    order.finalize_csr(&request).await.map_err(|error| told("the certificate request", &error))?;
    let retries = RetryPolicy::default().timeout(PATIENCE);
    let chain = order.poll_certificate(&retries).await.map_err(|error| told("the certificate", &error))?;
    let pem = [key.as_bytes(), chain.as_bytes()].concat();
    let issued = Issued::read(&pem, &domains, &managed.provider)
        .map_err(|error| format!("what the authority issued cannot be used: {error}"))?;
    let storage = managed.storage.clone();
    let stored = tokio::task::spawn_blocking(move || storage.write_certificate(&pem)).await;
    if let Err(error) = stored.unwrap_or_else(|error| Err(error.to_string())) {
        // It is good for as long as this process lives.
        tracing::error!(%error, "the certificate cannot be stored, so that the next start will order another one");
    }
    Ok(issued)
}

/// Sets up the answers to all challenges that are open, and asks for them to be tried.
async fn prove(managed: &Managed, order: &mut Order, pending: &mut Pending<'_>) -> Result<(), String> {
    let kind = match managed.settings.challenge {
        AcmeChallenge::Http01 => ChallengeType::Http01,
        AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|error| told("an authorization", &error))?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => return Err(format!("an authorization is {status:?}")),
        }
        let mut challenge = authorization
            .challenge(kind.clone())
            .ok_or_else(|| format!("the authority offers no {} challenge", managed.settings.challenge))?;
        let host = challenge.identifier().to_string();
        pending.add(&host, &challenge.token, challenge.key_authorization().as_str())?;
        challenge.set_ready().await.map_err(|error| told("a challenge", &error))?;
    }
    Ok(())
}

/// What the authority found wrong with the answers to its challenges.
async fn why_invalid(order: &mut Order) -> String {
    let mut found = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let host = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        let errors = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        found.extend(errors.map(|error| format!("`{host}`: {error}")));
    }
    if found.is_empty() { "the order became invalid".to_owned() } else { found.join("; ") }
}

/// The account that orders: the stored one, else a new one.
///
/// # Errors
/// When there is none to be had, for the operator.
pub(super) async fn account(managed: &Managed, manager: &Manager) -> Result<Account, String> {
    let _one_at_a_time = manager.registration.lock().await;
    let settings = &managed.settings;
    let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
    let https = || {
        Https::new(&settings.directory_url, settings.authorities.as_deref(), &manager.resolver)
            .map(|https| Account::builder_with_http(Box::new(https)))
    };
    if let Some(stored) = managed.storage.read_account() {
        match serde_json::from_slice::<Stored<AccountCredentials>>(&stored) {
            Ok(stored) => {
                let json = serde_json::to_value(&stored.credentials).map_err(|error| error.to_string())?;
                let account = https()?.from_credentials(stored.credentials).await;
                let account = account.map_err(|error| told("the directory", &error))?;
                if stored.contact != settings.contact {
                    match account.update_contacts(&contact).await {
                        Ok(()) => store(managed, json)?,
                        Err(error) if is_unknown_account(&error) => {}
                        Err(error) => return Err(told("the account's contact", &error)),
                    }
                }
                return Ok(account);
            }
            // Not the error: it might quote the file.
            Err(_) => tracing::warn!("the stored account cannot be read; a new one is made"),
        }
    }
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let external = match &settings.external_account {
        None => None,
        Some(external) => {
            let key = external.hmac_key.expose().trim_end_matches('=');
            let key = URL_SAFE_NO_PAD.decode(key).or_else(|_| URL_SAFE.decode(key));
            let key = key.map_err(|_| "`external_account.hmac_key` is not base64url")?;
            Some(ExternalAccountKey::new(external.key_id.clone(), &key))
        }
    };
    let created = https()?.create(&new, settings.directory_url.clone(), external.as_ref()).await;
    let (account, credentials) = created.map_err(|error| told("the account", &error))?;
    store(managed, serde_json::to_value(&credentials).map_err(|error| error.to_string())?)?;
    tracing::info!(account = account.id(), "an ACME account was made");
    Ok(account)
}

fn store(managed: &Managed, credentials: serde_json::Value) -> Result<(), String> {
    let stored = Stored { contact: managed.settings.contact.clone(), credentials };
    let json = serde_json::to_vec_pretty(&stored).map_err(|error| error.to_string())?;
    managed.storage.write_account(&json)
}

fn is_unknown_account(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if problem.r#type.as_deref() == Some(UNKNOWN_ACCOUNT))
}

fn told(what: &str, error: &Error) -> String {
    format!("{what}: {error}")
}
