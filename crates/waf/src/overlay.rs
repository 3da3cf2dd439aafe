//! What one route wants of the rules: mode, paranoia, thresholds, exclusions.

use std::sync::Arc;

use crate::macros::TxSlot;
use crate::program::{Program, RuleBits, TargetRemoval};
use crate::rule::Mode;
use crate::target::{Exclusion, Key};
use crate::tx::Forecast;
use crate::validate::{Matcher, RuleChoice};
use crate::variable::Var;

/// A route's wishes, as its configuration writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverlaySettings {
    /// Block, detect or off; `None`: what `SecRuleEngine` says.
    pub mode: Option<Mode>,
    /// Rules up to this level count towards blocking (1 to 4); presets `tx.blocking_paranoia_level`, and
    /// `tx.detection_paranoia_level` where that is not given.
    pub paranoia: Option<u8>,
    /// Rules up to this level run (1 to 4); presets `tx.detection_paranoia_level`.
    pub detection_paranoia: Option<u8>,
    /// Score at which a request is blocked; presets `tx.inbound_anomaly_score_threshold`.
    pub inbound_threshold: Option<u32>,
    /// Score at which a response is blocked; presets `tx.outbound_anomaly_score_threshold`.
    pub outbound_threshold: Option<u32>,
    /// Most bytes of a request body the firewall takes; `None`: `SecRequestBodyLimit`.
    pub request_body_limit: Option<usize>,
    /// What is taken apart besides bodies.
    pub parsers: Parsers,
    /// Rules, or parts of requests, that are left alone.
    pub exclusions: Vec<ExclusionSettings>,
    /// The transactions are only tried out beside others: their persistent collections are their own, so that nothing is
    /// counted twice.
    pub on_trial: bool,
}

/// What arguments are taken apart as, so that rules see the values in them and not the syntax around these.
///
/// A value that is of the kind from its beginning to its end is taken apart and its name stays with an empty value; any
/// other is looked at as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsers {
    /// Values that are JSON objects or arrays: `ARGS:name.json.path`, in up to three layers.
    pub json: bool,
    /// GraphQL documents, as the argument `query`, as the member `query` of a JSON body or of an item of a batch, and as
    /// a body of `application/graphql`: `ARGS:query.graphql.field.argument`. With them the arguments `variables` and
    /// `extensions` as JSON.
    pub graphql: bool,
}

/// One exclusion: some rules, as a whole or for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExclusionSettings {
    /// The rules.
    pub rules: RuleSelection,
    /// The part of the request they leave alone: `ARGS:comment` (exact name), `ARGS:json.*.password` (glob),
    /// `ARGS:/^note_\d+$/` (regular expression) or a whole variable such as `REQUEST_COOKIES`. `None`: the rules do
    /// not run at all.
    pub target: Option<String>,
}

/// Which rules an exclusion is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleSelection {
    /// Every rule.
    All,
    /// One rule.
    Id(u32),
    /// Rules from the first to the last id, both included.
    Range(u32, u32),
    /// Rules with this tag; between slashes, a regular expression.
    Tag(String),
}

/// Why an overlay cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverlayError {
    /// A target names a variable nobody knows; with the name that may have been meant.
    UnknownVariable(String, Option<&'static str>),
    /// A regular expression in a target or tag is broken: the text and the reason.
    Pattern(String, String),
    /// An exclusion selects no rule of the program: the selection as text.
    NoSuchRule(String),
}

impl std::fmt::Display for OverlayError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownVariable(name, None) => write!(f, "exclusion: `{name}` is no variable"),
            Self::UnknownVariable(name, Some(hint)) => {
                write!(f, "exclusion: `{name}` is no variable; did you mean `{hint}`?")
            }
            Self::Pattern(text, reason) => write!(f, "exclusion: the pattern `{text}` is broken: {reason}"),
            Self::NoSuchRule(selection) => {
                write!(f, "exclusion: no loaded rule has {selection}; correct it or remove the exclusion")
            }
        }
    }
}

impl std::error::Error for OverlayError {}

