//! Plans of listeners.

use super::acme;
use crate::arrival::ProxyPlan;
use crate::shared::Shared;
use crate::snapshot::ListenerPlan;
use crate::tls::TlsPlan;
use portcullis_config as config;
use portcullis_config::Config;
use portcullis_http::{ForwardedHeader, TrustedProxies};
use portcullis_limits::AddressSet;
use portcullis_wire::head::HeadLimits;
use portcullis_wire::server::{ServerSettings, Timeouts as ServerTimeouts};
use std::sync::Arc;

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
        keepalive_grace: config.server.keepalive_grace.get(),
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
