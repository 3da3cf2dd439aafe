//! Plans of single guards.

use crate::shared::Shared;
use portcullis_config as config;
use portcullis_config::Config;
use portcullis_contract::{
    Coding, Contract, DuplicateKeys, JsonShape, Kind, Kinds, LeakGuard, LeakMode, MediaRange,
};
use portcullis_http::{Exchange, Rejection};
use portcullis_identity::{
    Algorithm, Authenticator, Authorizer, AuthorizerSettings, CertificateRule, ClaimRule, JwksSource,
    KeyMaterial, Provider, ProviderSettings, Secret, StaticKey,
};
use portcullis_limits::{
    AddressList, AddressSet, Key, Limit, LocalStore, OnFailure, Quota, RateLimiter, Verdict,
};
use portcullis_telemetry::LimitMetrics;
use portcullis_tls::ClientCertFields;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The address lists of a route, or of all of them.
pub(crate) fn addresses(lists: &config::Addresses) -> AddressList {
    let set = |list: &[config::Cidr]| list.iter().map(|cidr| cidr.get()).collect::<AddressSet>();
    AddressList::new((!lists.allow.is_empty()).then(|| set(&lists.allow)), set(&lists.deny))
}

/// Rate limits of one stage, and what counts their outcomes.
#[derive(Debug)]
pub(crate) struct RatePlan {
    limiter: RateLimiter<LocalStore>,
    metrics: Vec<(Arc<str>, LimitMetrics)>,
}

impl RatePlan {
    /// Judges and counts.
    ///
    /// # Errors
    /// 429, or 503 where a limit's store fails and the limit fails closed.
    pub(crate) async fn check(&self, exchange: &mut Exchange) -> Result<(), Rejection> {
        let verdict = self.limiter.judge(exchange).await;
        for (name, metrics) in &self.metrics {
            match &verdict {
                Verdict::Refused { limit, .. } if limit == name => metrics.limited.inc(),
                Verdict::Admitted => metrics.passed.inc(),
                Verdict::Unknown(_) => metrics.unavailable.inc(),
                Verdict::Refused { .. } => {}
            }
        }
        verdict.into_result()
    }
}

/// Compiles rate limits; `None` where there are none. A limit without a name is called after its place.
///
/// # Errors
/// All that is wrong with them.
pub(crate) fn rate(
    shared: &Shared,
    route: Option<&str>,
    limits: &[config::RateLimit],
) -> Result<Option<RatePlan>, Vec<String>> {
    if limits.is_empty() {
        return Ok(None);
    }
    let at = route.map_or_else(|| "rate_limit".to_owned(), |route| format!("route `{route}`"));
    let context = |error: String| vec![format!("{at}: {error}")];
    let (mut compiled, mut metrics) = (Vec::new(), Vec::new());
    for (number, limit) in limits.iter().enumerate() {
        // Limits of one name on several routes stay separate, so the route is part of the name.
        let own = limit.name.clone().unwrap_or_else(|| format!("limit-{}", number + 1));
        let name = route.map_or_else(
            || own.clone(),
            |route| if own == route { own.clone() } else { format!("{route}.{own}") },
        );
        let count = u64::from(limit.rate.count());
        let burst = limit.burst.map_or(count, u64::from);
        let quota =
            Quota::new(count, limit.rate.period(), burst).map_err(|error| context(error.to_string()))?;
        let key = match &limit.key {
            config::RateKey::Address => Key::Address,
            config::RateKey::Consumer => Key::Consumer,
            config::RateKey::Header(name) => Key::Field(name.as_str().into()),
            config::RateKey::Claim(name) => Key::Claim(name.as_str().into()),
        };
        let limit = Limit::new(&name, key, quota).map_err(|error| context(error.to_string()))?;
        metrics.push((limit.name().clone(), shared.metrics.limit(route, &own)));
        compiled.push(limit);
    }
    let limiter = RateLimiter::new(shared.rates.clone(), compiled, OnFailure::Open)
        .map_err(|error| context(error.to_string()))?;
    Ok(Some(RatePlan { limiter, metrics }))
}

