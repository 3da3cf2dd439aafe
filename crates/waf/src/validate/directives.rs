//! Directives that are not rules.

use portcullis_diag::{Diagnostic, Span, suggest};
use portcullis_seclang as ast;
use portcullis_seclang::DirectiveKind;

use super::{Item, Validator};
use crate::audit::{AuditEngine, AuditLogFormat, AuditLogType, AuditParts, RelevantStatus};
use crate::codes;
use crate::rule::{LimitAction, Mode};
use crate::settings::{DirectiveEffect, TABLE, by_name};

impl<'a> Validator<'a> {
    pub(super) fn directive(&mut self, directive: &'a ast::Directive) {
        if self.open_chain.is_some()
            && !matches!(
                directive.kind,
                DirectiveKind::Rule(_) | DirectiveKind::Action(_) | DirectiveKind::Setting(_)
            )
        {
            self.close_chain();
        }
        match &directive.kind {
            DirectiveKind::Rule(rule) => self.rule(directive.span, Some(rule), &rule.actions),
            DirectiveKind::Action(actions) => self.rule(directive.span, None, actions),
            DirectiveKind::DefaultAction(actions) => self.default_action(actions),
            DirectiveKind::Marker(name) => self.set.items.push(Item::Marker(name.as_str().into())),
            DirectiveKind::Remove(_) | DirectiveKind::UpdateTarget(_) | DirectiveKind::UpdateAction(_) => {
                self.updates.push(directive);
            }
            DirectiveKind::Include(include) => {
                self.error(
                    codes::UNKNOWN_DIRECTIVE,
                    include.pattern.span,
                    "an include has not been resolved",
                );
            }
            DirectiveKind::Setting(arguments) => {
                let what = || "the directive".to_owned();
                self.tolerating(what, |this| this.setting(&directive.name, arguments));
            }
        }
    }

    fn setting(&mut self, name: &ast::Text, arguments: &[ast::Text]) {
        let Some(info) = by_name(name.as_str()) else {
            let known = TABLE.iter().map(|info| info.name).chain(ast::DIRECTIVES.iter().copied());
            let message = format!("unknown directive `{}`", name.as_str());
            let diagnostic = Diagnostic::error(codes::UNKNOWN_DIRECTIVE, message).at(name.span);
            self.diagnostics.push(diagnostic.suggest(suggest(name.as_str(), known)));
            return;
        };
        if let DirectiveEffect::Unsupported(why) = info.effect {
            let message = format!("`{}` is not supported", info.name);
            let diagnostic = Diagnostic::error(codes::UNSUPPORTED_DIRECTIVE, message).at(name.span);
            self.diagnostics.push(diagnostic.help(why));
            return;
        }
        if let DirectiveEffect::Accepted(instead) = info.effect {
            let message = format!("`{}` is accepted but has no effect: {instead}", info.name);
            self.warn(codes::NO_EFFECT, name.span, message);
            return;
        }
        if info.effect == DirectiveEffect::ResponseBodyMimeTypesClear {
            self.set.settings.response_mime_types.clear();
            return;
        }
        let Some(first) = arguments.first() else {
            self.error(codes::SETTING_VALUE, name.span, format!("`{}` needs a value", info.name));
            return;
        };
        if let Err(expected) = self.apply_setting(info.effect, first, arguments) {
            let message = format!("`{}` is no value for `{}`", first.as_str(), info.name);
            let diagnostic = Diagnostic::error(codes::SETTING_VALUE, message).at(first.span);
            self.diagnostics.push(diagnostic.label(format!("expected {expected}")));
        }
    }

