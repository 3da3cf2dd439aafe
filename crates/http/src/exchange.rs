//! One request and its answer, on their way through the chain.

use crate::{Client, Fields, Host, Principal, RequestHead, RequestId, Target, TraceContext, Values};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

/// The parameters a route's path pattern bound: name and canonical (still percent-encoded) text.
#[derive(Clone, Debug, Default)]
pub struct Params(SmallVec<[(Arc<str>, String); 4]>);

impl Params {
    /// Binds a parameter.
    pub fn push(&mut self, name: Arc<str>, value: String) {
        self.0.push((name, value));
    }

    /// The text bound to `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| &**n == name).map(|(_, v)| v.as_str())
    }
}

/// All that is known of one request while it passes the guards.
#[derive(Debug)]
pub struct Exchange {
    /// The head as the client sent it, less what hygiene dropped.
    pub request: RequestHead,
    /// The fields as the client sent them, before hygiene: for the firewall, whose rules judge what came in, and empty
    /// where there is none. Nothing else may decide by them.
    pub received: Fields,
    /// The canonical path and the query: what routing, policy, firewall and upstream agree on.
    pub target: Target,
    /// The canonical authority.
    pub host: Host,
    /// Who called, and over what.
    pub client: Client,
    /// The request's id, in every answer and log line.
    pub id: RequestId,
    /// The W3C trace context to hand on.
    pub trace: TraceContext,
    /// The matched route's name.
    pub route: Option<Arc<str>>,
    /// What the route's path pattern bound.
    pub params: Params,
    /// The caller, once authenticated.
    pub principal: Option<Arc<Principal>>,
    /// The whole body, where the route buffers it.
    pub body: Option<Bytes>,
    /// Fields that guards want on the answer, whoever gives it (`RateLimit`, `Vary`).
    pub answer_fields: Fields,
}

impl Exchange {
    /// An exchange at the start of its way.
    #[must_use]
    pub fn new(
        request: RequestHead,
        target: Target,
        host: Host,
        client: Client,
        id: RequestId,
        trace: TraceContext,
    ) -> Self {
        Exchange {
            received: Fields::default(),
            request,
            target,
            host,
            client,
            id,
            trace,
            route: None,
            params: Params::default(),
            principal: None,
            body: None,
            answer_fields: Fields::default(),
        }
    }

    /// What templates may name.
    #[must_use]
    pub fn values(&self) -> Values<'_> {
        Values { params: &self.params, query: self.target.query(), fields: &self.request.fields }
    }
}
