//! OWASP CRS, unmodified: its own regression tests, and how it blocks. Skipped where it is not beside the checkout.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod attacks;
mod ordinary;
mod peer;
mod regression;
mod rules;
mod traffic;
mod watched;
