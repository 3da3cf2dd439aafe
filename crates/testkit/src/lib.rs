//! What tests are made of: scripted backends, a client that sends any bytes, certificates, the gateway's
//! binary as a child process. All on real sockets of the loopback interface; not published.
//!
//! A black-box test starts an [`Origin`] (or [`H2Origin`]) for each upstream, the [`Gateway`] with a
//! configuration that names them, sends bytes with a [`RawClient`] and looks at both ends: what the client got,
//! and what the origin [`Received`].
//!
//! ```
//! use portcullis_testkit::{Answer, Gate, Origin, RawClient, Step};
//!
//! // The second event is sent only once the first has arrived: no clock is asked.
//! let gate = Gate::default();
//! let origin = Origin::answering(Answer::status(200).events(&["1", "2"], Some(Step::Until(gate.clone()))));
//! let mut client = RawClient::connect(origin.address()).unwrap();
//! client.send("GET /events HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
//! client.until("data: 1\n\n").unwrap();
//! gate.open();
//! client.until("data: 2\n\n").unwrap();
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "this is test code: what goes wrong here should fail the test at once"
)]

mod answer;
mod backend;
mod bodies;
mod cases;
mod client;
pub mod corpus;
mod deliver;
mod fault;
mod frames;
pub mod ftw;
mod gate;
mod gateway;
mod h2;
mod h2client;
mod h2script;
mod judge;
mod message;
mod nameserver;
mod origin;
mod suite;
mod tables;
mod tls;

pub use answer::{Answer, Digest, Head, Step, chunk, pattern, pattern_digest};
pub use backend::{Backend, Journaled, Server};
pub use bodies::ordinary_bodies;
pub use cases::{Case, bytes, cases, unescape};
pub use client::{RawClient, Response, get, request};
pub use deliver::{PROBE, Pieces, arrived, converse, deliver, in_parallel, own_address};
pub use fault::{FaultProtocol, FaultProxy, FaultScript};
pub use frames::{FrameStep, code_name, frame_steps};
pub use gate::Gate;
pub use gateway::{Gateway, GatewayBuilder, Ports, free_port};
pub use h2::{H2Origin, H2Request};
pub use h2client::{H2Client, H2Frame, H2Stream, PREFACE};
pub use h2script::FrameOrigin;
pub use judge::{Dirty, Forwarded, Judge};
pub use message::sha256;
pub use nameserver::NameServer;
pub use origin::{KEPT_BODY, Origin, OriginBuilder, Received};
pub use rcgen;
pub use suite::{absent, suite};
pub use tables::{below_its_name, everything_to};
pub use tls::{Authority, Identity};
