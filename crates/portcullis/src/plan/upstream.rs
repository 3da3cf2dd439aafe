//! Plans of upstreams: a function for each table of theirs.

use portcullis_config as config;
use portcullis_config::Config;
use portcullis_http::Method;
use portcullis_upstream::{
    Backoff, Balance, BudgetSettings, ClientIdentity, EndpointSettings, Hedge, Protocol, RetryOn,
    RetryPolicy, StickyKey, TlsSettings, Upstream, UpstreamSettings, Upstreams,
};
use portcullis_wire::client::{ClientSettings, Timeouts};
use std::time::Duration;

/// Compiles all upstreams, each from its predecessor in the running snapshot.
///
/// # Errors
/// All that is wrong with them.
pub(crate) fn upstreams(config: &Config, previous: Option<&Upstreams>) -> Result<Upstreams, Vec<String>> {
    let (mut settings, mut errors) = (Vec::new(), Vec::new());
    for (name, upstream) in &config.upstream {
        let before = previous.and_then(|previous| previous.get(name));
        match upstream_settings(config, name, upstream, before) {
            Ok(one) => settings.push(one),
            Err(error) => errors.push(format!("upstream `{name}`: {error}")),
        }
    }
    match Upstreams::build(settings, previous) {
        Ok(upstreams) if errors.is_empty() => Ok(upstreams),
        Ok(_) => Err(errors),
        Err(found) => Err(errors.into_iter().chain(found.iter().map(ToString::to_string)).collect()),
    }
}

fn upstream_settings(
    config: &Config,
    name: &str,
    upstream: &config::Upstream,
    previous: Option<&Upstream>,
) -> Result<UpstreamSettings, String> {
    let idle: Duration = upstream.idle_timeout.get();
    let client = ClientSettings {
        response: upstream.response_timeout.get(),
        body: Timeouts {
            idle,
            write_stall: idle,
            write_least: 1,
            write_piece: usize::MAX,
            ..ClientSettings::default().body
        },
        ..ClientSettings::default()
    };
    Ok(UpstreamSettings {
        balance: balance(upstream),
        sticky: upstream.sticky.as_ref().map(|sticky| sticky_key(sticky, previous)).transpose()?,
        protocol: match upstream.protocol {
            config::UpstreamProtocol::Http1 => Protocol::Http1,
            config::UpstreamProtocol::Http2 => Protocol::Http2,
        },
        tls: upstream.tls.as_ref().map(|tls| tls_settings(config, tls)).transpose()?,
        connect_timeout: upstream.connect_timeout.get(),
        tls_timeout: upstream.tls_timeout.get(),
        retry: retry(&upstream.retry),
        client,
        max_idle_connections: upstream.max_idle_connections as usize,
        idle_connection_timeout: upstream.idle_connection_timeout.get(),
        ..UpstreamSettings::new(name, upstream.endpoints.iter().map(endpoint).collect())
    })
}

fn balance(upstream: &config::Upstream) -> Balance {
    let factor = upstream.hash.as_ref().map(|hash| hash.balance_factor);
    match upstream.balance {
        config::Balance::RoundRobin => Balance::RoundRobin,
        config::Balance::PowerOfTwo => Balance::PowerOfTwo,
        config::Balance::PeakEwma => Balance::PeakEwma,
        config::Balance::Random => Balance::Random,
        config::Balance::RingHash => {
            Balance::RingHash { balance_factor: factor.filter(|factor| *factor > 0) }
        }
    }
}

/// The key made from the secret, or the process's own, which a reload keeps.
fn sticky_key(sticky: &config::Sticky, previous: Option<&Upstream>) -> Result<StickyKey, String> {
    match (&sticky.secret, previous.and_then(Upstream::sticky_key)) {
        (Some(secret), _) => Ok(StickyKey::new(secret.expose().as_bytes())),
        (None, Some(key)) => Ok(key.clone()),
        (None, None) => StickyKey::random().map_err(|error| format!("there is no randomness: {error}")),
    }
}

fn endpoint(endpoint: &config::Endpoint) -> EndpointSettings {
    EndpointSettings {
        weight: endpoint.weight,
        priority: endpoint.priority,
        ..EndpointSettings::new(endpoint.address.host().trim_matches(['[', ']']), endpoint.address.port())
    }
}

/// How requests are tried again.
pub(super) fn retry(retry: &config::Retry) -> RetryPolicy {
    let on = |on: &config::RetryOn| match on {
        config::RetryOn::ConnectFailure => RetryOn::ConnectFailure,
        config::RetryOn::RefusedStream => RetryOn::RefusedStream,
        config::RetryOn::ResetBeforeResponse => RetryOn::Reset,
        config::RetryOn::GatewayError => RetryOn::GatewayError,
        config::RetryOn::ServerError => RetryOn::ServerError,
        config::RetryOn::Timeout => RetryOn::Timeout,
    };
    RetryPolicy {
        attempts: retry.attempts,
        on: retry.on.iter().map(on).collect(),
        status_codes: retry.status_codes.clone(),
        methods: retry.methods.iter().map(|method| Method::from_bytes(method.as_str().as_bytes())).collect(),
        idempotency_key: retry.idempotency_key,
        per_try_timeout: retry.per_try_timeout.map(config::Timeout::get),
        backoff: Backoff { base: retry.backoff_base.get(), max: retry.backoff_max.get() },
        retry_after_max: retry.retry_after_max.get(),
        budget: BudgetSettings {
            ratio: f64::from(retry.budget.parts()) / f64::from(config::Share::WHOLE),
            min_per_second: retry.budget_min_per_second,
        },
        hedge: retry.hedge_delay.map(|delay| Hedge { delay: delay.get() }),
    }
}

fn tls_settings(config: &Config, tls: &config::UpstreamTls) -> Result<TlsSettings, String> {
    let read = |file: &std::path::PathBuf| {
        let path = config.resolve(file);
        std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let identity = match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            Some(ClientIdentity { certificates: read(certificate)?, key: read(key)? })
        }
        _ => None,
    };
    Ok(TlsSettings {
        server_name: tls.server_name.clone(),
        authorities: tls.ca_file.as_ref().map(read).transpose()?,
        identity,
    })
}