/// Compiles the identity providers.
///
/// # Errors
/// All that is wrong with their keys.
pub(crate) fn providers(
    config: &Config,
    shared: &Shared,
) -> Result<BTreeMap<String, Arc<Provider>>, Vec<String>> {
    let (mut providers, mut errors) = (BTreeMap::new(), Vec::new());
    for (name, identity) in &config.identity {
        let settings = provider_settings(config, name, identity, &mut errors);
        match Provider::new(settings, &shared.keys) {
            Ok(provider) => {
                providers.insert(name.clone(), Arc::new(provider));
            }
            Err(found) => errors.extend(found.iter().map(ToString::to_string)),
        }
    }
    if errors.is_empty() { Ok(providers) } else { Err(errors) }
}

fn provider_settings(
    config: &Config,
    name: &str,
    identity: &config::Identity,
    errors: &mut Vec<String>,
) -> ProviderSettings {
    let mut keys = Vec::with_capacity(identity.keys.len());
    for key in &identity.keys {
        match key_material(config, key) {
            Ok(Some(material)) => {
                keys.push(StaticKey { kid: key.kid.clone(), algorithm: algorithm(key.algorithm), material });
            }
            Ok(None) => {}
            Err(error) => errors.push(format!("identity `{name}`: {error}")),
        }
    }
    let url = identity.jwks_url.clone().map(|url| JwksSource::Url { url, allow_http_loopback: true });
    ProviderSettings {
        audiences: identity.audiences.clone(),
        algorithms: identity.algorithms.iter().filter_map(|a| algorithm(*a)).collect(),
        keys,
        jwks: identity.jwks_file.as_ref().map(|file| JwksSource::File(config.resolve(file))).or(url),
        skew: identity.skew.get(),
        required_typ: identity.typ.clone(),
        scope_claim: identity.scope_claim.clone(),
        roles_claim: identity.roles_claim.clone(),
        refresh: identity.jwks_refresh.get(),
        max_stale: identity.jwks_max_stale.get(),
        ..ProviderSettings::new(name, &identity.issuer)
    }
}

