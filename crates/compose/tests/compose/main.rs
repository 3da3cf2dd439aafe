//! Compositions of real backends: good, dead, slow and lying ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod failing;
mod merging;
mod sending;
mod support;
