//! Certificates, keys and revocation lists: reading them, and who a client's certificate names.
//!
//! [`pem`] reads what operators put into files and says by line what is wrong with it. [`ClientAuth`] verifies the
//! certificates that clients show, against authorities and revocation lists (RFC 5280). [`client_certificate`] says
//! whom a verified one names. [`HostNames`] are the hosts that a server's certificate is good for, [`validity`] says
//! when. Sockets and handshakes are the binary's; the protocol is rustls's.
//!
//! ```
//! use portcullis_tls::pem;
//!
//! let error = pem::certificates(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap_err();
//! assert_eq!(error.to_string(), "line 1: this is no X.509 certificate");
//! ```
#![forbid(unsafe_code)]

mod caller;
mod client_auth;
mod distinguished_name;
mod fields;
mod host_names;
pub mod pem;
mod validity;

pub use caller::client_certificate;
pub use client_auth::{ClientAuth, ClientAuthError, ClientAuthSettings};
pub use fields::ClientCertFields;
pub use host_names::HostNames;
pub use validity::{Validity, expiry, is_stale, next_update, validity};
