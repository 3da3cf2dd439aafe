//! What a part is told.

use portcullis_http::{Template, UpstreamFailure};
use portcullis_upstream::Upstream;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One call of a composition: a GET whose answer is a JSON document.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its name in logs, metrics and `X-Portcullis-Partial`; a token (RFC 9110 §5.6.2).
    pub name: Arc<str>,
    /// The upstream that is called.
    pub upstream: Upstream,
    /// The path that is asked for.
    pub path: Template,
    /// Query parameters to send, in order. Nothing else of the request's query passes.
    pub query: Vec<(String, Template)>,
    /// Headers to send besides [`Input::base`](crate::Input::base); of the same name, these win.
    pub headers: Vec<(String, Template)>,
    /// How long the whole call may take, to the end of its answer.
    pub timeout: Duration,
    /// Whether the composition fails when this part does.
    pub required: bool,
    /// The member of the answer that takes the part's document; without it its members are merged into the top.
    pub into: Option<String>,
    /// Only these members of the part's document are taken; dots lead into objects, not into lists. Empty: all.
    pub pick: Vec<String>,
    /// These members are left out; dots as in `pick`.
    pub drop: Vec<String>,
    /// The largest answer, in bytes.
    pub max_size: usize,
    /// Who is told of the part's calls, for metrics.
    pub watcher: Option<Arc<dyn CallWatcher>>,
}

/// Is told how calls went.
pub trait CallWatcher: fmt::Debug + Send + Sync {
    /// An upstream answered: the head came `duration` after the call began.
    fn answered(&self, status: u16, duration: Duration);

    /// A call gave no usable answer.
    fn failed(&self, failure: UpstreamFailure);
}

impl Part {
    /// A required part, merged into the top of the answer, that may take 3 s and 1 MiB.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, upstream: Upstream, path: Template) -> Self {
        Part {
            name: name.into(),
            upstream,
            path,
            query: Vec::new(),
            headers: Vec::new(),
            timeout: Duration::from_secs(3),
            required: true,
            into: None,
            pick: Vec::new(),
            drop: Vec::new(),
            max_size: 1 << 20,
            watcher: None,
        }
    }
}

/// Why parts make no composition. Display says which and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants' fields are named for what they hold")]
pub enum SettingsError {
    /// There is no part.
    NoPart,
    /// Two parts have one name.
    DuplicateName { part: String },
    /// A part's name is no token.
    Name { part: String },
    /// A part's path does not begin with a slash.
    Path { part: String },
    /// A header's name is no token, or one that decides framing.
    Header { part: String, name: String },
    /// A path of `pick` or `drop` has an empty name in it.
    Member { part: String, path: String },
    /// A part goes into the member that lists failed parts.
    PartialField { part: String, field: String },
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsError::NoPart => f.write_str("the composition has no part; give it at least one"),
            SettingsError::DuplicateName { part } => write!(f, "two parts are named `{part}`; rename one"),
            SettingsError::Name { part } => {
                write!(f, "the part's name `{part}` must be of letters, digits, `-`, `_` and `.`")
            }
            SettingsError::Path { part } => {
                write!(f, "part `{part}`: the path must begin with the text `/`")
            }
            SettingsError::Header { part, name } => {
                write!(f, "part `{part}`: the header `{name}` cannot be set; take it out")
            }
            SettingsError::Member { part, path } => {
                write!(f, "part `{part}`: `{path}` must be names of members with single dots between them")
            }
            SettingsError::PartialField { part, field } => write!(
                f,
                "part `{part}` goes into the member `{field}`, which lists the parts that failed; rename one"
            ),
        }
    }
}

impl std::error::Error for SettingsError {}
