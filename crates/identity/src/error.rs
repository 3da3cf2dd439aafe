//! Why a token is not believed.

use portcullis_http::AuthFailure;
use std::fmt;

/// Why a token is not believed; for logs and metrics. The caller learns only [`TokenError::failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN`](crate::MAX_TOKEN) bytes.
    TooLong,
    /// Not three non-empty parts joined by dots (RFC 7515 §7.1): encrypted and nested tokens among others.
    Form,
    /// A part is no base64url without padding, or encodes bits that are not there (RFC 7515 §2).
    Encoding,
    /// Header or claims are no JSON object, or name a key twice.
    Json,
    /// The header asks for something that is not done here: `crit`, `b64`, `zip`, `enc`, a nested token, or
    /// it has a parameter of the wrong type.
    Header,
    /// `alg` is none that the provider allows, or none that the key is for.
    Algorithm,
    /// `typ` is not what the provider asks for (RFC 8725 §3.11).
    Type,
    /// `iss` names no provider that this route believes.
    Issuer,
    /// `aud` names none of the provider's audiences.
    Audience,
    /// `sub` is missing, empty or cannot be handed on in a header field.
    Subject,
    /// `exp` is missing, or `exp`, `nbf` or `iat` is no time.
    Time,
    /// `exp` has passed.
    Expired,
    /// `nbf` or `iat` is still to come.
    NotYetValid,
    /// No key has this `kid`, or none is for this algorithm.
    UnknownKey,
    /// The signature is wrong.
    Signature,
    /// The provider's keys cannot be had, and the last ones are too old.
    KeysUnavailable,
}

impl TokenError {
    /// What the caller learns; `None` where the fault is ours ([`TokenError::KeysUnavailable`]).
    #[must_use]
    pub fn failure(self) -> Option<AuthFailure> {
        match self {
            TokenError::TooLong | TokenError::Form | TokenError::Encoding | TokenError::Json => {
                Some(AuthFailure::Malformed)
            }
            TokenError::Expired => Some(AuthFailure::Expired),
            TokenError::NotYetValid => Some(AuthFailure::NotYetValid),
            TokenError::KeysUnavailable => None,
            _ => Some(AuthFailure::Invalid),
        }
    }

    /// The reason's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TokenError::TooLong => "too_long",
            TokenError::Form => "form",
            TokenError::Encoding => "encoding",
            TokenError::Json => "json",
            TokenError::Header => "header",
            TokenError::Algorithm => "algorithm",
            TokenError::Type => "type",
            TokenError::Issuer => "issuer",
            TokenError::Audience => "audience",
            TokenError::Subject => "subject",
            TokenError::Time => "time",
            TokenError::Expired => "expired",
            TokenError::NotYetValid => "not_yet_valid",
            TokenError::UnknownKey => "unknown_key",
            TokenError::Signature => "signature",
            TokenError::KeysUnavailable => "keys_unavailable",
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token is not believed: {}", self.as_str())
    }
}

impl std::error::Error for TokenError {}
