//! TLS of listeners, part E of the attack matrix: against the binary, with certificates made for the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod clients;
mod handshake;
mod hostile;
mod raw;
mod scan;
mod sessions;
mod support;
mod swap;
mod upstream;
