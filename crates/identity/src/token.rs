//! A compact JWS taken apart, strictly, before anything in it is believed.

use crate::TokenError;
use crate::json;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;

/// The algorithm of a name in JWA: those of RFC 7518 §3.1 but ES512 and `none`, `EdDSA` (RFC 8037), which is
/// Ed25519 here, and `Ed25519` itself (RFC 9864). Case counts.
#[must_use]
pub fn parse_algorithm(name: &str) -> Option<Algorithm> {
    if name == "Ed25519" { Some(Algorithm::EdDSA) } else { name.parse().ok() }
}

/// A token whose form is right. Nothing in it is proved.
pub(crate) struct Token<'a> {
    /// The whole token.
    pub(crate) text: &'a str,
    /// What the signature covers: header, dot, claims, as they came.
    pub(crate) signing_input: &'a str,
    /// The signature, still base64url.
    pub(crate) signature: &'a str,
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
    pub(crate) typ: Option<String>,
    pub(crate) claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    /// Takes a token apart (RFC 7515 §5.2, steps 1 to 7). `jku`, `jwk`, `x5u`, `x5c` and every other parameter
    /// that brings or points to a key is not even looked at: keys come from configuration alone.
    pub(crate) fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        let (signing_input, signature) = text.rsplit_once('.').ok_or(TokenError::Form)?;
        let (header, claims) = signing_input.split_once('.').ok_or(TokenError::Form)?;
        if claims.contains('.') || header.is_empty() || claims.is_empty() || signature.is_empty() {
            return Err(TokenError::Form);
        }
        // The decoder is strict: no padding, no other alphabet, no white space, no bits beyond the last byte.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Encoding);
        decode(signature)?;
        let header = json::object(&decode(header)?).map_err(|_| TokenError::Json)?;
        let (algorithm, kid, typ) = read_header(&header)?;
        let claims = json::object(&decode(claims)?).map_err(|_| TokenError::Json)?;
        Ok(Token { text, signing_input, signature, algorithm, kid, typ, claims })
    }

    /// `iss`, unproved: it only chooses whose keys to prove it with.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }
}

/// Algorithm, key id and type. No extension is understood, so any `crit` must be refused (RFC 7515 §4.1.11),
/// and `b64` (RFC 7797), compression and encryption with it; `cty` marks a nested token (RFC 7519 §5.2).
fn read_header(
    header: &Map<String, Value>,
) -> Result<(Algorithm, Option<String>, Option<String>), TokenError> {
    if ["crit", "b64", "zip", "enc", "cty"].iter().any(|name| header.contains_key(*name)) {
        return Err(TokenError::Header);
    }
    let text = |name: &str| match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(TokenError::Header),
    };
    // Case counts (RFC 7515 §4.1.1), and `none` is no algorithm here.
    let algorithm = text("alg")?.and_then(|name| parse_algorithm(&name)).ok_or(TokenError::Algorithm)?;
    Ok((algorithm, text("kid")?, text("typ")?))
}
