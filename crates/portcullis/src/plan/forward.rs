//! Plans of routes that forward: their upstream, their canaries, their mirror.

use super::upstream::retry;
use super::{Compiler, Sample};
use crate::affinity::{HashKey, StickyCookie};
use crate::canary::{Canary, CanaryPlan, Condition};
use crate::mirror::MirrorPlan;
use crate::router::Test;
use portcullis_config as config;
use portcullis_http::{Exchange, Fields, Frame, RequestHead, Template};
use portcullis_telemetry::UpstreamMetrics;
use portcullis_upstream::{Outbound, RetryPolicy, Upstream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Forwarding to an upstream.
#[derive(Debug)]
pub(crate) struct ForwardPlan {
    target: Target,
    canary: Option<Box<CanaryPlan>>,
    pub(crate) mirror: Option<Box<MirrorPlan>>,
    pub(crate) rewrite: Option<Template>,
    /// Clients may switch to WebSocket, and be silent for so long then.
    pub(crate) websocket: Option<Duration>,
    /// Trailers that pass, in lower case.
    pub(crate) trailers: Trailers,
}

impl ForwardPlan {
    /// Where this request goes.
    pub(crate) fn target(&self, exchange: &Exchange) -> &Target {
        self.canary.as_ref().and_then(|canary| canary.choose(exchange)).unwrap_or(&self.target)
    }
}

/// One upstream, as a route calls it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) upstream: Upstream,
    pub(crate) name: Arc<str>,
    pub(crate) metrics: UpstreamMetrics,
    /// What of a request its endpoint is chosen by.
    pub(crate) key: Option<HashKey>,
    pub(crate) sticky: Option<Arc<StickyCookie>>,
}

impl Target {
    /// The request on its way there.
    pub(crate) fn outbound<'a>(&self, exchange: &Exchange, head: &'a RequestHead) -> Outbound<'a> {
        Outbound {
            hash: self.key.as_ref().and_then(|key| key.hash(exchange)),
            sticky: self.sticky.as_ref().and_then(|sticky| sticky.read(&exchange.request.fields)),
            ..Outbound::new(head)
        }
    }
}

/// The names of trailer fields that pass a route.
#[derive(Debug)]
pub(crate) struct Trailers {
    pub(crate) request: Arc<[String]>,
    pub(crate) response: Arc<[String]>,
}

impl Trailers {
    /// What of a trailer section passes a list, if anything.
    pub(crate) fn passing(list: &[String], mut trailers: Fields) -> Option<Frame> {
        trailers.retain(|name, _| list.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes())));
        (!trailers.is_empty()).then_some(Frame::Trailers(trailers))
    }
}

impl Compiler<'_> {
    /// Compiles what a route forwards to.
    ///
    /// # Errors
    /// What of it cannot be.
    pub(super) fn forward(&self, route: &config::Route) -> Result<ForwardPlan, String> {
        let name = route.upstream.as_deref().ok_or("neither `upstream` nor `compose` says what answers")?;
        let target = self.target(route, name)?;
        let mirror = route.mirror.as_ref().map(|mirror| self.mirror(route, mirror)).transpose()?;
        Ok(ForwardPlan {
            canary: (!route.canary.is_empty()).then(|| self.canary(route, name).map(Box::new)).transpose()?,
            mirror: mirror.map(Box::new),
            target,
            rewrite: route.rewrite.as_ref().map(config::PathTemplate::compiled),
            websocket: route.is_websocket().then(|| route.upgrade_idle_timeout()),
            trailers: Trailers {
                request: route.request_trailers().into(),
                response: route.response_trailers().into(),
            },
        })
    }

    fn target(&self, route: &config::Route, name: &str) -> Result<Target, String> {
        let mut upstream = self.upstream(name)?.clone();
        let settings = self.config.upstream.get(name);
        if let Some(limit) = route.timeouts.response {
            upstream = upstream.with_response_timeout(limit.get());
        }
        if let (Some(own), Some(settings)) = (&route.retry, settings) {
            upstream = upstream.with_retry(retry(&own.over(&settings.retry)));
        }
        let sticky = settings.and_then(|settings| settings.sticky.as_ref());
        Ok(Target {
            upstream,
            name: name.into(),
            metrics: self.shared.metrics.upstream(name),
            key: self.hash_key(name),
            sticky: sticky.map(|sticky| Arc::new(StickyCookie::new(sticky))),
        })
    }

    /// What of a request an upstream's endpoint is chosen by.
    pub(super) fn hash_key(&self, upstream: &str) -> Option<HashKey> {
        let settings = self.config.upstream.get(upstream)?;
        settings.hash.as_ref().map(|hash| HashKey::new(&hash.by))
    }

    fn canary(&self, route: &config::Route, own: &str) -> Result<CanaryPlan, String> {
        let mut end = 0;
        let canaries = route.canary.iter().map(|canary| {
            let headers = canary.headers.iter().map(|one| {
                let test = Test::new(one.value.as_ref(), one.present, one.regex.as_ref())?;
                Ok(Condition::Header(one.name.as_str().to_owned(), test))
            });
            let cookies = canary.cookies.iter().map(|one| {
                let test = Test::new(one.value.as_ref(), one.present, one.regex.as_ref())?;
                Ok(Condition::Cookie(one.name.as_str().to_owned(), test))
            });
            let begin = end;
            end += canary.share.parts();
            Ok(Canary {
                target: self.target(route, &canary.upstream)?,
                conditions: headers.chain(cookies).collect::<Result<_, String>>()?,
                // One without a share is skipped, wherever those before it end.
                end: if end > begin { end } else { 0 },
                requests: self.shared.metrics.canary(&route.name, &canary.upstream),
            })
        });
        Ok(CanaryPlan {
            canaries: canaries.collect::<Result<_, String>>()?,
            key: route.canary_by.as_ref().map(HashKey::new),
            rest: self.shared.metrics.canary(&route.name, own),
        })
    }

    fn mirror(&self, route: &config::Route, mirror: &config::Mirror) -> Result<MirrorPlan, String> {
        let mut target = self.target(route, &mirror.upstream)?;
        // A copy more or less is of no matter, and whoever tries out a system wants to see how it fails.
        target.upstream = target.upstream.with_retry(RetryPolicy { attempts: 1, ..RetryPolicy::default() });
        Ok(MirrorPlan {
            target,
            sample: Sample::new(mirror.share),
            places: Arc::new(Semaphore::new(mirror.max_concurrent as usize)),
            timeout: mirror.timeout.get(),
            host_suffix: mirror.host_suffix.as_ref().map(|suffix| suffix.as_str().to_owned()),
            remove: mirror.remove_headers.iter().map(|name| name.as_str().to_owned()).collect(),
            budget: self.shared.budget.clone(),
            metrics: self.shared.metrics.mirror(&route.name),
        })
    }
}