/// A route's wishes, compiled against a program. Small; a program has as many as there are routes.
#[derive(Debug)]
pub struct Overlay {
    pub(crate) mode: Mode,
    pub(crate) presets: Vec<(TxSlot, i64)>,
    pub(crate) removed: RuleBits,
    pub(crate) removals: Vec<Arc<TargetRemoval>>,
    /// The rules that any of the removals is about.
    pub(crate) touched: RuleBits,
    pub(crate) request_body_limit: usize,
    pub(crate) parsers: Parsers,
    pub(crate) on_trial: bool,
    /// What the rules do that ask about nothing in a message.
    pub(crate) forecast: Forecast,
}

impl Overlay {
    /// Compiles the wishes.
    ///
    /// # Errors
    /// When an exclusion names what does not exist; the text says which.
    pub fn compile(program: &Program, settings: &OverlaySettings) -> Result<Self, OverlayError> {
        let rules = program.rules.len();
        let known = &program.known;
        let detection = settings.detection_paranoia.or(settings.paranoia);
        let presets = [
            (known.blocking_paranoia, settings.paranoia.map(i64::from)),
            (known.detection_paranoia, detection.map(i64::from)),
            (known.inbound_threshold, settings.inbound_threshold.map(i64::from)),
            (known.outbound_threshold, settings.outbound_threshold.map(i64::from)),
        ];
        let mut overlay = Self {
            mode: settings.mode.unwrap_or(program.settings.engine),
            presets: presets.into_iter().filter_map(|(slot, value)| Some((slot, value?))).collect(),
            removed: RuleBits::with_capacity(rules),
            removals: Vec::new(),
            touched: RuleBits::with_capacity(rules),
            request_body_limit: settings.request_body_limit.unwrap_or(program.settings.request_body_limit),
            parsers: settings.parsers,
            on_trial: settings.on_trial,
            forecast: Forecast::default(),
        };
        for exclusion in &settings.exclusions {
            overlay.exclude(program, exclusion)?;
        }
        overlay.forecast = Forecast::new(program, &overlay);
        Ok(overlay)
    }

    fn exclude(&mut self, program: &Program, settings: &ExclusionSettings) -> Result<(), OverlayError> {
        let (choice, shown) = match &settings.rules {
            RuleSelection::All => (RuleChoice::Ids(0, u64::MAX), "an id".to_owned()),
            RuleSelection::Id(id) => {
                (RuleChoice::Ids(u64::from(*id), u64::from(*id)), format!("the id {id}"))
            }
            RuleSelection::Range(first, last) => (
                RuleChoice::Ids(u64::from(*first), u64::from(*last)),
                format!("an id from {first} to {last}"),
            ),
            RuleSelection::Tag(tag) => {
                let matcher =
                    Matcher::new(tag).map_err(|reason| OverlayError::Pattern(tag.clone(), reason))?;
                (RuleChoice::Tag(matcher), format!("the tag `{tag}`"))
            }
        };
        let rules = program.choose(&choice);
        if rules.is_empty() {
            return Err(OverlayError::NoSuchRule(shown));
        }
        match &settings.target {
            None => self.removed.union_with(&rules),
            Some(target) => {
                let exclusion = parse_target(target)?;
                self.touched.union_with(&rules);
                self.removals.push(Arc::new(TargetRemoval { rules, exclusion }));
            }
        }
        Ok(())
    }

    /// The mode the route's transactions start in.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

fn parse_target(text: &str) -> Result<Exclusion, OverlayError> {
    let (name, key) = match text.split_once(':') {
        Some((name, key)) => (name.trim(), Some(key.trim())),
        None => (text.trim(), None),
    };
    let Some(var) = Var::by_name(name) else {
        let known = crate::variable::TABLE.iter().map(|info| info.name);
        return Err(OverlayError::UnknownVariable(name.to_owned(), portcullis_diag::suggest(name, known)));
    };
    let broken = |reason| OverlayError::Pattern(text.to_owned(), reason);
    let key = match key {
        None => Key::Any,
        Some(key) => match key.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(pattern) => Key::regex(pattern).map_err(broken)?,
            None if key.contains(['*', '?']) => Key::glob(key).map_err(broken)?,
            None => Key::Exact(key.as_bytes().into()),
        },
    };
    Ok(Exclusion { var, key })
}
