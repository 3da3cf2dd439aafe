//! Operators with their arguments: patterns compiled, lists and data files read.

use std::path::{Path, PathBuf};

use portcullis_diag::{Diagnostic, Span};

use super::Compiler;
use crate::byteset::ByteSet;
use crate::codes;
use crate::geo::GeoDatabase;
use crate::macros::Num;
use crate::operator::{
    self, Op, OperatorKind, Pattern, PatternError, PatternId, TextOp, compile_phrases, compile_regex,
    parse_byte_ranges, parse_networks,
};
use crate::rule::Phase;
use crate::validate::OperatorDef;

/// Why there is no operator.
enum Refusal {
    /// That has been said already.
    Reported,
    Pattern(PatternError),
}

impl From<PatternError> for Refusal {
    fn from(error: PatternError) -> Self {
        Self::Pattern(error)
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self::Pattern(PatternError::Broken(message))
    }
}

impl Compiler<'_> {
    /// The operator; one with a broken argument is reported and never matches (the program is thrown away anyway).
    pub(super) fn operator(&mut self, def: &OperatorDef, phase: Phase) -> Op {
        self.try_operator(def, phase).unwrap_or_else(|refusal| {
            let (code, message) = match refusal {
                Refusal::Reported => return Op::Never,
                Refusal::Pattern(PatternError::Broken(message)) => (codes::OPERATOR_ARGUMENT, message),
                Refusal::Pattern(PatternError::Unsupported(message)) => (codes::UNSUPPORTED_PATTERN, message),
            };
            self.diagnostics.push(Diagnostic::error(code, message).at(def.span));
            Op::Never
        })
    }

    fn try_operator(&mut self, def: &OperatorDef, phase: Phase) -> Result<Op, Refusal> {
        let raw = def.raw.as_str();
        Ok(match def.kind {
            OperatorKind::Rx if def.text.literal().is_none() => Op::RxText(def.text.clone()),
            OperatorKind::Rx => Op::Rx(self.pattern("rx", raw, phase, || compile_regex(raw, false))?),
            OperatorKind::Rsub => {
                let rsub = operator::parse_rsub(raw).map_err(|error| error.message)?;
                match (def.text.literal(), rsub.verbatim) {
                    (None, true) => Op::Text(TextOp::Contains, def.text.clone()),
                    (None, false) => Op::RxText(def.text.clone()),
                    (Some(_), _) => {
                        let (pattern, folded) = (rsub.pattern, rsub.case_insensitive);
                        let kind = if folded { "rxi" } else { "rx" };
                        Op::Rx(self.pattern(kind, pattern, phase, || compile_regex(pattern, folded))?)
                    }
                }
            }
            OperatorKind::Checksum(check) => {
                let id = self.pattern("rx", raw, phase, || compile_regex(raw, false))?;
                Op::Checksum(check, id)
            }
            OperatorKind::Nid => {
                let (check, pattern) = operator::parse_nid(raw)?;
                let id = self.pattern("rx", pattern, phase, || compile_regex(pattern, false))?;
                Op::Checksum(check, id)
            }
            OperatorKind::Pm => {
                if raw.contains("%{") {
                    let message = "macros are not expanded in `@pm`; use `@contains` or `@within`";
                    return Err(message.to_owned().into());
                }
                let phrases = operator::from_argument(raw)?;
                if phrases.is_empty() {
                    return Err("`@pm` needs at least one phrase".to_owned().into());
                }
                Op::Pm(self.pattern("pm", raw, phase, || Ok(compile_phrases(&phrases)?))?)
            }
            OperatorKind::PmFromFile => {
                let contents = self.data(raw, def.span)?;
                let phrases = operator::from_file(&contents);
                if phrases.is_empty() {
                    return Err(format!("`{raw}` holds no phrase").into());
                }
                let place = self.resolve(raw, def.span).display().to_string();
                let id = self.pattern("pmf", &place, phase, || {
                    let mut pattern = compile_phrases(&phrases)?;
                    pattern.source = format!("{} phrases of {raw}", phrases.len());
                    Ok(pattern)
                })?;
                Op::Pm(id)
            }
            OperatorKind::Text(op) => Op::Text(op, def.text.clone()),
            OperatorKind::Compare(compare) => Op::Compare(compare, Num::new(def.text.clone())),
            OperatorKind::IpMatch => Op::IpMatch(networks(raw)?),
            OperatorKind::IpMatchFromFile => {
                let contents = self.data(raw, def.span)?;
                let text = String::from_utf8_lossy(&contents);
                let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
                Op::IpMatch(networks(&lines.collect::<Vec<_>>().join("\n"))?)
            }
            OperatorKind::ByteRange => {
                let allowed = parse_byte_ranges(raw)?;
                if allowed == ByteSet::ALL { Op::Never } else { Op::ByteRange(allowed) }
            }
            OperatorKind::UrlEncoding => Op::UrlEncoding,
            OperatorKind::Utf8 => Op::Utf8,
            OperatorKind::Detect(detector) => Op::Detect(detector),
            OperatorKind::Always => Op::Always,
            OperatorKind::GeoLookup => Op::GeoLookup,
            OperatorKind::Never | OperatorKind::Accepted(_) | OperatorKind::Unsupported(_) => Op::Never,
        })
    }

    /// Compiles what was not compiled before, and notes which phases' prefilter needs it.
    fn pattern(
        &mut self,
        kind: &str,
        written: &str,
        phase: Phase,
        compile: impl FnOnce() -> Result<Pattern, PatternError>,
    ) -> Result<PatternId, PatternError> {
        let key = format!("{kind} {written}");
        let id = match self.pattern_ids.get(&key) {
            Some(id) => *id,
            None => {
                let pattern = compile()?;
                let id = PatternId(u16::try_from(self.patterns.len()).unwrap_or(u16::MAX));
                self.patterns.push(pattern);
                self.sides.push([false; 2]);
                self.pattern_ids.insert(key, id);
                id
            }
        };
        let used = self.sides.get_mut(usize::from(id.0)).and_then(|sides| sides.get_mut(phase.side()));
        if let Some(used) = used {
            *used = true;
        }
        Ok(id)
    }

    /// A data file's place: relative to the rule file that names it.
    fn resolve(&self, file: &str, span: Span) -> PathBuf {
        let rules = self.sources.get(span.source).map_or("", |source| source.name());
        Path::new(rules).parent().unwrap_or(Path::new("")).join(file)
    }

    /// Reads the database of `SecGeoLookupDb`.
    pub(super) fn geo_database(&mut self, setting: Option<&(String, Span)>) -> Option<GeoDatabase> {
        let Some((file, span)) = setting else {
            if self.links.iter().any(|link| matches!(link.op, Op::GeoLookup)) {
                let message = "`@geoLookup` never matches without SecGeoLookupDb";
                self.diagnostics.push(Diagnostic::warning(codes::NO_EFFECT, message));
            }
            return None;
        };
        let path = self.resolve(file, *span);
        let content = match self.data.read(&path) {
            Ok(content) => content,
            Err(error) => {
                let message = format!("the database `{}` cannot be read: {error}", path.display());
                let diagnostic = Diagnostic::error(codes::DATA_FILE, message).at(*span);
                self.diagnostics.push(diagnostic.help("paths are relative to the rule file"));
                return None;
            }
        };
        match GeoDatabase::new(content) {
            Ok(database) => Some(database),
            Err(error) => {
                let message = format!("`{}` is no database of addresses: {error}", path.display());
                let diagnostic = Diagnostic::error(codes::DATA_FILE, message).at(*span);
                let help =
                    "it must be in MaxMind's format (`.mmdb`); the older `.dat` files are not supported";
                self.diagnostics.push(diagnostic.help(help));
                None
            }
        }
    }

    /// The content of one or several data files, separated by spaces.
    fn data(&mut self, files: &str, span: Span) -> Result<Vec<u8>, Refusal> {
        let mut contents = Vec::new();
        for file in files.split_whitespace() {
            let path = self.resolve(file, span);
            match self.data.read(&path) {
                Ok(bytes) => {
                    contents.extend(bytes);
                    contents.push(b'\n');
                }
                Err(error) => {
                    let message = format!("the data file `{}` cannot be read: {error}", path.display());
                    let diagnostic = Diagnostic::error(codes::DATA_FILE, message).at(span);
                    self.diagnostics.push(diagnostic.help("paths are relative to the rule file"));
                    return Err(Refusal::Reported);
                }
            }
        }
        Ok(contents)
    }
}

fn networks(list: &str) -> Result<Box<[ipnet::IpNet]>, String> {
    let networks = parse_networks(list)?;
    if networks.is_empty() { Err("the list of addresses is empty".to_owned()) } else { Ok(networks) }
}
