//! The upstream's side: sending a request and reading its answer.

mod http1;
mod http2;

pub use crate::transport::BodyTimeouts as Timeouts;
pub use http1::Http1Connection;
pub use http2::{Http2Call, Http2Connection};

use std::time::Duration;

/// How long an upstream may take, and how much it may say.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Caps on an answer's head.
    pub head: crate::head::HeadLimits,
    /// From the end of the request to the answer's head.
    pub response: Duration,
    /// Deadlines on bodies.
    pub body: Timeouts,
}

impl Default for ClientSettings {
    /// The head in 30 s; no least rate, since long polls and event streams are slow by design.
    fn default() -> Self {
        ClientSettings {
            head: crate::head::HeadLimits { bytes: 64 * 1024, fields: 200, target: usize::MAX },
            response: Duration::from_secs(30),
            body: Timeouts { min_rate: 0, ..Timeouts::default() },
        }
    }
}

/// Interim answers (1xx) that are read over before the final one.
const MAX_INTERIM: u32 = 16;
/// How long they may be together.
const MAX_INTERIM_BYTES: usize = 64 * 1024;
