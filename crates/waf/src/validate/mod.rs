//! From the syntax tree to a [`RuleSet`]: every name resolved, every value checked, defaults merged, updates applied.
//!
//! Nothing stops at the first mistake: what is wrong is reported and left out, and a set with errors is not compiled.

mod actions;
mod ctl;
mod directives;
mod rules;
mod targets;
mod update;

use std::collections::HashMap;

use portcullis_diag::{Code, Diagnostic, Diagnostics, Severity, Span};
use portcullis_seclang as ast;

use crate::audit::{AuditEngine, PartsChange};
use crate::macros::{Text, TxNames};
use crate::operator::OperatorKind;
use crate::rule::{Disruptive, Meta, Phase, Processor, SetVar, Tag};
use crate::settings::Settings;
use crate::target::{Exclusion, TargetSet};
use crate::transform::Transform;
use crate::{codes, rule::Mode};

pub use actions::{ActionInfo, ActionKind, TABLE as ACTIONS};

/// Validated rules, before compilation.
#[derive(Debug, Default)]
pub struct RuleSet {
    pub(crate) items: Vec<Item>,
    pub(crate) settings: Settings,
    pub(crate) names: TxNames,
}

#[derive(Debug)]
pub(crate) enum Item {
    Rule(Box<RuleDef>),
    Marker(Box<str>),
}

/// A rule: one link, or several when it is a chain.
#[derive(Debug)]
pub(crate) struct RuleDef {
    pub(crate) id: u32,
    pub(crate) span: Span,
    pub(crate) phase: Phase,
    pub(crate) meta: Meta,
    pub(crate) disruptive: Disruptive,
    pub(crate) status: Option<u16>,
    pub(crate) log: bool,
    pub(crate) audit_log: bool,
    pub(crate) skip: Option<SkipDef>,
    pub(crate) links: Vec<LinkDef>,
    /// One of its links wants what is not supported, and that is tolerated.
    pub(crate) left_out: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum SkipDef {
    Rules(u32),
    After(Box<str>, Span),
}

#[derive(Debug)]
pub(crate) struct LinkDef {
    pub(crate) span: Span,
    pub(crate) targets: TargetSet,
    pub(crate) transforms: Vec<Transform>,
    pub(crate) operator: OperatorDef,
    pub(crate) capture: bool,
    pub(crate) multi_match: bool,
    pub(crate) setvars: Vec<SetVar>,
    pub(crate) ctls: Vec<CtlDef>,
    /// `SecAction`: matches without looking at anything.
    pub(crate) unconditional: bool,
}

#[derive(Debug)]
pub(crate) struct OperatorDef {
    pub(crate) kind: OperatorKind,
    pub(crate) negated: bool,
    pub(crate) span: Span,
    /// As written, for patterns and lists.
    pub(crate) raw: String,
    /// With macros resolved, for text and integers.
    pub(crate) text: Text,
}

/// Which rules a `ctl` or a directive is about.
#[derive(Clone, Debug)]
pub(crate) enum RuleChoice {
    Ids(u64, u64),
    Tag(Matcher),
    Message(Matcher),
}

/// Exact text, or a regular expression between slashes.
#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    Exact(Box<str>),
    Regex(regex::Regex),
}

impl Matcher {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        match text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(pattern) => regex::Regex::new(pattern).map(Self::Regex).map_err(|error| error.to_string()),
            None => Ok(Self::Exact(text.into())),
        }
    }

    pub(crate) fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

impl RuleChoice {
    pub(crate) fn covers(&self, id: u32, tags: &[Tag], msg: Option<&Text>) -> bool {
        match self {
            Self::Ids(first, last) => (*first..=*last).contains(&u64::from(id)),
            Self::Tag(matcher) => tags.iter().any(|tag| matcher.is_match(&tag.written)),
            Self::Message(matcher) => {
                let text = msg.and_then(Text::literal).and_then(|bytes| std::str::from_utf8(bytes).ok());
                text.is_some_and(|text| matcher.is_match(text))
            }
        }
    }
}

