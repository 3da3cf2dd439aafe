//! Keys that verify, each pinned to the algorithms it is for.

use crate::TokenError;
use crate::proved::{Fingerprint, Proved};
use crate::token::Token;
use aws_lc_rs::signature::{self as sig, ParsedPublicKey, RsaPublicKeyComponents};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use std::fmt;

/// Bytes that no log may show: `Debug` hides them and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Secret(bytes.into())
    }

    /// The bytes themselves; for handing to cryptography only.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The material of a key from the configuration. `Debug` hides it, also a PEM: it may be a private one, put there
/// by mistake.
#[derive(Clone)]
pub enum KeyMaterial {
    /// The shared secret of an HMAC, as raw bytes; at least as long as the hash (RFC 7518 §3.2): 32 bytes for
    /// HS256, 48 for HS384, 64 for HS512.
    Secret(Secret),
    /// A public key in PEM: `PUBLIC KEY` (RSA, P-256, P-384, Ed25519) or `RSA PUBLIC KEY`.
    PublicPem(String),
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyMaterial::Secret(_) => "Secret(…)",
            KeyMaterial::PublicPem(_) => "PublicPem(…)",
        })
    }
}

/// A key from the configuration.
#[derive(Clone, Debug)]
pub struct StaticKey {
    /// The key's id. With one, the key serves only tokens that name it or name none; without, any token.
    pub kid: Option<String>,
    /// The one algorithm it is for; without it, all of the provider's that its type allows.
    pub algorithm: Option<Algorithm>,
    /// The key.
    pub material: KeyMaterial,
}

/// Why a key cannot be used. Display is a clause: "the key is …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Not PEM of a public key that is known here, or not on its curve.
    NotAPublicKey,
    /// PEM of a private key: the gateway must not hold it.
    Private,
    /// PEM of a certificate.
    Certificate,
    /// PEM given as an HMAC secret: the classical way to have public keys taken for secrets.
    PemAsSecret,
    /// Too short for HMAC with SHA-256.
    ShortSecret,
    /// An RSA modulus of less than 2048 or more than 8192 bits, or an exponent that is even or below 3.
    WeakRsa,
    /// An Ed25519 point of small order, under which anybody can sign.
    SmallOrder,
    /// Not for any algorithm that is asked for.
    NoAlgorithm,
    /// A symmetric key where only public ones may stand.
    Symmetric,
    /// Meant for something else than verifying (`use`, `key_ops`).
    OtherUse,
    /// Of a type or curve that is not supported.
    Unsupported,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyError::NotAPublicKey => {
                "no public key in PEM (`PUBLIC KEY` of RSA, P-256, P-384 or Ed25519, or `RSA PUBLIC KEY`)"
            }
            KeyError::Private => "a private key; give its public half (`openssl pkey -pubout`)",
            KeyError::Certificate => "a certificate; give its public key (`openssl x509 -pubkey -noout`)",
            KeyError::PemAsSecret => "PEM, but configured as a shared secret; configure it as a public key",
            KeyError::ShortSecret => "shorter than its hash: HS256 needs 32 bytes, HS384 48, HS512 64",
            KeyError::WeakRsa => "RSA of under 2048 or over 8192 bits, or with a bad exponent",
            KeyError::SmallOrder => "an Ed25519 point of small order, under which anybody can sign",
            KeyError::NoAlgorithm => "for none of the algorithms that are allowed",
            KeyError::Symmetric => "symmetric, where only public keys may stand",
            KeyError::OtherUse => "not meant for verifying signatures",
            KeyError::Unsupported => "of a type or curve that is not supported",
        })
    }
}

impl std::error::Error for KeyError {}

/// What a key can do, by its type and size, before anybody restricts it further.
const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// One key, with the algorithms it may be used with. A token's `alg` chooses among them and cannot add to
/// them, which is what keeps a public RSA key from being used as an HMAC secret.
#[derive(Debug)]
pub(crate) struct VerificationKey {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl VerificationKey {
    /// A key from the configuration, for those of `allowed` that it can do.
    pub(crate) fn from_static(key: &StaticKey, allowed: &[Algorithm]) -> Result<Self, KeyError> {
        let made = match &key.material {
            KeyMaterial::Secret(secret) => Self::from_secret(secret.expose()),
            KeyMaterial::PublicPem(pem) => Self::from_pem(pem),
        }?;
        let short = matches!(key.material, KeyMaterial::Secret(_))
            && allowed.iter().any(|a| a.family() == AlgorithmFamily::Hmac);
        let made = made.with_kid(key.kid.clone()).restricted(|algorithm| {
            allowed.contains(&algorithm) && key.algorithm.is_none_or(|only| only == algorithm)
        });
        made.map_err(|error| if short { KeyError::ShortSecret } else { error })
    }

