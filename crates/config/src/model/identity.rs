//! `[identity.NAME]`: a token issuer and its keys.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Duration, Secret, Timeout};

/// An issuer of JSON Web Tokens (RFC 7519): what a token must say, and the keys that prove it. Tokens come as
/// `Authorization: Bearer …` and nowhere else; `exp` and `sub` are required.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The exact `iss` of its tokens.
    #[schemars(length(min = 1))]
    pub issuer: String,
    /// The names by which its tokens mean this gateway; a token's `aud` must hold one of them.
    #[schemars(length(min = 1))]
    pub audiences: Vec<String>,
    /// Accepted signature algorithms. What a token's header says is believed only within this list, and each
    /// key serves its own algorithm only.
    #[schemars(length(min = 1))]
    pub algorithms: Vec<Algorithm>,
    /// Keys that stand in this file or in files of their own.
    #[serde(default)]
    pub keys: Vec<Key>,
    /// File with a JWK set (RFC 7517).
    pub jwks_file: Option<PathBuf>,
    /// Where the issuer publishes its JWK set; `https`, or `http` to a loopback address.
    pub jwks_url: Option<String>,
    /// How old a fetched key set may become before it is fetched again.
    #[serde(default = "jwks_refresh")]
    pub jwks_refresh: Timeout,
    /// How old a fetched key set may become while the issuer cannot be reached; then its tokens get 503.
    #[serde(default = "jwks_max_stale")]
    pub jwks_max_stale: Duration,
    /// Difference of clocks that is forgiven for `exp`, `nbf` and `iat`.
    #[serde(default = "skew")]
    pub skew: Duration,
    /// The `typ` a token's header must have, such as `"at+jwt"` (RFC 9068). Without it `JWT`, `at+jwt` and
    /// none are taken, and tokens that say they are for something else are not (RFC 8725, 3.11).
    pub typ: Option<String>,
    /// The claim that lists scopes, separated by spaces or as an array; dots lead into objects.
    #[serde(default = "scope_claim")]
    #[schemars(length(min = 1))]
    pub scope_claim: String,
    /// The claim that lists roles; dots lead into objects, as in `"realm_access.roles"`.
    #[serde(default = "roles_claim")]
    #[schemars(length(min = 1))]
    pub roles_claim: String,
}

fn jwks_refresh() -> Timeout {
    Timeout::from_secs(300)
}

fn jwks_max_stale() -> Duration {
    Duration::from_secs(86_400)
}

fn skew() -> Duration {
    Duration::from_secs(60)
}

fn scope_claim() -> String {
    "scope".to_owned()
}

fn roles_claim() -> String {
    "roles".to_owned()
}

/// A signature algorithm of RFC 7518 or RFC 8037. `none` is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// HMAC with SHA-256; whoever can check a token can also make one.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSA PKCS#1 v1.5 with SHA-256.
    RS256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    RS384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    RS512,
    /// RSA-PSS with SHA-256.
    PS256,
    /// RSA-PSS with SHA-384.
    PS384,
    /// RSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl Algorithm {
    /// The name as it stands in a token's header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// Bytes a shared secret needs at least (RFC 7518, 3.2); `None` for algorithms with key pairs.
    #[must_use]
    pub const fn min_secret_len(self) -> Option<usize> {
        match self {
            Self::HS256 => Some(32),
            Self::HS384 => Some(48),
            Self::HS512 => Some(64),
            _ => None,
        }
    }
}

/// One key of an issuer: a shared secret for the HS algorithms, a public key for all others.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The key's id. With one, the key serves tokens that name it or name none; without it, every token of its
    /// algorithm.
    pub kid: Option<String>,
    /// The one algorithm this key serves.
    pub algorithm: Algorithm,
    /// Shared secret, as many bytes as the hash has at least (32 for HS256). Take it from the environment.
    pub secret: Option<Secret>,
    /// PEM file with the public key (SubjectPublicKeyInfo).
    pub public_key_file: Option<PathBuf>,
    /// The public key itself as PEM.
    pub public_key: Option<String>,
    /// PEM file with the private key (PKCS#8). Only `portcullis token` reads it; a gateway in production has
    /// no use for it.
    pub private_key_file: Option<PathBuf>,
}
