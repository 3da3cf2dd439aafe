//! `ctl` actions.

use portcullis_diag::{Diagnostic, suggest};
use portcullis_seclang as ast;

use super::actions::ActionSet;
use super::{CtlDef, Matcher, RuleChoice, Validator};
use crate::audit::{AuditEngine, PartsChange};
use crate::codes;
use crate::rule::{Mode, Processor};
use crate::target::{Exclusion, Key};
use crate::variable::{Shape, TABLE as VARIABLES, Var};

const NAMES: &[&str] = &[
    "auditEngine",
    "auditLogParts",
    "debugLogLevel",
    "forceRequestBodyVariable",
    "requestBodyAccess",
    "requestBodyLimit",
    "requestBodyProcessor",
    "responseBodyAccess",
    "ruleEngine",
    "ruleRemoveById",
    "ruleRemoveByMsg",
    "ruleRemoveByTag",
    "ruleRemoveTargetById",
    "ruleRemoveTargetByMsg",
    "ruleRemoveTargetByTag",
];

/// Those of other engines, with what to do instead.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("forceResponseBodyVariable", "which response bodies are read, SecResponseBodyMimeType says"),
    ("hashEnforcement", "links are not signed by rules"),
    ("hashEngine", "links are not signed by rules"),
    ("parseXmlIntoArgs", "XML is matched by paths, such as `XML:/*`"),
    ("responseBodyLimit", "SecResponseBodyLimit sets it"),
    ("responseBodyProcessor", "response bodies are matched as RESPONSE_BODY"),
];

impl Validator<'_> {
    pub(super) fn ctl(&mut self, set: &mut ActionSet, value: &ast::Text) {
        let text = value.as_str();
        let (name, argument) = text.split_once('=').unwrap_or((text, ""));
        let unsupported = UNSUPPORTED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.trim()));
        if let Some((name, instead)) = unsupported {
            let message = format!("`ctl:{name}` is not supported");
            let diagnostic = Diagnostic::error(codes::UNSUPPORTED_ACTION, message).at(value.span);
            self.diagnostics.push(diagnostic.help(*instead));
            return;
        }
        match self.parse_ctl(name.trim(), argument.trim()) {
            Ok(ctl) => set.ctls.extend(ctl),
            Err(Some(expected)) => {
                let message = format!("`{}` is no value for `ctl:{}`", argument.trim(), name.trim());
                let diagnostic = Diagnostic::error(codes::ACTION_VALUE, message).at(value.span);
                self.diagnostics.push(diagnostic.label(expected));
            }
            Err(None) => {
                let message = format!("unknown ctl `{}`", name.trim());
                let diagnostic = Diagnostic::error(codes::UNKNOWN_ACTION, message).at(value.span);
                self.diagnostics.push(diagnostic.suggest(suggest(name.trim(), NAMES.iter().copied())));
            }
        }
        if name.trim().eq_ignore_ascii_case("debugLogLevel") {
            let message =
                "`ctl:debugLogLevel` is accepted but has no effect: the gateway's log level governs";
            self.warn(codes::NO_EFFECT, value.span, message);
        }
    }

    /// `Err(None)`: no such ctl; `Err(Some)`: what would have been a value.
    fn parse_ctl(&mut self, name: &str, argument: &str) -> Result<Option<CtlDef>, Option<String>> {
        let on_off = || switch(argument).ok_or_else(|| Some("expected On or Off".to_owned()));
        let ctl = match name.to_ascii_lowercase().as_str() {
            "debugloglevel" => return Ok(None),
            "auditengine" => {
                let expected = || "expected On, Off or RelevantOnly".to_owned();
                CtlDef::AuditEngine(AuditEngine::parse(argument).ok_or_else(expected)?)
            }
            "auditlogparts" => {
                let expected = || "expected letters of ABCDEFGHIJKZ, or +E, or -C".to_owned();
                CtlDef::AuditParts(PartsChange::parse(argument).ok_or_else(expected)?)
            }
            "ruleengine" => CtlDef::Engine(
                Mode::parse(argument).ok_or_else(|| "expected On, DetectionOnly or Off".to_owned())?,
            ),
            "requestbodyprocessor" => {
                let expected = || "expected URLENCODED, JSON, MULTIPART, XML or GRAPHQL".to_owned();
                CtlDef::BodyProcessor(Processor::parse(argument).ok_or_else(expected)?)
            }
            "forcerequestbodyvariable" => CtlDef::ForceBody(on_off()?),
            "requestbodylimit" => CtlDef::RequestBodyLimit(
                argument.parse().map_err(|_| "expected a number of bytes, as in 131072".to_owned())?,
            ),
            "requestbodyaccess" => CtlDef::RequestBodyAccess(on_off()?),
            "responsebodyaccess" => CtlDef::ResponseBodyAccess(on_off()?),
            "ruleremovebyid" => CtlDef::RemoveRules(ids(argument)?),
            "ruleremovebytag" => CtlDef::RemoveRules(RuleChoice::Tag(Matcher::new(argument)?)),
            "ruleremovebymsg" => CtlDef::RemoveRules(RuleChoice::Message(Matcher::new(argument)?)),
            "ruleremovetargetbyid" | "ruleremovetargetbytag" | "ruleremovetargetbymsg" => {
                let (rules, target) = argument
                    .split_once(';')
                    .ok_or_else(|| "expected RULES;VARIABLE, as in 942100;ARGS:q".to_owned())?;
                let choice = match name.to_ascii_lowercase().as_str() {
                    "ruleremovetargetbyid" => ids(rules.trim())?,
                    "ruleremovetargetbytag" => RuleChoice::Tag(Matcher::new(rules.trim())?),
                    _ => RuleChoice::Message(Matcher::new(rules.trim())?),
                };
                match self.exclusion(target.trim())? {
                    Some(exclusion) => CtlDef::RemoveTargets(choice, exclusion),
                    None => return Ok(None),
                }
            }
            _ => return Err(None),
        };
        Ok(Some(ctl))
    }

    /// `ARGS`, `ARGS:name` or `ARGS:/pattern/`; nothing when the variable is one that is never filled.
    fn exclusion(&mut self, text: &str) -> Result<Option<Exclusion>, String> {
        let (name, key) = match text.split_once(':') {
            Some((name, key)) => (name, Some(key)),
            None => (text, None),
        };
        let Some(var) = Var::by_name(name.trim_start_matches('!')) else {
            let hint = suggest(name, VARIABLES.iter().map(|info| info.name));
            let hint = hint.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
            return Err(format!("`{name}` is no variable{hint}"));
        };
        if matches!(var.info().shape, Shape::Planned(_)) {
            return Ok(None);
        }
        let key = match key {
            None => Key::Any,
            Some(key) => {
                let bare = key.trim_matches('\'');
                match bare.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
                    Some(pattern) => Key::regex(pattern)?,
                    None => Key::Exact(bare.as_bytes().into()),
                }
            }
        };
        Ok(Some(Exclusion { var, key }))
    }
}

fn ids(text: &str) -> Result<RuleChoice, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) => Ok(RuleChoice::Ids(first, last)),
        _ => Err("expected a rule id, or a range as in 942100-942199".to_owned()),
    }
}

fn switch(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("on") {
        Some(true)
    } else if text.eq_ignore_ascii_case("off") {
        Some(false)
    } else {
        None
    }
}
