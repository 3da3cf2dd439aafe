//! Turns gateway.toml into a validated, typed Config with spanned errors.
#![forbid(unsafe_code)]

mod check;
mod codes;
mod env;
mod files;
mod load;
mod model;
mod redact;
mod reference;
mod schema;
mod spans;
mod value;
mod walk;

pub use env::{Env, process_env};
pub use load::{Loaded, load, parse};
pub use model::*;
pub use reference::reference;
pub use schema::schema;
pub use spans::Spans;
pub use value::*;
