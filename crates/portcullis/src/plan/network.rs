//! Plans of listeners and upstreams.

use super::acme;
use crate::arrival::ProxyPlan;
use crate::shared::Shared;
use crate::snapshot::ListenerPlan;
use crate::tls::TlsPlan;
use portcullis_config as config;
use portcullis_config::Config;
use portcullis_http::{ForwardedHeader, TrustedProxies};
use portcullis_limits::AddressSet;
use portcullis_upstream::{
    Balance, ClientIdentity, EndpointSettings, Protocol, TlsSettings, UpstreamSettings, Upstreams,
};
use portcullis_wire::client::{ClientSettings, Timeouts};
use portcullis_wire::head::HeadLimits;
use portcullis_wire::server::{ServerSettings, Timeouts as ServerTimeouts};
use std::sync::Arc;
use std::time::Duration;

/// Who is believed when it says whom it forwards for.
pub(crate) fn trusted_proxies(server: &config::Server) -> TrustedProxies {
    let header = match server.forwarded_header {
        config::ForwardedHeader::XForwardedFor => ForwardedHeader::XForwardedFor,
        config::ForwardedHeader::Forwarded => ForwardedHeader::Forwarded,
    };
    TrustedProxies::new(server.trusted_proxies.iter().map(|cidr| cidr.get()), header)
}

/// Compiles a listener; its sessions can be resumed as those of its predecessor, where the same clients are asked.
///
/// # Errors
/// Certificates and keys that cannot be used.
pub(crate) fn listener(
    config: &Config,
    listener: &config::Listener,
    shared: &Shared,
    previous: Option<&ListenerPlan>,
) -> Result<ListenerPlan, Vec<String>> {
    let context = |error| vec![format!("listener `{}`: {error}", listener.name)];
    let managed = acme::managed(config, listener, shared).map_err(context)?;
    let previous = previous.and_then(|plan| plan.tls.as_deref());
    let tls = listener
        .tls
        .as_ref()
        .map(|tls| TlsPlan::compile(config, listener, tls, managed.clone(), previous).map(Arc::new));
    let tls = tls.transpose().map_err(context)?;
    let (timeouts, limits) = (&listener.timeouts, &listener.limits);
    let settings = ServerSettings {
        head: HeadLimits {
            bytes: limits.max_head.as_usize(),
            fields: limits.max_fields as usize,
            target: limits.max_target.as_usize(),
        },
        first_byte: timeouts.first_byte.get(),
        header: timeouts.header.get(),
        idle: timeouts.idle.get(),
        body: ServerTimeouts {
            idle: timeouts.body.get(),
            write_stall: timeouts.write.get(),
            write_least: limits.min_send_rate.get().saturating_mul(timeouts.write.get().as_secs()).max(1),
            write_piece: ServerTimeouts::default().write_piece,
            min_rate: u32::try_from(limits.min_body_rate.get()).unwrap_or(u32::MAX),
            rate_grace: timeouts.slow_body.get(),
        },
        max_requests: u64::from(limits.max_requests_per_connection),
        max_age: timeouts.max_connection_age.get(),
        http2: listener.http2,
        max_concurrent_streams: limits.max_concurrent_streams,
        websocket: config.route.iter().any(config::Route::is_websocket),
    };
    Ok(ListenerPlan {
        name: listener.name.as_str().into(),
        address: listener.address,
        tls,
        acme: managed,
        handshake: timeouts.handshake.get(),
        proxy: listener.proxy_protocol.as_ref().map(|proxy| ProxyPlan {
            from: proxy.from.iter().map(|network| network.get()).collect::<AddressSet>(),
            timeout: proxy.timeout.get(),
        }),
        per_address: limits.max_connections_per_address,
        connections: limits.max_connections.map(|limit| shared.listener_connections(&listener.name, limit)),
        settings: Arc::new(settings),
        metrics: shared.metrics.listener(&listener.name),
    })
}

/// Compiles all upstreams, each from its predecessor in the running snapshot.
///
/// # Errors
/// All that is wrong with them.
pub(crate) fn upstreams(config: &Config, previous: Option<&Upstreams>) -> Result<Upstreams, Vec<String>> {
    let (mut settings, mut errors) = (Vec::new(), Vec::new());
    for (name, upstream) in &config.upstream {
        match upstream_settings(config, name, upstream) {
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
) -> Result<UpstreamSettings, String> {
    let endpoint = |endpoint: &config::Endpoint| EndpointSettings {
        host: endpoint.address.host().trim_matches(['[', ']']).to_owned(),
        port: endpoint.address.port(),
        weight: endpoint.weight,
    };
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
        balance: match upstream.balance {
            config::Balance::RoundRobin => Balance::RoundRobin,
            config::Balance::PowerOfTwo => Balance::PowerOfTwo,
        },
        protocol: match upstream.protocol {
            config::UpstreamProtocol::Http1 => Protocol::Http1,
            config::UpstreamProtocol::Http2 => Protocol::Http2,
        },
        tls: upstream.tls.as_ref().map(|tls| tls_settings(config, tls)).transpose()?,
        connect_timeout: upstream.connect_timeout.get(),
        client,
        max_idle_connections: upstream.max_idle_connections as usize,
        idle_connection_timeout: upstream.idle_connection_timeout.get(),
        ..UpstreamSettings::new(name, upstream.endpoints.iter().map(endpoint).collect())
    })
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
