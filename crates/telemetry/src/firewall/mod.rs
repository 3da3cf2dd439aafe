//! What the firewall saw of a request: its part of the access line, and the logs that are its own, in ModSecurity's
//! formats.

mod audit;
mod error_log;
mod sink;

pub use audit::AuditParts;
pub use error_log::ErrorFormat;
pub use sink::{FirewallLog, Producer};

use crate::escape::{MAX_VALUE, json_string, json_text};
use crate::json::{Object, list};
use crate::{FirewallAction, MASK, redact_matched};
use portcullis_http::{Fields, RequestId, Version};
use std::borrow::Cow;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::SystemTime;

/// Bytes of a matched value that a line keeps: enough to see the attack.
const MAX_MATCHED: usize = 200;

/// Rules that an access line names at most; the score tells of the rest.
const MAX_RULES: usize = 16;

/// What the firewall saw, for the access line.
#[derive(Clone, Copy, Debug)]
pub struct FirewallRecord<'a> {
    /// What it did.
    pub action: FirewallAction,
    /// The rule that decided; `None` where no rule refused.
    pub rule: Option<u32>,
    /// The anomaly score of the request and the response together.
    pub score: i64,
    /// The paranoia levels that counted towards blocking and that ran.
    pub paranoia: (Option<i64>, Option<i64>),
    /// The rules that matched, in order.
    pub matches: &'a [RuleMatch<'a>],
    /// What it could not look at as it should have, such as the end of a long body.
    pub notes: &'a [&'a str],
    /// Values that exclusions kept from rules: the rule and the value's full name.
    pub exclusions: &'a [(u32, &'a str)],
    /// Whether the request was in the sample that is judged as configured.
    pub sampled: bool,
    /// What the rules on trial came to, where that differs.
    pub shadow: Option<ShadowRecord<'a>>,
}

/// Rules on trial that came to something else than those in force.
#[derive(Clone, Copy, Debug)]
pub struct ShadowRecord<'a> {
    /// Whether the rules in force refused the request, or would have.
    pub live_blocks: bool,
    /// Whether the rules on trial would have.
    pub shadow_blocks: bool,
    /// The rule on trial that would have refused.
    pub rule: Option<u32>,
    /// The score by the rules on trial.
    pub score: i64,
    /// Rules that matched only in force.
    pub only_live: &'a [u32],
    /// Rules that matched only on trial.
    pub only_shadow: &'a [u32],
}

impl ShadowRecord<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        let verdict = |blocks| if blocks { "\"block\"" } else { "\"pass\"" };
        let mut object = Object::begin(out);
        object.plain("live", verdict(self.live_blocks));
        object.plain("shadow", verdict(self.shadow_blocks));
        if let Some(rule) = self.rule {
            object.plain("rule", rule);
        }
        object.plain("score", self.score);
        for (name, rules) in [("only_live", self.only_live), ("only_shadow", self.only_shadow)] {
            object.key(name);
            let named = rules.get(..MAX_RULES).unwrap_or(rules);
            list(object.out, named, |rule, out| out.extend_from_slice(rule.to_string().as_bytes()));
        }
        object.end();
    }
}