    fn apply_setting(
        &mut self,
        effect: DirectiveEffect,
        first: &ast::Text,
        all: &[ast::Text],
    ) -> Result<(), &'static str> {
        let settings = &mut self.set.settings;
        let value = first.as_str().trim();
        match effect {
            DirectiveEffect::Engine => {
                settings.engine = Mode::parse(value).ok_or("On, DetectionOnly or Off")?;
            }
            DirectiveEffect::RequestBodyAccess => settings.request_body_access = switch(value)?,
            DirectiveEffect::ResponseBodyAccess => settings.response_body_access = switch(value)?,
            DirectiveEffect::RequestBodyLimit => settings.request_body_limit = number(value)?,
            DirectiveEffect::ResponseBodyLimit => settings.response_body_limit = number(value)?,
            DirectiveEffect::RequestBodyLimitAction => {
                settings.request_body_limit_action = limit_action(value)?
            }
            DirectiveEffect::ResponseBodyLimitAction => {
                settings.response_body_limit_action = limit_action(value)?
            }
            DirectiveEffect::JsonDepthLimit => settings.json_depth_limit = number(value)?,
            DirectiveEffect::ArgumentsLimit => settings.arguments_limit = number(value)?,
            DirectiveEffect::CollectionTimeout => {
                settings.collection_timeout = value.parse().map_err(|_| "a number of seconds")?;
            }
            DirectiveEffect::NoFilesLimit => settings.no_files_limit = number(value)?,
            DirectiveEffect::GeoLookupDb => {
                settings.geo_database = Some((value.to_owned(), first.span));
            }
            DirectiveEffect::UploadFileLimit => settings.upload_file_limit = number(value)?,
            DirectiveEffect::ArgumentSeparator => {
                let &[byte] = value.as_bytes() else { return Err("one byte") };
                settings.argument_separator = byte;
            }
            DirectiveEffect::ResponseBodyMimeType => {
                settings.response_mime_types = all
                    .iter()
                    .flat_map(|text| text.split_whitespace())
                    .map(str::to_ascii_lowercase)
                    .collect();
            }
            DirectiveEffect::ComponentSignature => settings.signatures.push(value.to_owned()),
            DirectiveEffect::ResponseBodyMimeTypesClear
            | DirectiveEffect::Accepted(_)
            | DirectiveEffect::Unsupported(_) => {}
            audit => return self.apply_audit_setting(audit, first),
        }
        Ok(())
    }

    fn apply_audit_setting(
        &mut self,
        effect: DirectiveEffect,
        first: &ast::Text,
    ) -> Result<(), &'static str> {
        let audit = &mut self.set.settings.audit;
        let value = first.as_str().trim();
        match effect {
            DirectiveEffect::AuditEngine => {
                audit.engine = AuditEngine::parse(value).ok_or("On, Off or RelevantOnly")?;
            }
            DirectiveEffect::AuditLog => audit.log = Some(value.to_owned()),
            DirectiveEffect::AuditLog2 => audit.log2 = Some(value.to_owned()),
            DirectiveEffect::AuditLogStorageDir => audit.storage_dir = Some(value.to_owned()),
            DirectiveEffect::AuditLogDirMode => audit.dir_mode = file_mode(value)?,
            DirectiveEffect::AuditLogFileMode => audit.file_mode = file_mode(value)?,
            DirectiveEffect::AuditLogFormat => {
                audit.format = AuditLogFormat::parse(value).ok_or("Native or JSON")?;
            }
            DirectiveEffect::AuditLogType => {
                audit.log_type = AuditLogType::parse(value).ok_or("Serial or Concurrent")?;
            }
            DirectiveEffect::AuditLogParts => {
                audit.parts = AuditParts::parse(value).ok_or("letters of ABCDEFGHIJKZ")?;
            }
            DirectiveEffect::AuditLogRelevantStatus => match RelevantStatus::parse(value) {
                Ok(status) => audit.relevant_status = Some(status),
                Err(reason) => {
                    self.error(codes::SETTING_VALUE, first.span, format!("the pattern is broken: {reason}"))
                }
            },
            _ => {}
        }
        Ok(())
    }

    fn default_action(&mut self, actions: &ast::Actions) {
        let set = self.action_set(actions);
        for forbidden in ["id", "msg", "chain", "skip", "skipAfter", "severity", "ver", "rev"] {
            if let Some(action) = actions.named(forbidden).next() {
                let message = format!("`{forbidden}` does not belong into SecDefaultAction");
                self.error(codes::ACTION_VALUE, action.span, message);
            }
        }
        let Some(phase) = set.phase else {
            self.error(codes::ACTION_VALUE, actions.span, "SecDefaultAction needs a phase");
            return;
        };
        if set.disruptive.is_none() {
            self.error(
                codes::ACTION_VALUE,
                actions.span,
                "SecDefaultAction needs a disruptive action, such as `pass`",
            );
        }
        if let Some(slot) = self.defaults.get_mut(phase.index()) {
            *slot = Some(set);
        }
    }

    /// Reports a chain that wants another link and takes the rule as far as it goes.
    pub(super) fn close_chain(&mut self) {
        if let Some(rule) = self.open_chain.take() {
            let last: Span = rule.links.last().map_or(rule.span, |link| link.span);
            self.error(codes::CHAIN, last, format!("the chain of rule {} ends without a last rule", rule.id));
            if !rule.left_out {
                self.set.items.push(Item::Rule(Box::new(rule)));
            }
        }
    }
}

fn switch(value: &str) -> Result<bool, &'static str> {
    if value.eq_ignore_ascii_case("on") {
        Ok(true)
    } else if value.eq_ignore_ascii_case("off") {
        Ok(false)
    } else {
        Err("On or Off")
    }
}

fn number(value: &str) -> Result<usize, &'static str> {
    value.parse().map_err(|_| "a number")
}

/// Permission bits in octal; `default` leaves them to the process.
fn file_mode(value: &str) -> Result<Option<u32>, &'static str> {
    if value.eq_ignore_ascii_case("default") {
        return Ok(None);
    }
    let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.map(Some).ok_or("permissions in octal, such as 0640, or default")
}

fn limit_action(value: &str) -> Result<LimitAction, &'static str> {
    if value.eq_ignore_ascii_case("reject") {
        Ok(LimitAction::Reject)
    } else if value.eq_ignore_ascii_case("processpartial") {
        Ok(LimitAction::ProcessPartial)
    } else {
        Err("Reject or ProcessPartial")
    }
}
