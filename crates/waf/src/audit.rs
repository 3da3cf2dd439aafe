//! What the rule files say of the audit log. The engine writes none itself: whoever does finds here what is wanted of
//! it ([`crate::Program::audit`]), and in each [`crate::Report`] what rules changed for that transaction.

use std::fmt;

use crate::operator::{Caches, PatternError, PatternId, compile_regex};

/// Which transactions get an entry (`SecAuditEngine`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditEngine {
    /// All of them.
    On,
    /// None.
    #[default]
    Off,
    /// Those in which a rule with `auditlog` matched, and those with a relevant status.
    RelevantOnly,
}

impl AuditEngine {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is = |name: &str| text.trim().eq_ignore_ascii_case(name);
        if is("on") {
            Some(Self::On)
        } else if is("off") {
            Some(Self::Off)
        } else if is("relevantonly") {
            Some(Self::RelevantOnly)
        } else {
            None
        }
    }
}

/// Where entries go (`SecAuditLogType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditLogType {
    /// One after another into the file of `SecAuditLog`.
    #[default]
    Serial,
    /// Each into a file of its own below `SecAuditLogStorageDir`, with an index in `SecAuditLog`.
    Concurrent,
}

impl AuditLogType {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all = [("serial", Self::Serial), ("concurrent", Self::Concurrent)];
        all.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim())).map(|(_, value)| value)
    }
}

/// How entries are written (`SecAuditLogFormat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditLogFormat {
    /// ModSecurity's sections between boundaries.
    #[default]
    Native,
    /// One JSON object a line.
    Json,
}

impl AuditLogFormat {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all = [("native", Self::Native), ("json", Self::Json)];
        all.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim())).map(|(_, value)| value)
    }
}

/// The parts of an entry, by their letters (`SecAuditLogParts`): A and Z are always among them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuditParts(u32);

impl AuditParts {
    /// What may stand in a list of parts.
    const LETTERS: &'static str = "ABCDEFGHIJKZ";

    /// The parts of a list of letters.
    pub(crate) fn parse(letters: &str) -> Option<Self> {
        Some(Self(bits("AZ")? | bits(letters.trim())?))
    }

    /// Whether the part with this letter is wanted.
    ///
    /// ```
    /// assert!(portcullis_waf::AuditParts::default().contains('H'));
    /// ```
    #[must_use]
    pub fn contains(self, letter: char) -> bool {
        let mut buffer = [0; 4];
        bits(letter.encode_utf8(&mut buffer)).is_some_and(|bit| self.0 & bit != 0)
    }

    /// These parts after a change.
    pub(crate) fn with(self, change: PartsChange) -> Self {
        match change {
            PartsChange::Add(parts) => Self(self.0 | parts),
            PartsChange::Remove(parts) => Self(self.0 & !parts | bits("AZ").unwrap_or(0)),
            PartsChange::Set(parts) => parts,
        }
    }
}

/// Each letter's bit; `None` when one of them names no part.
fn bits(letters: &str) -> Option<u32> {
    letters.bytes().try_fold(0, |set, letter| {
        let letter = letter.to_ascii_uppercase();
        let known = AuditParts::LETTERS.bytes().any(|part| part == letter);
        known.then(|| set | 1 << (letter - b'A'))
    })
}

impl Default for AuditParts {
    /// `ABCFHZ`, as in ModSecurity.
    fn default() -> Self {
        Self(bits("ABCFHZ").unwrap_or(0))
    }
}

/// The letters.
impl fmt::Display for AuditParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::LETTERS.chars().filter(|letter| self.contains(*letter)).try_for_each(|part| write!(f, "{part}"))
    }
}

impl fmt::Debug for AuditParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What `ctl:auditLogParts` does to the parts: `+E`, `-C`, or a list that replaces them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartsChange {
    Add(u32),
    Remove(u32),
    Set(AuditParts),
}

