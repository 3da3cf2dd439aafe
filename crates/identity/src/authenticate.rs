//! Who is calling: the guard that reads a bearer token and looks at the client's certificate.

use crate::token::Token;
use crate::{CertificateRule, Moment, Provider, TokenError, recall};
use portcullis_http::{AuthFailure, Exchange, Fields, Guard, Malformed, Principal, Rejection};
use std::fmt;
use std::sync::Arc;

/// A realm that cannot stand in a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRealm;

impl fmt::Display for InvalidRealm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a realm is made of visible ASCII characters and spaces, without `\"` and `\\`")
    }
}

impl std::error::Error for InvalidRealm {}

/// A route's plan for authentication, and the guard that carries it out. It reads exactly one
/// `Authorization: Bearer …` (RFC 6750 §2.1; never a query or a form), finds the provider that the token's
/// `iss` names among the route's, and writes the caller into the exchange. A route may want a client certificate as well
/// or instead; where both are there, the token says who calls.
#[derive(Clone, Debug)]
pub struct Authenticator {
    providers: Arc<[Arc<Provider>]>,
    required: bool,
    realm: Arc<str>,
    certificate: Option<Arc<CertificateRule>>,
}

impl Authenticator {
    /// A plan that believes these providers. Where a token is not `required`, a request without one passes
    /// without a caller; a bad one is refused all the same.
    ///
    /// # Errors
    /// [`InvalidRealm`]: the realm stands in every challenge, in quotes.
    pub fn new(
        providers: impl IntoIterator<Item = Arc<Provider>>,
        required: bool,
        realm: &str,
    ) -> Result<Self, InvalidRealm> {
        let plain = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
        if !realm.bytes().all(plain) {
            return Err(InvalidRealm);
        }
        let providers = providers.into_iter().collect();
        Ok(Authenticator { providers, required, realm: realm.into(), certificate: None })
    }

    /// The plan, with a client certificate as well. Without providers the certificate alone says who calls.
    #[must_use]
    pub fn with_certificate(self, rule: CertificateRule) -> Self {
        Authenticator { certificate: Some(Arc::new(rule)), ..self }
    }

    /// The providers the route believes.
    #[must_use]
    pub fn providers(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    /// Judges the request at a given moment; [`Guard::check`] does it now.
    ///
    /// # Errors
    /// [`Rejection::Unauthenticated`] (401), [`Rejection::KeysUnavailable`] (503), [`Rejection::Malformed`] (400) for
    /// credentials that stand twice, or what [`CertificateRule::judge`] says.
    pub async fn check_at(&self, exchange: &mut Exchange, now: Moment) -> Result<(), Rejection> {
        // Only this guard says who calls; nothing that ran before is taken over.
        exchange.principal = None;
        if let Some(rule) = &self.certificate {
            exchange.principal = rule.judge(exchange.client.certificate.as_deref())?;
            if self.providers.is_empty() {
                return Ok(());
            }
        }
        let Some(given) = bearer(&exchange.request.fields).map_err(|error| self.refuse(error))? else {
            return if self.required {
                Err(self.refuse(Refusal::Failure(AuthFailure::Missing)))
            } else {
                Ok(())
            };
        };
        let hash = recall::hash(given);
        if let Some(principal) = self.recall(given, hash, now).await {
            exchange.principal = Some(principal);
            return Ok(());
        }
        let text = token68(given).map_err(|error| self.refuse(error))?;
        // On the heap, so that what is recalled needs no room for it.
        let principal = Box::pin(self.identify(text, hash, now)).await.map_err(|error| {
            tracing::debug!(reason = error.as_str(), request_id = exchange.id.as_str(), "token refused");
            match error.failure() {
                Some(failure) => self.refuse(Refusal::Failure(failure)),
                None => Rejection::KeysUnavailable,
            }
        })?;
        exchange.principal = Some(principal);
        Ok(())
    }

    /// Who calls, where one of the providers has believed the same bytes a moment ago. No others than a well-formed token's
    /// were ever believed.
    async fn recall(&self, given: &[u8], hash: u64, now: Moment) -> Option<Arc<Principal>> {
        for (at, provider) in self.providers.iter().enumerate() {
            if self.decides(at, provider)
                && let Some(principal) = provider.recall(given, hash, now).await
            {
                return Some(principal);
            }
        }
        None
    }

    async fn identify(&self, text: &str, hash: u64, now: Moment) -> Result<Arc<Principal>, TokenError> {
        let token = Token::parse(text)?;
        let issuer = token.issuer().ok_or(TokenError::Issuer)?;
        let mut error = TokenError::Issuer;
        let issued = |(_, provider): &(usize, &Arc<Provider>)| provider.issuer() == issuer;
        for (at, provider) in self.providers.iter().enumerate().filter(issued) {
            match provider.judge(&token, now).await {
                Ok(keys) => {
                    let principal = Arc::new(provider.principal(token.claims));
                    if self.decides(at, provider) {
                        provider.remember(text.as_bytes(), hash, &principal, keys);
                    }
                    return Ok(principal);
                }
                // That one provider's keys are missing says more than that another's do not fit.
                Err(why) if error != TokenError::KeysUnavailable => error = why,
                Err(_) => {}
            }
        }
        Err(error)
    }

    /// Whether no provider before this one could believe the same token.
    fn decides(&self, at: usize, provider: &Provider) -> bool {
        !self.providers.iter().take(at).any(|earlier| earlier.issuer() == provider.issuer())
    }

    fn refuse(&self, refusal: Refusal) -> Rejection {
        let failure = match refusal {
            Refusal::Twice => return Rejection::Malformed(Malformed::Duplicate),
            Refusal::Failure(failure) => failure,
        };
        let realm = &self.realm;
        let description = match failure {
            // RFC 6750 §3.1: who gave no credentials gets no error code.
            AuthFailure::Missing => {
                return Rejection::Unauthenticated {
                    failure,
                    challenge: format!("Bearer realm=\"{realm}\""),
                };
            }
            AuthFailure::Malformed => "The access token is malformed",
            AuthFailure::Invalid => "The access token is invalid",
            AuthFailure::Expired => "The access token has expired",
            AuthFailure::NotYetValid => "The access token is not valid yet",
        };
        let challenge =
            format!("Bearer realm=\"{realm}\", error=\"invalid_token\", error_description=\"{description}\"");
        Rejection::Unauthenticated { failure, challenge }
    }
}

impl Guard for Authenticator {
    async fn check(&self, exchange: &mut Exchange) -> Result<(), Rejection> {
        self.check_at(exchange, Moment::now()).await
    }
}

enum Refusal {
    Twice,
    Failure(AuthFailure),
}

/// What stands where a request has its one bearer token; `None` where there are no credentials, or such of another scheme.
fn bearer(fields: &Fields) -> Result<Option<&[u8]>, Refusal> {
    let mut lines = fields.get_all("authorization");
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(Refusal::Twice);
    }
    let end = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
    let Some((scheme, credentials)) = line.split_at_checked(end) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(None);
    }
    Ok(Some(credentials.trim_ascii_start()))
}

/// The token that stands there, if it is one (`token68`, RFC 9110 §11.2).
fn token68(given: &[u8]) -> Result<&str, Refusal> {
    let malformed = Refusal::Failure(AuthFailure::Malformed);
    if given.contains(&b',') {
        // Two fields that somebody joined (RFC 9110 §5.3).
        return Err(Refusal::Twice);
    }
    let part =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
    if given.is_empty() || !given.iter().all(part) {
        return Err(malformed);
    }
    std::str::from_utf8(given).map_err(|_| malformed)
}
