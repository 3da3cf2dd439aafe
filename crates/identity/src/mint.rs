//! Making tokens, for development (`portcullis token`) and tests.

use crate::{Moment, Secret};
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// Why a token cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MintError {
    /// The key is not of the algorithm's kind, or not readable.
    Key,
    /// The secret is shorter than the algorithm's hash (RFC 7518 §3.2).
    ShortSecret,
    /// Signing failed.
    Signing,
}

impl fmt::Display for MintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MintError::Key => {
                "the key does not fit the algorithm: HS* take a secret, RS*/PS*/ES*/EdDSA a private key in PEM (PKCS#8)"
            }
            MintError::ShortSecret => {
                "the secret is shorter than its hash: HS256 needs 32 bytes, HS384 48, HS512 64"
            }
            MintError::Signing => "the token cannot be signed with this key",
        })
    }
}

impl std::error::Error for MintError {}

/// A key that signs. Shows nothing of itself.
pub struct SigningKey {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: Option<String>,
    typ: String,
}

impl SigningKey {
    /// A shared secret, for HS256, HS384 or HS512.
    ///
    /// # Errors
    /// [`MintError`] if the algorithm is another or the secret too short for it.
    pub fn from_secret(secret: &Secret, algorithm: Algorithm) -> Result<Self, MintError> {
        let least = match algorithm {
            Algorithm::HS256 => 32,
            Algorithm::HS384 => 48,
            Algorithm::HS512 => 64,
            _ => return Err(MintError::Key),
        };
        if secret.expose().len() < least {
            return Err(MintError::ShortSecret);
        }
        Ok(Self::of(EncodingKey::from_secret(secret.expose()), algorithm))
    }

    /// A private key in PEM, PKCS#8 (`PRIVATE KEY`), for RSA also PKCS#1.
    ///
    /// # Errors
    /// [`MintError::Key`] if it is none, or not for that algorithm.
    pub fn from_pem(pem: &Secret, algorithm: Algorithm) -> Result<Self, MintError> {
        let pem = pem.expose();
        let key = match algorithm.family() {
            AlgorithmFamily::Hmac => return Err(MintError::Key),
            AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(pem),
            AlgorithmFamily::Ec => EncodingKey::from_ec_pem(pem),
            AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem),
        };
        Ok(Self::of(key.map_err(|_| MintError::Key)?, algorithm))
    }

    fn of(key: EncodingKey, algorithm: Algorithm) -> Self {
        SigningKey { key, algorithm, kid: None, typ: "JWT".into() }
    }

    /// Names the key in the tokens' `kid`.
    #[must_use]
    pub fn with_kid(self, kid: Option<String>) -> Self {
        SigningKey { kid, ..self }
    }

    /// Sets the tokens' `typ`; `JWT` otherwise.
    #[must_use]
    pub fn with_typ(self, typ: impl Into<String>) -> Self {
        SigningKey { typ: typ.into(), ..self }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// Makes a token of these claims, with `iat` now and `exp` after `ttl`, whatever the claims say of the two.
///
/// # Errors
/// [`MintError::Signing`] if the key cannot sign.
pub fn mint(
    key: &SigningKey,
    mut claims: Map<String, Value>,
    ttl: Duration,
    now: Moment,
) -> Result<String, MintError> {
    claims.insert("iat".into(), now.unix.into());
    claims.insert("exp".into(), now.unix.saturating_add(ttl.as_secs()).into());
    let mut header = Header::new(key.algorithm);
    header.typ = Some(key.typ.clone());
    header.kid.clone_from(&key.kid);
    jsonwebtoken::encode(&header, &claims, &key.key).map_err(|_| MintError::Signing)
}
