//! What each rule saw of a transaction and why it did or did not match: for people who write and tune rules.
//!
//! A transaction that nobody watches pays one comparison for each phase.

use std::sync::Arc;

use crate::program::Rule;
use crate::rule::Phase;

/// Values that are kept of each condition, besides those that match.
pub(crate) const VALUES: usize = 64;

/// How closely to watch a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// What every rule saw. Asking changes what rules cost, so no time is taken.
    Everything,
    /// Only how long every rule took. What several rules share (values that are gathered, transformed or searched
    /// once) is paid by the first that needs it.
    Costs,
}

/// The rules of all phases that were run, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// One entry for each rule of each phase that was run.
    pub rules: Vec<RuleTrace>,
}

/// What happened to one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTrace {
    /// The rule's id.
    pub id: u32,
    /// The phase it runs in.
    pub phase: Phase,
    /// The rule file.
    pub file: Arc<str>,
    /// The line the rule starts on, from 1.
    pub line: u32,
    /// What came of it.
    pub outcome: RuleOutcome,
    /// Its conditions as far as they were asked: those of a chain in order.
    pub conditions: Vec<ConditionTrace>,
    /// How long it took, in nanoseconds; 0 unless watched for [`Watch::Costs`].
    pub nanoseconds: u64,
}

/// What came of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleOutcome {
    /// All its conditions held.
    Matched,
    /// A condition did not hold: the last one in [`RuleTrace::conditions`].
    NotMatched,
    /// It was taken away as a whole.
    Removed(Remover),
    /// The rule with this id matched and said to skip it (`skipAfter`, `skip`).
    Skipped(u32),
    /// The phase ended before it.
    NotReached,
}

/// Who took a rule or a value away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remover {
    /// An exclusion of the route's.
    Overlay,
    /// A `ctl` action of the rule with this id.
    Rule(u32),
}

/// One condition: a rule of its own, or a link of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionTrace {
    /// The variables as the rule has them; empty for `SecAction`, which asks nothing.
    pub targets: String,
    /// Names of the transformations, in order.
    pub transformations: Vec<&'static str>,
    /// The operator, with `!` when negated.
    pub operator: String,
    /// The operator's argument, at most [`crate::SNIPPET`] bytes.
    pub argument: String,
    /// The values it saw. None: the transaction has no such variable.
    pub values: Vec<Seen>,
    /// Further values, all without a match, that are not kept.
    pub more: usize,
    /// Whether it held.
    pub matched: bool,
}

/// A value as a condition saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Full name, such as `ARGS:q`; with `&` for a count.
    pub variable: String,
    /// The value after transformations, escaped, at most [`crate::SNIPPET`] bytes.
    pub value: String,
    /// What came of it.
    pub outcome: ValueOutcome,
}

/// What a condition made of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueOutcome {
    /// The operator matched.
    Matched,
    /// An exclusion kept it from the rule.
    Excluded(Remover),
    /// None of the texts that every match of the pattern contains is in it, so the pattern was not asked.
    Prefiltered,
    /// It is too short for any match, or lacks bytes that every match has, so the pattern was not asked.
    Impossible,
    /// The operator did not match.
    NotMatched,
}

impl RuleTrace {
    pub(crate) fn not_reached(rule: &Rule) -> Self {
        Self {
            id: rule.id,
            phase: rule.phase,
            file: Arc::clone(&rule.file),
            line: rule.line,
            outcome: RuleOutcome::NotReached,
            conditions: Vec::new(),
            nanoseconds: 0,
        }
    }
}