/// A key to verify with; `None` for an entry that holds only a private key, which is for `portcullis token`.
fn key_material(config: &Config, key: &config::Key) -> Result<Option<KeyMaterial>, String> {
    if let Some(secret) = &key.secret {
        return Ok(Some(KeyMaterial::Secret(Secret::new(secret.expose().as_bytes()))));
    }
    if let Some(pem) = &key.public_key {
        return Ok(Some(KeyMaterial::PublicPem(pem.clone())));
    }
    let Some(file) = &key.public_key_file else { return Ok(None) };
    let path = config.resolve(file);
    std::fs::read_to_string(&path)
        .map(|pem| Some(KeyMaterial::PublicPem(pem)))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// The algorithm as the token library names it.
pub(crate) fn algorithm(algorithm: config::Algorithm) -> Option<Algorithm> {
    portcullis_identity::parse_algorithm(algorithm.as_str())
}

/// A route's plans for authentication and authorization.
///
/// # Errors
/// What of them cannot be.
pub(super) fn auth(
    auth: &config::Auth,
    providers: &BTreeMap<String, Arc<Provider>>,
    realm: &str,
) -> Result<(Option<Authenticator>, Authorizer), String> {
    let known = auth
        .providers
        .iter()
        .map(|name| providers.get(name).cloned().ok_or_else(|| format!("there is no identity `{name}`")));
    let known = known.collect::<Result<Vec<_>, _>>()?;
    let mut authenticator =
        Authenticator::new(known, auth.required, realm).map_err(|error| error.to_string())?;
    if let Some(certificate) = &auth.client_certificate {
        authenticator = authenticator.with_certificate(certificate_rule(certificate));
    }
    let conditions = !auth.scopes.is_empty()
        || !auth.any_scope.is_empty()
        || !auth.roles.is_empty()
        || !auth.claims.is_empty();
    let certified = auth.client_certificate.as_ref().is_some_and(|certificate| certificate.required);
    let known = certified || (auth.required && !auth.providers.is_empty());
    if !known && !conditions && auth.audience.is_none() {
        return Ok((Some(authenticator), Authorizer::open()));
    }
    let settings = AuthorizerSettings {
        audience: auth.audience.clone(),
        scopes: auth.scopes.clone(),
        any_scope: auth.any_scope.clone(),
        roles: auth.roles.clone(),
        claims: auth
            .claims
            .iter()
            .map(|(name, values)| ClaimRule { name: name.clone(), any_of: values.values().to_vec() })
            .collect(),
        // A route that declares an audience denies by default: it must also say who of them may pass.
        any_caller: auth.audience.is_none() || auth.any_caller,
    };
    let authorizer = Authorizer::new(settings, realm).map_err(|error| error.to_string())?;
    Ok((Some(authenticator), authorizer))
}

fn certificate_rule(certificate: &config::ClientCertificate) -> CertificateRule {
    CertificateRule {
        required: certificate.required,
        uris: certificate.uris.clone(),
        dns_names: certificate.dns_names.iter().map(|name| name.to_ascii_lowercase()).collect(),
        fingerprints: certificate.fingerprints.iter().map(|print| print.as_str().to_owned()).collect(),
    }
}

/// What a route's upstream is told of its callers' certificates.
pub(super) fn client_cert(auth: Option<&config::Auth>) -> ClientCertFields {
    match auth.and_then(|auth| auth.client_certificate.as_ref()).map(|certificate| certificate.forward) {
        None | Some(config::ForwardCertificate::None) => ClientCertFields::None,
        Some(config::ForwardCertificate::Certificate) => ClientCertFields::Certificate,
        Some(config::ForwardCertificate::Chain) => ClientCertFields::Chain,
    }
}

/// What a route's request bodies must be.
///
/// # Errors
/// A media type that is none.
pub(super) fn contract(body: &config::Body, held: bool, firewall: bool) -> Result<Contract, String> {
    let types =
        body.content_types.iter().map(|text| text.parse::<MediaRange>().map_err(|error| error.to_string()));
    let types = types.collect::<Result<Vec<_>, _>>()?;
    let json = &body.json;
    let shape = JsonShape {
        max_depth: json.max_depth as usize,
        max_keys: json.max_keys as usize,
        max_elements: json.max_items as usize,
        max_string: json.max_string.as_usize(),
        max_values: json.max_values as usize,
        duplicate_keys: match json.duplicate_keys {
            config::DuplicateKeys::Reject => DuplicateKeys::Reject,
            config::DuplicateKeys::Allow => DuplicateKeys::Allow,
        },
        ..JsonShape::default()
    };
    Ok(Contract {
        media_types: (!types.is_empty()).then_some(types),
        json: held.then_some(shape),
        json_also: Vec::new(),
        inspected: held && firewall,
        codings: body.content_encodings.iter().map(coding).collect(),
    })
}

fn coding(encoding: &config::ContentEncoding) -> Coding {
    match encoding {
        config::ContentEncoding::Gzip => Coding::Gzip,
        config::ContentEncoding::Deflate => Coding::Deflate,
        config::ContentEncoding::Br => Coding::Brotli,
        config::ContentEncoding::Zstd => Coding::Zstd,
    }
}

/// What of answers must not leave; `None` where nothing is searched for.
///
/// # Errors
/// When the built-in patterns do not compile.
pub(super) fn leaks(leaks: &config::Leaks) -> Result<Option<LeakGuard>, String> {
    let mode = match leaks.mode {
        config::LeakMode::Off => return Ok(None),
        config::LeakMode::Mask => LeakMode::Mask,
        config::LeakMode::Block => LeakMode::Block,
    };
    let mut kinds = Kinds::default();
    for kind in &leaks.kinds {
        match kind {
            config::LeakKind::Card => kinds.insert(Kind::PaymentCard),
            config::LeakKind::Secret => kinds.insert(Kind::Secret),
            config::LeakKind::InternalAddress => kinds.insert(Kind::InternalAddress),
            config::LeakKind::StackTrace => kinds.insert(Kind::StackTrace),
        }
    }
    if kinds.is_empty() {
        return Ok(None);
    }
    LeakGuard::new(kinds, mode).map(Some).map_err(|error| error.to_string())
}
