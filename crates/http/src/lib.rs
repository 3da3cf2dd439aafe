//! The vocabulary every stage of the gateway shares, and nothing that does IO.
//!
//! A request enters as bytes in `portcullis-wire`, which fills a [`RequestHead`]: method, target and
//! [`Fields`], all spans of one reused buffer. [`Target::parse`] reads the raw target once, strictly,
//! into the canonical path that router, policy, firewall and upstream all see. [`ClientAddress`] says
//! who called, [`Exchange`] carries it all from guard to guard, and each [`Guard`] answers with `Ok` or a
//! [`Rejection`], which only one place turns into a response. [`hygiene`] decides which fields may pass
//! an intermediary in either direction, [`forwarding`] what the gateway says of itself and its client, and
//! [`Budget`] accounts for every byte that is held in memory.
//!
//! No type of hyper's, axum's or the `http` crate's stands here: heads are ours.
//!
//! ```
//! use portcullis_http::Target;
//!
//! let target = Target::parse(b"/a/./%62//../c?q=1").unwrap();
//! assert_eq!(target.path(), "/a/c");
//! assert_eq!(target.query(), Some("q=1"));
//! assert!(Target::parse(b"/a%2fb").is_err(), "an encoded slash is two readings of one path");
//! ```
#![forbid(unsafe_code)]

mod body;
mod budget;
mod certificate;
mod client;
mod cookie;
mod destination;
mod exchange;
mod fields;
mod forwarded;
pub mod forwarding;
mod guard;
mod head;
mod host;
pub mod hygiene;
mod ident;
mod percent;
mod principal;
mod rejection;
mod syntax;
mod target;
mod template;
mod write;

pub use body::{BodyError, Frame};
pub use budget::{Budget, Held};
pub use certificate::ClientCertificate;
pub use client::{Client, ClientAddress, Scheme, TrustedProxies};
pub use cookie::cookie;
pub use destination::{DestinationPolicy, Forbidden};
pub use exchange::{Exchange, Params};
pub use fields::{Block, Fields, InvalidField};
pub use forwarded::ForwardedHeader;
pub use guard::{Guard, ResponseGuard};
pub use head::{Framing, Method, RequestHead, ResponseHead, Upgrade, Version, reason_phrase};
pub use host::Host;
pub use ident::{RequestId, TraceContext};
pub use percent::{percent_encode_query, percent_encode_segment};
pub use principal::{Principal, PrincipalKind};
pub use rejection::{AuthFailure, ContractFailure, Malformed, Rejection, Stage, UpstreamFailure};
pub use syntax::{is_token, is_value, leading_text, leading_token, leading_value};
pub use target::{Target, TargetError, Tolerance};
pub use template::{Piece, Template, Values};
pub use write::{ValueWriter, push_address, push_decimal};
