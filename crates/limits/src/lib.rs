//! How often and how much: address lists, rates, concurrency.
#![forbid(unsafe_code)]
