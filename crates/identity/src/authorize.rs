//! What a caller may do.

use portcullis_http::{AuthFailure, Exchange, Principal, Rejection};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// The proof that the authorize stage let a request pass. Forwarding asks for one, and only
/// [`Authorizer::authorize`] makes one (its field is private, and it is neither `Clone` nor `Default`): code
/// that would call an upstream without having asked does not compile.
///
/// ```compile_fail
/// let permit = portcullis_identity::Permit { _private: () };
/// ```
#[derive(Debug)]
#[must_use = "a permit is what forwarding needs"]
pub struct Permit {
    _private: (),
}

/// A claim that must have one of some values.
#[derive(Clone, Debug)]
pub struct ClaimRule {
    /// The claim's name, or a dotted path into objects.
    pub name: String,
    /// The values of which the claim must be one, or, if it is an array, hold one. Numbers and booleans are
    /// compared by their text.
    pub any_of: Vec<String>,
}

/// What makes an [`Authorizer`]. All conditions that are set must hold.
#[derive(Clone, Debug, Default)]
pub struct AuthorizerSettings {
    /// The token's `aud` must hold this. A route that declares an audience denies by default: without any
    /// condition below it lets nobody pass, unless `any_caller` says so.
    pub audience: Option<String>,
    /// Scopes the caller must have, all of them.
    pub scopes: Vec<String>,
    /// Scopes of which the caller must have one, if there are any.
    pub any_scope: Vec<String>,
    /// Roles of which the caller must have one, if there are any.
    pub roles: Vec<String>,
    /// Claims that must have certain values.
    pub claims: Vec<ClaimRule>,
    /// Any known caller may pass (who meets the conditions above, if there are any).
    pub any_caller: bool,
}

/// What is wrong with the settings of an [`Authorizer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizerError {
    /// A scope that RFC 6749 §3.3 does not allow: visible ASCII without space, `"` and `\`.
    Scope(String),
    /// A claim without a value it may have: nobody could pass.
    NoValues(String),
    /// The realm cannot stand in a challenge.
    Realm,
}

impl fmt::Display for AuthorizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthorizerError::Scope(scope) => {
                write!(f, "{scope:?} is no scope: visible ASCII characters without space, `\"` and `\\`")
            }
            AuthorizerError::NoValues(name) => {
                write!(f, "claim {name:?} is given no value it may have; name at least one")
            }
            AuthorizerError::Realm => crate::InvalidRealm.fmt(f),
        }
    }
}

impl std::error::Error for AuthorizerError {}

/// A route's plan for authorization, compiled.
#[derive(Clone, Debug)]
pub struct Authorizer(Plan);

#[derive(Clone, Debug)]
enum Plan {
    Open,
    Rules(Arc<Rules>),
}

#[derive(Debug)]
struct Rules {
    settings: AuthorizerSettings,
    /// Nothing says who may pass.
    nobody: bool,
    missing: String,
    insufficient: String,
}

impl Authorizer {
    /// The plan of a route that is open to all, callers known and unknown. A route is open only because
    /// whoever compiled the snapshot wrote this, never because something was forgotten.
    #[must_use]
    pub fn open() -> Self {
        Authorizer(Plan::Open)
    }

    /// A plan with conditions. `realm` stands in challenges.
    ///
    /// # Errors
    /// [`AuthorizerError`] for what could not be written into a challenge or never be met.
    pub fn new(settings: AuthorizerSettings, realm: &str) -> Result<Self, AuthorizerError> {
        let scopes = || settings.scopes.iter().chain(&settings.any_scope);
        if let Some(bad) = scopes().find(|scope| !is_scope(scope)) {
            return Err(AuthorizerError::Scope(bad.clone()));
        }
        if let Some(rule) = settings.claims.iter().find(|rule| rule.any_of.is_empty()) {
            return Err(AuthorizerError::NoValues(rule.name.clone()));
        }
        if !realm.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
            return Err(AuthorizerError::Realm);
        }
        let wanted: Vec<&str> = scopes().map(String::as_str).collect();
        let scope =
            if wanted.is_empty() { String::new() } else { format!(", scope=\"{}\"", wanted.join(" ")) };
        let conditions = !wanted.is_empty() || !settings.roles.is_empty() || !settings.claims.is_empty();
        let rules = Rules {
            nobody: !conditions && !settings.any_caller,
            missing: format!("Bearer realm=\"{realm}\""),
            insufficient: format!("Bearer realm=\"{realm}\", error=\"insufficient_scope\"{scope}"),
            settings,
        };
        Ok(Authorizer(Plan::Rules(Arc::new(rules))))
    }

    /// Whether nobody at all can pass, because no condition says who may: worth a warning to the operator.
    #[must_use]
    pub fn admits_nobody(&self) -> bool {
        matches!(&self.0, Plan::Rules(rules) if rules.nobody)
    }

    /// Judges what the caller may do.
    ///
    /// # Errors
    /// [`Rejection::Unauthenticated`] (401) where conditions meet an unknown caller, [`Rejection::Forbidden`]
    /// (403) where a known one does not meet them; the latter names the scopes wanted (RFC 6750 §3.1).
    pub fn authorize(&self, exchange: &Exchange) -> Result<Permit, Rejection> {
        let Plan::Rules(rules) = &self.0 else { return Ok(Permit { _private: () }) };
        let Some(caller) = exchange.principal.as_deref() else {
            let challenge = rules.missing.clone();
            return Err(Rejection::Unauthenticated { failure: AuthFailure::Missing, challenge });
        };
        match rules.judge(caller) {
            Verdict::Pass => Ok(Permit { _private: () }),
            Verdict::LacksScope => Err(Rejection::Forbidden { challenge: Some(rules.insufficient.clone()) }),
            Verdict::Denied => Err(Rejection::Forbidden { challenge: None }),
        }
    }
}

enum Verdict {
    Pass,
    LacksScope,
    Denied,
}

impl Rules {
    fn judge(&self, caller: &Principal) -> Verdict {
        let AuthorizerSettings { audience, scopes, any_scope, roles, claims, .. } = &self.settings;
        let is_for = |audience: &String| holds(caller.claims.get("aud"), std::slice::from_ref(audience));
        if self.nobody || !audience.as_ref().is_none_or(is_for) {
            return Verdict::Denied;
        }
        let has = |scope: &String| caller.scopes.contains(scope);
        if !scopes.iter().all(has) || !(any_scope.is_empty() || any_scope.iter().any(has)) {
            return Verdict::LacksScope;
        }
        let role = roles.is_empty() || roles.iter().any(|role| caller.roles.contains(role));
        if role && claims.iter().all(|rule| holds(caller.claim(&rule.name), &rule.any_of)) {
            Verdict::Pass
        } else {
            Verdict::Denied
        }
    }
}

/// Whether a claim is one of `any_of`, or is an array that holds one.
fn holds(claim: Option<&Value>, any_of: &[String]) -> bool {
    let is_one = |value: &Value| match value {
        Value::String(text) => any_of.contains(text),
        Value::Number(number) => any_of.contains(&number.to_string()),
        Value::Bool(flag) => any_of.iter().any(|text| text == if *flag { "true" } else { "false" }),
        _ => false,
    };
    match claim {
        Some(Value::Array(list)) => list.iter().any(is_one),
        Some(value) => is_one(value),
        None => false,
    }
}

/// A scope token of RFC 6749 §3.3.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}
