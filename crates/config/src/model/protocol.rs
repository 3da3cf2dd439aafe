//! What a route speaks besides plain requests and answers: WebSocket, gRPC, trailers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Route;
use crate::value::{HeaderName, Timeout};

/// A protocol that an exchange may switch to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeProtocol {
    /// WebSocket (RFC 6455), also over HTTP/2 (RFC 8441). The rules judge the handshake; frames are not inspected.
    Websocket,
}

/// Trailer fields that pass; all others are dropped. Fields that decide framing, routing or identity cannot pass
/// (RFC 9110, 6.5.1).
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Trailers {
    /// Behind request bodies that stream; a body that is held loses its trailers.
    pub request: Vec<HeaderName>,
    /// Behind answers that are not held for the firewall, to clients that say `TE: trailers`.
    pub response: Vec<HeaderName>,
}

/// What a gRPC answer says in its trailers.
const GRPC_TRAILERS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

impl Route {
    /// Whether clients may switch to WebSocket.
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        self.upgrade.contains(&UpgradeProtocol::Websocket)
    }

    /// The trailers of requests that pass, in lower case.
    #[must_use]
    pub fn request_trailers(&self) -> Vec<String> {
        self.trailers.request.iter().map(|name| name.as_str().to_ascii_lowercase()).collect()
    }

    /// The trailers of answers that pass, in lower case: those given, and gRPC's own where the route speaks it.
    #[must_use]
    pub fn response_trailers(&self) -> Vec<String> {
        let given = self.trailers.response.iter().map(|name| name.as_str().to_ascii_lowercase());
        let own = GRPC_TRAILERS.iter().filter(|_| self.grpc).map(|name| (*name).to_owned());
        given.chain(own).collect()
    }

    /// How long a connection that switched protocols may be silent in both directions: what is given, else five
    /// minutes.
    #[must_use]
    pub fn upgrade_idle_timeout(&self) -> std::time::Duration {
        self.timeouts.upgrade_idle.unwrap_or(Timeout::from_secs(300)).get()
    }
}
