//! Leak prevention: what must not leave in a response's body.

mod cards;
mod masker;
mod patterns;
mod table;

pub use masker::{MAX_HELD, Masker};
pub use patterns::LeakSetupError;

use crate::MediaType;
use patterns::Patterns;
use portcullis_http::{Fields, Rejection, ResponseHead};
use std::fmt;
use std::sync::Arc;

/// What kind of thing leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Payment card numbers: 13 to 19 digits of a known issuer range whose Luhn sum is right, plain or in groups.
    PaymentCard = 1,
    /// Private keys, and the tokens of well-known services by their prefixes.
    Secret = 2,
    /// JSON Web Tokens. Apart from `Secret`, because a route that logs people in answers with one.
    WebToken = 4,
    /// Private IPv4 and IPv6 addresses, and names under `.internal` and `.local`.
    InternalAddress = 8,
    /// Frames and headlines of stack traces.
    StackTrace = 16,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 5] =
        [Kind::PaymentCard, Kind::Secret, Kind::WebToken, Kind::InternalAddress, Kind::StackTrace];

    /// The kind's name in configuration, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::PaymentCard => "card",
            Kind::Secret | Kind::WebToken => "secret",
            Kind::InternalAddress => "internal_address",
            Kind::StackTrace => "stack_trace",
        }
    }
}

/// A set of [`Kind`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Kinds(u8);

impl Kinds {
    /// Every kind.
    pub const ALL: Kinds = Kinds(31);

    /// Whether a kind is in the set.
    #[must_use]
    pub fn contains(self, kind: Kind) -> bool {
        self.0 & kind as u8 != 0
    }

    /// Adds a kind.
    pub fn insert(&mut self, kind: Kind) {
        self.0 |= kind as u8;
    }

    /// Whether no kind is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The kinds in the set.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        let mut set = Kinds::default();
        kinds.into_iter().for_each(|kind| set.insert(kind));
        set
    }
}

/// What to do about a leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LeakMode {
    /// Write `*` over it, a byte for a byte.
    #[default]
    Mask,
    /// Withhold the response from there on.
    Block,
}

/// The response holds what must not leave, and the route withholds such responses. If the head has not been
/// sent, the answer is [`Rejection::Leak`]; otherwise the stream must be cut off, not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaked(pub Kind);

impl fmt::Display for Leaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the response holds what must not leave: {}", self.0.as_str())
    }
}

impl std::error::Error for Leaked {}

impl From<Leaked> for Rejection {
    fn from(_: Leaked) -> Self {
        Rejection::Leak
    }
}

/// A route's leak prevention, compiled; cheap to clone.
///
/// Bodies are read as the bytes of UTF-8 or a superset of ASCII; JSON's `\n`, `\t`, `\"` and `\/` are understood
/// where traces and keys hold them. What is encoded otherwise (base64, UTF-16, `\u0031`) is not seen.
#[derive(Clone, Debug)]
pub struct LeakGuard {
    patterns: Arc<Patterns>,
    mode: LeakMode,
}

impl LeakGuard {
    /// A guard for these kinds. The first for a set of kinds compiles the patterns, which takes some tens of
    /// milliseconds; all later ones share them.
    ///
    /// # Errors
    /// [`LeakSetupError`] where the built-in patterns do not compile, which no setting can cause.
    pub fn new(kinds: Kinds, mode: LeakMode) -> Result<Self, LeakSetupError> {
        Ok(LeakGuard { patterns: Patterns::shared(kinds)?, mode })
    }

    /// Takes from the request to the upstream what would make the answer impossible to inspect: a content coding
    /// (`Accept-Encoding`), and ranges, at whose ends a secret could be cut in two.
    pub fn prepare(&self, request: &mut Fields) {
        for name in ["accept-encoding", "range", "if-range"] {
            request.remove(name);
        }
    }

    /// A masker for this response's body, or `None` where its type is not text (images, archives, gRPC): text is
    /// `text/*`, JSON, XML, YAML, JavaScript, forms, and a body that does not say what it is. Server-sent events
    /// are text as well: [`Masker::push`] gives out at once whatever cannot be part of a leak, so no event waits.
    ///
    /// Digests of the body, which masking would make wrong, are taken from the head.
    ///
    /// # Errors
    /// [`Rejection::Leak`] for text in a content coding: [`LeakGuard::prepare`] did not ask for one, and what
    /// cannot be read cannot be let out.
    pub fn inspect(&self, response: &mut ResponseHead) -> Result<Option<Masker>, Rejection> {
        let declared = response.fields.get_str("content-type");
        if declared.and_then(MediaType::parse).is_some_and(|media| !media.is_text()) {
            return Ok(None);
        }
        let coded = |coding: &[u8]| !coding.eq_ignore_ascii_case(b"identity");
        if response.fields.get_all("content-encoding").any(coded) {
            return Err(Rejection::Leak);
        }
        if self.mode == LeakMode::Mask {
            for name in ["content-digest", "repr-digest", "digest", "content-md5"] {
                response.fields.remove(name);
            }
        }
        Ok(Some(self.masker()))
    }

    /// A masker for one body, whatever its type.
    #[must_use]
    pub fn masker(&self) -> Masker {
        Masker::new(Arc::clone(&self.patterns), self.mode)
    }
}
