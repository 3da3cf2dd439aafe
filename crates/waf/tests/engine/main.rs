//! The engine as its users see it: rules and requests in, verdicts out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod audit;
mod bodies;
mod common;
mod diagnostics;
mod explain;
mod geo;
mod nominations;
mod overlays;
mod program;
mod robustness;
mod semantics;
mod variables;
mod watch;