/// A run-time change of the engine.
#[derive(Clone, Debug)]
pub(crate) enum CtlDef {
    Engine(Mode),
    AuditEngine(AuditEngine),
    AuditParts(PartsChange),
    RemoveRules(RuleChoice),
    RemoveTargets(RuleChoice, Exclusion),
    BodyProcessor(Processor),
    ForceBody(bool),
    RequestBodyLimit(usize),
    RequestBodyAccess(bool),
    ResponseBodyAccess(bool),
}

/// How rules are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// Rules that want what this engine does not have or does not know (a variable, operator, transformation, action,
    /// `ctl`, directive, or a pattern that cannot be matched in linear time) are left out, each with its whole chain and
    /// a warning that says so. Otherwise each is an error.
    pub allow_unsupported: bool,
}

/// The findings that [`BuildOptions::allow_unsupported`] turns into warnings.
const TOLERABLE: &[Code] = &[
    codes::UNKNOWN_DIRECTIVE,
    codes::UNKNOWN_VARIABLE,
    codes::UNSUPPORTED_VARIABLE,
    codes::UNKNOWN_OPERATOR,
    codes::UNSUPPORTED_OPERATOR,
    codes::UNKNOWN_TRANSFORMATION,
    codes::UNKNOWN_ACTION,
    codes::UNSUPPORTED_ACTION,
    codes::UNSUPPORTED_PATTERN,
    codes::UNSUPPORTED_DIRECTIVE,
];

/// Makes warnings of the errors that an unsupported thing led to; whether there was one.
pub(crate) fn tolerate(found: &mut Diagnostics, what: &str) -> bool {
    let mut some = false;
    *found = std::mem::take(found)
        .into_iter()
        .map(|finding| {
            if !finding.is_error() || !TOLERABLE.contains(&finding.code) {
                return finding;
            }
            some = true;
            Diagnostic { severity: Severity::Warning, ..finding }.note(format!("{what} is left out"))
        })
        .collect();
    some
}

/// Checks what was parsed. The findings include warnings; with errors among them the set must not be compiled.
#[must_use]
pub fn validate(directives: &[ast::Directive], options: BuildOptions) -> (RuleSet, Diagnostics) {
    let mut validator = Validator {
        options,
        set: RuleSet::default(),
        diagnostics: Diagnostics::new(),
        defaults: Default::default(),
        ids: HashMap::new(),
        open_chain: None,
        updates: Vec::new(),
    };
    for directive in directives {
        validator.directive(directive);
    }
    validator.close_chain();
    validator.apply_updates();
    (validator.set, validator.diagnostics)
}

struct Validator<'a> {
    options: BuildOptions,
    set: RuleSet,
    diagnostics: Diagnostics,
    /// `SecDefaultAction`, by phase.
    defaults: [Option<actions::ActionSet>; 5],
    ids: HashMap<u32, Span>,
    /// The rule whose chain still wants links.
    open_chain: Option<RuleDef>,
    /// Directives about rules that may come later: applied at the end.
    updates: Vec<&'a ast::Directive>,
}

impl Validator<'_> {
    fn error(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(code, message).at(span));
    }

    fn warn(&mut self, code: Code, span: Span, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::warning(code, message).at(span));
    }

    /// Runs a check whose errors about unsupported things may be tolerated; whether `what` is to be left out.
    fn tolerating(&mut self, what: impl FnOnce() -> String, check: impl FnOnce(&mut Self)) -> bool {
        if !self.options.allow_unsupported {
            check(self);
            return false;
        }
        let before = std::mem::take(&mut self.diagnostics);
        check(self);
        let mut found = std::mem::replace(&mut self.diagnostics, before);
        let left_out = tolerate(&mut found, &what());
        self.diagnostics.append(found);
        left_out
    }

    fn tag(&mut self, text: &ast::Text) -> Tag {
        let written = text.as_str().trim();
        let macros = written.contains("%{").then(|| self.text(text));
        Tag { written: written.into(), macros: macros.filter(|text| text.literal().is_none()) }
    }

    /// Resolves macros; an unknown one is reported at its place.
    fn text(&mut self, text: &ast::Text) -> Text {
        Text::parse(text.as_str(), &mut self.set.names).unwrap_or_else(|error| {
            let diagnostic = Diagnostic::error(codes::MACRO, error.message).at(text.locate(error.range));
            self.diagnostics.push(diagnostic.suggest(error.suggestion));
            Text::default()
        })
    }
}
