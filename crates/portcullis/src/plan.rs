//! Compiling configuration into what the stages of the pipeline read: one plan for each route.

mod acme;
mod compose;
mod firewall;
mod forward;
mod guards;
mod network;
mod upstream;

pub(crate) use firewall::{FirewallLogPlan, FirewallPlan, Sample, ShadowPlan, firewall_log};
pub(crate) use forward::{ForwardPlan, Target, Trailers};
pub(crate) use guards::{RatePlan, addresses, algorithm, providers, rate};
pub(crate) use network::{listener, trusted_proxies};
pub(crate) use upstream::{destinations, upstreams};

use crate::affinity::HashKey;
use crate::cors::CorsPlan;
use crate::rules::Rules;
use crate::shared::Shared;
use crate::snapshot::ResponseFields;
use crate::term::Term;
use portcullis_compose::Composition;
use portcullis_config as config;
use portcullis_config::Config;
use portcullis_contract::{Contract, LeakGuard};
use portcullis_http::Tolerance;
use portcullis_identity::{Authenticator, Authorizer, Provider};
use portcullis_limits::AddressList;
use portcullis_telemetry::{Counter, RouteMetrics, TargetMetrics};
use portcullis_tls::ClientCertFields;
use portcullis_upstream::{Upstream, Upstreams};
use portcullis_waf::OverlaySettings;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What a route that says nothing of its own wants of the firewall.
pub(crate) fn firewall(firewall: &config::Firewall) -> OverlaySettings {
    firewall::overlay(firewall, &config::RouteFirewall::default(), firewall.mode, None)
}

/// What a route wants of the firewall.
pub(crate) fn route_firewall(config: &Config, route: &config::Route) -> OverlaySettings {
    let mode = route.firewall.mode.unwrap_or(config.firewall.mode);
    firewall::overlay(&config.firewall, &route.firewall, mode, route.body_limit())
}

/// All that the stages need to know of one route.
#[derive(Debug)]
pub(crate) struct RoutePlan {
    pub(crate) name: Arc<str>,
    /// How long what streams may go on.
    pub(crate) term: Arc<Term>,
    pub(crate) metrics: RouteMetrics,
    pub(crate) addresses: AddressList,
    pub(crate) head: HeadPlan,
    /// Where targets that are not tolerated are only counted.
    pub(crate) detect_target: Option<TargetMetrics>,
    pub(crate) cors: Option<CorsPlan>,
    pub(crate) firewall: Option<FirewallPlan>,
    pub(crate) authenticate: Option<Authenticator>,
    pub(crate) authorize: Authorizer,
    /// What the upstream is told of the caller's certificate.
    pub(crate) client_cert: ClientCertFields,
    pub(crate) rate: Option<RatePlan>,
    pub(crate) body: BodyPlan,
    pub(crate) contract: Contract,
    pub(crate) action: Action,
    pub(crate) response: ResponsePlan,
    pub(crate) total: Option<Duration>,
    /// Whether the route speaks gRPC.
    pub(crate) grpc: bool,
}

impl RoutePlan {
    /// What targets have to be read with, so that the route can judge them.
    pub(crate) fn reads(&self) -> Tolerance {
        if self.detect_target.is_some() { Tolerance::ALL } else { self.head.tolerance }
    }
}

/// What a request's head may be like: caps that are tighter than the listener's, targets that are looser.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeadPlan {
    pub(crate) tolerance: Tolerance,
    /// Whether fields with `_` in their names pass.
    pub(crate) keeps_underscores: bool,
    pub(crate) bytes: Option<usize>,
    pub(crate) fields: Option<usize>,
}

/// How a request's body is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyPlan {
    /// Held and inspected before the upstream sees a byte; else passed through as it comes.
    pub(crate) buffered: bool,
    /// The largest body.
    pub(crate) limit: Option<usize>,
    /// Of a larger one the first `limit` bytes are inspected and the rest is passed through.
    pub(crate) inspect_prefix: bool,
    /// How many times its size a compressed body may expand to.
    pub(crate) max_expansion: usize,
}

/// What answers.
#[derive(Debug)]
pub(crate) enum Action {
    Forward(Box<ForwardPlan>),
    Compose(Box<ComposePlan>),
}

