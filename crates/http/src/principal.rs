//! Who is calling.

use std::fmt;

/// How a caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A signed token (RFC 7519).
    Token,
    /// An API key.
    Key,
    /// A client certificate.
    Certificate,
}

/// An authenticated caller (a *consumer*), as authorization, rate limits and upstreams see it.
#[derive(Clone)]
pub struct Principal {
    /// A stable name, unique with `issuer`: a token's `sub`.
    pub subject: String,
    /// The configured identity provider that vouched for it.
    pub provider: String,
    /// How it was proved.
    pub kind: PrincipalKind,
    /// OAuth 2 scopes (RFC 6749 §3.3).
    pub scopes: Vec<String>,
    /// Roles.
    pub roles: Vec<String>,
    /// All claims of the token; empty for other kinds.
    pub claims: serde_json::Map<String, serde_json::Value>,
}

impl Principal {
    /// A claim as text where it is a string, number or boolean, for policies and rate-limit keys. `name` is
    /// looked up as it is, then as a dotted path (`realm.tenant`).
    #[must_use]
    pub fn claim_text(&self, name: &str) -> Option<String> {
        let value = self.claim(name)?;
        match value {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            serde_json::Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
    }

    /// A claim by its name or by a dotted path into objects.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&serde_json::Value> {
        if let Some(value) = self.claims.get(name) {
            return Some(value);
        }
        let mut parts = name.split('.');
        let first = self.claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }
}

impl fmt::Debug for Principal {
    /// Without claims, which may hold personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("subject", &self.subject)
            .field("provider", &self.provider)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
