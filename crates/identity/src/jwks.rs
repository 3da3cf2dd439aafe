//! JWK sets (RFC 7517), read with distrust.

use crate::json;
use crate::keys::{KeyError, KeySet, VerificationKey};
use crate::token::parse_algorithm;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use std::fmt;

/// The largest set that is read, in bytes.
pub(crate) const MAX_SET: usize = 1024 * 1024;

/// The most keys a set may hold.
const MAX_KEYS: usize = 100;

/// Where a set comes from, which decides whether it may hold secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file of the operator's: symmetric keys are his to keep.
    File,
    /// A URL, where a symmetric key would be everybody's: `oct` keys are ignored.
    Remote,
}

/// Why a set cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetError {
    /// No JSON object with an array `keys` of at most [`MAX_KEYS`] objects.
    NotASet,
    /// None of its keys is usable.
    NoUsableKey,
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SetError::NotASet => {
                "is no JWK set: a JSON object with an array `keys` of at most 100 keys (RFC 7517 §5)"
            }
            SetError::NoUsableKey => "has no key that is usable for the algorithms it allows",
        })
    }
}

/// Reads a set. Keys that cannot be used are left out (RFC 7517 §5 asks for it) and reported to the log; a set
/// of which nothing remains is an error, so that an issuer's mishap does not lock everybody out at once.
pub(crate) fn read(bytes: &[u8], origin: Origin) -> Result<KeySet, SetError> {
    let set = json::object(bytes).map_err(|_| SetError::NotASet)?;
    let Some(Value::Array(list)) = set.get("keys") else { return Err(SetError::NotASet) };
    if list.len() > MAX_KEYS {
        return Err(SetError::NotASet);
    }
    let mut keys = Vec::with_capacity(list.len());
    for jwk in list {
        match jwk.as_object().ok_or(KeyError::Unsupported).and_then(|jwk| read_key(jwk, origin)) {
            Ok(key) => keys.push(key),
            Err(why) => {
                let kid = jwk.get("kid").and_then(Value::as_str).unwrap_or_default();
                tracing::debug!(kid, "a key of a JWK set is left out: it is {why}");
            }
        }
    }
    if keys.is_empty() { Err(SetError::NoUsableKey) } else { Ok(KeySet::new(keys)) }
}

/// One JWK (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2), pinned to its `alg` where it has one.
fn read_key(jwk: &Map<String, Value>, origin: Origin) -> Result<VerificationKey, KeyError> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes =
        |name: &str| text(name).and_then(|t| URL_SAFE_NO_PAD.decode(t).ok()).ok_or(KeyError::NotAPublicKey);
    if jwk.get("use").is_some_and(|usage| usage != "sig") {
        return Err(KeyError::OtherUse);
    }
    if let Some(ops) = jwk.get("key_ops")
        && !ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify"))
    {
        return Err(KeyError::OtherUse);
    }
    if jwk.contains_key("d") {
        return Err(KeyError::Private);
    }
    let key = match (text("kty"), text("crv")) {
        (Some("oct"), _) if origin == Origin::Remote => return Err(KeyError::Symmetric),
        (Some("oct"), _) => VerificationKey::from_secret(&bytes("k")?)?,
        (Some("RSA"), _) => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            VerificationKey::from_rsa(without_zeros(&n), without_zeros(&e))?
        }
        (Some("EC"), Some(curve @ ("P-256" | "P-384"))) => {
            let width = if curve == "P-256" { 32 } else { 48 };
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != width || y.len() != width {
                return Err(KeyError::NotAPublicKey);
            }
            VerificationKey::from_point(&[&[4], x.as_slice(), y.as_slice()].concat())?
        }
        (Some("OKP"), Some("Ed25519")) => VerificationKey::from_ed25519(&bytes("x")?)?,
        _ => return Err(KeyError::Unsupported),
    };
    let kid = match jwk.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(_) => return Err(KeyError::Unsupported),
    };
    let pinned: Option<Algorithm> = match jwk.get("alg") {
        None => None,
        Some(name) => Some(name.as_str().and_then(parse_algorithm).ok_or(KeyError::NoAlgorithm)?),
    };
    key.with_kid(kid).restricted(|algorithm| pinned.is_none_or(|only| only == algorithm))
}

fn without_zeros(mut bytes: &[u8]) -> &[u8] {
    while let Some((0, rest)) = bytes.split_first() {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&bytes, Origin::Remote).is_err());
        }

        #[test]
        fn arbitrary_parameters_never_panic(
            kty in "RSA|EC|OKP|oct",
            crv in "P-256|P-384|Ed25519|x",
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 4),
            remote in any::<bool>(),
        ) {
            let part = |at: usize| parts.get(at).map(|part| URL_SAFE_NO_PAD.encode(part));
            let jwk = json!({"kty": kty, "crv": crv, "n": part(0), "e": part(1), "x": part(2), "y": part(3), "k": part(0)});
            let origin = if remote { Origin::Remote } else { Origin::File };
            let _ = read(json!({"keys": [jwk]}).to_string().as_bytes(), origin);
        }
    }
}