impl FirewallRecord<'_> {
    /// Appends the record as a JSON object.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.text("action", self.action.as_str().as_bytes());
        if let Some(rule) = self.rule {
            object.plain("rule", rule);
        }
        object.plain("score", self.score);
        for (name, level) in [("paranoia", self.paranoia.0), ("detection_paranoia", self.paranoia.1)] {
            if let Some(level) = level {
                object.plain(name, level);
            }
        }
        object.plain("matched", self.matches.len());
        object.key("rules");
        let named = self.matches.get(..MAX_RULES).unwrap_or(self.matches);
        list(object.out, named, RuleMatch::write_json);
        if !self.notes.is_empty() {
            object.key("notes");
            list(object.out, self.notes, |note, out| json_string(note.as_bytes(), MAX_VALUE, out));
        }
        if !self.exclusions.is_empty() {
            object.key("exclusions");
            list(object.out, self.exclusions, |(rule, target), out| {
                let mut object = Object::begin(out);
                object.plain("rule", rule);
                object.text("target", target.as_bytes());
                object.end();
            });
        }
        if !self.sampled {
            object.plain("sampled", false);
        }
        if let Some(shadow) = &self.shadow {
            object.key("shadow");
            shadow.write_json(object.out);
        }
        object.end();
    }

    /// Appends the record as part of a line for people.
    pub(crate) fn write_human(&self, out: &mut Vec<u8>) {
        let _ = write!(out, " firewall={} score={}", self.action.as_str(), self.score);
        for matched in self.matches.iter().take(MAX_RULES) {
            let _ = write!(out, " rule={}", matched.rule);
            out.push(b'(');
            json_text(matched.variable.as_bytes(), MAX_MATCHED, out);
            out.extend_from_slice(b"=\"");
            json_text(&matched.shown_value(), MAX_MATCHED, out);
            out.extend_from_slice(b"\")");
        }
        for note in self.notes {
            out.extend_from_slice(b" note=\"");
            json_text(note.as_bytes(), MAX_VALUE, out);
            out.push(b'"');
        }
        if !self.sampled {
            out.extend_from_slice(b" sampled=false");
        }
        if let Some(shadow) = &self.shadow {
            let verdict = if shadow.shadow_blocks { "block" } else { "pass" };
            let _ = write!(out, " shadow={verdict} shadow_score={}", shadow.score);
        }
    }
}

/// One rule that matched.
#[derive(Clone, Debug, Default)]
pub struct RuleMatch<'a> {
    /// Its id.
    pub rule: u32,
    /// The phase it ran in, from 1 to 5.
    pub phase: u8,
    /// The variable it matched last, such as `ARGS:q`.
    pub variable: &'a str,
    /// The other variables its chain matched.
    pub also: &'a [String],
    /// What it matched there, transformed and escaped as `\xHH`. Masked where the variable's name or the value looks
    /// like a secret.
    pub value: &'a [u8],
    /// Where in the transformed value, in bytes: from, to.
    pub offset: Option<(usize, usize)>,
    /// The operator, such as `rx`; with `!` when negated. Empty for an action without condition.
    pub operator: &'a str,
    /// The operator's argument as the rule has it.
    pub parameter: &'a str,
    /// The transformations, in order.
    pub transforms: &'a [&'static str],
    /// The rule's message.
    pub message: &'a str,
    /// What the rule quotes (`logdata`), escaped as `\xHH`.
    pub data: &'a str,
    /// From 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
    /// The rule set's version.
    pub version: &'a str,
    /// The rule's revision.
    pub revision: &'a str,
    /// How well tried the rule is; 0 where it does not say.
    pub maturity: u8,
    /// How rarely it is wrong; 0 where it does not say.
    pub accuracy: u8,
    /// Its tags.
    pub tags: &'a [Box<str>],
    /// The rule file.
    pub file: &'a str,
    /// The line it starts on, from 1.
    pub line: u32,
    /// What it added to which score.
    pub scores: Vec<(&'a str, i64)>,
    /// Whether it asks for an audit entry.
    pub audit: bool,
}

