//! Calls over real sockets to scripted backends: good ones, dead ones, slow ones, lying ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod choice;
mod hostile;
mod http2;
mod pools;
mod reload;
mod retries;
mod support;
mod timeouts;
mod tls;