/// One answer made from several calls.
#[derive(Debug)]
pub(crate) struct ComposePlan {
    pub(crate) composition: Composition,
    /// What of a request each part's endpoint is chosen by; empty where that is nothing for all of them.
    pub(crate) keys: Box<[Option<HashKey>]>,
    /// By part.
    pub(crate) failures: BTreeMap<String, Counter>,
}

/// What happens to answers.
#[derive(Debug)]
pub(crate) struct ResponsePlan {
    pub(crate) max_size: Option<u64>,
    /// Never held.
    pub(crate) streaming: bool,
    pub(crate) fields: ResponseFields,
    /// Whether what an upstream says of cross-origin sharing is taken off.
    pub(crate) cors: bool,
    pub(crate) leaks: Option<LeakGuard>,
    /// Whether an answer that leaks is withheld, and so has to be held first.
    pub(crate) withhold: bool,
    /// Bytes of a body that are held for the firewall.
    pub(crate) inspected: usize,
}

/// What routes are compiled against.
pub(crate) struct Compiler<'a> {
    pub(crate) config: &'a Config,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) upstreams: &'a Upstreams,
    pub(crate) providers: &'a BTreeMap<String, Arc<Provider>>,
    pub(crate) rules: &'a Rules,
    pub(crate) response_fields: &'a ResponseFields,
    /// The terms of the running snapshot's routes, by name.
    pub(crate) terms: BTreeMap<&'a str, &'a Arc<Term>>,
}

impl Compiler<'_> {
    /// Compiles one route.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn route(&self, route: &config::Route) -> Result<RoutePlan, Vec<String>> {
        let context = |error: String| vec![format!("route `{}`: {error}", route.name)];
        let firewall = self.firewall(route).map_err(context)?;
        let (authenticate, authorize) = self.auth(route).map_err(context)?;
        let held = route.holds_bodies();
        Ok(RoutePlan {
            name: route.name.as_str().into(),
            term: Term::of(self.config, route, self.terms.get(route.name.as_str()).copied()),
            metrics: self.shared.metrics.route(&route.name),
            addresses: addresses(&route.addresses),
            head: HeadPlan {
                tolerance: Tolerance {
                    query_bytes: route.target.query_bytes == config::QueryBytes::Encode,
                    encoded_path: route.target.encoded_path == config::EncodedPath::Keep,
                },
                keeps_underscores: route.underscores == config::Underscores::Keep,
                bytes: route.limits.max_head.map(config::ByteSize::as_usize),
                fields: route.limits.max_fields.map(|fields| fields as usize),
            },
            detect_target: (route.target.mode == config::TargetMode::Detect)
                .then(|| self.shared.metrics.target(&route.name)),
            cors: CorsPlan::new(route),
            authenticate,
            authorize,
            client_cert: guards::client_cert(route.auth.as_ref()),
            rate: rate(self.shared, Some(&route.name), &route.rate_limit)?,
            body: BodyPlan {
                buffered: held,
                limit: route.body_limit().map(config::ByteSize::as_usize),
                inspect_prefix: route.body.over == config::Over::InspectPrefix,
                max_expansion: route.body.max_expansion as usize,
            },
            contract: guards::contract(&route.body, held, firewall.is_some()).map_err(context)?,
            action: self.action(route).map_err(context)?,
            response: ResponsePlan {
                max_size: route.response.max_size.map(config::ByteSize::get),
                streaming: route.streams_answers(),
                fields: self.response_fields.with(&route.response.headers),
                cors: route.cors.is_some(),
                leaks: guards::leaks(&route.response.leaks).map_err(context)?,
                withhold: route.response.leaks.mode == config::LeakMode::Block,
                inspected: self.config.firewall.response_body_limit.as_usize(),
            },
            total: route.total_timeout(),
            grpc: route.grpc,
            firewall,
        })
    }

    fn auth(&self, route: &config::Route) -> Result<(Option<Authenticator>, Authorizer), String> {
        match &route.auth {
            None => Ok((None, Authorizer::open())),
            Some(auth) => guards::auth(auth, self.providers, &self.config.server.name),
        }
    }

    fn action(&self, route: &config::Route) -> Result<Action, String> {
        match &route.compose {
            Some(compose) => self.compose(route, compose).map(|plan| Action::Compose(Box::new(plan))),
            None => self.forward(route).map(|plan| Action::Forward(Box::new(plan))),
        }
    }

    fn upstream(&self, name: &str) -> Result<&Upstream, String> {
        self.upstreams.get(name).ok_or_else(|| format!("there is no upstream `{name}`"))
    }
}