impl PartsChange {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.trim().split_at_checked(1)? {
            ("+", letters) => bits(letters).map(Self::Add),
            ("-", letters) => bits(letters).map(Self::Remove),
            _ => AuditParts::parse(text).map(Self::Set),
        }
    }
}

/// The statuses that `SecAuditLogRelevantStatus` means. There are few enough to ask its pattern about each when rules
/// are loaded.
#[derive(Clone, PartialEq, Eq)]
pub struct RelevantStatus {
    pattern: String,
    statuses: Vec<u16>,
}

impl RelevantStatus {
    pub(crate) fn parse(pattern: &str) -> Result<Self, PatternError> {
        let compiled = compile_regex(pattern, false)?;
        let mut caches = Caches::default();
        let mut matches =
            |status: &u16| compiled.is_match(PatternId(0), &mut caches, status.to_string().as_bytes());
        let statuses = (100..=999).filter(&mut matches).collect();
        Ok(Self { pattern: pattern.to_owned(), statuses })
    }

    /// Whether a response with this status is worth an entry.
    #[must_use]
    pub fn matches(&self, status: u16) -> bool {
        self.statuses.binary_search(&status).is_ok()
    }

    /// The pattern as written.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}

/// The pattern.
impl fmt::Debug for RelevantStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.pattern)
    }
}

/// What the rule files want of the audit log; without directives: no entry for any transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditSettings {
    /// `SecAuditEngine`; for one transaction, [`crate::Report::audit_engine`] has the last word.
    pub engine: AuditEngine,
    /// `SecAuditLog`: the file as written, relative paths not resolved.
    pub log: Option<String>,
    /// `SecAuditLog2`: a second file (the index of concurrent logging).
    pub log2: Option<String>,
    /// `SecAuditLogType`.
    pub log_type: AuditLogType,
    /// `SecAuditLogStorageDir`: the directory of concurrent logging.
    pub storage_dir: Option<String>,
    /// `SecAuditLogFormat`.
    pub format: AuditLogFormat,
    /// `SecAuditLogParts`; for one transaction, [`crate::Report::audit_parts`] has the last word.
    pub parts: AuditParts,
    /// `SecAuditLogRelevantStatus`; `None`: no status makes a transaction relevant.
    pub relevant_status: Option<RelevantStatus>,
    /// `SecAuditLogDirMode`: permission bits of new directories.
    pub dir_mode: Option<u32>,
    /// `SecAuditLogFileMode`: permission bits of new files.
    pub file_mode: Option<u32>,
}

impl AuditSettings {
    /// Whether a transaction gets an entry, by what its report says and the status it was answered with.
    #[must_use]
    pub fn wants(&self, report: &crate::Report, status: Option<u16>) -> bool {
        match report.audit_engine {
            AuditEngine::On => true,
            AuditEngine::Off => false,
            AuditEngine::RelevantOnly => {
                let relevant = |status| self.relevant_status.as_ref().is_some_and(|set| set.matches(status));
                report.matches.iter().any(|found| found.audit) || status.is_some_and(relevant)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let parts = AuditParts::parse("bij").unwrap();
        assert_eq!(parts.to_string(), "ABIJZ");
        assert_eq!(parts.with(PartsChange::parse("+EC").unwrap()).to_string(), "ABCEIJZ");
        assert_eq!(parts.with(PartsChange::parse("-AB").unwrap()).to_string(), "AIJZ");
        assert_eq!(parts.with(PartsChange::parse("ABC").unwrap()).to_string(), "ABCZ");
        assert!(AuditParts::parse("AX").is_none() && PartsChange::parse("+!").is_none());
        assert!(!parts.contains('é') && PartsChange::parse("").is_none());
    }

    #[test]
    fn statuses() {
        let set = RelevantStatus::parse("^(?:5|40[13])").unwrap();
        let relevant: Vec<u16> = (390..=505).filter(|&status| set.matches(status)).collect();
        assert_eq!(relevant, [401, 403, 500, 501, 502, 503, 504, 505]);
    }
}
