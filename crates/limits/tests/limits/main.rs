//! The crate from outside: address lists, rates, concurrency.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod address;
mod common;
mod rate;
