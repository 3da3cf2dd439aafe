//! Plans of upstreams: a function for each table of theirs.

use portcullis_config as config;
use portcullis_config::Config;
use portcullis_http::{DestinationPolicy, Method};
use portcullis_upstream::{
    Backoff, Balance, BreakerScope, BreakerSettings, BudgetSettings, Caps, CheckKind, CheckPace,
    CircuitBreakerSettings, ClientIdentity, DiscoverySettings, DiscoverySource, EndpointSettings,
    HealthCheckSettings, Hedge, IpFamily, OutlierSettings, Protocol, RetryOn, RetryPolicy, SlidingWindow,
    StickyKey, TlsSettings, Upstream, UpstreamSettings, Upstreams,
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
        discovery: upstream.discovery.as_ref().map(|found| discovery(config, found)).transpose()?,
        destinations: destinations(&upstream.destinations),
        connect_timeout: upstream.connect_timeout.get(),
        tls_timeout: upstream.tls_timeout.get(),
        retry: retry(&upstream.retry),
        client,
        max_idle_connections: upstream.max_idle_connections as usize,
        idle_connection_timeout: upstream.idle_connection_timeout.get(),
        health_check: upstream.health_check.as_ref().map(health_check),
        outlier_detection: upstream.outlier_detection.as_ref().map(outlier_detection),
        circuit_breaker: upstream.circuit_breaker.as_ref().map(circuit_breaker).unwrap_or_default(),
        slow_start: upstream.slow_start.get(),
        panic_threshold: upstream.panic_threshold,
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
        hedge: hedge(retry),
    }
}

fn hedge(retry: &config::Retry) -> Option<Hedge> {
    let delay = retry.hedge_delay.map(config::Timeout::get);
    match retry.hedge_percentile {
        Some(percent) => Some(Hedge::Percentile { percent, least: delay }),
        None => delay.map(Hedge::After),
    }
}

fn health_check(check: &config::HealthCheck) -> HealthCheckSettings {
    let host = check.host.as_ref().map(ToString::to_string);
    let kind = match check.r#type {
        config::HealthCheckType::Http => CheckKind::Http {
            method: check.method.as_str().to_owned(),
            path: check.path.clone(),
            host,
            expected_statuses: check.expected_statuses.iter().map(|range| range.statuses()).collect(),
        },
        config::HealthCheckType::Tcp => CheckKind::Tcp,
        config::HealthCheckType::Grpc => CheckKind::Grpc { service: check.service.clone(), authority: host },
    };
    let pace = CheckPace {
        interval: check.interval.get(),
        unhealthy_interval: check.unhealthy_interval.get(),
        jitter_percent: check.jitter_percent,
        timeout: check.timeout.get(),
        healthy_threshold: check.healthy_threshold,
        unhealthy_threshold: check.unhealthy_threshold,
    };
    HealthCheckSettings { kind, pace }
}

fn outlier_detection(outlier: &config::OutlierDetection) -> OutlierSettings {
    OutlierSettings {
        consecutive_5xx: outlier.consecutive_5xx,
        consecutive_gateway_failure: outlier.consecutive_gateway_failure,
        interval: outlier.interval.get(),
        base_ejection_time: outlier.base_ejection_time.get(),
        max_ejection_time: outlier.max_ejection_time.get(),
        max_ejection_percent: outlier.max_ejection_percent,
        success_rate_minimum_hosts: outlier.success_rate_minimum_hosts,
        success_rate_request_volume: outlier.success_rate_request_volume,
        success_rate_stdev_factor: outlier.success_rate_stdev_factor,
        failure_percentage_threshold: outlier.failure_percentage_threshold,
        failure_percentage_minimum_hosts: outlier.failure_percentage_minimum_hosts,
        failure_percentage_request_volume: outlier.failure_percentage_request_volume,
    }
}

fn circuit_breaker(circuit: &config::CircuitBreaker) -> CircuitBreakerSettings {
    let size = circuit.sliding_window_size;
    let breaker = BreakerSettings {
        failure_rate_threshold: circuit.failure_rate_threshold,
        slow_call_rate_threshold: circuit.slow_call_rate_threshold,
        slow_call_duration_threshold: circuit.slow_call_duration_threshold.get(),
        sliding_window: match circuit.sliding_window_type {
            config::SlidingWindowType::CountBased => SlidingWindow::CountBased(size),
            config::SlidingWindowType::TimeBased => {
                SlidingWindow::TimeBased(Duration::from_secs(size.into()))
            }
        },
        minimum_number_of_calls: circuit.minimum_number_of_calls,
        wait_duration_in_open_state: circuit.wait_duration_in_open_state.get(),
        permitted_number_of_calls_in_half_open_state: circuit.permitted_number_of_calls_in_half_open_state,
    };
    CircuitBreakerSettings {
        caps: Caps {
            max_connections: circuit.max_connections,
            max_pending_requests: circuit.max_pending_requests,
            max_requests: circuit.max_requests,
            max_retries: circuit.max_retries,
        },
        endpoint_caps: Caps {
            max_connections: circuit.max_connections_per_endpoint,
            max_requests: circuit.max_requests_per_endpoint,
            ..Caps::default()
        },
        breaker: circuit.breaks().then_some(breaker),
        scope: match circuit.scope {
            config::BreakerScope::Both => BreakerScope::Both,
            config::BreakerScope::Upstream => BreakerScope::Upstream,
            config::BreakerScope::Endpoint => BreakerScope::Endpoint,
        },
    }
}

fn discovery(config: &Config, discovery: &config::Discovery) -> Result<DiscoverySettings, String> {
    let missing = |field: &str| format!("discovery needs `{field}`");
    let name = || discovery.name.as_ref().map(|name| name.as_str().to_owned()).ok_or_else(|| missing("name"));
    let source = match discovery.kind {
        config::DiscoveryKind::Dns => {
            let port = discovery.port.ok_or_else(|| missing("port"))?;
            DiscoverySource::Addresses { name: name()?, port }
        }
        config::DiscoveryKind::Srv => DiscoverySource::Services { name: name()? },
        config::DiscoveryKind::File => {
            let path = discovery.path.as_ref().ok_or_else(|| missing("path"))?;
            DiscoverySource::File { path: config.resolve(path) }
        }
    };
    Ok(DiscoverySettings {
        source,
        nameservers: discovery.nameservers.iter().map(|server| server.get()).collect(),
        family: match discovery.ip_family {
            config::IpFamily::V4Preferred => IpFamily::V4Preferred,
            config::IpFamily::V6Preferred => IpFamily::V6Preferred,
            config::IpFamily::V4Only => IpFamily::V4Only,
            config::IpFamily::V6Only => IpFamily::V6Only,
            config::IpFamily::All => IpFamily::All,
        },
        min_ttl: discovery.min_ttl.get(),
        max_ttl: discovery.max_ttl.get(),
        hold_empty: discovery.hold_empty.get(),
    })
}

/// Where names may lead to.
pub(crate) fn destinations(destinations: &config::Destinations) -> DestinationPolicy {
    let networks = |list: &[config::Cidr]| list.iter().map(|network| network.get()).collect::<Vec<_>>();
    DestinationPolicy::new(networks(&destinations.allow), networks(&destinations.deny), destinations.private)
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
        subjects: tls.san.iter().map(|name| name.as_str().to_owned()).collect(),
        tls13_only: tls.min_version == config::TlsVersion::Tls13,
        authorities: tls.ca_file.as_ref().map(read).transpose()?,
        identity,
    })
}