impl RuleMatch<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.plain("id", self.rule);
        object.plain("phase", self.phase);
        object.text("variable", self.variable.as_bytes());
        object.key("value");
        json_string(&self.shown_value(), MAX_MATCHED, object.out);
        if let Some((from, to)) = self.offset {
            object.plain("offset", format_args!("[{from},{to}]"));
        }
        object.text("message", self.shown_message().as_bytes());
        if let Some(severity) = self.severity {
            object.plain("severity", severity);
        }
        if !self.scores.is_empty() {
            object.key("scores");
            let mut scores = Object::begin(object.out);
            for (name, amount) in &self.scores {
                // Names of TX variables are the operator's, not ours.
                let mut escaped = Vec::with_capacity(name.len());
                json_text(name.as_bytes(), MAX_VALUE, &mut escaped);
                scores.plain(&String::from_utf8_lossy(&escaped), amount);
            }
            scores.end();
        }
        object.end();
    }

    /// The value, with what looks like a secret masked. What was captured from a secret is one.
    fn shown_value(&self) -> Cow<'_, [u8]> {
        let derived = self.variable.starts_with("TX:") || self.variable.starts_with("MATCHED_VAR");
        if derived && self.also_secret() {
            return Cow::Borrowed(MASK.as_bytes());
        }
        redact_matched(self.variable, self.value)
    }

    /// The message. Rules may quote the value in it.
    fn shown_message(&self) -> Cow<'_, str> {
        let value = std::str::from_utf8(self.value).unwrap_or_default();
        if self.is_secret() && !value.is_empty() && self.message.contains(value) {
            return Cow::Owned(self.message.replace(value, MASK));
        }
        Cow::Borrowed(self.message)
    }

    /// What the rule quotes: of a secret, nothing, since any part of it may stand there.
    fn shown_data(&self) -> &str {
        if self.is_secret() && !self.data.is_empty() { MASK } else { self.data }
    }

    fn is_secret(&self) -> bool {
        self.also_secret() || *self.shown_value() != *self.value
    }

    fn also_secret(&self) -> bool {
        self.also.iter().any(|name| *redact_matched(name, b"") == *MASK.as_bytes())
    }
}

/// All that the firewall's own logs say of a request. Borrowed throughout.
#[derive(Clone, Debug)]
pub struct FirewallEvent<'a> {
    /// When the request's head began to arrive.
    pub time: SystemTime,
    /// Its id.
    pub id: &'a RequestId,
    /// The client, behind trusted proxies; the port is the peer's.
    pub client: SocketAddr,
    /// The address that it connected to.
    pub server: SocketAddr,
    /// The authority it asked for; empty where there was none.
    pub host: &'a str,
    /// The method as it stood on the wire.
    pub method: &'a [u8],
    /// The target as it stood on the wire.
    pub target: &'a [u8],
    /// The protocol version.
    pub version: Version,
    /// The request's fields as they came in.
    pub fields: &'a Fields,
    /// The status answered.
    pub status: u16,
    /// Whether the firewall only detects.
    pub detects: bool,
    /// The rule that refused the request or its answer, and the status it did so with.
    pub refused: Option<(u32, u16)>,
    /// The rules that matched, in order.
    pub matches: &'a [RuleMatch<'a>],
    /// The parts of its audit entry; `None` where it gets none.
    pub audited: Option<AuditParts>,
    /// What of the message was kept for the audit log.
    pub evidence: Option<&'a Evidence>,
}

/// What an audit entry quotes beyond the request's head; kept only where its parts ask for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The request's body as far as the firewall looked at it, cut.
    pub request_body: Vec<u8>,
    /// The fields of the upstream's answer.
    pub response_fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The answer's body as far as the firewall looked at it, cut.
    pub response_body: Vec<u8>,
}

/// Bytes of a body that an audit entry quotes.
pub const MAX_AUDITED_BODY: usize = 64 * 1024;

impl FirewallEvent<'_> {
    /// The target's path and its query.
    fn split_target(&self) -> (&[u8], Option<&[u8]>) {
        match self
            .target
            .iter()
            .position(|byte| *byte == b'?')
            .and_then(|at| self.target.split_at_checked(at))
        {
            Some((path, query)) => (path, query.get(1..)),
            None => (self.target, None),
        }
    }

    /// The host that was asked for, or the address where none was.
    fn host_or_address(&self) -> Cow<'_, str> {
        if self.host.is_empty() { Cow::Owned(self.server.ip().to_string()) } else { Cow::Borrowed(self.host) }
    }
}
