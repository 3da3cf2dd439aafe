//! Many calls, one answer: aggregation of several upstreams into one document.
//!
//! A [`Composition`] is made of [`Part`]s. For each request, [`Composition::run`] fills the parts' templates with the
//! request's values, calls all upstreams at the same time, and merges what they answer into one JSON object.
//!
//! - *Order is the configuration's.* Members stand where the first part that has them put them; of two equal names the
//!   later part's value wins, however late or early its answer came. A part with [`Part::into`] puts its whole
//!   document under that member, whatever JSON it is; one without merges its members into the top, and must answer
//!   with an object.
//! - *Values pass byte for byte.* Only member names are read; a number keeps its precision, a string its escapes.
//! - *Values of the request mean only themselves.* They are percent-encoded for the place they stand in. A value that
//!   is missing, or would not stay one path segment (`..`, a slash), fails its part before anything is sent.
//! - *A part fails* when its upstream cannot be reached, takes longer than [`Part::timeout`], answers with another
//!   status than 2xx, with something that is no JSON, or with more than [`Part::max_size`]. A failed part that is
//!   required fails the whole: 504 where it was too slow, else 502; but its 404 or 410 is the composition's. Any other
//!   is left out, and the answer says so in `X-Portcullis-Partial` and, if configured, in a member; it is marked
//!   `Cache-Control: no-store`.
//! - *What is decided does not depend on who was faster*: of several required parts that fail, the first in the
//!   configuration decides, and nobody waits for parts that cannot change the outcome any more.
//!
//! ```
//! use portcullis_compose::{Composition, Input, Part};
//! use portcullis_http::{Budget, Fields, Params, Piece, Values};
//! use portcullis_upstream::{EndpointSettings, Upstream, UpstreamSettings};
//! use std::io::{Read as _, Write as _};
//!
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
//! # let port = listener.local_addr().unwrap().port();
//! # std::thread::spawn(move || {
//! #     let (mut socket, _) = listener.accept().unwrap();
//! #     let read = socket.read(&mut [0; 4096]).unwrap();
//! #     socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{\"amount\":1.10,\"x\":0}").unwrap();
//! # });
//! let prices = Upstream::new(
//!     UpstreamSettings::new("prices", vec![EndpointSettings::new("127.0.0.1", port)]),
//!     None,
//! )
//! .unwrap();
//! let mut part = Part::new("pricing", prices, vec![Piece::Text("/prices/".into()), Piece::Param("id".into())].into());
//! part.into = Some("price".into());
//! part.drop = vec!["x".into()];
//! let composition = Composition::new(vec![part], None).unwrap();
//!
//! let mut params = Params::default();
//! params.push("id".into(), "7".into());
//! let mut fields = Fields::default();
//! fields.append("host", "example.com").unwrap();
//! let (request, budget) = (Fields::default(), Budget::new(1 << 20));
//! let values = Values { params: &params, query: None, fields: &request };
//! let input = Input { values, base: &fields, hashes: &[], budget: &budget, deadline: None };
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! let composed = runtime.block_on(composition.run(&input)).unwrap();
//! assert_eq!(composed.body, r#"{"price":{"amount":1.10}}"#);
//! ```
#![forbid(unsafe_code)]

mod call;
mod composition;
mod document;
mod failure;
mod join;
mod part;
mod select;

pub use call::Input;
pub use composition::{Composed, Composition};
pub use failure::{Failure, PartError, PartFailure};
pub use part::{CallWatcher, Part, SettingsError};
