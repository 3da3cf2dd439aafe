//! What a body may hold: its JSON shape on the way in, no secrets on the way out.
//!
//! On the way in, a route's [`Contract`] judges the head first (media type, charset, content coding), a [`Coding`]
//! is taken off under caps, and the buffered body is judged after: what calls itself JSON must be strict JSON of the route's [`JsonShape`]. On the way out,
//! a route's [`LeakGuard`] looks at the response's head and, for text, gives a [`Masker`] that the body streams
//! through: card numbers, secrets, internal addresses and stack traces come out as `*`, byte for byte, so the
//! length stays; or the response is withheld.
//!
//! ```
//! use portcullis_contract::{Kinds, LeakGuard, LeakMode};
//!
//! let guard = LeakGuard::new(Kinds::ALL, LeakMode::Mask).unwrap();
//! let mut masker = guard.masker();
//! let mut out = Vec::new();
//! for chunk in ["{\"pan\":\"4111 1111 1", "111 1111\"}"] {
//!     masker.push(chunk.as_bytes(), &mut out).unwrap();
//! }
//! masker.finish(&mut out).unwrap();
//! assert_eq!(out, b"{\"pan\":\"**** **** **** 1111\"}");
//! ```
#![forbid(unsafe_code)]

mod coding;
mod json;
mod leak;
mod media;
mod request;

pub use coding::{Coding, End, InflateError, InflateLimits, Inflated};
pub use json::{DuplicateKeys, JsonShape};
pub use leak::{Kind, Kinds, LeakGuard, LeakMode, LeakSetupError, Leaked, MAX_HELD, Masker};
pub use media::{InvalidMediaRange, MediaRange, MediaType};
pub use request::Contract;