    /// An HMAC key; good for the hashes that are no longer than it is.
    pub(crate) fn from_secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.trim_ascii_start().starts_with(b"-----BEGIN ") {
            return Err(KeyError::PemAsSecret);
        }
        let algorithms: Vec<Algorithm> =
            [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)]
                .into_iter()
                .filter(|&(_, least)| secret.len() >= least)
                .map(|(algorithm, _)| algorithm)
                .collect();
        if algorithms.is_empty() {
            return Err(KeyError::ShortSecret);
        }
        Ok(VerificationKey { kid: None, algorithms, key: DecodingKey::from_secret(secret) })
    }

    fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let label = pem.trim_start().strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----"));
        match label.map(|(label, _)| label) {
            Some("PUBLIC KEY" | "RSA PUBLIC KEY") => {}
            Some(label) if label.ends_with("PRIVATE KEY") => return Err(KeyError::Private),
            Some("CERTIFICATE") => return Err(KeyError::Certificate),
            _ => return Err(KeyError::NotAPublicKey),
        }
        let pem = pem.as_bytes();
        let bytes = |key: &DecodingKey| key.try_get_as_bytes().unwrap_or_default().to_vec();
        if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            return Self::from_point(&bytes(&key));
        }
        if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            return Self::from_ed25519(&bytes(&key));
        }
        let key = DecodingKey::from_rsa_pem(pem).map_err(|_| KeyError::NotAPublicKey)?;
        let key = aws_lc_rs::rsa::PublicKey::from_der(&bytes(&key)).map_err(|_| KeyError::NotAPublicKey)?;
        Self::from_rsa(
            key.modulus().big_endian_without_leading_zero(),
            key.exponent().big_endian_without_leading_zero(),
        )
    }

    /// An RSA key by modulus and exponent, big-endian without leading zeros.
    pub(crate) fn from_rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let bits = n.first().map_or(0, |top| n.len() * 8 - top.leading_zeros() as usize);
        let exponent = e.iter().try_fold(0_u64, |sum, &b| sum.checked_mul(256)?.checked_add(u64::from(b)));
        // 2^33 is aws-lc's own bound on exponents.
        let sound = exponent.is_some_and(|e| e >= 3 && e % 2 == 1 && e < 1 << 33);
        if !(2048..=8192).contains(&bits) || !sound {
            return Err(KeyError::WeakRsa);
        }
        let components = RsaPublicKeyComponents { n, e };
        components.to_parsed_public_key(&sig::RSA_PKCS1_2048_8192_SHA256).map_err(|_| KeyError::WeakRsa)?;
        let key = DecodingKey::from_rsa_raw_components(n, e);
        Ok(VerificationKey { kid: None, algorithms: RSA.to_vec(), key })
    }

    /// An elliptic-curve key by its uncompressed point (SEC 1 §2.3.3), whose length tells the curve; the point
    /// must lie on it.
    pub(crate) fn from_point(point: &[u8]) -> Result<Self, KeyError> {
        let (algorithm, curve): (_, &'static dyn sig::VerificationAlgorithm) = match point.len() {
            65 => (Algorithm::ES256, &sig::ECDSA_P256_SHA256_FIXED),
            97 => (Algorithm::ES384, &sig::ECDSA_P384_SHA384_FIXED),
            _ => return Err(KeyError::Unsupported),
        };
        ParsedPublicKey::new(curve, point).map_err(|_| KeyError::NotAPublicKey)?;
        Ok(VerificationKey { kid: None, algorithms: vec![algorithm], key: DecodingKey::from_ec_der(point) })
    }

    /// An Ed25519 key (RFC 8032 §5.1.5).
    pub(crate) fn from_ed25519(point: &[u8]) -> Result<Self, KeyError> {
        ParsedPublicKey::new(&sig::ED25519, point).map_err(|_| KeyError::NotAPublicKey)?;
        if is_small_order(point) {
            return Err(KeyError::SmallOrder);
        }
        let key = DecodingKey::from_ed_der(point);
        Ok(VerificationKey { kid: None, algorithms: vec![Algorithm::EdDSA], key })
    }

    pub(crate) fn with_kid(self, kid: Option<String>) -> Self {
        VerificationKey { kid, ..self }
    }

    /// The key for those of its algorithms that `keep` names.
    pub(crate) fn restricted(mut self, keep: impl Fn(Algorithm) -> bool) -> Result<Self, KeyError> {
        self.algorithms.retain(|&algorithm| keep(algorithm));
        if self.algorithms.is_empty() { Err(KeyError::NoAlgorithm) } else { Ok(self) }
    }

    /// Whether this key may judge that token: the algorithm is one of its own, and the ids do not differ.
    fn fits(&self, token: &Token<'_>) -> bool {
        let same = match (&self.kid, &token.kid) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        same && self.algorithms.contains(&token.algorithm)
    }

    /// Whether the signature over `input` is good. `signature` is base64url.
    pub(crate) fn verify(&self, algorithm: Algorithm, input: &[u8], signature: &str) -> bool {
        self.algorithms.contains(&algorithm)
            && jsonwebtoken::crypto::verify(signature, input, &self.key, algorithm).unwrap_or(false)
    }
}

