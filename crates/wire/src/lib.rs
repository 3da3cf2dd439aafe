//! HTTP/1 framing of our own for both sides of the gateway, and HTTP/2 by hyper, behind one pair of traits.
//!
//! [`head`] and [`chunked`] are sans-IO: strict readers of request heads, response heads and the chunked coding
//! (RFC 9112) that refuse every ambiguity instead of choosing a reading. [`Transport`] joins them to a socket: one
//! buffer in, one out, one deadline each. [`server`] reads requests off a client's connection and hands each one,
//! as a head and a [`Downstream`], to a [`Service`]; [`client`] sends one request over an upstream's connection and
//! reads its answer, as a [`Call`]. Both sides are [`Source`]s of frames and [`Sink`]s for frames, and a [`Pump`]
//! moves frames from one to the other with back-pressure, so that a single task drives both directions of an
//! exchange. HTTP/2 is hyper's and appears as the same traits; nothing above this crate knows the difference. [`proxy`]
//! reads what a load balancer says before all that.
//!
//! ```
//! use portcullis_http::RequestHead;
//! use portcullis_wire::head::{HeadLimits, HeadReader};
//!
//! let mut head = RequestHead::default();
//! let mut reader = HeadReader::default();
//! let bytes = b"GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n";
//! let used = reader.request(bytes, &HeadLimits::default(), &mut head).unwrap();
//! assert_eq!(used, Some(bytes.len()));
//! assert_eq!(head.fields.get("host"), Some(&b"example.com"[..]));
//!
//! let bare_lf = b"GET /a HTTP/1.1\nHost: example.com\n\n";
//! assert!(HeadReader::default().request(bare_lf, &HeadLimits::default(), &mut head).is_err());
//! ```
#![forbid(unsafe_code)]

mod buffers;
pub mod chunked;
pub mod client;
mod encode;
mod framing;
pub mod head;
mod http2;
mod message;
mod pipe;
pub mod proxy;
mod pump;
mod rewind;
pub mod server;
mod stream;
mod timer;
mod transport;
pub mod websocket;

pub use message::{Call, Downstream, Service, Sink, SinkError, Source};
pub use pump::{Pump, PumpError, collect};
pub use stream::IoStream;
pub use transport::Transport;
