//! Who is calling, and what may they do: tokens, keys and policy.
//!
//! A [`Provider`] is compiled from [`ProviderSettings`] when a snapshot is made: issuer, audiences, algorithms
//! and keys, from the configuration, a file or a URL. Keys from URLs live in the process's [`KeyStore`], outside
//! the snapshot, so that a reload keeps them. A route that wants callers has an [`Authenticator`]: it takes the
//! one bearer token of a request apart, finds the provider its issuer names, verifies signature and claims,
//! and writes the caller into the exchange; a [`CertificateRule`] does the same by client certificate. The route's [`Authorizer`] then says whether that caller may, and
//! makes the [`Permit`] without which nothing is forwarded. [`write_identity`] tells the upstream who calls,
//! and [`mint`] makes tokens for development.
//!
//! What a token says of itself never decides how it is judged: algorithms come from the provider and are
//! pinned to each key, keys come from the configuration alone, and `jku`, `jwk`, `x5u`, `x5c` are not read.
//!
//! ```
//! use portcullis_identity::*;
//! use std::time::Duration;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let secret = Secret::new("0123456789abcdef0123456789abcdef");
//! let mut settings = ProviderSettings::new("dev", "https://issuer.example");
//! settings.audiences = vec!["api".into()];
//! settings.algorithms = vec![Algorithm::HS256];
//! settings.keys =
//!     vec![StaticKey { kid: None, algorithm: None, material: KeyMaterial::Secret(secret.clone()) }];
//! let provider = Provider::new(settings, &KeyStore::new(None).unwrap()).unwrap();
//!
//! let key = SigningKey::from_secret(&secret, Algorithm::HS256).unwrap();
//! let claims = serde_json::json!({
//!     "iss": "https://issuer.example", "aud": "api", "sub": "alice", "scope": "titles:read",
//! });
//! let now = Moment::now();
//! let token = mint(&key, claims.as_object().unwrap().clone(), Duration::from_secs(60), now).unwrap();
//!
//! let caller = provider.verify(&token, now).await.unwrap();
//! assert_eq!((caller.subject.as_str(), caller.scopes), ("alice", vec!["titles:read".to_owned()]));
//! let later = now.after(Duration::from_secs(120));
//! assert_eq!(provider.verify(&token, later).await.err(), Some(TokenError::Expired));
//! # });
//! ```
#![forbid(unsafe_code)]

mod authenticate;
mod authorize;
mod certificate;
mod error;
mod fetch;
mod forward;
mod json;
mod jwks;
mod keys;
mod mint;
mod moment;
mod proved;
mod provider;
mod recall;
mod resolve;
mod store;
#[cfg(test)]
mod tests;
mod token;

pub use authenticate::{Authenticator, InvalidRealm};
pub use authorize::{Authorizer, AuthorizerError, AuthorizerSettings, ClaimRule, Permit};
pub use certificate::CertificateRule;
pub use error::TokenError;
pub use fetch::KeyStoreError;
pub use forward::write_identity;
pub use jsonwebtoken::Algorithm;
pub use keys::{KeyError, KeyMaterial, Secret, StaticKey};
pub use mint::{MintError, SigningKey, mint};
pub use moment::Moment;
pub use provider::{JwksSource, KeyStatus, Provider, ProviderError, ProviderSettings};
pub use resolve::GuardedResolver;
pub use store::{KeyStore, SourceStatus};
pub use token::{MAX_TOKEN, parse_algorithm};
