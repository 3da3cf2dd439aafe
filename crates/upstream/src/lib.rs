//! Endpoints, pools, balancing; one call out.
//!
//! An [`Upstream`] is a named group of endpoints that serve the same. For each call it chooses an endpoint
//! ([`Balance`]), takes an idle connection of this thread's pool that is still good or opens one, sends the request
//! and hands out a [`Lease`]: the exchange on that connection, as [`portcullis_wire::Call`]. Dropping the lease gives
//! the connection back to the pool if the exchange ended cleanly, and closes it otherwise.
//!
//! - [`Upstream::send`] is for requests whose body is at hand, or that have none: what fails is tried again as the
//!   [`RetryPolicy`] says. Besides it repeats, once, an idempotent request that a *reused* connection lost before a byte of
//!   the answer was heard, for then the upstream most likely closed a connection that had idled.
//! - [`Upstream::start`] is for bodies that stream: the caller pumps the body into the lease and asks it for the
//!   answer at the same time.
//!
//! The head is sent as it stands: its fields must be clean ([`portcullis_http::hygiene`]) and its `Host` (in HTTP/2
//! `:authority`) is the caller's choice, usually the client's canonical host. A connection that cannot be opened is
//! no error yet, since nothing was sent: the next endpoint is asked, three at most, and the one that failed is put
//! aside for a second. TLS that fails never falls back to clear text.
//!
//! Within: [`Outbound`] goes through the `tries`, on a `retry::Course`; each asks `balance` for one of the upstream's
//! `members`, takes or opens a `connection`, and reports its [`Outcome`] to the endpoint, whose `condition` the next
//! choice goes by. [`Trail`] tells the caller what was tried.
//!
//! Connections live and die on the thread that opened them: pools are per thread and take no lock. The gateway runs one
//! current-thread runtime per core. Counters and round-robin order are shared by all threads, and survive a reload
//! with the pool as long as name, protocol, TLS identity and address of an endpoint stay the same
//! ([`Upstreams::build`]).
//!
//! ```
//! use portcullis_http::{Fields, Frame, RequestHead, ResponseHead, Version};
//! use portcullis_upstream::{EndpointSettings, Outbound, Trail, UpstreamSettings, Upstream};
//! use portcullis_wire::Source as _;
//! use std::io::{Read as _, Write as _};
//!
//! let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
//! let port = listener.local_addr().unwrap().port();
//! std::thread::spawn(move || {
//!     let (mut socket, _) = listener.accept().unwrap();
//!     let _ = socket.read(&mut [0; 4096]).unwrap();
//!     socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
//! });
//!
//! let settings = UpstreamSettings::new("catalogue", vec![EndpointSettings::new("127.0.0.1", port)]);
//! let upstream = Upstream::new(settings, None).unwrap();
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! runtime.block_on(async {
//!     let mut request = RequestHead::default();
//!     request.set_line(b"GET", b"/titles/1", Version::Http11);
//!     request.fields.append("host", "example.com").unwrap();
//!     let mut answer = ResponseHead::default();
//!     let mut trail = Trail::default();
//!     let mut lease = upstream.send(&Outbound::new(&request), None, &mut answer, &mut trail).await.unwrap();
//!     assert_eq!(trail.tries().len(), 1);
//!     assert_eq!(answer.status, 200);
//!     let frame = std::future::poll_fn(|cx| lease.poll_frame(cx)).await;
//!     assert!(matches!(frame, Some(Ok(Frame::Data(data))) if data == "hello"));
//! });
//! ```
#![forbid(unsafe_code)]

mod balance;
mod breaker;
mod caps;
mod condition;
mod connect;
mod connection;
mod discovery;
mod ending;
mod endpoint;
mod health;
mod lease;
mod members;
mod outbound;
mod outlier;
mod pin;
mod pool;
mod retry;
mod settings;
mod slow_start;
mod status;
mod supervision;
mod tls;
mod tries;
mod upstream;
mod upstreams;
mod watch;

pub use balance::{StickyKey, StickyToken, hash_key};
pub use breaker::{BreakerSettings, BreakerState, SlidingWindow};
pub use caps::{Cap, Caps};
pub use discovery::{
    DiscoverySettings, DiscoverySource, DiscoveryStatus, DocumentError, DocumentFormat, IpFamily,
    LookupCounts, parse_endpoints,
};
pub use endpoint::EndpointStats;
pub use health::check::{CheckKind, HealthCheckSettings};
pub use health::{CheckPace, Health};
pub use lease::Lease;
pub use outbound::{Deadline, Outbound, Outcome, Trail, Try};
pub use outlier::{EjectionCause, OutlierSettings};
pub use retry::{Backoff, BudgetSettings, Conditions, Denied, Hedge, RetryOn, RetryPolicy};
pub use settings::{
    Balance, BreakerScope, CircuitBreakerSettings, EndpointSettings, Protocol, SettingsError,
    UpstreamSettings,
};
pub use status::{EndpointStatus, UpstreamStatus, UpstreamTotals};
pub use tls::{ClientIdentity, TlsSettings};
pub use upstream::Upstream;
pub use upstreams::{Upstreams, Watch};
