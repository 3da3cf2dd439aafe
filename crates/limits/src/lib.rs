//! How often and how much: address lists, rates, concurrency.
//!
//! A request first meets its route's [`AddressList`]: is this address welcome at all? Then a [`RateLimiter`],
//! twice: once early with limits keyed by address, once after authentication with limits keyed by consumer.
//! Each [`Limit`] turns the exchange into a [`Partition`], and the [`Store`] decides by GCRA whether one more
//! request of that partition fits the limit's [`Quota`]. What is left goes into the answer as `RateLimit` and
//! `RateLimit-Policy`; what does not fit is refused with 429 and `Retry-After`. A [`Concurrency`] limit counts
//! requests in flight instead, and gives the place back when its [`Slot`] is dropped.
//!
//! Stores and counters live outside the configuration's snapshot and know limits by name: a reload resets
//! nothing, and two routes that name the same limit share it.
//!
//! ```
//! use portcullis_limits::{Decision, Demand, LocalStore, Partition, Quota, Store};
//! use std::time::Duration;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = LocalStore::new(1024);
//! let quota = Quota::new(2, Duration::from_secs(60), 2).unwrap();
//! let caller = Partition::Address("192.0.2.1".parse().unwrap());
//! let demand = [Demand { limit: "demo", partition: caller, quota: &quota }];
//! assert!(store.take(&demand).await.unwrap()[0].admitted);
//! assert!(store.take(&demand).await.unwrap()[0].admitted);
//! let Decision { admitted, retry_after, .. } = store.take(&demand).await.unwrap()[0];
//! assert!(!admitted && retry_after <= Duration::from_secs(30));
//! # });
//! ```
#![forbid(unsafe_code)]

mod address;
mod announce;
mod clock;
mod concurrency;
mod key;
mod local;
mod quota;
mod rate;
mod store;

pub use address::{AddressList, AddressSet};
pub use clock::{Clock, Monotonic};
pub use concurrency::{Concurrency, Slot};
pub use key::{Key, Partition};
pub use local::{LocalStore, StoreStats};
pub use quota::{Decision, Quota, QuotaError};
pub use rate::{Limit, LimitError, OnFailure, RateLimiter, Verdict};
pub use store::{Decisions, Demand, Store, StoreError};
