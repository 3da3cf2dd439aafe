//! Turns gateway.toml into a validated, typed Config with spanned errors.
#![forbid(unsafe_code)]

mod model;
mod value;

pub use model::*;
pub use value::*;