/// The y coordinates of the points of order eight on edwards25519, without the sign bit.
const ORDER_EIGHT: [[u8; 31]; 2] = [
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03,
    ],
];

/// Whether an encoded point has small order, in any encoding that decoders accept: y is 0, 1 or p-1, or one of
/// these plus p, or that of a point of order eight. The sign bit does not matter.
fn is_small_order(point: &[u8]) -> bool {
    let Some(([first, middle @ ..], top)) = point.split_last().map(|(last, low)| (low, last & 0x7f)) else {
        return true;
    };
    let middle_is = |byte: u8| middle.iter().all(|&b| b == byte);
    match top {
        0x00 => *first <= 1 && middle_is(0),
        0x7f => (0xec..=0xee).contains(first) && middle_is(0xff),
        _ => ORDER_EIGHT
            .into_iter()
            .zip([0x05, 0x7a])
            .any(|([head, tail @ ..], last)| (*first, middle, top) == (head, tail.as_slice(), last)),
    }
}

/// Keys that one source gives, and what they have proved.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<VerificationKey>,
    proved: Proved,
}

/// What a set of keys says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// One of the keys made the signature.
    Good,
    /// No key made it, though some might have.
    Bad,
    /// No key could have: none has this id, or none is for this algorithm.
    NoKey,
}

/// The most keys one token is tried with: sets with more candidates than this give their keys no ids, and a
/// token that names none must not cost a hundred verifications.
const MAX_TRIES: usize = 4;

impl KeySet {
    pub(crate) fn new(keys: Vec<VerificationKey>) -> Self {
        KeySet { keys, proved: Proved::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn into_keys(self) -> impl Iterator<Item = VerificationKey> {
        self.keys.into_iter()
    }

    /// Tries the keys that fit. Ids that stand twice in a set (RFC 7517 §4.5 allows it) are each tried. A token
    /// that was proved before is not proved again, except by HMAC, which costs no more than remembering.
    pub(crate) fn prove(&self, token: &Token<'_>) -> Proof {
        let mut fitting = self.keys.iter().filter(|key| key.fits(token)).take(MAX_TRIES).peekable();
        if fitting.peek().is_none() {
            return Proof::NoKey;
        }
        let symmetric = token.algorithm.family() == AlgorithmFamily::Hmac;
        let print = if symmetric { None } else { Fingerprint::of(token.text) };
        if print.as_ref().is_some_and(|print| self.proved.contains(print)) {
            return Proof::Good;
        }
        let input = token.signing_input.as_bytes();
        if !fitting.any(|key| key.verify(token.algorithm, input, token.signature)) {
            return Proof::Bad;
        }
        if let Some(print) = print {
            self.proved.insert(print);
        }
        Proof::Good
    }
}

impl Proof {
    /// `Ok` for [`Proof::Good`] alone.
    pub(crate) fn into_result(self) -> Result<(), TokenError> {
        match self {
            Proof::Good => Ok(()),
            Proof::Bad => Err(TokenError::Signature),
            Proof::NoKey => Err(TokenError::UnknownKey),
        }
    }
}
