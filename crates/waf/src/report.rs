//! What a transaction comes to: interruptions while it runs, a report at its end.

use std::ops::Range;
use std::sync::Arc;

use crate::audit::{AuditEngine, AuditParts};
use crate::rule::{Mode, Phase};

/// What the gateway shall do with an interrupted transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer with the status.
    Deny,
    /// Close the connection without an answer.
    Drop,
    /// Answer with a redirection to this address (bytes as the rule made them; check before they become a field).
    Redirect(String),
}

/// The firewall's verdict that a transaction must not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// What to do.
    pub action: Action,
    /// The status to answer with.
    pub status: u16,
    /// The rule that decided; 0 when a body limit did.
    pub rule_id: u32,
    /// The phase it was decided in.
    pub phase: Phase,
    /// The rule's message with macros expanded; may be empty.
    pub msg: String,
}

/// One reported match: a rule whose conditions held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The rule's id.
    pub rule_id: u32,
    /// The phase it ran in.
    pub phase: Phase,
    /// The message, macros expanded.
    pub msg: String,
    /// What the rule quotes, macros expanded, escaped, at most [`SNIPPET`] bytes.
    pub logdata: String,
    /// From 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
    /// The rule's tags; one with macros has them expanded, is escaped, and has at most [`SNIPPET`] bytes.
    pub tags: Vec<Box<str>>,
    /// The rule set's version (`ver`).
    pub ver: Option<Box<str>>,
    /// The rule's revision (`rev`).
    pub rev: Option<Box<str>>,
    /// How well tried the rule is, from 1 to 9.
    pub maturity: Option<u8>,
    /// How rarely the rule is wrong, from 1 to 9.
    pub accuracy: Option<u8>,
    /// Full name of the variable that matched last, such as `ARGS:q`.
    pub variable: String,
    /// The other variables that the chain matched, a few of them.
    pub also: Vec<String>,
    /// The operator that matched last, such as `rx`; with `!` when negated.
    pub operator: String,
    /// The operator's argument as the rule has it, at most [`SNIPPET`] bytes.
    pub parameter: String,
    /// The transformations that the value went through.
    pub transforms: Vec<&'static str>,
    /// The value that matched last, after transformations, escaped, at most [`SNIPPET`] bytes.
    pub snippet: String,
    /// Where in the value, after transformations and before escaping, the operator found what it looks for, in bytes;
    /// the whole value where it judges it as a whole. `None` where there is no such place: it matched because
    /// something is not there, or the pattern was made at run time.
    pub offset: Option<Range<usize>>,
    /// What the rule added to scores.
    pub scores: Vec<Score>,
    /// The rule file.
    pub file: Arc<str>,
    /// The line the rule starts on, from 1.
    pub line: u32,
    /// Whether the match asks for an audit entry.
    pub audit: bool,
}

/// What a rule added to a score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// The TX variable, such as `inbound_anomaly_score_pl1`.
    pub name: Box<str>,
    /// What was added to it, over all values that matched.
    pub amount: i64,
}

/// A value that an exclusion kept from a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// The rule that did not look at it.
    pub rule_id: u32,
    /// The full name, such as `ARGS:comment`.
    pub target: String,
}

/// Longest snippet and logdata in a report, in bytes of the escaped text.
pub const SNIPPET: usize = 200;

/// Everything worth keeping of a finished transaction; by default, of one in which no rule ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The request's id, as given.
    pub unique_id: String,
    /// The mode the transaction ended in.
    pub mode: Mode,
    /// The reported matches in order.
    pub matches: Vec<Match>,
    /// What interrupted the transaction.
    pub interruption: Option<Interruption>,
    /// In detect mode: what would have interrupted it first.
    pub would_interrupt: Option<Interruption>,
    /// The anomaly score of the request (`tx.blocking_inbound_anomaly_score`, or the sum of the levels).
    pub inbound_score: i64,
    /// The anomaly score of the response.
    pub outbound_score: i64,
    /// The level up to which rules counted towards blocking (`tx.blocking_paranoia_level`).
    pub blocking_paranoia: Option<i64>,
    /// The level up to which rules ran (`tx.detection_paranoia_level`).
    pub detection_paranoia: Option<i64>,
    /// The exclusions that applied: values that would have matched a rule that was kept from them, a few of them.
    pub exclusions: Vec<Exclusion>,
    /// Rules that did not run because an exclusion or a `ctl` removes them.
    pub removed_rules: u32,
    /// What the engine could not look at as it should have, such as a body without a parser.
    pub notes: Vec<&'static str>,
    /// Whether an audit entry is wanted (`SecAuditEngine`, `ctl:auditEngine`).
    pub audit_engine: AuditEngine,
    /// The parts of that entry (`SecAuditLogParts`, `ctl:auditLogParts`).
    pub audit_parts: AuditParts,
    /// Whether phase 5 ran to its end.
    pub finished: bool,
}

/// Makes bytes fit for a log: printable ASCII stays, everything else becomes `\xHH`; cut after [`SNIPPET`] bytes.
pub(crate) fn snippet(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().min(SNIPPET));
    for &byte in bytes {
        let escaped = match byte {
            b' '..=b'~' if byte != b'\\' => 1,
            b'\\' => 2,
            _ => 4,
        };
        if out.len() + escaped > SNIPPET {
            break;
        }
        match escaped {
            1 => out.push(char::from(byte)),
            2 => out.push_str("\\\\"),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snippets_are_printable_and_short() {
        assert_eq!(snippet(b"a\n\\\xff"), r"a\x0a\\\xff");
        assert_eq!(snippet(&[b'a'; 500]).len(), SNIPPET);
        assert_eq!(snippet(&[0; 500]).len(), SNIPPET);
    }
}
