//! Both sides of the wire on real sockets: a server with a scripted service, and clients of scripted origins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod client;
mod client_h2;
mod deadlines;
mod framing;
mod http1;
mod http2;
mod service;
